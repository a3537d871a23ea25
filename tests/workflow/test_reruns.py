"""Which jobs an edit of the settings runs again: dry runs on a finished study, row by row of one table.

The study is the demo's settings with all of its files as empty ones that Snakemake takes for finished (``--touch``): what is
planned follows from the settings that each job recorded, not from what the files hold.
"""

import copy
import os
import shutil

import pytest
import yaml

from tests.helpers.workflow import REPOSITORY, job_counts, snakemake

pytestmark = pytest.mark.slow

LAMMPS = {"insert_particles", "dry_film", "perturb_film", "load_film", "release_film"}
DEM = LAMMPS | {"read_dumps", "voxelize_frames"}
REPORT = {"tabulate_results", "draw_surrogate", "write_page"}
TRAINING = {"search_surrogate", "train_surrogate", "search_autoencoder", "train_autoencoder"}
OF_RUN = {
    "surrogate.cache_mb": 77,
    "surrogate.networks.press_unet.learning.checkpoint_every": 1,
    "surrogate.networks.conv1d_lags.learning.checkpoint_every": 1,
    "surrogate.networks.conv1d_lags.learning.search.budget.workers": 1,
    "surrogate.networks.conv1d_lags.learning.search.budget.lease_seconds": 300,
    "surrogate.networks.conv1d_lags.learning.search.budget.storage": "sqlite:///trials.db",
    "surrogate.networks.conv1d_lags.learning.search.budget.threads_per_worker": 2,
    "autoencoder.cache_mb": 77,
    "autoencoder.learning.checkpoint_every": 1,
    "autoencoder.learning.search.budget.max_attempts": 9,
    "autoencoder.learning.search.budget.max_failed_fraction": 0.9,
}
"""Settings that change how a training or a search runs, and none of its numbers."""


