import dataclasses
import shutil
import zipfile

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import ZipStore

from calandria.base.errors import ContractError, InputFileError
from calandria.base.volumes import (
    Labelled,
    check,
    label_counts,
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
