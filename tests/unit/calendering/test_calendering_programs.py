import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from calandria.base.errors import ContractError, InputFileError, SettingsError
from calandria.base.volumes import read_labelled
from calandria.calendering.films import read_data
from calandria.calendering.particles import read_run_file, write_run
from calandria.calendering.press import Surface
from tests.helpers.dumps import write_loading
from workflow_scripts.calendering import (
    dry_film,
    insert_particles,
    load_film,
    perturb_film,
    read_dumps,
    release_film,
    voxelize_frames,
)

FRAMES = {8: 7, 10: 8, 15: 11, 21: 15, 25: 18}
TINY = {
    "film": {"width_um": 10.2, "thickness_um": 10.0, "am_diameters": {"maximum_um": 6.0}},
    "motion": {"relaxation_steps": 300, "settling_steps": 200},
    "steps_per_frame": 200,
    "restart_degrees_percent": [10, 21],
    "voxels": {"voxel_edge_um": 0.6},
}


def slice_of(folder: Path, content: dict, name: str = "settings.json", **given: object) -> str:
    (folder / name).write_text(json.dumps({"settings": content, **given}))
    return str(folder / name)


def arguments(program: str, settings: str, folder: Path) -> list[str]:
    """Return the arguments of read_dumps or voxelize_frames on the made run in ``folder``."""
    if program == "read_dumps":
        named = [
            "--dumps",
            folder / "dump.lammpstrj",
            "--press",
            folder / "press.csv",
            "--film",
            "one",
            "--compression-degree-percent",
            "20",
        ]
        return ["--settings", settings, *map(str, named), "--output", str(folder / "particles.h5")]
    return ["--settings", settings, "--particles", str(folder / "particles.h5"), "--output", str(folder / "frames.zarr.zip")]


@pytest.fixture
def made(tmp_path):
    write_loading(tmp_path)
    settings = slice_of(tmp_path, {"voxels": {"voxel_edge_um": 0.25}})
    read_dumps.main(arguments("read_dumps", settings, tmp_path))
    return tmp_path, settings


def test_dumps_become_a_labelled_series(made):
    folder, settings = made
    run = read_run_file(folder / "particles.h5")
    assert run.particles.x.shape == (7, 40) and run.particles.periodic == (True, True) and run.particles.molecule is None
    assert np.allclose(run.time_us, np.arange(7) * 25) and run.attributes["turn_frame"] == 4
    assert run.attributes["provenance"]["inputs_sha256"].keys() == {"dumps_0", "press"}
    voxelize_frames.main(arguments("voxelize_frames", settings, folder))
    series = read_labelled(folder / "frames.zarr.zip")
    assert series.labels.shape == (7, 48, 24, 32) and series.periodic == (False, True, True)
    assert {"press_position_um", "thickness_um", "compression_degree", "time_us"} <= set(series.frames)
    assert np.allclose(series.frames["thickness_um"], [10, 9.5, 9, 8.5, 8, 8.1, 8.2], atol=2e-3)
    assert series.frames["compression_degree"][4] == pytest.approx(0.2, abs=1e-3)
    below = series.labels[4, :32]
    assert (
        series.frames["porosity_free"][4] == pytest.approx((below == 0).mean())
        and not (below == 4).any()
        and (series.labels[4, 32:] == 4).all()
    )
    facts = series.attributes
    assert (facts["film"], facts["compression_degree_percent"], facts["frame_interval_us"]) == ("one", 20, 25.0)
    assert facts["provenance"]["inputs_sha256"].keys() == {"particles"}


@pytest.mark.parametrize("conserve", [True, False])
def test_series_says_whether_solid_volume_is_conserved_and_what_is_missing(made, conserve):
    folder, _ = made
    settings = slice_of(folder, {"voxels": {"voxel_edge_um": 0.25, "conserve_volume": conserve}}, "chosen.json")
    voxelize_frames.main(arguments("voxelize_frames", settings, folder))
    series, particles = read_labelled(folder / "frames.zarr.zip"), read_run_file(folder / "particles.h5").particles
    assert series.attributes["conserve_volume"] is conserve
    for phase in (1, 2):
        whole = (4 / 3 * np.pi * (particles.radius[:, particles.phase == phase] / 0.25) ** 3).sum(axis=1)
        held = (series.labels == phase).sum(axis=(1, 2, 3))
        name = {1: "cbd", 2: "am"}[phase]
        assert (series.frames[f"grown_{name}"] > 0).any() == conserve
        if conserve:
            assert np.allclose(series.frames[f"overlap_loss_{name}"], 1 - held / whole)
    lost = max(series.frames[f"overlap_loss_{name}"].max() for name in ("cbd", "am"))
    assert ("volume_missing" in series.attributes) == (conserve and lost > 0.01)


