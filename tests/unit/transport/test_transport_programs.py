"""The stage's programs on small files: what they write, and how they refuse."""

import importlib
import json
import os

import numpy as np
import pytest
import zarr

from calandria.base.errors import CalandriaError, ContractError, DeviceError, SettingsError
from calandria.base.records import content_digest, file_digest, number, read_json, read_table, read_table_record
from calandria.base.volumes import Labelled, write_labelled
from calandria.cli.main import main as calandria
from calandria.transport.settings import TransportSettings, sides_of_file
from calandria.transport.solver import electrode, tortuosity
from workflow_scripts.transport.measure_frames import main as measure_frames
from workflow_scripts.transport.solve_diffusion import main as solve_diffusion
from workflow_scripts.transport.solve_series import main as solve_series


@pytest.fixture
def labels():
    found = np.random.default_rng(3).choice([0, 0, 0, 1, 2], size=(2, 10, 6, 7)).astype(np.uint8)
    found[1, 7:] = 4
    return found


@pytest.fixture
def folder(tmp_path, labels, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = {"thickness_um": np.array([4.0, 2.8])}
    write_labelled("series.zarr.zip", Labelled(labels, 0.4, (False, True, True), "made by a test", frames))
    write_labelled("volume.zarr.zip", Labelled(labels[1], 0.4, (False, True, False), "made by a test"))
    for case, diffusivities in CASES.items():
        (tmp_path / f"{case}.json").write_text(json.dumps({"settings": {}, "diffusivities": diffusivities, "sides": {}}))
    return tmp_path


MEASURE = ["--settings", "pore.json", "--series"]
CASES = {"pore": {"pore": 1.0}, "pore_cbd": {"pore": 1.0, "cbd": 1.0}, "resistive": {"pore": 1.0, "cbd": 0.05}}
VOLUME = [
    "--settings",
    "pore_cbd.json",
    "--volume",
    "volume.zarr.zip",
    "--case",
    "pore_cbd",
    "--axis",
    "z",
    "--output",
    "result.json",
]


def series_options(case, *series, output="rows.csv", axis="z"):
    return ["--settings", f"{case}.json", "--case", case, "--axis", axis, "--series", *series, "--output", output]


def test_solve_diffusion_takes_sides_and_surface_from_the_file(folder, labels):
    solve_diffusion(VOLUME)
    record = read_json("result.json")
    expected = tortuosity(electrode(labels[1]), {0: 1.0, 1: 1.0}, sides={"y": "periodic", "x": "no-flux"})
    assert record["shape"] == [7, 6, 7]
    assert record["sides"] == {"y": "periodic", "x": "no-flux"}
    assert record["relative_diffusivity"] == expected.relative_diffusivity
    assert record["effective_diffusivity_m2_s"] == pytest.approx(2e-10 * expected.relative_diffusivity)
    assert record["length_um"] == pytest.approx(2.8)
    assert record["provenance"]["inputs_sha256"]["volume"]


def test_solve_diffusion_refuses_missing_case_and_wrong_launch(folder):
    (folder / "bare.json").write_text('{"settings": {}}')
    with pytest.raises(SettingsError, match="lack 'diffusivities'"):
        solve_diffusion(["--settings", "bare.json", *VOLUME[2:]])
    with pytest.raises(DeviceError, match="7 ranks were promised"):
        solve_diffusion([*VOLUME, "--ranks", "7"])
    with pytest.raises(ContractError, match="series"):
        solve_diffusion([*VOLUME[:3], "series.zarr.zip", *VOLUME[4:]])
    assert not (folder / "result.json").exists()


@pytest.mark.parametrize("name", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_copies_that_a_launcher_meant_as_ranks_are_refused(folder, labels, monkeypatch, name):
    importlib.import_module("mpi4py.MPI")  # started before the launcher's variables are faked
    np.save("f.npy", labels[0])
    monkeypatch.setenv(name, "3")
    words = ["tortuosity", "f.npy", "--diffusivity", "0=1", "--output", "out.json"]
    with pytest.raises(DeviceError, match=rf"3 ranks were promised \({name}\), found a communicator of 1"):
        calandria(words)
    calandria([*words, "--ranks", "1"])


def test_solve_series_has_a_row_per_series_and_frame(folder, labels):
    solve_series(series_options("resistive", "one=series.zarr.zip", "two=series.zarr.zip"))
    rows = read_table("rows.csv")
    keys = [(row["series"], row["frame"], row["case"], row["axis"]) for row in rows]
    assert keys == [(name, frame, "resistive", "z") for name in ("one", "two") for frame in "01"]
    expected = tortuosity(labels[0], {0: 1.0, 1: 0.05}, sides="periodic")
    assert number(rows[0]["tortuosity_factor"]) == expected.tortuosity_factor
    assert rows[0]["sides"] == "y=periodic x=periodic"
    assert rows[0]["percolates"] in ("true", "false")


def test_an_empty_frame_is_blocked_not_an_error(folder, labels):
    labels[1] = 4
    labels[1, 0, 0, 0] = 2
    frames = {"thickness_um": np.array([4.0, 0.4])}
    write_labelled("series.zarr.zip", Labelled(labels, 0.4, (False, True, True), "made by a test", frames))
    for case in ("pore", "resistive"):
        solve_series(series_options(case, "one=series.zarr.zip"))
        (row,) = [row for row in read_table("rows.csv") if row["frame"] == "1"]
        assert (row["percolates"], row["tortuosity_factor"]) == ("false", "")
        assert number(row["relative_diffusivity"]) == number(row["conducting_fraction"]) == 0


def test_an_error_names_series_frame_and_case(folder, labels, monkeypatch):
    def failing(*_, **__):
        raise ContractError("labels range from 0 to 300", hint="segment them")

    monkeypatch.setattr("workflow_scripts.transport.solve_series.tortuosity", failing)
    with pytest.raises(ContractError, match="one, frame 0, case pore: labels range"):
        solve_series(series_options("pore", "one=series.zarr.zip"))


def test_tables_of_series_have_their_record_beside_them(folder, labels):
    made = {"provenance": {"stage": "calendering", "version": 7, "seed": 1}, "lowest_thickness_um": 2.7, "film": "f"}
    write_labelled("made.zarr.zip", Labelled(labels, 0.4, (False, True, True), "made by a test", attributes=made))
    solve_series(series_options("pore", "film=made.zarr.zip"))
    measure_frames([*MEASURE, "film=made.zarr.zip", "--output", "frames.csv"])
    solved, measured = read_table_record("rows.csv"), read_table_record("frames.csv")
    assert solved["settings"] == read_json("pore.json") and solved["settings_sha256"] == content_digest(solved["settings"])
    assert (solved["rule"], measured["rule"]) == ("solve_series", "measure_frames")
    for record in (solved, measured):
        assert record["stage"] == "transport" and record["inputs_sha256"] == {"film": file_digest("made.zarr.zip")}
        assert record["series"] == {"film": {"stage": "calendering", "version": 7, "lowest_thickness_um": 2.7}}


def test_measure_frames(folder, labels):
    measure_frames([*MEASURE, "film=series.zarr.zip", "--output", "frames.csv"])
    first, second = read_table("frames.csv")
    assert int(first["pore_voxels"]) == (labels[0] == 0).sum()
    assert int(second["void_voxels"]) == 3 * 42
    assert number(second["porosity_free"]) == pytest.approx((labels[1] == 0).sum() / (7 * 42))
    assert number(second["thickness_um"]) == 2.8
    assert number(first["contact_area_um2_pore_am"]) == pytest.approx(0.16 * int(first["contact_area_faces_pore_am"]))


def test_names_of_series_are_checked(folder):
    with pytest.raises(SettingsError, match="NAME=FILE"):
        measure_frames([*MEASURE, "series.zarr.zip", "--output", "frames.csv"])
    with pytest.raises(SettingsError, match="twice"):
        measure_frames([*MEASURE, "a=series.zarr.zip", "a=series.zarr.zip", "--output", "frames.csv"])


@pytest.mark.parametrize("kind", ["npy", "tif", "h5", "raw", "zarr.zip"])
def test_calandria_tortuosity_reads_every_format(folder, labels, kind):
    import h5py
    import tifffile

    volume, options = labels[0], []
    if kind == "npy":
        np.save("f.npy", volume)
    elif kind == "tif":
        tifffile.imwrite("f.tif", volume)
    elif kind == "h5":
        with h5py.File("f.h5", "w") as file:
            file["scan/labels"] = volume
        options = ["--dataset", "scan/labels"]
    elif kind == "raw":
        volume.tofile("f.raw")
        options = ["--shape", "10x6x7"]
    else:
        write_labelled("f.zarr.zip", Labelled(volume, 0.4, (False, False, False), "made by a test"))
    words = f"tortuosity f.{kind} --axis all --diffusivity 0=1 --diffusivity 1=0.05 --sides periodic --output out.json".split()
    calandria([*words, *options])
    record = read_json("out.json")
    for axis in "zyx":
        expected = tortuosity(volume, {0: 1.0, 1: 0.05}, axis=axis, sides="periodic")
        assert record["axes"][axis]["tortuosity_factor"] == expected.tortuosity_factor


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("f.npy --diffusivity 0", "LABEL=VALUE"),
        ("f.npy --diffusivity 0=1 --diffusivity 0=2", "twice"),
        ("f.npy --diffusivity 0=-1", "-1"),
        ("f.npy --diffusivity 0=nan", "nan"),
        ("f.npy --diffusivity 0=0", "no label conducts"),
        ("f.npy --diffusivity 0=1 --diffusivity 7=1", "label 7, which the volume lacks; labels there: 0, 1, 2"),
        ("f.raw --diffusivity 0=1", "shape"),
        ("float.npy --diffusivity 0=1", "float32"),
        ("flat.npy --diffusivity 0=1", "flat.npy"),
        ("f.raw --diffusivity 0=1 --shape 9x9x9", "729"),
        ("missing.tif --diffusivity 0=1", "missing.tif"),
        ("cut.npy --diffusivity 0=1", "cut.npy"),
        ("empty.npy --diffusivity 0=1", "empty.npy is empty"),
        ("f.npy --diffusivity 7=1", "f.npy: diffusivities name the label 7"),
        ("f.npy --diffusivity 0=1 --dtype uint8", "without a shape"),
        ("f.raw --diffusivity 0=1 --shape 10x6x7 --dtype ,", "dtype ',' is unknown"),
        ("f.raw --diffusivity 0=1 --shape 10x6x7 --dtype U1", "dtype 'U1' is unknown"),
        ("f.raw --diffusivity 0=1 --shape 99999999999x9999999999x9999999", "expected 9999998998"),
        ("f.npy --diffusivity 0=1 --max-iterations -3", "-3"),
        ("f.npy --diffusivity 0=1 --fields out.h5", "does not end with .zarr.zip"),
        ("f.npy --diffusivity 0=1 --fields place.zarr.zip", "'place.zarr.zip' is a folder"),
        ("torn.zarr --diffusivity 0=1", "torn.zarr"),
    ],
)
def test_calandria_tortuosity_refuses(folder, labels, words, told):
    np.save("f.npy", labels[0])
    np.save("float.npy", labels[0].astype(np.float32))
    np.save("flat.npy", labels[0, 0])
    labels[0].tofile("f.raw")
    (folder / "empty.npy").touch()
    (folder / "place.zarr.zip").mkdir()
    zarr.create_array("torn.zarr", data=labels[0], chunks=labels[0].shape)
    (chunk,) = [path for path in (folder / "torn.zarr").rglob("*") if path.is_file() and path.name != "zarr.json"]
    chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])
    (folder / "cut.npy").write_bytes((folder / "f.npy").read_bytes()[:-100])
    with pytest.raises(CalandriaError) as caught:
        calandria(["tortuosity", *words.split(), "--output", "out.json"])
    assert told in str(caught.value)
    assert not (folder / "out.json").exists()


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("", "has an empty name"),
        ("place", "is a folder"),
        ("place/", "is a folder"),
        ("f.npy", "is the volume itself"),
        ("link.npy", "is the volume itself"),
        ("f.npy/out.json", "is no folder"),
        ("loop/out.json", "is no folder"),
        ("pipe", "is a device or a pipe"),
        (f"{'a' * 300}.json", "305 bytes"),
    ],
)
def test_outputs_that_cannot_be_are_told_before_anything_is_solved(folder, labels, monkeypatch, output, told):
    np.save("f.npy", labels[0])
    (folder / "place").mkdir()
    (folder / "link.npy").symlink_to("f.npy")
    (folder / "loop").symlink_to("loop")
    os.mkfifo("pipe")
    before = {path.name for path in folder.iterdir()}
    monkeypatch.setattr("calandria.cli.tortuosity.directions", None)
    with pytest.raises(CalandriaError) as caught:
        calandria(["tortuosity", "f.npy", "--diffusivity", "0=1", "--output", output])
    assert told in str(caught.value)
    assert {path.name for path in folder.iterdir()} == before and np.array_equal(np.load("f.npy"), labels[0])


def test_settings_name_unknown_phases():
    with pytest.raises(SettingsError, match="pores"):
        TransportSettings.from_mapping({"series": {"cases": {"a": {"pores": 1}}}}, "here")
    with pytest.raises(SettingsError, match="no conducting phase"):
        TransportSettings.from_mapping({"tomography": {"cases": {"a": {"pore": 0}}}}, "here")
    with pytest.raises(SettingsError, match="twice"):
        TransportSettings.from_mapping({"series": {"axes": ["z", "z"]}}, "here")
    part = TransportSettings.from_mapping({"series": {"sides": {"y": "no-flux"}}}, "here").series
    assert sides_of_file(part.sides, (False, True, True)) == {"z": "no-flux", "y": "no-flux", "x": "periodic"}
