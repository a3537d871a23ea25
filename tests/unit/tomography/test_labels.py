"""Label maps: every label gets its code, labels without a name are errors."""

import numpy as np
import pytest

from calandria.base.errors import ContractError
from calandria.tomography.labels import map_labels
from tests.helpers.images import label_image

CODES = {0: 0, 1: 2, 2: 1}


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "uint64", "float32", ">i2"])
def test_labels_of_any_type_are_mapped(dtype):
    image = label_image()
    expected = np.array([0, 2, 1], np.uint8)[image]
    found = map_labels(image.astype(dtype), CODES, "image")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_booleans_are_zero_and_one():
    assert map_labels(np.array([[[False, True]]]), {0: 0, 1: 2}, "image").tolist() == [[[0, 2]]]


def test_labels_far_apart_and_negative_ones_are_mapped():
    assert map_labels(np.array([-1, 0, 10**9]), {-1: 0, 0: 2, 10**9: 1}, "image").tolist() == [0, 2, 1]


def told(values, match, hint):
    with pytest.raises(ContractError, match=match) as caught:
        map_labels(values, CODES, "scan")
    assert hint in caught.value.hint


def test_unknown_label_is_told():
    told(np.array([0, 1, 3], np.uint8), "labels without a name: 3; named are 0=pore, 1=am, 2=cbd", "add them to the label map")
    told(np.array([0, 10**9]), "labels without a name: 1000000000", "add them to the label map")


def test_mask_of_255_is_told():
    told(np.array([0, 255], np.uint8), "without a name: 255", "0=pore 255=am")


def test_signed_labels_are_told():
    told(np.array([0, -1], np.int8), "without a name: -1", "signed (int8)")


def test_grey_image_is_told():
    told(np.arange(256, dtype=np.uint8), r"\(253 in all\)", "segmentation")


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
def test_floats_that_are_not_labels_are_told(value):
    told(np.array([0, 1, value]), "values that are not whole", "segmentation")
