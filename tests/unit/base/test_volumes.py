import dataclasses
import shutil
import time
import zipfile

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import ZipStore

from calandria.base import volumes
from calandria.base.errors import ContractError, InputFileError
from calandria.base.volumes import (
    Labelled,
    check,
    checked_slabs,
    label_counts,
    labelled_writer,
    layout,
    occupied_slices,
    open_labelled,
    read_labelled,
    volume_fractions,
    write_labelled,
)

CODES = np.array([0, 1, 2, 4], np.uint8)


def labels(shape=(5, 4, 3), seed=1):
    return np.random.default_rng(seed).choice(CODES, size=shape)


def volume(**changed):
    facts = {"labels": labels(), "voxel_edge_um": 0.4, "periodic": (False, True, True), "source": "a test"}
    return Labelled(**(facts | changed))


def series(**changed):
    frames = {"time_us": np.arange(3.0), "thickness_um": np.array([10.0, 8.5, 9.0])}
    return volume(**({"labels": labels((3, 5, 4, 2)), "frames": frames} | changed))


@pytest.mark.parametrize("made", [volume(attributes={"film": "film_1", "nested": {"a": [1, 2]}}), series()])
def test_round_trip(tmp_path, made):
    write_labelled(tmp_path / "v.zarr.zip", made)
    found = read_labelled(tmp_path / "v.zarr.zip")
    assert found.labels.dtype == np.uint8 and np.array_equal(found.labels, made.labels)
    assert found.axes == made.axes and found.source == "a test"
    assert (found.voxel_edge_um, found.periodic, found.attributes) == (0.4, (False, True, True), made.attributes)
    assert found.frames.keys() == made.frames.keys()
    assert all(np.array_equal(found.frames[name], made.frames[name]) for name in made.frames)
    assert [path.name for path in tmp_path.iterdir()] == ["v.zarr.zip"]


def test_a_file_tells_the_contract_to_whoever_opens_it_with_plain_zarr(tmp_path):
    write_labelled(tmp_path / "v.zarr.zip", series())
    with ZipStore(tmp_path / "v.zarr.zip", mode="r") as store:
        group = zarr.open_group(store, mode="r")
        assert group.attrs["axes"] == ["t", "z", "y", "x"] == list(group["labels"].metadata.dimension_names)
        assert group.attrs["phases"] == {"pore": 0, "cbd": 1, "am": 2, "void": 4}
        assert group["labels"].chunks[0] == 1, "a frame must be readable alone"


@pytest.mark.parametrize(
    ("made", "match"),
    [
        (volume(labels=labels((4, 3))), "labels have 2 axes"),
        (volume(labels=labels((2, 2, 2, 2, 2))), "labels have 5 axes"),
        (volume(labels=labels().astype(np.int64)), "labels are int64; expected uint8"),
        (volume(labels=labels().astype(float)), "labels are float64"),
        (volume(labels=np.zeros((0, 3, 3), np.uint8)), r"shape \(0, 3, 3\) is empty"),
        (volume(labels=np.full((2, 2, 2), 3, np.uint8)), r"found labels \[3\]"),
        (volume(labels=np.array([[[0, 255, 7]]], np.uint8)), r"found labels \[7, 255\]"),
        (volume(voxel_edge_um=0.0), "voxel_edge_um is 0.0"),
        (volume(voxel_edge_um=-1), "voxel_edge_um is -1"),
        (volume(voxel_edge_um=float("nan")), "voxel_edge_um is nan"),
        (volume(voxel_edge_um=float("inf")), "voxel_edge_um is inf"),
        (volume(voxel_edge_um="0.4"), "voxel_edge_um is '0.4'"),
        (volume(periodic=(True, True)), r"periodic is \(True, True\)"),
        (volume(periodic=(0, 1, 1)), r"periodic is \(0, 1, 1\)"),
        (volume(frames={"time_us": np.arange(5.0)}), "frame quantity 'time_us'"),
        (series(frames={"time_us": np.arange(2.0)}), r"frame quantity 'time_us' has shape \(2,\)"),
        (series(frames={"time_us": 1.0}), r"frame quantity 'time_us' has shape \(\)"),
    ],
)
def test_each_broken_promise_is_named_and_nothing_is_written(tmp_path, made, match):
    with pytest.raises(ContractError, match=match):
        check(made)
    with pytest.raises(ContractError, match=match) as caught:
        write_labelled(tmp_path / "v.zarr.zip", made)
    assert str(tmp_path / "v.zarr.zip") in caught.value.message
    assert list(tmp_path.iterdir()) == []


