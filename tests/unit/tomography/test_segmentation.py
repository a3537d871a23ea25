"""Segmentation: thresholds, classes and filters on images whose phases are known."""

import numpy as np
import pytest
from skimage.filters import threshold_multiotsu, threshold_otsu

from calandria.base.errors import ContractError, SettingsError
from calandria.tomography import readers
from calandria.tomography.readers import Stack, View
from calandria.tomography.segmentation import histogram, segment
from tests.helpers.images import grey_image, label_image


def view(values):
    return View(Stack("grey", values.shape, values.dtype, values.__getitem__))


def phases(labels=(0, 1, 2)):
    return label_image((20, 18, 16), labels)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "int16"])
def test_three_separate_peaks_are_found_exactly(dtype):
    truth = phases()
    scale = 1 if dtype == "uint8" else 100
    grey = (grey_image(truth, {0: 40, 1: 110, 2: 200}, 5) * scale).astype(dtype)
    found = segment(view(grey), "multi_otsu", (0, 1, 2))
    np.testing.assert_array_equal(found.labels, truth)
    assert 40 * scale < found.thresholds[0] < 110 * scale < found.thresholds[1] < 200 * scale
    assert found.separability > 0.98
    np.testing.assert_allclose(found.shares, np.bincount(truth.ravel()) / truth.size)


def test_classes_go_from_dark_to_bright_in_the_order_named():
    truth = phases()
    grey = grey_image(truth, {0: 40, 1: 110, 2: 200}, 5).astype(np.uint8)
    found = segment(view(grey), "multi_otsu", (4, 0, 2))
    np.testing.assert_array_equal(found.labels, np.array([4, 0, 2], np.uint8)[truth])
    assert found.report()["classes"] == ["void", "pore", "am"]


def test_thresholds_are_those_of_scikit_image_on_overlapping_peaks():
    grey = np.clip(grey_image(phases(), {0: 80, 1: 120, 2: 160}, 18), 0, 255).astype(np.uint8)
    assert segment(view(grey), "otsu", (0, 2)).thresholds[0] == threshold_otsu(grey)
    assert list(segment(view(grey), "multi_otsu", (0, 1, 2)).thresholds) == threshold_multiotsu(grey, 3).tolist()


def test_otsu_and_multi_otsu_of_two_classes_agree():
    grey = grey_image(phases((0, 1)), {0: 90, 1: 150}, 20).astype(np.uint16)
    one, other = segment(view(grey), "otsu", (0, 2)), segment(view(grey), "multi_otsu", (0, 2))
    assert one.thresholds == other.thresholds
    np.testing.assert_array_equal(one.labels, other.labels)


@pytest.mark.parametrize("n_values", [2, 200, 256, 257, 40000])
def test_histogram_counts_every_voxel_in_its_bin(n_values):
    grey = np.random.default_rng(1).integers(0, n_values, (20, 20, 20)).astype(np.uint16)
    grey.ravel()[:2] = 0, n_values - 1
    counts, upper = histogram(view(grey))
    assert counts.sum() == grey.size and len(counts) <= 256
    assert counts.cumsum().tolist() == [int((grey <= edge).sum()) for edge in upper]


def test_blocks_do_not_change_the_result(monkeypatch):
    grey = grey_image(phases(), {0: 80, 1: 120, 2: 160}, 18).astype(np.uint8)
    whole = segment(view(grey), "multi_otsu", (0, 1, 2), median_filter=3)
    monkeypatch.setattr(readers, "BLOCK_BYTES", 1)
    pieces = segment(view(grey), "multi_otsu", (0, 1, 2), median_filter=3)
    assert pieces.thresholds == whole.thresholds
    np.testing.assert_array_equal(pieces.labels, whole.labels)


def test_median_filter_removes_single_voxels():
    grey = np.full((12, 12, 12), 50, np.uint8)
    grey[:, :, 6:] = 200
    truth = np.where(grey > 100, 2, 0)
    grey[3, 3, 3], grey[5, 5, 9] = 200, 50
    assert (segment(view(grey), "otsu", (0, 2)).labels != truth).sum() == 2
    np.testing.assert_array_equal(segment(view(grey), "otsu", (0, 2), median_filter=3).labels, truth)


def test_too_few_grey_values_are_told():
    with pytest.raises(ContractError, match="2 different grey values; expected more for 3 classes"):
        segment(view(phases((0, 1))), "multi_otsu", (0, 1, 2))
    with pytest.raises(ContractError, match="1 different grey values"):
        segment(view(np.full((4, 4, 4), 1.5)), "otsu", (0, 2))


@pytest.mark.parametrize("size", [1, 3])
def test_values_that_are_not_finite_are_told(size):
    grey = np.ones((4, 4, 4))
    grey[0, 0, 0] = np.nan
    with pytest.raises(ContractError, match="not finite"):
        segment(view(grey), "otsu", (0, 2), median_filter=size)


@pytest.mark.parametrize("dtype", ["bool", "float16", "int8", ">u2", "uint32"])
def test_filter_takes_every_type_that_the_readers_give(dtype):
    grey = np.zeros((8, 8, 8), dtype)
    grey[:, :, 4:], grey[2, 2, 2] = 1, 1
    found = segment(view(grey), "otsu", (0, 2), median_filter=3)
    np.testing.assert_array_equal(found.labels, np.broadcast_to(np.where(np.arange(8) > 3, 2, 0), (8, 8, 8)))


@pytest.mark.parametrize(
    ("method", "classes", "size"), [("otsu", (0, 1, 2), 1), ("multi_otsu", (0,), 1), ("kmeans", (0, 2), 1), ("otsu", (0, 2), 2)]
)
def test_impossible_segmentations_are_told(method, classes, size):
    with pytest.raises(SettingsError):
        segment(view(phases()), method, classes, size)
