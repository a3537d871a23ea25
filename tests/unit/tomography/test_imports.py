"""Import and measurement slab by slab: the numbers of the whole image, in a fraction of its memory."""

import hashlib
import itertools
import tracemalloc

import numpy as np
import pytest
from scipy.ndimage import median_filter

from calandria.base import volumes
from calandria.base.records import read_json, write_json
from calandria.base.volumes import read_labelled
from calandria.tomography import readers, segmentation
from calandria.tomography.imports import import_image
from calandria.tomography.labels import label_slabs
from calandria.tomography.measurements import measure
from calandria.tomography.readers import View, open_image
from calandria.tomography.segmentation import segment
from calandria.tomography.settings import SampleRow
from tests.helpers.images import grey_image, label_image, write_image
from workflow_scripts.tomography import measure_phases

ORDERS = ["".join(order) for order in itertools.permutations("zyx")]


def row_of(path, **facts):
    return SampleRow(sample="a", path=str(path), voxel_edge_um=0.4, **facts)


@pytest.fixture
def small_slabs(monkeypatch):
    monkeypatch.setattr(readers, "BLOCK_BYTES", 200)
    monkeypatch.setattr(readers, "SLAB_BYTES", 400)
    monkeypatch.setattr(segmentation, "IN_MEMORY", 100)


@pytest.mark.parametrize("axes", ORDERS)
@pytest.mark.parametrize("flip_z", [False, True])
@pytest.mark.parametrize("grain", [1, 4])
def test_slabs_come_in_order_whatever_the_order_of_the_file(tmp_path, small_slabs, axes, flip_z, grain):
    image = label_image((19, 7, 9))
    in_file = (image[::-1] if flip_z else image).transpose(["zyx".index(name) for name in axes])
    np.save(tmp_path / "scan.npy", in_file)
    with open_image(tmp_path / "scan.npy") as stack:
        object.__setattr__(stack, "grain", grain)
        view = View(stack, axes, flip_z, (slice(2, 17), slice(1, None), slice(None, 8)))
        slabs = list(label_slabs(view, {0: 0, 1: 2, 2: 1}))
    assert len(slabs) > 1 or axes[0] != "z"
    np.testing.assert_array_equal(np.concatenate(slabs), np.array([0, 2, 1], np.uint8)[image[2:17, 1:, :8]])


@pytest.mark.parametrize("axes", ["zyx", "yzx", "xyz"])
@pytest.mark.parametrize("flip_z", [False, True])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_filter_sees_across_slabs_and_blocks(tmp_path, monkeypatch, small_slabs, axes, flip_z, size):
    monkeypatch.setattr(readers, "SLAB_BYTES", 40)  # slabs of 8 halos, or 8 slices where z is not the slowest
    grey = np.random.default_rng(5).integers(0, 2000, (41, 6, 7)).astype(np.uint16)
    in_file = (grey[::-1] if flip_z else grey).transpose(["zyx".index(name) for name in axes])
    np.save(tmp_path / "scan.npy", in_file)
    with open_image(tmp_path / "scan.npy") as stack:
        found = segment(View(stack, axes, flip_z), "otsu", (0, 2), size)
    filtered = median_filter(grey, size, mode="nearest")
    np.testing.assert_array_equal(found.labels, np.where(filtered > found.thresholds[0], 2, 0))
    assert found.shares[1] == (filtered > found.thresholds[0]).mean()


