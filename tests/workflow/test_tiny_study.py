"""A tiny study from dumps and an image to the report, run for real: one test, for parallel runs would make the study once per process."""

import json
import os
import re
import zipfile
from importlib.metadata import packages_distributions

import numpy as np
import pandas
import pytest
import tifffile
import yaml

from calandria.base.records import read_json, read_table
from calandria.base.results import read_results
from calandria.base.volumes import read_labelled
from tests.helpers.tiny_study import RUNS, SETTINGS, write_study
from tests.helpers.workflow import REPOSITORY, job_counts, snakemake

pytestmark = pytest.mark.slow

REPORT_RULES = {"tabulate_results": 1, "draw_surrogate": 1, "write_page": 1}


def run_study(folder, *options):
    return snakemake(folder, "--configfile", folder / "study.yaml", *options)


def make_study(folder):
    write_study(folder)
    return folder, run_study(folder)


def the_study_ends_in_a_page_that_tells_everything(study):
    folder, finished = study
    counts = job_counts(finished)
    assert counts == {
        **REPORT_RULES,
        "all": 1,
        "read_dumps": 3,
        "voxelize_frames": 3,
        "import_volume": 1,
        "measure_phases": 1,
        "solve_diffusion": 1,
        "solve_series": 3 + 1,
        "measure_frames": 3 + 1,
        "split_films": 1,
        "search_surrogate": 1,
        "train_surrogate": 1,
        "predict_frames": 3,
        "evaluate_predictions": 1,
        "list_mini_volumes": 1,
        "search_autoencoder": 1,
        "train_autoencoder": 1,
        "encode_mini_volumes": 1,
        "evaluate_autoencoder": 1,
    }
    page = (folder / "results/tiny/report/index.html").read_text()
    assert "A tiny &lt;study&gt;" in page and page.count('src="data:image/png;base64,') == 6 + 2 + 2
    for section in ("tomography", "transport", "calendering", "surrogate", "autoencoder"):
        assert f'<section id="{section}">' in page


def numbers_of_the_table_are_those_of_the_files(study):
    folder, _ = study
    results = folder / "results/tiny"
    rows = [row for row in read_results(results / "report/results.csv") if row.file and not row.moment]
    table = {(row.film, row.degree_percent, row.sample, row.quantity, row.phase, row.predictor): row.value for row in rows}
    porosity = np.mean(tifffile.imread(folder / "noise.tif") == 0)
    assert table["", None, "noise", "porosity_free", "", ""] == pytest.approx(porosity, rel=1e-12)
    record = read_json(results / "transport/noise/pore_cbd_z.json")
    assert table["", None, "noise", "tortuosity_factor", "", ""] == record["tortuosity_factor"] > 1
    for (film, degree), (frames, *_) in RUNS.items():
        series = read_labelled(results / f"calendering/{film}/cd{degree}/frames.zarr.zip")
        assert series.labels.shape[0] == frames == table[film, degree, "", "frames", "", ""]
    split = read_json(results / "surrogate/split.json")
    assert "film_2" in json.dumps(split)
    predicted = {row["predictor"] for row in read_table(results / "surrogate/film_2/cd20/metrics.csv")}
    assert predicted == {"copy", "affine_press", "unet"}
    r = pandas.read_csv(results / "report/results.csv")
    errors = r[r.quantity == "porosity_free_relative_error"].groupby(["predictor", "mode", "degree_percent"]).value.mean()
    assert set(errors.index) == {(name, mode, 20) for name in predicted for mode in ("one_step", "rollout")} and errors.max() < 1


def every_job_leaves_a_log_and_a_benchmark(study):
    folder, finished = study
    jobs = sum(job_counts(finished).values()) - 1
    assert len(list((folder / "logs/tiny").rglob("*.log"))) == jobs
    assert len(list((folder / "results/tiny/benchmarks").rglob("*.tsv"))) == jobs


def nothing_unfinished_lies_about(study):
    folder, _ = study
    assert not list((folder / "results/tiny/scratch").rglob("*.pt")), "checkpoints of what is finished are deleted"
    assert list(folder.rglob(".unfinished-*")) == []


def a_second_run_does_nothing(study):
    folder, _ = study
    assert job_counts(run_study(folder, "--dry-run")) == {}


