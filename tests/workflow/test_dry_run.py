"""Every study of the repository is planned by Snakemake; how often each rule runs follows from settings and sheets."""

import re

import pytest
import yaml

from calandria.base.settings import read_sheet
from calandria.calendering.settings import FilmRow
from calandria.study.study import StudySettings
from calandria.tomography.settings import SampleRow
from tests.helpers.workflow import REPOSITORY, job_counts, snakemake

pytestmark = pytest.mark.slow

STUDIES = [
    "config/config.yaml",
    *(f"config/studies/{path.name}" for path in sorted((REPOSITORY / "config/studies").glob("*.yaml"))),
]


@pytest.fixture
def checkout(tmp_path):
    """Return a folder that looks like the repository but keeps results of its own."""
    for name in ("config", "examples"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    return tmp_path


def expected_counts(settings, films, samples):
    """Return the jobs per rule, counted from settings and sheets without the look-ups of the rules."""
    packed = [row.film for row in films if row.replicate_of is None]
    replicated = {row.replicate_of for row in films if row.replicate_of is not None}
    degrees = settings.calendering.compression_degrees_percent
    counts = dict.fromkeys(("all", "tabulate_results", "write_page"), 1)
    if films:
        surrogate, split = settings.surrogate, settings.surrogate.split
        tests = {(film, degree) for film in split.test_films for degree in degrees}
        tests |= {(row.film, degree) for row in split.held_out for degree in row.compression_degrees_percent}
        replicate = sum(film in replicated for film, _ in tests) if "replicate" in surrogate.compared else 0
        predictions = len(tests) * len(set(surrogate.compared) - {"replicate"})
        runs = len(films) * len(degrees)
        counts |= {"insert_particles": len(packed), "dry_film": len(packed), "perturb_film": len(films) - len(packed)}
        counts |= {"load_film": len(films), "release_film": runs, "read_dumps": runs, "voxelize_frames": runs}
        solves = len(settings.transport.series.cases) * len(settings.transport.series.axes)
        counts |= {"solve_series": (runs + len(tests)) * solves, "measure_frames": runs + len(tests)}
        counts |= {"split_films": 1, "search_surrogate": len(surrogate.searched), "train_surrogate": len(surrogate.networks)}
        counts |= {"predict_frames_of_replicate": replicate}
        counts |= {"predict_frames": predictions, "evaluate_predictions": len(tests), "draw_surrogate": 1}
    if samples:
        transport, autoencoder = settings.transport.tomography, settings.autoencoder
        models = sum(len(case.slice_windows) * len(case.strides) for case in autoencoder.cases.values())
        counts |= {"import_volume": len(samples), "measure_phases": len(samples)}
        counts |= {"solve_diffusion": len(samples) * len(transport.cases) * len(transport.axes)}
        counts |= {"search_autoencoder": len(autoencoder.searched_cases)}
        counts |= dict.fromkeys(("list_mini_volumes", "train_autoencoder", "encode_mini_volumes", "evaluate_autoencoder"), models)
    return {rule: count for rule, count in counts.items() if count}


@pytest.mark.parametrize("study", STUDIES)
def test_jobs_follow_from_settings_and_sheets(study, checkout):
    settings = StudySettings.from_mapping(yaml.safe_load((REPOSITORY / study).read_text()), study)
    calendering, tomography = settings.calendering, settings.tomography
    films = read_sheet(REPOSITORY / calendering.films_sheet, FilmRow) if calendering.films_sheet else []
    samples = read_sheet(REPOSITORY / tomography.samples_sheet, SampleRow) if tomography.samples_sheet else []
    absent = [row.path for row in samples if not (REPOSITORY / row.path).exists()]
    for path in absent:
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        (checkout / path).touch()
    counts = job_counts(snakemake(checkout, "--dry-run", "--configfile", study))
    assert counts == expected_counts(settings, films, samples)
    assert not (checkout / "results").exists() and not (checkout / "logs").exists()


def test_without_a_config_file_the_demo_is_planned(checkout):
    demo, named = (job_counts(snakemake(checkout, "--dry-run", *extra)) for extra in ((), ("--configfile", STUDIES[0])))
    assert demo == named and sum(demo.values()) > 50


def write_study(folder, **sections):
    """Write the demo's settings with other values in some places."""
    content = over(yaml.safe_load((REPOSITORY / STUDIES[0]).read_text()), {"name": "mine", "title": "Mine", **sections})
    (folder / "study.yaml").write_text(yaml.safe_dump(content))
    return "--configfile", folder / "study.yaml"


def test_the_example_of_the_readme_is_planned_as_it_stands(checkout):
    text = (REPOSITORY / "README.md").read_text()
    (study,) = re.findall(r"```yaml\n(# my_study\.yaml\n.*?)```", text, re.DOTALL)
    sheets = dict(re.findall(r"`(my_\w+\.tsv)`[^\n]*:\n\n```\n(.*?)```", text, re.DOTALL))
    assert set(sheets) == {"my_runs.tsv", "my_samples.tsv"}
    for name, content in {"my_study.yaml": study, **sheets}.items():
        (checkout / name).write_text(content)
    counts = job_counts(snakemake(checkout, "--dry-run", "--configfile", checkout / "my_study.yaml"))
    assert counts["read_dumps"] == counts["import_volume"] == 2 and counts["train_surrogate"] == 2
    assert counts["evaluate_predictions"] == counts["train_autoencoder"] == counts["search_autoencoder"] == 1
    assert "load_film" not in counts and "search_surrogate" not in counts


def over(content, changes):
    """Return the content with other values, section by section; a section that becomes null is left out."""
    if not isinstance(content, dict) or not isinstance(changes, dict):
        return changes
    return {**content, **{key: over(content.get(key), value) for key, value in changes.items()}}


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"surrogate": {"lag_windw": 3}}, "surrogate.lag_windw is unknown (did you mean 'lag_window'?)"),
        ({"transport": {"tolerance": 2}, "report": {"figure_dpi": 0}}, "transport.tolerance: "),
        ({"surrogate": {"split": {"test_films": ["film_9"]}}}, "surrogate.split names film 'film_9'"),
        ({"report": {"references_sheet": "references.tsv"}}, "line 2: quantity 'porosity' is unknown; did you mean"),
        ({"calendering": {"films_sheet": "config/none.tsv"}}, "sample sheet 'config/none.tsv' does not exist"),
    ],
)
def test_a_wrong_setting_gives_two_lines_and_makes_nothing(checkout, sections, told):
    (checkout / "references.tsv").write_text("quantity\tvalue\tunit\tsource\nporosity\t0.4\t\ta book\n")
    finished = snakemake(checkout, "--dry-run", *write_study(checkout, **sections))
    assert finished.returncode != 0 and not (checkout / "results").exists()
    lines = (finished.stdout + finished.stderr).splitlines()
    (where,) = [number for number, line in enumerate(lines) if told in line]
    assert lines[where + 1].startswith("hint: ") and not any("Traceback" in line for line in lines)