def test_lowest_point_and_relation_go_with_the_series(tmp_path):
    write_loading(tmp_path)
    settings = slice_of(tmp_path, {"voxels": {"voxel_edge_um": 0.25}})
    table = (tmp_path / "press.csv").read_text().replace("2500,", "2250,112.5,7.75\n2500,")
    (tmp_path / "press.csv").write_text(table)
    replicate = slice_of(tmp_path, {}, "replicate.json", replicate_of="two")
    read_dumps.main(arguments("read_dumps", replicate, tmp_path))
    voxelize_frames.main(arguments("voxelize_frames", settings, tmp_path))
    for facts in (read_run_file(tmp_path / "particles.h5").attributes, read_labelled(tmp_path / "frames.zarr.zip").attributes):
        assert facts["replicate_of"] == "two" and facts["press_is_estimated"] is False
        assert (facts["lowest_thickness_um"], facts["lowest_thickness_source"]) == (7.75, "press table")
        assert facts["deepest_compression_degree"] == pytest.approx(0.225, abs=1e-3)
        assert facts["deepest_compression_degree_source"] == "press table"
    with pytest.raises(SettingsError, match="replicate itself"):
        read_dumps.main(arguments("read_dumps", slice_of(tmp_path, {}, "itself.json", replicate_of="one"), tmp_path))


def test_estimated_press_is_told(tmp_path):
    write_loading(tmp_path)
    settings = slice_of(tmp_path, {"voxels": {"voxel_edge_um": 0.25}})
    named = arguments("read_dumps", settings, tmp_path)
    index = named.index("--press")
    read_dumps.main(named[:index] + named[index + 2 :])
    voxelize_frames.main(arguments("voxelize_frames", settings, tmp_path))
    series = read_labelled(tmp_path / "frames.zarr.zip")
    assert series.attributes["press_is_estimated"] is True and series.attributes["lowest_thickness_source"] == "frames"
    assert series.attributes["lowest_thickness_um"] == series.frames["thickness_um"].min()
    assert series.attributes["deepest_compression_degree_source"] == "label"
    assert "replicate_of" not in series.attributes
    assert (series.frames["press_position_um"][5:] > series.frames["thickness_um"][5:] + 0.3).all()


def test_dumps_whose_clock_does_not_begin_at_zero_meet_a_table_of_times(tmp_path):
    dump, press = write_loading(tmp_path)
    heads = [f"ITEM: UNITS\nmicro\nITEM: TIME\n{100 + 25 * frame}\nITEM: TIMESTEP\n" for frame in range(7)]
    first, *frames = dump.read_text().split("ITEM: TIMESTEP\n")
    dump.write_text(first + "".join(head + frame for head, frame in zip(heads, frames, strict=True)))
    heights = [12, 12, 11, 10.5, 10, 9.5, 9, 8.5, 8, 8.5, 9, 9.5]
    press.write_text("time_us,z_press\n" + "".join(f"{25 * row},{height}\n" for row, height in enumerate(heights)))
    read_dumps.main(arguments("read_dumps", slice_of(tmp_path, {}), tmp_path))
    run = read_run_file(tmp_path / "particles.h5")
    assert np.allclose(run.press_position_um, [10, 9.5, 9, 8.5, 8, 8.5, 9]) and np.allclose(run.time_us, np.arange(7) * 25)


def test_dumps_without_times_meet_a_table_of_times_by_the_interval_of_the_settings(tmp_path):
    _, press = write_loading(tmp_path)
    rows = [line.split(",") for line in press.read_text().splitlines()]
    press.write_text("".join(f"{','.join(row[1:])}\n" for row in rows))
    settings = slice_of(tmp_path, {"dumps": {"frame_interval_us": 25}})
    read_dumps.main(arguments("read_dumps", settings, tmp_path))
    run = read_run_file(tmp_path / "particles.h5")
    assert np.allclose(run.press_position_um, [10, 9.5, 9, 8.5, 8, 8.5, 9])
    assert run.attributes["time_source"] == "settings: frame_interval_us"


def test_run_without_a_surface_is_not_written(made):
    folder, _ = made
    run = read_run_file(folder / "particles.h5")
    for thickness, told in ((np.nan, "thickness_um is nan in frame 5 of 7"), (0.0, "above 0")):
        heights = run.thickness_um.copy()
        heights[5] = thickness
        surface = Surface(run.press_position_um, heights, run.compression_degree, 4, "", False, 8.0, "frames", "label")
        with pytest.raises(ContractError, match=told):
            write_run(folder / "bad.h5", run.particles, surface, run.time_us, {})
        assert not (folder / "bad.h5").exists()


