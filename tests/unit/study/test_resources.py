"""Memory that jobs ask for."""

import csv
from pathlib import Path

import numpy as np
import pytest

from calandria.base.volumes import Labelled, write_labelled
from calandria.study.resources import NEEDS, memory_mb, needed_mb, shape_of
from tests.helpers.images import label_image, write_image

MEASURED = Path(__file__).parents[3] / "benchmarks/results/volumes.csv"
RULES = {
    "import of labels": "import_volume",
    "import of grey": "import_volume",
    "measurement": "measure_phases",
    "solution along z": "solve_diffusion",
}


@pytest.mark.parametrize("rule", NEEDS)
def test_a_job_asks_for_its_floor_where_its_input_is_not_there_and_for_more_at_each_attempt(tmp_path, rule):
    asked = [memory_mb(rule, tmp_path / "gone.zarr.zip", attempt) for attempt in (1, 2, 3)]
    assert asked == [NEEDS[rule].floor_mb * factor for factor in (1, 2, 4)]
    assert memory_mb(rule, []) == NEEDS[rule].floor_mb
    (tmp_path / "damaged.zarr.zip").write_text("no zip")
    assert memory_mb(rule, [tmp_path / "damaged.zarr.zip"]) == NEEDS[rule].floor_mb


@pytest.mark.parametrize("rule", NEEDS)
def test_larger_volumes_ask_for_more(rule):
    asked = [needed_mb(NEEDS[rule], (edge,) * 3) for edge in (100, 600, 2000)]
    assert asked == sorted(set(asked))
    assert needed_mb(NEEDS[rule], ()) == 0


def test_the_solver_asks_for_what_its_voxels_take_and_the_largest_series_counts(tmp_path, monkeypatch):
    write_labelled(tmp_path / "v.zarr.zip", Labelled(np.zeros((40, 50, 60), np.uint8), 1.0, (False,) * 3, "made"))
    write_labelled(
        tmp_path / "s.zarr.zip",
        Labelled(np.zeros((3, 40, 50, 60), np.uint8), 1.0, (False,) * 3, "made", {"time_us": np.arange(3.0)}),
    )
    assert (shape_of(tmp_path / "v.zarr.zip"), shape_of(tmp_path / "s.zarr.zip")) == ((40, 50, 60), (3, 40, 50, 60))
    assert needed_mb(NEEDS["solve_diffusion"], (600, 600, 600)) == pytest.approx(400 + 36 * 600**3 / 2**20, abs=1)
    series = needed_mb(NEEDS["solve_series"], (30, 600, 600, 600))
    assert series == pytest.approx(400 + (36 + 2 * 30) * 600**3 / 2**20, abs=1)
    monkeypatch.setattr("calandria.study.resources.shape_of", lambda path: (600,) * 3 if path == "large" else (10,) * 3)
    assert memory_mb("solve_diffusion", ["small", "large"]) == memory_mb("solve_diffusion", "large") > 7000


@pytest.mark.parametrize("kind", ["tiff", "folder_png", "npy", "zarr"])
def test_an_image_counts_by_its_bytes(tmp_path, kind):
    edge, *_ = shape_of(write_image(tmp_path, kind, label_image((20, 30, 40))))
    assert edge >= 8


@pytest.mark.skipif(not MEASURED.exists(), reason="no measurements")
def test_what_was_measured_fits_into_what_is_asked_for():
    with open(MEASURED, newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["what"] for row in rows} == set(RULES)
    for row in rows:
        edge = round(int(row["voxels"]) ** (1 / 3))
        asked = max(NEEDS[RULES[row["what"]]].floor_mb, needed_mb(NEEDS[RULES[row["what"]]], (edge,) * 3))
        assert float(row["peak_memory_mb"]) < asked < 6 * float(row["peak_memory_mb"]), row
