import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calandria.autoencoder.preprocessing import ResizedSlices, code_labels, mean_value, resize_slices
from calandria.base.errors import ContractError
from calandria.tomography.mini_volumes import MiniVolumes, list_origins


def labels(depth, size=20, seed=0):
    return np.random.default_rng(seed).choice(np.array([0, 1, 2, 4], np.uint8), (depth, size, size))


@pytest.mark.parametrize(("coding", "expected"), [("pore_am_cbd", [-1, 1, 0, -1]), ("pore_cbd_am", [-1, 0, 1, -1])])
def test_phases_become_numbers(coding, expected):
    assert code_labels(np.array([0, 1, 2, 4], np.uint8), coding).tolist() == expected


def test_unknown_labels_are_named():
    with pytest.raises(ContractError, match=r"\[3\]"):
        code_labels(np.array([0, 3], np.uint8), "pore_am_cbd")


@pytest.mark.parametrize("antialias", [False, True])
def test_resizing_keeps_constants_and_the_mean(antialias):
    images = torch.full((2, 30, 30), 0.25)
    assert torch.allclose(resize_slices(images, 17, antialias=antialias), torch.tensor(0.25))
    noise = torch.from_numpy(code_labels(labels(1, 64), "pore_am_cbd"))
    halved = resize_slices(noise, 32, antialias=antialias)
    assert float(halved.mean()) == pytest.approx(float(noise.mean()), abs=0.02)


def test_an_image_of_the_same_size_is_untouched():
    images = torch.from_numpy(code_labels(labels(3), "pore_am_cbd"))
    assert torch.equal(resize_slices(images, 20), images)


@settings(max_examples=20, deadline=None)
@given(window=st.integers(1, 50), stride=st.integers(1, 20), cache=st.sampled_from([0, 2000]), axis=st.sampled_from("zyx"))
def test_mini_volumes_are_the_resized_slices_whatever_the_cache(window, stride, cache, axis):
    volumes = {"a": labels(70, 70, 1), "b": labels(40, 40, 2)[:, :, :]}
    volumes["b"] = labels(70, 70, 2)
    lengths = dict.fromkeys(volumes, 70)
    origins = list_origins(lengths, window, stride, straddle=True, slice_axis=axis)
    reader = MiniVolumes(origins, volumes)
    images = ResizedSlices(reader, 16, cache_mb=cache)
    for index in {0, len(origins) // 2, len(origins) - 1}:
        expected = resize_slices(torch.from_numpy(code_labels(reader[index], "pore_am_cbd")), 16)
        assert torch.equal(images.mini_volume(origins[index]), expected)
    assert cache or len(images._blocks) == 1


def test_each_slice_is_read_once_while_the_cache_lasts():
    class Counting:
        shape = (64, 8, 8)
        reads = 0

        def __getitem__(self, box):
            Counting.reads += 1
            return labels(64, 8)[box]

    origins = list_origins({"a": 64}, 8, 1)
    images = ResizedSlices(MiniVolumes(origins, {"a": Counting()}), 8)
    images.batch(origins)
    images.batch(origins)
    assert Counting.reads == 2


def test_the_mean_is_that_of_all_voxels():
    origins = list_origins({"a": 4}, 2, 2)
    reader = MiniVolumes(origins, {"a": np.stack([np.full((8, 8), code, np.uint8) for code in (0, 0, 1, 2)])})
    assert mean_value(ResizedSlices(reader, 8), origins) == pytest.approx(-0.25)