def test_same_dumps_give_the_same_bytes(made):
    folder, settings = made
    first = (folder / "particles.h5").read_bytes()
    read_dumps.main(arguments("read_dumps", settings, folder))
    assert (folder / "particles.h5").read_bytes() == first


def test_other_files_are_no_particles(tmp_path, made):
    folder, settings = made
    for content in (b"", b"no HDF5", (folder / "particles.h5").read_bytes()[:3000]):
        (folder / "particles.h5").write_bytes(content)
        with pytest.raises(InputFileError, match=r"particles.h5"):
            voxelize_frames.main(arguments("voxelize_frames", settings, folder))


KILLED_AT = """
import os, runpy, signal, sys, tempfile, zipfile
import h5py

left, log, program = int(sys.argv[1]), sys.argv[2], sys.argv[3]

def killing(function):
    def called(*words, **options):
        global left
        left -= 1
        with open(log, "a") as stream:
            stream.write(function.__name__ + "\\n")
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*words, **options)
    return called

h5py.Group.create_dataset = killing(h5py.Group.create_dataset)
zipfile.ZipFile.writestr = killing(zipfile.ZipFile.writestr)
for module, name in ((tempfile, "mkstemp"), (os, "fsync"), (os, "replace")):
    setattr(module, name, killing(getattr(module, name)))
sys.argv = [program, *sys.argv[4:]]
runpy.run_module(program, run_name="__main__")
"""
"""Runs a program and kills it before its n-th step of writing: a file made, a part of it written, flushed, renamed."""


