"""Memory that jobs ask for."""

import csv
from pathlib import Path

import numpy as np
import pytest

from calandria.autoencoder.settings import AutoencoderSettings
from calandria.base.volumes import Labelled, write_labelled
from calandria.study.resources import NEEDS, largest_frame, memory_mb, needed_mb, shape_of, training_mb
from calandria.surrogate.networks.conv1d_lags import Conv1dLagsSettings
from calandria.surrogate.networks.press_unet import PressUnetSettings
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


def test_a_training_asks_by_frames_network_workers_and_attempt(tmp_path):
    write_labelled(
        tmp_path / "s.zarr.zip",
        Labelled(np.zeros((3, 40, 50, 60), np.uint8), 1.0, (False,) * 3, "made", {"time_us": np.arange(3.0)}),
    )
    voxels = largest_frame([tmp_path / "gone.zarr.zip", tmp_path / "s.zarr.zip"])
    assert voxels == 40 * 50 * 60 and largest_frame([]) == 0
    assert training_mb(0, 1000, 1) == 8000 and training_mb(0, 1000, 1, 4) == 12_000, "a floor, and each worker's own"
    published = Conv1dLagsSettings(filters=256, dense_widths=[256]).bytes_per_voxel
    paper = training_mb(published * 125 * 76 * 76, 1000, 1)
    assert 15_000 < paper < 25_000 and training_mb(published * 125 * 76 * 76, 1000, 2) == 2 * paper


@pytest.mark.parametrize(
    ("settings", "measured"),
    [
        (PressUnetSettings(learning={"training": {"crop_voxels": None}}), 2106),
        (PressUnetSettings(learning={"training": {"crop_voxels": None, "rollout_steps": 1}}), 1291),
        (Conv1dLagsSettings(), 2043),
        (Conv1dLagsSettings(filters=256, dense_widths=[256]), 20_940),
    ],
    ids=["press_unet", "press_unet, one step", "conv1d_lags", "conv1d_lags of the paper"],
)
def test_a_network_asks_for_what_its_training_was_measured_to_take(settings, measured):
    """Peak resident memory of one epoch on frames of 64^3 voxels less that before it, bytes a voxel, one thread."""
    assert measured <= 1.1 * settings.bytes_per_voxel <= 1.6 * measured


def test_an_autoencoder_asks_by_images_windows_and_the_largest_network_of_its_search():
    case = {"cases": {"one": {"samples": ["a"], "slice_windows": [8]}}, "image_size": 224, "network": {"hidden_neurons": 1000}}
    given = AutoencoderSettings(**case, learning={"training": {"batch_size": 2}})
    assert 459e6 < given.learned_bytes < 3 * 459e6, "measured: 459 MB"
    searched = AutoencoderSettings(**case, learning={"training": {"batch_size": 2}, "search": {"space": {"batch_size": [2, 8]}}})
    assert searched.learned_bytes > given.learned_bytes