def test_two_mistakes_are_told_at_once(checkout):
    finished = snakemake(checkout, "--dry-run", *write_study(checkout, transport={"tolerance": 2}, report={"figure_dpi": 0}))
    (line,) = [line for line in (finished.stdout + finished.stderr).splitlines() if "transport.tolerance" in line]
    assert "report.figure_dpi" in line


def test_a_study_without_images_and_one_without_films(checkout):
    dry = ("--dry-run", "--quiet", "host")
    films = job_counts(snakemake(checkout, *dry, *write_study(checkout, tomography=None, autoencoder=None)))
    assert films["draw_surrogate"] == 1 and not {"import_volume", "train_autoencoder", "solve_diffusion"} & set(films)
    images = job_counts(snakemake(checkout, *dry, *write_study(checkout, calendering=None, surrogate=None)))
    assert images["import_volume"] == 1 and not {"load_film", "train_surrogate", "draw_surrogate"} & set(images)


def test_a_stage_whose_section_is_null_is_left_out(checkout):
    options = ("--dry-run", *write_study(checkout, surrogate=None, autoencoder=None))
    counts = job_counts(snakemake(checkout, *options))
    left = {"insert_particles", "dry_film", "perturb_film", "load_film", "release_film", "read_dumps", "voxelize_frames"}
    left |= {"import_volume", "measure_phases", "solve_diffusion", "solve_series", "measure_frames"}
    assert set(counts) == {*left, "tabulate_results", "write_page", "all"}
    assert counts["solve_series"] == 2 * counts["voxelize_frames"] == 16, "two cases of each series"


def test_a_study_may_search_nothing(checkout):
    nothing = {"learning": {"search": None}}
    options = write_study(checkout, surrogate={"networks": {"conv1d_lags": nothing}}, autoencoder=nothing)
    counts = job_counts(snakemake(checkout, "--dry-run", *options))
    assert not {"search_surrogate", "search_autoencoder"} & set(counts) and counts["train_surrogate"] == 2


@pytest.mark.parametrize(("workers", "threads_per_worker", "started"), [(1, 1, 1), (2, 1, 2), (8, 1, 2), (8, 2, 1)])
def test_a_search_takes_the_workers_of_its_settings_as_far_as_the_cores_go(checkout, workers, threads_per_worker, started):
    searched = {"learning": {"search": {"budget": {"workers": workers, "threads_per_worker": threads_per_worker}}}}
    options = write_study(checkout, surrogate={"networks": {"conv1d_lags": searched}}, autoencoder=searched)
    planned = snakemake(checkout, "--dry-run", "--printshellcmds", *options)
    assert planned.returncode == 0
    found = re.findall(r"search_(?:surrogate|autoencoder) .* --workers (\d+) ", planned.stdout + planned.stderr)
    assert found == [str(started)] * 2