def how_a_search_is_run_makes_nothing_anew(study):
    folder, _ = study
    settings = yaml.safe_load(yaml.safe_dump(SETTINGS))
    more = {"workers": 2, "lease_seconds": 300, "max_attempts": 9, "max_failed_fraction": 0.9, "storage": "sqlite:///trials.db"}
    settings["surrogate"]["networks"]["unet"]["learning"]["search"]["budget"].update(more)
    budget = settings["autoencoder"]["learning"]["search"]["budget"]
    budget.update(more, threads_per_worker=2)
    (folder / "study.yaml").write_text(yaml.safe_dump(settings))
    assert job_counts(run_study(folder, "--dry-run")) == {}
    budget["n_trials"] = 3
    (folder / "study.yaml").write_text(yaml.safe_dump(settings))
    wanted = {"search_autoencoder", "train_autoencoder"}
    counts = job_counts(run_study(folder, "--dry-run"))
    assert wanted <= set(counts) and not [rule for rule in counts if rule.endswith("_surrogate")]
    (folder / "study.yaml").write_text(yaml.safe_dump(SETTINGS))


def a_deleted_record_is_remade_with_what_follows_from_it_and_nothing_else(study):
    folder, _ = study
    record = folder / "results/tiny/transport/noise/pore_cbd_z.json"
    before = read_json(record)
    record.unlink()
    assert job_counts(run_study(folder)) == {"all": 1, "solve_diffusion": 1, "tabulate_results": 1, "write_page": 1}
    assert read_json(record) == before
    assert job_counts(run_study(folder, "--dry-run")) == {}


def a_changed_report_section_reruns_only_the_report(study):
    folder, _ = study
    looks = {"all": 1, "draw_surrogate": 1, "write_page": 1}
    page = (folder / "results/tiny/report/index.html").read_bytes()
    (folder / "study.yaml").write_text(yaml.safe_dump({**SETTINGS, "report": {"figure_dpi": 60, "significant_digits": 3}}))
    assert job_counts(run_study(folder, "--dry-run")) == looks
    (folder / "study.yaml").write_text(yaml.safe_dump(SETTINGS))
    assert job_counts(run_study(folder, "--dry-run")) == {}, "an edit that was taken back before it ran"
    (folder / "study.yaml").write_text(yaml.safe_dump({**SETTINGS, "report": {"figure_dpi": 60, "significant_digits": 3}}))
    assert job_counts(run_study(folder)) == looks
    assert (folder / "results/tiny/report/index.html").read_bytes() != page


def snakemakes_own_report_needs_no_more_than_the_locks_of_a_run(study):
    """Packages that only the tests have are hidden, as `make demo` leaves them out."""
    folder, _ = study
    locks = [REPOSITORY / f"envs/{name}.lock" for name in ("lammps", "voxels", "torch", "workflow")]
    locked = {line.split("==")[0] for path in locks for line in path.read_text().splitlines() if "==" in line}
    known = {*locked, "calandria", "pip"}
    hidden = {
        module
        for module, owners in packages_distributions().items()
        if not known & {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners}
    }
    assert {"pytest", "hypothesis"} <= hidden
    (folder / "hiding").mkdir()
    (folder / "hiding/sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({sorted(hidden)}))\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder / "hiding"), prepend=os.pathsep)
        finished = run_study(folder, "--report", "report.zip")
    assert finished.returncode == 0, finished.stderr[-2000:]
    names = zipfile.ZipFile(folder / "report.zip").namelist()
    assert "report/report.html" in names and any(name.endswith("index.html") for name in names)


def a_stage_that_is_left_out_is_left_out_of_the_page(study):
    folder, _ = study
    page, before = folder / "results/tiny/report/index.html", (folder / "study.yaml").read_text()
    (folder / "study.yaml").write_text(yaml.safe_dump({**yaml.safe_load(before), "surrogate": None, "autoencoder": None}))
    assert job_counts(run_study(folder)) == {"all": 1, "tabulate_results": 1, "write_page": 1}
    told = page.read_text()
    assert '<section id="calendering">' in told and '<section id="tomography">' in told
    assert not [name for name in ("surrogate", "autoencoder") if f'<section id="{name}">' in told]
    (folder / "study.yaml").write_text(before)


def test_a_tiny_study_from_dumps_and_an_image_to_the_page(tmp_path):
    study = make_study(tmp_path)
    the_study_ends_in_a_page_that_tells_everything(study)
    numbers_of_the_table_are_those_of_the_files(study)
    every_job_leaves_a_log_and_a_benchmark(study)
    nothing_unfinished_lies_about(study)
    a_second_run_does_nothing(study)
    how_a_search_is_run_makes_nothing_anew(study)
    a_deleted_record_is_remade_with_what_follows_from_it_and_nothing_else(study)
    a_changed_report_section_reruns_only_the_report(study)
    snakemakes_own_report_needs_no_more_than_the_locks_of_a_run(study)
    a_stage_that_is_left_out_is_left_out_of_the_page(study)