def foreign(path, array, **attributes):
    """Write a file as another program might."""
    with ZipStore(path, mode="w") as store:
        group = zarr.create_group(store, attributes=attributes)
        group.create_array("labels", data=array)
    return path


GOOD = {"axes": ["z", "y", "x"], "voxel_edge_um": 0.4, "periodic": [False, True, True]}


def test_a_foreign_file_that_keeps_the_contract_is_read(tmp_path):
    found = read_labelled(foreign(tmp_path / "v.zarr.zip", labels(), **GOOD))
    assert np.array_equal(found.labels, labels()) and found.source == ""


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_missing_attributes_are_named(tmp_path, missing):
    attributes = {name: value for name, value in GOOD.items() if name != missing}
    with pytest.raises(ContractError, match=r"found attributes .* expected axes, voxel_edge_um and periodic"):
        read_labelled(foreign(tmp_path / "v.zarr.zip", labels(), **attributes))


@pytest.mark.parametrize(
    ("array", "attributes", "match"),
    [
        (labels().astype(np.uint16), {}, "beside uint8 labels"),
        (labels((4, 3)), {}, "beside uint8 labels"),
        (labels(), {"axes": ["x", "y", "z"]}, r"axes are \['x', 'y', 'z'\]"),
        (labels((2, 4, 3, 2)), {}, "axes are"),
        (labels(), {"voxel_edge_um": 0}, "voxel_edge_um is 0"),
        (labels(), {"periodic": [1, 0, 0]}, "periodic is"),
        (labels(), {"periodic": [True]}, "periodic is"),
        (labels() + np.uint8(1), {}, r"found labels \[3, 5\]"),
    ],
)
def test_a_foreign_file_that_breaks_the_contract_is_named(tmp_path, array, attributes, match):
    path = foreign(tmp_path / "v.zarr.zip", array, **(GOOD | attributes))
    with pytest.raises(ContractError, match=match) as caught:
        read_labelled(path)
    assert "v.zarr.zip" in caught.value.message


def test_what_is_no_labelled_volume_is_named(tmp_path):
    (tmp_path / "text.zarr.zip").write_text("no zip")
    with zipfile.ZipFile(tmp_path / "other.zarr.zip", "w") as archive:
        archive.writestr("readme", "a zip without a zarr group")
    with ZipStore(tmp_path / "nameless.zarr.zip", mode="w") as store:
        zarr.create_group(store, attributes=GOOD).create_array("image", data=labels())
    for name in ("text", "other", "nameless"):
        with pytest.raises(InputFileError, match=f"{name}.*is not a labelled volume"):
            read_labelled(tmp_path / f"{name}.zarr.zip")
    with pytest.raises(InputFileError, match=r"labelled volume .* does not exist"):
        read_labelled(tmp_path / "gone.zarr.zip")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_cut_file_is_named(tmp_path, share):
    write_labelled(tmp_path / "whole.zarr.zip", volume(labels=labels((20, 20, 20))))
    content = (tmp_path / "whole.zarr.zip").read_bytes()
    (tmp_path / "cut.zarr.zip").write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputFileError, match=r"cut\.zarr\.zip' is not a labelled volume"):
        read_labelled(tmp_path / "cut.zarr.zip")


def test_a_failed_write_leaves_the_former_file(tmp_path, monkeypatch):
    write_labelled(tmp_path / "v.zarr.zip", volume())

    def full(*_args, **_options):
        raise OSError("no space left")

    monkeypatch.setattr(zarr.Array, "__setitem__", full)
    with pytest.raises(OSError, match="no space"):
        write_labelled(tmp_path / "v.zarr.zip", volume(labels=labels(seed=2)))
    monkeypatch.undo()
    assert np.array_equal(read_labelled(tmp_path / "v.zarr.zip").labels, labels())
    assert [path.name for path in tmp_path.iterdir()] == ["v.zarr.zip"]


def test_lazy_opening_gives_facts_without_labels_and_closes_the_file(tmp_path):
    write_labelled(tmp_path / "v.zarr.zip", series(attributes={"film": "film_1"}))
    with open_labelled(tmp_path / "v.zarr.zip") as (array, facts):
        assert array.shape == (3, 5, 4, 2) and facts.labels.size == 0 and facts.labels.ndim == 4
        assert facts.attributes == {"film": "film_1"} and facts.frames["thickness_um"].tolist() == [10.0, 8.5, 9.0]
        assert np.array_equal(array[1], series().labels[1])
    shutil.move(tmp_path / "v.zarr.zip", tmp_path / "w.zarr.zip")