class Finished:
    """A finished study in a folder, and what its settings become by an edit."""

    def __init__(self, folder):
        self.folder = folder
        shutil.copytree(REPOSITORY / "config", folder / "config")
        shutil.copytree(REPOSITORY / "examples", folder / "examples")
        self.settings = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
        self.settings["calendering"]["compression_degrees_percent"] = [20, 35, 50]  # the demo's two and one to take out again
        (folder / "config/config.yaml").write_text(yaml.safe_dump(self.settings, sort_keys=False))
        listed = snakemake(folder, "--summary").stdout.splitlines()[1:]
        assert len(listed) > 200
        for line in listed:
            path = folder / line.split("\t")[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        assert snakemake(folder, "--touch", "--forceall").returncode == 0

    def planned(self, edit=None, text=None):
        """Return how many jobs of each rule run after an edit of a copy of the settings, or with a text of them."""
        settings = copy.deepcopy(self.settings)
        if edit is not None:
            edit(settings)
        path = self.folder / "edited.yaml"
        path.write_text(text if text is not None else yaml.safe_dump(settings, sort_keys=False))
        counts = job_counts(snakemake(self.folder, "--dry-run", "--configfile", path))
        counts.pop("all", None)
        return counts


def put(key, value):
    """Return an edit that sets one dotted key."""

    def edit(settings):
        *parents, last = key.split(".")
        for name in parents:
            settings = settings[name]
        settings[last] = value

    return edit


def put_all(values):
    """Return an edit that sets several dotted keys."""

    def edit(settings):
        for key, value in values.items():
            put(key, value)(settings)

    return edit


def reversed_keys(value):
    """Return nested mappings with their keys in the opposite order."""
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return value


NOTHING = {}
ROWS = {
    "no edit": (None, NOTHING),
    "voxel_edge_um": (
        put("calendering.voxels.voxel_edge_um", 0.38),
        {"voxelize_frames": 12, "-": LAMMPS | {"read_dumps", "import_volume", "train_autoencoder"}},
    ),
    "another compression degree": (
        put("calendering.compression_degrees_percent", [20, 35, 40, 50]),
        {"release_film": 4, "read_dumps": 4, "voxelize_frames": 4, "-": {"load_film", "dry_film", "insert_particles"}},
    ),
    "a degree fewer": (
        put("calendering.compression_degrees_percent", [20, 50]),
        {"-": LAMMPS | {"read_dumps", "voxelize_frames", "solve_diffusion"}},
    ),
    "frames of one degree": (
        put("calendering.frames_by_degree", {20: 14, 25: 18, 30: 21, 35: 25, 40: 28, 45: 31, 50: 35}),
        {"release_film": 4, "read_dumps": 4, "-": {"load_film", "dry_film"}},
    ),
    "a setting of the release": (
        put("calendering.motion.release_damping", 0.5),
        {"release_film": 12, "read_dumps": 12, "-": {"load_film", "dry_film", "insert_particles", "import_volume"}},
    ),
    "how dumps are read": (
        put("calendering.dumps.expected_frames", 14),
        {"read_dumps": 12, "-": LAMMPS},
    ),
    "one more transport case of images": (
        put("transport.tomography.cases.am", {"am": 1.0}),
        {"solve_diffusion": 1, "tabulate_results": 1, "write_page": 1},
    ),
    "one more axis of images": (
        put("transport.tomography.axes", ["z", "y"]),
        {"solve_diffusion": 2, "tabulate_results": 1, "write_page": 1},
    ),
    "one more transport case of series": (
        put("transport.series.cases.cbd", {"cbd": 1.0}),
        {"solve_series": 15, "evaluate_predictions": 3, **dict.fromkeys(REPORT, 1)},
    ),
    "one more axis of series": (
        put("transport.series.axes", ["z", "x"]),
        {"solve_series": 30, "evaluate_predictions": 3, **dict.fromkeys(REPORT, 1)},
    ),
    "resolution of figures": (put("report.figure_dpi", 100), {"draw_surrogate": 1, "write_page": 1}),
    "digits of the page": (put("report.significant_digits", 5), {"write_page": 1}),
    "the title": (put("title", "Another"), {"write_page": 1}),
    "the nanopores of the binder domain": (put("report.cbd_nanoporosity", 0.5), {"tabulate_results": 1, "write_page": 1}),
    "no reference values": (put("report.references_sheet", None), {"tabulate_results": 1, "write_page": 1}),
    "what only says how trainings run": (put_all(OF_RUN), NOTHING),
    "a setting of one network": (
        put("surrogate.networks.press_unet.dropout", 0.1),
        {"train_surrogate": 1, "predict_frames": 3, "-": DEM | {"split_films", "search_surrogate", "train_autoencoder"}},
    ),
    "the space of a network's search": (
        put("surrogate.networks.conv1d_lags.learning.search.space.conv_layers", [2]),
        {"search_surrogate": 1, "train_surrogate": 1, "predict_frames": 3, "-": DEM | {"split_films", "search_autoencoder"}},
    ),
    "a larger budget": (
        put("surrogate.networks.conv1d_lags.learning.search.budget.n_trials", 8),
        {"search_surrogate": 1, "train_surrogate": 1, "predict_frames": 3, "-": DEM | {"split_films", "search_autoencoder"}},
    ),
    "a predictor fewer": (
        put("surrogate.predictors", ["copy", "affine_press", "press_unet", "conv1d_lags", "replicate"]),
        {"evaluate_predictions": 3, "-": DEM | TRAINING | {"split_films", "predict_frames", "predict_frames_of_replicate"}},
    ),
    "a test film more": (
        put("surrogate.split.test_films", ["film_2", "film_3"]),
        {"split_films": 1, "search_surrogate": 1, "train_surrogate": 2, "-": DEM | {"search_autoencoder", "train_autoencoder"}},
    ),
    "examples of auto-encoders": (
        put("autoencoder.evaluation.n_examples", 6),
        {"encode_mini_volumes": 2, "evaluate_autoencoder": 2, "-": DEM | TRAINING | {"list_mini_volumes", "import_volume"}},
    ),
    "resamples behind an interval": (
        put("autoencoder.evaluation.n_resamples", 500),
        {"evaluate_autoencoder": 2, "-": DEM | TRAINING | {"list_mini_volumes", "encode_mini_volumes"}},
    ),
    "one case's way of parting": (
        put("autoencoder.cases.calendered_leaking.split", "blocks"),
        {
            "train_autoencoder": 1,
            "evaluate_autoencoder": 1,
            "-": DEM | {"search_autoencoder", "list_mini_volumes", "split_films"},
        },
    ),
    "the median filter of images that are not segmented by us": (
        put("tomography.median_filter", 3),
        {"import_volume": 1, "-": LAMMPS | {"read_dumps", "voxelize_frames", "train_surrogate", "search_surrogate"}},
    ),
}
"""Edit, and the jobs that it runs again: exactly those, or at least those where ``-`` names what must not run."""


def contradiction(wanted, counts):
    """Return what of the plan is not as a row says, empty if nothing is."""
    forbidden = wanted.get("-")
    if forbidden is None:
        return "" if counts == wanted else f"expected {wanted}, planned {counts}"
    least = {rule: number for rule, number in wanted.items() if rule != "-"}
    missing = {rule: number for rule, number in least.items() if counts.get(rule) != number}
    wrong = forbidden & counts.keys()
    return f"expected {missing} and none of {sorted(wrong)}, planned {counts}" if missing or wrong else ""


def test_an_edit_runs_what_reads_it_and_nothing_else(tmp_path):
    study = Finished(tmp_path)
    found = {name: contradiction(wanted, study.planned(edit)) for name, (edit, wanted) in ROWS.items()}
    text = yaml.safe_dump(study.settings, sort_keys=False)
    same = {
        "key order": yaml.safe_dump(reversed_keys(study.settings), sort_keys=False),
        "comments and whitespace": "# a comment\n" + text.replace("calendering:\n", "\n\ncalendering:   # films\n", 1),
        "1.0 for 1": text.replace("mass_scale: 10000.0", "mass_scale: 10000", 1),
    }
    assert len(set(same.values()) | {text}) == 4
    found |= {name: contradiction(NOTHING, study.planned(text=edited)) for name, edited in same.items()}
    found |= sheet_edits(study)
    assert {name: told for name, told in found.items() if told} == {}
    assert len(found) >= 14


def sheet_edits(study):
    """Return what edits of the sheets and of an image contradict."""
    sheet = study.folder / "config/films.tsv"
    before = sheet.read_text()
    sheet.write_text(before + "film_9\t99\t\n")
    made = {**dict.fromkeys(("insert_particles", "dry_film", "load_film"), 1), "release_film": 3, "read_dumps": 3}
    found = {"another film in the sheet": contradiction({**made, "voxelize_frames": 3, "-": {"import_volume"}}, study.planned())}
    sheet.write_text(before)
    found["the film taken out again"] = contradiction(NOTHING, study.planned())
    image = next((study.folder / "examples").rglob("*.tif"))
    content, times = image.read_bytes(), image.stat()
    image.write_bytes(content[:-1] + b"x")
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns - 10**12))
    counts = study.planned()
    found["an image of an older time and another content"] = contradiction(
        {"import_volume": 1, "measure_phases": 1, "-": LAMMPS | {"read_dumps", "train_surrogate"}}, counts
    )
    image.write_bytes(content)
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    found["the image as it was"] = contradiction(NOTHING, study.planned())
    return found


@pytest.mark.parametrize(
    ("wanted", "counts", "wrong"),
    [
        ({}, {}, False),
        ({}, {"a": 1}, True),
        ({"a": 1}, {"a": 1}, False),
        ({"a": 1}, {"a": 2}, True),
        ({"a": 1}, {"a": 1, "b": 1}, True),
        ({"a": 1, "-": {"c"}}, {"a": 1, "b": 1}, False),
        ({"a": 1, "-": {"c"}}, {"a": 1, "c": 1}, True),
        ({"a": 1, "-": set()}, {}, True),
    ],
)
def test_a_row_that_is_not_met_is_seen(wanted, counts, wrong):
    assert bool(contradiction(wanted, counts)) == wrong