@pytest.mark.parametrize("kind", ["tiff", "tiff_deflate", "tiff_pages", "folder_png", "hdf5", "zarr", "zarr_zip", "npy"])
@pytest.mark.parametrize(
    "facts", [{"labels": "40=pore 110=am 200=cbd"}, {"segmentation": "multi_otsu", "classes": "pore am cbd"}]
)
def test_slabs_of_every_format_give_the_volume_of_one_piece(tmp_path, monkeypatch, kind, facts):
    image = np.array([40, 110, 200], np.uint8)[label_image((13, 8, 9))]
    source = write_image(tmp_path, kind, image)
    import_image(row_of(source, **facts), tmp_path / "whole.zarr.zip", dict)
    monkeypatch.setattr(readers, "BLOCK_BYTES", 1)
    monkeypatch.setattr(readers, "SLAB_BYTES", 1)
    monkeypatch.setattr(volumes, "CHUNK", 4)
    import_image(row_of(source, **facts), tmp_path / "slabs.zarr.zip", dict)
    whole, slabs = read_labelled(tmp_path / "whole.zarr.zip"), read_labelled(tmp_path / "slabs.zarr.zip")
    np.testing.assert_array_equal(whole.labels, slabs.labels)
    np.testing.assert_array_equal(whole.labels, np.array([0, 2, 1], np.uint8)[np.searchsorted([40, 110, 200], image)])
    assert whole.attributes == slabs.attributes


def measured(folder, volume):
    write_json(folder / "given.json", {"settings": {}})
    measure_phases.main(
        ["--settings", str(folder / "given.json"), "--volume", str(volume), "--output", str(folder / "phases.json")]
    )
    return read_json(folder / "phases.json")


def test_a_measurement_by_slabs_has_the_numbers_and_the_digest_of_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(volumes, "CHUNK", 4)
    monkeypatch.setattr(volumes, "MOST_CHUNKS", 3)
    labels = label_image((21, 9, 10), (0, 1, 2, 4))
    labels[17:] = 4
    labels[3, 0, 0] = 0
    volumes.write_labelled(tmp_path / "v.zarr.zip", volumes.Labelled(labels, 0.5, (False,) * 3, "made"))
    record = measured(tmp_path, tmp_path / "v.zarr.zip")
    assert record["labels_sha256"] == hashlib.sha256(labels.tobytes()).hexdigest()
    expected = measure(labels, 0.5).record()
    assert {name: record[name] for name in expected} == expected
    assert record["phase_voxels"]["void"] == int((labels == 4).sum())
    assert record["phase_fractions"]["am"] == pytest.approx((labels == 2).sum() / (labels != 4).sum(), rel=1e-15)


@pytest.mark.parametrize(
    ("kind", "what"), [("npy", "labels"), ("tiff", "labels"), ("tiff_pages", "labels"), ("hdf5", "labels"), ("npy", "grey")]
)
def test_neither_import_nor_measurement_holds_the_volume(tmp_path, monkeypatch, kind, what):
    """By what Python and NumPy allocate at once, with blocks as much smaller as the image is smaller than a real one."""
    image = label_image((400, 128, 128))
    monkeypatch.setattr(readers, "BLOCK_BYTES", 200_000)
    monkeypatch.setattr(readers, "SLAB_BYTES", 400_000)
    monkeypatch.setattr(volumes, "CHUNK", 64)
    facts = {"labels": "0=pore 1=am 2=cbd"}
    if what == "grey":
        image = grey_image(image, {0: 40, 1: 110, 2: 200}, 5).astype(np.uint8)
        facts = {"segmentation": "multi_otsu", "classes": "pore am cbd"}
    source = write_image(tmp_path, kind, image)
    size, peaks = image.nbytes, {}
    del image
    np.save(tmp_path / "small.npy", np.arange(27, dtype=np.uint8).reshape(3, 3, 3) % 3)
    small = {"labels": "0=pore 1=am 2=cbd"} if what == "labels" else facts
    import_image(row_of(tmp_path / "small.npy", **small), tmp_path / "v.zarr.zip", dict)  # what is loaded once is not counted
    measured(tmp_path, tmp_path / "v.zarr.zip")
    for name, work in {
        "import": lambda: import_image(row_of(source, **facts), tmp_path / "v.zarr.zip", dict),
        "measure": lambda: measured(tmp_path, tmp_path / "v.zarr.zip"),
    }.items():
        tracemalloc.start()
        work()
        peaks[name] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert max(peaks.values()) < 0.85 * size, peaks