def test_a_frame_is_a_volume_with_the_quantities_of_its_time():
    frame = series(attributes={"film": "film_1"}).frame(1)
    assert check(frame).axes == ("z", "y", "x") and np.array_equal(frame.labels, series().labels[1])
    assert frame.attributes == {"film": "film_1", "time_us": 1.0, "thickness_um": 8.5} and not frame.frames
    assert dataclasses.replace(frame, labels=series().labels[2]).periodic == (False, True, True)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), rank=st.integers(1, 4))
def test_counts_and_fractions_agree_with_plain_comparison(seed, rank):
    random = np.random.default_rng(seed)
    array = random.choice(CODES, size=tuple(random.integers(1, 6, rank)))
    assert label_counts(array).tolist() == [int((array == code).sum()) for code in range(256)]
    solid_and_pore = max(int((array != 4).sum()), 1)
    expected = {name: (array == code).sum() / solid_and_pore for name, code in (("pore", 0), ("cbd", 1), ("am", 2))}
    assert volume_fractions(array) == pytest.approx(expected)


def test_fractions_of_nothing_but_void_are_zero():
    assert volume_fractions(np.full((2, 2, 2), 4, np.uint8)) == {"pore": 0.0, "cbd": 0.0, "am": 0.0}


@pytest.mark.parametrize(("void", "filled"), [([0, 0, 0], 3), ([0, 1, 4], 2), ([0, 4, 1], 3), ([0, 2, 2], 1), ([4, 4, 4], 0)])
def test_the_electrode_fills_the_slices_up_to_the_last_that_is_more_than_half_filled(void, filled):
    array = np.zeros((3, 2, 2), np.uint8)
    for z, count in enumerate(void):
        array[z].ravel()[:count] = 4
    assert occupied_slices(array) == slice(0, filled)


