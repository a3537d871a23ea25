import gzip
import math

import numpy as np
import pytest

from calandria.base.errors import DeviceError, InputFileError, SettingsError
from calandria.base.seeds import generator
from calandria.calendering import lammps
from calandria.calendering.films import (
    bond_commands,
    data_text,
    insert_film,
    perturbed,
    phase_volumes,
    read_data,
    touching_pairs,
)
from calandria.calendering.settings import FilmSettings, MotionSettings
from calandria.calendering.trajectories import frame_texts, joined_frames, packed, read_turns, tar_of

SMALL = FilmSettings(width_um=12, thickness_um=12)


@pytest.fixture(scope="module")
def film():
    return insert_film(SMALL, MotionSettings(), generator(3, "test"))


def test_packing_has_the_stated_volumes_and_no_overlap(film):
    volumes = [float((math.pi / 6 * film.diameter[film.kind == kind] ** 3).sum()) for kind in (2, 1)]
    assert np.allclose(volumes, phase_volumes(SMALL), rtol=1e-9)
    assert sum(volumes) == pytest.approx(0.52 * 12**3)
    mass = volumes[0] * 4.7 / (volumes[0] * 4.7 + volumes[1] * 0.95)
    assert mass == pytest.approx(0.96)
    assert touching_pairs(film.position, film.diameter / 2, np.array([12.0, 12.0])).size == 0
    assert (film.position[:, 2] >= film.diameter / 2).all() and film.top_um <= 12 * 2.2


def test_packing_follows_the_seed(film):
    again = insert_film(SMALL, MotionSettings(), generator(3, "test"))
    other = insert_film(SMALL, MotionSettings(), generator(4, "test"))
    assert (np.array_equal(film.position, again.position) and film.position.shape != other.position.shape) or not np.allclose(
        film.position, other.position
    )


def test_packing_without_room_is_refused():
    with pytest.raises(SettingsError, match="no room"):
        insert_film(
            FilmSettings(width_um=12, thickness_um=12, porosity_free=0.25, suspension_height=1.3),
            MotionSettings(),
            generator(1, "test"),
        )
    with pytest.raises(SettingsError, match="largest sphere"):
        insert_film(FilmSettings(width_um=2, thickness_um=30), MotionSettings(), generator(1, "test"))


@pytest.mark.parametrize("style", ["sphere", "hybrid"])
def test_data_files_keep_the_film(film, style):
    text = data_text(film, style, "a\ncomment")
    back = read_data(text, "here")
    for name in ("position", "diameter", "density", "kind", "box"):
        assert np.allclose(getattr(back, name), getattr(film, name), rtol=1e-9, atol=1e-9)
    assert text.startswith("# a comment\n") and ("bond types" in text) == (style == "hybrid")
    for damaged in (text.replace("Atoms", "Bonds"), text[: len(text) // 2], text.replace("xlo", "xla"), ""):
        with pytest.raises(InputFileError, match="here is no film"):
            read_data(damaged, "here")


def test_replicate_moves_by_rounding_size_only(film):
    moved = perturbed(film, 1e-6, generator(1, "perturb"))
    shift = np.abs(moved.position - film.position)
    assert 5e-7 < shift[:, 2].max() <= 1e-6 and np.minimum(shift[:, :2], 12 - shift[:, :2]).max() <= 1.0001e-6


def test_bonds_join_touching_spheres_across_the_periodic_side():
    position = np.array([[0.2, 5, 5], [9.9, 5, 5], [5, 5, 5.0], [5, 5, 6.5]])
    pairs = touching_pairs(position, np.array([0.2, 0.2, 1.0, 1.0]), np.array([10.0, 10.0]))
    assert pairs.tolist() == [[0, 1], [2, 3]]
    commands = list(bond_commands(pairs, np.array([4, 7, 1, 2]), np.array([1, 2, 2, 2])))
    assert commands == ["create_bonds single/bond 2 4 7 special no", "create_bonds single/bond 3 1 2 special no"]
    assert touching_pairs(position[:1], np.ones(1), np.ones(2)).shape == (0, 2)


def text_of(step, units=False):
    head = b"ITEM: UNITS\nmicro\n" if units else b""
    return head + b"ITEM: TIME\n%d\nITEM: TIMESTEP\n%d\nITEM: NUMBER OF ATOMS\n1\n" % (step * 2, step)


def test_runs_are_joined_at_the_turn():
    loading, release = b"".join([text_of(0, True), text_of(5), text_of(10)]), b"".join([text_of(10, True), text_of(15)])
    assert [step for step, _ in frame_texts(loading)] == [0, 5, 10]
    assert b"".join(text for _, text in frame_texts(loading)) == loading
    assert joined_frames(loading, release, 7) == text_of(0, True) + text_of(5) + text_of(10, True) + text_of(15)
    assert [step for step, _ in frame_texts(joined_frames(loading, release, 10))] == [0, 5, 10, 15]


def test_packing_is_the_same_at_any_time():
    assert packed(b"abc") == packed(b"abc") and gzip.decompress(packed(b"abc")) == b"abc" and packed(b"abc")[4:8] == b"\0\0\0\0"
    tar = tar_of({"b": b"2", "turns.json": b'{"a": 1}'})
    assert tar == tar_of({"turns.json": b'{"a": 1}', "b": b"2"}) and read_turns(tar, "here") == (
        {"a": 1},
        {"b": b"2", "turns.json": b'{"a": 1}'},
    )
    for bad in (b"", tar[:600], tar_of({"b": b""})):
        with pytest.raises(InputFileError, match="here holds no restarts"):
            read_turns(bad, "here")


def test_lammps_failure_names_the_last_lines_of_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(lammps, "INPUTS", tmp_path)
    (tmp_path / "bad.lmp").write_text("units micro\nno_such_command 1\n")
    with pytest.raises(lammps.SimulationError, match="no_such_command"), lammps.simulation("bad.lmp", {}, {}, "testing", 1):
        raise AssertionError("the folder of a failed run must not be used")


def test_missing_lammps_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(lammps.sys, "prefix", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="lmp"):
        lammps.executable()


def test_launchers_are_hidden_from_the_serial_run(monkeypatch):
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/elsewhere")
    found = lammps.environment()
    assert "PMI_RANK" not in found and found["LD_LIBRARY_PATH"].endswith(":/elsewhere") and found["OMP_NUM_THREADS"] == "1"