@pytest.mark.slow
@pytest.mark.parametrize(("program", "read"), [("read_dumps", read_run_file), ("voxelize_frames", read_labelled)])
def test_kill_at_any_step_of_writing_leaves_no_half_written_output(made, tmp_path, program, read):
    folder, settings = made
    words = [f"workflow_scripts.calendering.{program}", *arguments(program, settings, folder)]
    output = Path(words[-1])
    output.unlink(missing_ok=True) if program == "voxelize_frames" else output.rename(folder / "kept.h5")

    def run(kill_at):
        (tmp_path / "steps").write_text("")
        command = [sys.executable, "-c", KILLED_AT, str(kill_at), str(tmp_path / "steps"), *words]
        ended = subprocess.run(command, check=False, capture_output=True, text=True)
        return ended.returncode, (tmp_path / "steps").read_text().split()

    code, steps = run(0)
    assert code == 0 and steps[0] == "mkstemp" and steps[-2:] == ["fsync", "replace"] and len(steps) > 5
    whole = read(output)
    output.unlink()
    for number in (1, 2, len(steps) // 2, len(steps) - 2, len(steps) - 1, len(steps)):
        code, reached = run(number)
        assert code == -signal.SIGKILL and reached == steps[:number]
        assert not output.exists()
    assert run(0) == (0, steps)
    again = read(output)
    for name in ("labels",) if program == "voxelize_frames" else ("thickness_um", "time_us"):
        assert np.array_equal(getattr(again, name), getattr(whole, name))


@pytest.fixture(scope="module")
def pressed(tmp_path_factory):
    """Return the folder of a tiny film that LAMMPS made, and its settings."""
    folder = tmp_path_factory.mktemp("film")
    settings = slice_of(folder, TINY, seed=5)
    common = ["--settings", settings]
    insert_particles.main([*common, "--output", f"{folder}/inserted.data"])
    dry_film.main([*common, "--inserted", f"{folder}/inserted.data", "--output", f"{folder}/dried.data"])
    load(folder, settings, folder / "dried.data", folder)
    for degree in (10, 21):
        release(folder, degree, folder)
    return folder, settings


def load(folder, settings, dried, output):
    named = [
        "--output-dumps",
        output / "loading.gz",
        "--output-press",
        output / "loading.csv",
        "--output-restarts",
        output / "restarts.tar",
    ]
    load_film.main(["--settings", settings, "--dried", str(dried), *map(str, named)])


def release(folder, degree, output):
    named = [
        "--restarts",
        folder / "restarts.tar",
        "--loading-dumps",
        folder / "loading.gz",
        "--loading-press",
        folder / "loading.csv",
    ]
    named += [
        "--compression-degree-percent",
        degree,
        "--output-dumps",
        output / f"{degree}.gz",
        "--output-press",
        output / f"{degree}.csv",
    ]
    settings = slice_of(output, TINY, f"release_{degree}.json", frames=FRAMES[degree])
    release_film.main(["--settings", settings, *map(str, named)])


@pytest.mark.slow
def test_lammps_presses_and_releases_a_film(pressed, tmp_path):
    folder, settings = pressed
    runs = {}
    for degree, frames in ((10, 8), (21, 15)):
        named = ["--dumps", f"{folder}/{degree}.gz", "--press", f"{folder}/{degree}.csv", "--film", "tiny"]
        output = tmp_path / f"{degree}.h5"
        read_dumps.main(["--settings", settings, *named, "--compression-degree-percent", str(degree), "--output", str(output)])
        runs[degree] = read_run_file(output)
        voxelize_frames.main(
            ["--settings", settings, "--particles", str(output), "--output", str(tmp_path / f"{degree}.zarr.zip")]
        )
        series = read_labelled(tmp_path / f"{degree}.zarr.zip")
        turn = series.attributes["turn_frame"]
        assert runs[degree].time_us.size == frames and np.allclose(np.diff(runs[degree].time_us), 10)
        assert turn == degree // 2
        thickness = series.frames["thickness_um"]
        assert (np.diff(thickness[: turn + 1]) < 0).all() and thickness[turn] < thickness[-1] < thickness[0]
        lowest = read_press_csv(folder / f"{degree}.csv")[:, 2].min()
        assert 1 - lowest / read_data((folder / "dried.data").read_text(), "film").top_um == pytest.approx(degree / 100, abs=0.01)
        porosity = series.frames["porosity_free"]
        assert porosity[turn] < porosity[-1] < porosity[0]
    loading = slice(0, 6)
    assert np.array_equal(runs[10].particles.z[loading], runs[21].particles.z[loading])


def read_press_csv(path):
    return np.loadtxt(path, delimiter=",", skiprows=1)


@pytest.mark.slow
def test_lammps_gives_the_same_bytes_again(pressed, tmp_path):
    folder, settings = pressed
    load(folder, settings, folder / "dried.data", tmp_path)
    for name in ("loading.gz", "loading.csv", "restarts.tar"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name
    release(folder, 21, tmp_path)
    for name in ("21.gz", "21.csv"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.slow
def test_replicate_parts_from_its_film_but_keeps_the_statistics(pressed, tmp_path):
    folder, settings = pressed
    moving = slice_of(tmp_path, TINY, seed=1)
    perturb_film.main(["--settings", moving, "--dried", f"{folder}/dried.data", "--output", f"{tmp_path}/dried.data"])
    film, moved = (read_data((where / "dried.data").read_text(), "film") for where in (folder, tmp_path))
    assert 0 < np.abs(film.position - moved.position)[:, 2].max() <= 1.001e-6
    load(folder, settings, tmp_path / "dried.data", tmp_path)
    assert (tmp_path / "loading.gz").read_bytes() != (folder / "loading.gz").read_bytes()
    assert np.allclose(read_press_csv(tmp_path / "loading.csv")[:, 2], read_press_csv(folder / "loading.csv")[:, 2], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("degree", [8, 15, 25])
def test_a_degree_without_a_restart_resumes_the_loading_from_the_restart_below(pressed, tmp_path, degree):
    folder, settings = pressed
    release(folder, degree, tmp_path)
    named = ["--dumps", f"{tmp_path}/{degree}.gz", "--press", f"{tmp_path}/{degree}.csv", "--film", "tiny"]
    output = tmp_path / "run.h5"
    read_dumps.main(["--settings", settings, *named, "--compression-degree-percent", str(degree), "--output", str(output)])
    run = read_run_file(output)
    assert run.time_us.size == FRAMES[degree] and np.allclose(np.diff(run.time_us), 10)
    table, loading = read_press_csv(tmp_path / f"{degree}.csv"), read_press_csv(folder / "loading.csv")
    assert np.array_equal(np.diff(table[:, 0]), np.full(len(table) - 1, table[1, 0] - table[0, 0]))
    thickness = read_data((folder / "dried.data").read_text(), "film").top_um
    assert 1 - table[:, 2].min() / thickness == pytest.approx(degree / 100, abs=0.01)
    restart = {8: 800, 15: 1000, 25: 2100}[degree]
    same = table[:, 0] <= restart
    assert np.array_equal(table[same], loading[: same.sum()]) and same.sum() > 10
    common = min(len(table), len(loading), int(degree * 0.5 * 200 / (table[1, 0] - table[0, 0])))
    assert np.allclose(table[:common, 2], loading[:common, 2], atol=1e-9), "the press moves on as it would have"
    assert np.allclose(table[:common, 5], loading[:common, 5], atol=0.05), "and so does the film's top"