FACTS = (0.4, (False, True, True), "a test")


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks and shards so small that a volume of a test has many of both."""
    monkeypatch.setattr(volumes, "CHUNK", 4)
    monkeypatch.setattr(volumes, "SHARD", 2)
    monkeypatch.setattr(volumes, "MOST_CHUNKS", 3)
    monkeypatch.setattr(volumes, "MOST_OF_FRAME", 100)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (125, 76, 76), (251, 301, 301), (600, 600, 600), (2000, 1500, 90), (3, 900, 900, 900)]
)
def test_chunks_are_of_128_voxels_and_shards_hold_whole_chunks(shape):
    chunks, shards = layout(shape)
    assert max(chunks[-3:]) <= 128 and all(chunk in (1, 128, extent) for chunk, extent in zip(chunks, shape, strict=True))
    if shards is not None:
        assert all(shard % chunk == 0 for shard, chunk in zip(shards, chunks, strict=True))
        assert shards[-3] == chunks[-3], "one layer of chunks at a time can be written"


@pytest.mark.parametrize("shape", [(11, 9, 10), (2, 11, 9, 10), (3, 4, 5, 5)])
def test_blocks_of_a_file_with_shards_are_those_of_the_array_for_any_reader_of_zarr(tmp_path, small_chunks, shape):
    made = volume(labels=labels(shape))
    write_labelled(tmp_path / "v.zarr.zip", made)
    assert np.array_equal(read_labelled(tmp_path / "v.zarr.zip").labels, made.labels)
    with ZipStore(tmp_path / "v.zarr.zip", mode="r") as store:
        array = zarr.open_group(store, mode="r")["labels"]
        assert (array.shards is None) == (shape == (3, 4, 5, 5))
        box = (*(slice(None) for _ in shape[3:]), slice(3, 9), slice(1, 7), slice(5, 10))
        assert np.array_equal(array[box], made.labels[box])


@pytest.mark.parametrize("depths", [(11,), (1,) * 11, (3, 5, 3), (6, 5)])
def test_slabs_of_any_depth_make_the_file_that_the_whole_volume_makes(tmp_path, small_chunks, depths):
    made = volume(labels=labels((11, 9, 10)), attributes={"film": "f"})
    write_labelled(tmp_path / "whole.zarr.zip", made)
    with labelled_writer(tmp_path / "slabs.zarr.zip", made.labels.shape, *FACTS, attributes={"film": "f"}) as writer:
        for start, depth in zip(np.cumsum([0, *depths]), depths):
            writer.write(made.labels[start : start + depth])
    assert (tmp_path / "whole.zarr.zip").read_bytes() == (tmp_path / "slabs.zarr.zip").read_bytes()


def test_equal_volumes_are_equal_files_whenever_they_are_written(tmp_path, small_chunks, monkeypatch):
    made = volume(labels=labels((11, 9, 10)))
    for number, year in enumerate((1999, 2031)):
        clock = time.struct_time((year, 2, 3, 4, 5, 6, 0, 1, 0))
        monkeypatch.setattr(time, "localtime", lambda *_, clock=clock: clock)
        write_labelled(tmp_path / f"{number}.zarr.zip", made)
    assert (tmp_path / "0.zarr.zip").read_bytes() == (tmp_path / "1.zarr.zip").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.zarr.zip", "1.zarr.zip"]


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ([labels((5, 4, 3))], "5 slices were written; expected 6"),
        ([labels((5, 4, 3)), labels((2, 4, 3))], r"after 5 slices; expected uint8 of \('n', 4, 3\), 6 slices in all"),
        ([labels((6, 3, 4))], r"a slab has the shape \(6, 3, 4\)"),
        ([labels((6, 4, 3)).astype(np.int64)], "type int64"),
        ([labels((3, 4, 3)), np.full((3, 4, 3), 3, np.uint8)], r"found labels \[3\]"),
    ],
)
def test_slabs_that_are_no_volume_are_named_and_nothing_is_written(tmp_path, parts, match):
    with (
        pytest.raises(ContractError, match=match),
        labelled_writer(tmp_path / "v.zarr.zip", (6, 4, 3), *FACTS) as writer,
    ):
        for part in parts:
            writer.write(part)
    assert list(tmp_path.iterdir()) == []


def test_files_of_former_versions_are_read(tmp_path):
    """Chunks were 32 whole planes, and frames one chunk each, without a checksum of their own."""
    for name, made in (("volume", volume(labels=labels((70, 9, 8)))), ("series", series())):
        shape = made.labels.shape
        attributes = {**GOOD, "contract": "calandria-labels-1", "axes": list(made.axes)}
        with ZipStore(tmp_path / f"{name}.zarr.zip", mode="w") as store:
            group = zarr.create_group(store, attributes=attributes)
            chunks = (1, *shape[1:]) if len(shape) == 4 else (32, *shape[1:])
            group.create_array("labels", shape=shape, dtype="uint8", chunks=chunks)[...] = made.labels
        assert np.array_equal(read_labelled(tmp_path / f"{name}.zarr.zip").labels, made.labels)
        with open_labelled(tmp_path / f"{name}.zarr.zip") as (array, _):
            assert np.array_equal(np.concatenate(list(checked_slabs(array, name))), made.labels)


@pytest.mark.parametrize("shards", [False, True])
def test_a_wrong_checksum_of_the_voxels_is_named(tmp_path, request, shards):
    if shards:
        request.getfixturevalue("small_chunks")
    write_labelled(tmp_path / "v.zarr.zip", volume(labels=labels((11, 9, 10))))
    with zipfile.ZipFile(tmp_path / "v.zarr.zip") as archive:
        entry = next(info for info in archive.infolist() if "/c/" in info.filename)
    content = bytearray((tmp_path / "v.zarr.zip").read_bytes())
    content[entry.header_offset + 30 + len(entry.filename) + 12] ^= 0xFF
    (tmp_path / "v.zarr.zip").write_bytes(content)
    with open_labelled(tmp_path / "v.zarr.zip") as (array, _):
        assert array.shape == (11, 9, 10)
    with pytest.raises(InputFileError, match="is damaged: a checksum of its voxels is wrong"):
        read_labelled(tmp_path / "v.zarr.zip")
    with (
        pytest.raises(InputFileError, match="is damaged"),
        open_labelled(tmp_path / "v.zarr.zip") as (array, _),
    ):
        array[:3, :3, :3]  # a part of a shard, whose zip checksum nobody sees


def test_counts_and_checks_hold_one_slab_of_a_file_at_a_time(tmp_path, small_chunks):
    class Watched:
        """An array of a file that notes how much of it is read at once."""

        def __init__(self, array):
            self.array, self.shape, self.ndim, self.chunks = array, array.shape, array.ndim, array.chunks
            self.read = []

        def __getitem__(self, box):
            found = self.array[box]
            self.read.append(found.size)
            return found

    made = volume(labels=labels((40, 9, 10)))
    write_labelled(tmp_path / "v.zarr.zip", made)
    with open_labelled(tmp_path / "v.zarr.zip") as (array, _):
        for work in (label_counts, occupied_slices, lambda array: sum(slab.size for slab in checked_slabs(array, "v"))):
            watched = Watched(array)
            work(watched)
            assert max(watched.read) == 4 * 9 * 10 and sum(watched.read) == array.size
        assert label_counts(array).tolist() == label_counts(made.labels).tolist()
        assert occupied_slices(array) == occupied_slices(made.labels)
