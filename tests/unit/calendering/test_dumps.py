import builtins
import bz2
import gzip
import io
import lzma
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from calandria.base.errors import InputFileError
from calandria.calendering import dumps
from calandria.calendering.dumps import assemble, dump_files, possible_dumps, read_frames, read_run
from calandria.calendering.settings import DumpSettings
from tests.helpers.dumps import BOX, columns_of, dump_text, random_particles, write_dump

RULES = DumpSettings()


def two_frames(**options):
    return dump_text(0, columns_of(), **options), dump_text(500, columns_of(z=[0.5, 1.5, 3.5]), **options)


def run_of(tmp_path, *frames, rules=RULES):
    return read_run([write_dump(tmp_path / "dump.txt", *frames)], rules)


def refused(tmp_path, *frames, rules=RULES):
    with pytest.raises(InputFileError) as caught:
        run_of(tmp_path, *frames, rules=rules)
    assert caught.value.hint and "\n" not in caught.value.message
    return caught.value.message


def test_many_frames_in_one_file(tmp_path):
    run = run_of(tmp_path, *two_frames())
    assert run.step.tolist() == [0, 500] and run.phase.tolist() == [1, 2, 1] and run.identity.tolist() == [1, 2, 3]
    assert run.z.tolist() == [[0.5, 1.5, 4.0], [0.5, 1.5, 3.5]] and run.radius[0].tolist() == [0.5, 1.5, 0.75]
    assert run.periodic == (True, True) and run.box[0].tolist() == [list(side) for side in BOX]


def test_one_file_per_step_in_natural_order(tmp_path):
    for name, text in zip(("dump.9.txt", "dump.10.txt"), two_frames(), strict=True):
        write_dump(tmp_path / name, text)
    (tmp_path / "press.csv").write_text("step,z_press\n")
    for source in (tmp_path, tmp_path / "dump.*.txt"):
        assert read_run([str(source)], RULES).step.tolist() == [0, 500]
    assert [path.name for path in dump_files([tmp_path])] == ["dump.9.txt", "dump.10.txt"]


def test_folder_without_telling_names_is_searched_for_dumps(tmp_path):
    write_dump(tmp_path / "step_0.txt", two_frames()[0])
    (tmp_path / "notes.txt").write_text("hello")
    assert [path.name for path in dump_files([tmp_path])] == ["step_0.txt"]
    (tmp_path / "step_0.txt").unlink()
    with pytest.raises(InputFileError, match="holds no dump"):
        dump_files([tmp_path])


OTHERS = {
    "press_of_dump.csv": b"step,z_press\n0,1\n",
    "dump_press.csv.gz": gzip.compress(b"step,z_press\n0,1\n", mtime=0),
    "dump.log": b"LAMMPS (29 Aug 2024)\n",
    "README_dumps.md": b"# Dumps\n",
    "in.dump": b"\ndump frames all custom 500 dump.*.txt id type\n",
    "dump.vtk": b"# vtk DataFile Version 2.0\n",
}


def test_other_files_of_a_folder_are_no_dumps_whatever_they_are_called(tmp_path):
    for name, text in zip(("dump.9.txt", "dump.10.txt"), two_frames(), strict=True):
        write_dump(tmp_path / name, text)
    for name, content in OTHERS.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "restart.500").write_bytes(b"\0\1\2")
    for source in (tmp_path, str(tmp_path), tmp_path / "*[!0]", str(tmp_path / "*dump*")):
        assert [path.name for path in dump_files([source])] == ["dump.9.txt", "dump.10.txt"]
    for name in ("dump.9.txt", "dump.10.txt"):
        (tmp_path / name).unlink()
    with pytest.raises(InputFileError, match="holds no dump"):
        dump_files([tmp_path])
    with pytest.raises(InputFileError, match=r"no dump matches .*only other text such as 'README_dumps.md'"):
        dump_files([tmp_path / "*dump*"])
    with pytest.raises(InputFileError, match="no dumps are named"):
        dump_files([])


def test_planning_opens_no_dump_and_names_every_file_that_reading_takes(tmp_path, monkeypatch):
    for name, text in zip(("dump.9.txt", "dump.10.txt"), two_frames(), strict=True):
        write_dump(tmp_path / name, text)
    (tmp_path / "plain").mkdir()
    write_dump(tmp_path / "plain/step_0.txt", two_frames()[0])
    (tmp_path / ".dump.hidden").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    sources = [tmp_path, tmp_path / "dump.*", tmp_path / "**/*.txt", tmp_path / "plain", tmp_path / "dump.9.txt"]
    read = {source: {str(path) for path in dump_files([source])} for source in sources}

    def refuse(*arguments, **_):
        raise AssertionError(f"opened {arguments[0]}")

    with monkeypatch.context() as patched:
        for module, name in ((builtins, "open"), (io, "open"), (os, "open")):
            patched.setattr(module, name, refuse)
        planned = {source: possible_dumps([source]) for source in sources}
        assert possible_dumps([tmp_path / "gone", tmp_path / "gone/*"]) == []
    for source in sources:
        assert read[source] <= set(planned[source]), source
    assert [Path(path).name for path in planned[tmp_path]] == ["dump.10.txt", "dump.9.txt"]  # neither notes nor what is hidden
    assert set(planned[tmp_path / "plain"]) == {str(tmp_path / "plain/step_0.txt")}


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 600, gzip.compress(bytes(range(256)) * 90, mtime=0)[:40], b"\x1f\x8b"],
    ids=["empty", "zeros", "cut gzip", "start of gzip"],
)
def test_damaged_dumps_are_not_left_out_silently(tmp_path, content):
    write_dump(tmp_path / "dump.0", two_frames()[0])
    (tmp_path / "dump.500").write_bytes(content)
    for source in (tmp_path, tmp_path / "dump.*"):
        assert len(dump_files([source])) == 2
        with pytest.raises(InputFileError, match=r"dump.500"):
            read_run([source], RULES)


def test_the_reader_of_dumps_imports_nothing_heavy():
    code = "import sys, calandria.calendering.dumps; print(*{'torch', 'h5py', 'zarr', 'scipy', 'skimage'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == ""


def test_missing_file_and_pattern_are_named():
    with pytest.raises(InputFileError, match="nowhere"):
        dump_files(["nowhere/dump.txt"])
    with pytest.raises(InputFileError, match="no file matches"):
        dump_files(["nowhere/*.txt"])


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_compression_is_known_by_its_first_bytes(tmp_path, pack):
    path = tmp_path / "dump.txt"
    path.write_bytes(pack("".join(two_frames()).encode()))
    assert read_run([path], RULES).step.tolist() == [0, 500]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_cut_streams_are_refused(tmp_path, pack):
    rng = np.random.default_rng(1)
    columns = {"id": range(1, 401), "type": [1] * 400, "radius": [1] * 400} | {axis: rng.uniform(1, 5, 400) for axis in "xyz"}
    whole = pack(dump_text(0, columns).encode())
    path = tmp_path / "dump.bin"
    for size in (len(whole) // 2, len(whole) - 4):
        path.write_bytes(whole[:size])
        with pytest.raises(InputFileError, match=r"dump.bin.*cut or damaged"):
            read_run([path], RULES)


def test_damaged_gzip_stream_is_refused(tmp_path):
    whole = bytearray(gzip.compress("".join(two_frames()).encode()))
    whole[len(whole) // 2] ^= 0xFF
    (tmp_path / "d").write_bytes(whole)
    with pytest.raises(InputFileError):
        read_run([tmp_path / "d"], RULES)


def test_zst_is_read_or_said_to_be_unreadable(tmp_path, monkeypatch):
    class Module:
        @staticmethod
        def open(path, mode):
            return io.BytesIO(gzip.decompress(path.with_suffix(".gz").read_bytes()))

    path = tmp_path / "dump.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd and so on")
    (tmp_path / "dump.gz").write_bytes(gzip.compress("".join(two_frames()).encode()))
    monkeypatch.setattr(dumps.importlib, "import_module", lambda name: Module)
    assert read_run([path], RULES).step.size == 2

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(dumps.importlib, "import_module", absent)
    with pytest.raises(InputFileError, match="zstd"):
        read_run([path], RULES)


def test_units_and_times_become_um_and_us(tmp_path):
    metres = {name: [value * 1e-6 for value in columns_of()[name]] for name in ("x", "y", "z", "radius")}
    box = [[value * 1e-6 for value in side] for side in BOX]
    texts = [dump_text(step, columns_of(**metres), box=box, units="si", time=step * 1e-9) for step in (100, 200)]
    run = run_of(tmp_path, *texts)
    assert np.allclose(run.radius[0], [0.5, 1.5, 0.75]) and np.allclose(run.time_us, [0.1, 0.2])
    run = run_of(
        tmp_path, texts[0], dump_text(200, columns_of(**metres), box=box, time=2e-7)
    )  # LAMMPS states units once per file
    assert np.allclose(run.time_us, [0.1, 0.2]) and np.allclose(run.box[1], BOX)
    bare = [dump_text(step, columns_of(**metres), box=box) for step in (0, 1)]
    assert np.allclose(run_of(tmp_path, *bare, rules=DumpSettings(length_unit_um=1e6)).x[0], [1, 4, 7.5])
    assert run_of(tmp_path, *two_frames()).time_us is None


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1e4])
def test_box_of_impossible_size_asks_for_the_unit_of_length(tmp_path, factor):
    scaled = {name: [value * factor for value in columns_of()[name]] for name in ("x", "y", "z", "radius")}
    text = dump_text(0, columns_of(**scaled), box=[[value * factor for value in side] for side in BOX])
    with pytest.raises(InputFileError, match=f"{8 * factor:.4g} x {6 * factor:.4g} um".replace("+", r"\+")) as caught:
        run_of(tmp_path, text)
    assert "length_unit_um" in caught.value.hint
    assert np.allclose(run_of(tmp_path, text, rules=DumpSettings(length_unit_um=1 / factor)).x, [1, 4, 7.5])


def test_unknown_units_are_refused(tmp_path):
    assert "'lj'" in refused(tmp_path, *two_frames(units="lj"))
    assert run_of(tmp_path, *two_frames(units="lj"), rules=DumpSettings(length_unit_um=1)).step.size == 2


def test_columns_in_any_order_with_text_and_trailing_blanks(tmp_path):
    columns = {"element": ["C", "Ni", "C"]} | dict(reversed(columns_of().items()))
    run = run_of(tmp_path, dump_text(0, columns, trailing=" "))
    assert run.x[0].tolist() == [1.0, 4.0, 7.5] and run.phase.tolist() == [1, 2, 1]


def test_unsorted_ids_are_sorted(tmp_path):
    mixed = {name: [column[index] for index in (2, 0, 1)] for name, column in columns_of(mol=[7, 8, 9]).items()}
    run = run_of(tmp_path, dump_text(0, columns_of()), dump_text(1, mixed))
    assert run.identity.tolist() == [1, 2, 3] and run.z[1].tolist() == [0.5, 1.5, 4.0] and run.molecule is None
    assert run_of(tmp_path, dump_text(0, mixed)).molecule.tolist() == [7, 8, 9]


@pytest.mark.parametrize("kind", ["u", "s", "su"])
def test_unwrapped_and_scaled_positions(tmp_path, kind):
    columns = columns_of(x=None, y=None, z=None)
    for axis, (low, high) in zip("xyz", BOX, strict=True):
        values = np.array(columns_of()[axis]) + (high - low) * (2 if axis == "x" and kind != "s" else 0)
        columns[axis + kind] = (values - low) / (high - low) if "s" in kind else values
    run = run_of(tmp_path, dump_text(0, columns))
    for axis in "xyz":
        assert np.allclose(getattr(run, axis)[0], columns_of()[axis])


def test_positions_are_wrapped_into_the_periodic_box_only(tmp_path):
    outside = columns_of(x=[-1.0, 4.0, 9.0])
    assert np.allclose(run_of(tmp_path, dump_text(0, outside)).x[0], [7, 4, 1])
    near = columns_of(x=[-0.4, 4.0, 8.2])
    assert np.allclose(run_of(tmp_path, dump_text(0, near, flags="ff pp ff")).x[0], [-0.4, 4, 8.2])


def test_diameter_and_radius_per_type(tmp_path):
    by_diameter = columns_of(radius=None, diameter=[1.0, 3.0, 1.5])
    assert run_of(tmp_path, dump_text(0, by_diameter)).radius[0].tolist() == [0.5, 1.5, 0.75]
    none = dump_text(0, columns_of(radius=None))
    assert run_of(tmp_path, none, rules=DumpSettings(radius_of_type_um={1: 0.9, 2: 2.0})).radius[0].tolist() == [0.9, 2.0, 0.9]
    assert "neither radius nor diameter" in refused(tmp_path, none, rules=DumpSettings(radius_of_type_um={1: 0.9}))


def test_box_without_flags_follows_the_settings(tmp_path):
    text = dump_text(0, columns_of(), flags="")
    assert run_of(tmp_path, text).periodic == (True, True)
    assert run_of(tmp_path, text, rules=DumpSettings(periodic_if_unsaid=False)).periodic == (False, False)


def test_triclinic_bounds_are_those_of_the_bounding_box(tmp_path):
    xz, yz = 1.5, -0.5
    bounding = [[0.0, 8.0 + xz, 0.0], [0.0 + yz, 6.0, xz], [-1.0, 11.0, yz]]
    run = run_of(tmp_path, dump_text(0, columns_of(), box=bounding))
    assert np.allclose(run.box[0], BOX)
    scaled = columns_of(x=None, y=None, z=None, xs=[0.25] * 3, ys=[0.5] * 3, zs=[0.4] * 3)
    run = run_of(tmp_path, dump_text(0, scaled, box=bounding))
    assert np.allclose([run.x[0, 0], run.y[0, 0], run.z[0, 0]], [2 + 0.6, 3 - 0.2, 3.8])


def test_periodic_box_sheared_in_the_plane_is_refused(tmp_path):
    assert "sheared" in refused(tmp_path, dump_text(0, columns_of(), box=[[0, 9, 1], [0, 6, 0], [0, 9, 0]]))
    assert "triclinic" in refused(tmp_path, dump_text(0, columns_of(), flags="abc origin pp pp ff"))


def test_box_may_change(tmp_path):
    run = run_of(tmp_path, dump_text(0, columns_of()), dump_text(1, columns_of(), box=[*BOX[:2], (-1, 9)]))
    assert run.box[:, 2, 1].tolist() == [11, 9]


def test_heights_are_counted_from_the_collector(tmp_path):
    run = run_of(
        tmp_path,
        dump_text(0, columns_of(z=[100.5, 101.5, 104.0]), box=[*BOX[:2], (99, 120)]),
        rules=DumpSettings(collector_z_um=100),
    )
    assert run.z[0].tolist() == [0.5, 1.5, 4.0] and run.box[0, 2].tolist() == [-1, 20]


def test_film_far_from_the_collector_is_refused_with_the_height_to_state(tmp_path):
    box = [*BOX[:2], (-99, 120)]
    high = dump_text(0, columns_of(z=[100.5, 101.5, 104.0]), box=box)
    with pytest.raises(InputFileError) as caught:
        run_of(tmp_path, high)
    assert "100" in caught.value.hint
    assert "id 1 lies 9.5 um below" in refused(tmp_path, dump_text(0, columns_of(z=[-9.5, 1.5, 4.0]), box=box))


def test_dump_without_types_takes_the_only_phase(tmp_path):
    text = dump_text(0, columns_of(type=None))
    assert run_of(tmp_path, text, rules=DumpSettings(phase_of_type={5: "am"})).phase.tolist() == [2, 2, 2]
    assert "no column type" in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        ("step,z\n1,2\n", "expected ITEM: TIMESTEP"),
        ("ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n3\n", "ends within the head"),
        ("ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n", "ends after ITEM: NUMBER OF ATOMS"),
        ("ITEM: TIMESTEP\nzero\n" + dump_text(0, columns_of()).partition("0\n")[2], "TIMESTEP is 'zero'"),
        ("ITEM: TIMESTEP\n0\nITEM: NUMBER OF ENTRIES\n3\n", "NUMBER OF ENTRIES"),
        (dump_text(0, columns_of())[:-1].rpartition("\n")[0] + "\n", "step 0: the file ends after 2 of 3 atoms"),
        (dump_text(0, columns_of())[:-10], "words; expected 6"),
        (dump_text(0, columns_of(), count=2), "more atoms than announced"),
        (dump_text(0, columns_of(), count=4), "ends after 3 of 4"),
        (dump_text(0, columns_of(), count=0), "0 atoms"),
        (dump_text(0, columns_of(), count=4) + dump_text(1, columns_of()), "found 3 atoms; 4 were announced"),
        (dump_text(7, columns_of(z=[0.5, "nan", 4.0])), "step 7: id 2 has z = nan"),
        (dump_text(7, columns_of(y=["inf", 3.0, 4.0])), "id 1 has y = inf"),
        (dump_text(7, columns_of(y=["1e", 3.0, 4.0])), "id 1 has y = '1e'"),
        (dump_text(7, columns_of(radius=[0.5, 0.0, 4.0])), "id 2 has radius 0"),
        (dump_text(7, columns_of(radius=[0.5, 1.0, -4.0])), "id 3 has radius -4"),
        (dump_text(7, columns_of(id=[1, 3, 3])), "id 3 occurs twice"),
        (dump_text(7, columns_of(id=[1, "a", 3])), "column id holds 'a'"),
        (dump_text(7, columns_of(id=[1, 2.5, 3])), "column id holds '2.5'"),
        (dump_text(7, columns_of(id=None)), "expected id"),
        (dump_text(7, columns_of(z=None)), "expected x, y, z"),
        (dump_text(7, columns_of(type=[1, 3, 1])), "id 2 has type 3"),
        (dump_text(7, columns_of(z=[0.5, 1.5, 40.0])), "id 3 lies at z = 40 um, outside the box"),
        (dump_text(7, columns_of(x=[-0.6, 1.5, 4.0]), flags="ff pp ff"), "id 1 lies at x = -0.6 um, outside"),
        (dump_text(7, columns_of(), box=[(0, 8), (6, 0), (-1, 11)]), "before it begins"),
        (dump_text(7, columns_of(), box=[(0, 8), (0, 6), (-1, float("nan"))]), "BOX BOUNDS are"),
    ],
)
def test_bad_input_is_refused(tmp_path, text, told):
    message = refused(tmp_path, text)
    assert told in message and "dump.txt" in message


def test_line_with_too_many_words_beside_one_with_too_few_is_refused(tmp_path):
    lines = dump_text(0, columns_of()).splitlines()
    lines[-1], lines[-2] = lines[-1] + " 1", lines[-2].rpartition(" ")[0]
    assert "has 5 words" in refused(tmp_path, "\n".join([*lines, ""]))


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        ((dump_text(0, columns_of()), dump_text(1, columns_of(id=[1, 2, 4]))), "step 1: 1 particles are gone (id 3 first)"),
        ((dump_text(0, columns_of()), dump_text(1, columns_of(type=[1, 2, 2]))), "id 3 has another type"),
        ((dump_text(0, columns_of()), dump_text(1, columns_of(), flags="ff pp ff")), "flags differ"),
        ((dump_text(0, columns_of()), dump_text(1, columns_of(radius=None, diameter=[1, 2, 3]))), None),
        ((dump_text(0, columns_of()), dump_text(0, columns_of())), "after 0 steps"),
        ((dump_text(5, columns_of()), dump_text(0, columns_of())), "after -5 steps"),
        (
            (dump_text(0, columns_of()), dump_text(5, columns_of()), dump_text(11, columns_of())),
            "step 11: the step follows 5 after 6 steps",
        ),
    ],
)
def test_frames_must_belong_together(tmp_path, texts, told):
    if told is None:
        assert run_of(tmp_path, *texts).radius[1].tolist() == [0.5, 1, 1.5]
    else:
        assert told in refused(tmp_path, *texts)


@pytest.mark.parametrize(
    ("steps", "odd", "distance"),
    [
        ([3, 500, 1000, 1500], 0, 500),
        ([5000, 0, 500, 1000], 0, 500),
        ([0, 500, 700, 1000, 1500], 2, 500),
        ([0, 500, 1000, 1700], 3, 500),
        ([0, 500, 500, 1000], 2, 500),
        ([0, 500, 1500, 2000], 2, 500),
        ([0, 2, 4, 500, 1000, 1500, 2000], 1, 500),
    ],
)
def test_the_dump_at_an_odd_step_is_named(tmp_path, steps, odd, distance):
    for number, step in enumerate(steps):
        write_dump(tmp_path / f"dump.{number}.txt", dump_text(step, columns_of()))
    with pytest.raises(InputFileError) as caught:
        read_run([tmp_path], RULES)
    message = str(caught.value)
    assert f"dump.{odd}.txt', step {steps[odd]}: " in message and f"one distance ({distance}" in message


def test_unexpected_frame_count_is_refused(tmp_path):
    assert "found 2 frames; expected 3" in refused(tmp_path, *two_frames(), rules=DumpSettings(expected_frames=3))
    with pytest.raises(InputFileError, match="no frames"):
        assemble([], RULES)


def test_reading_is_fast_and_keeps_every_digit(tmp_path):
    particles = random_particles(5, 1544, (100, 30, 30))
    path = tmp_path / "dump.gz"
    numbers = {name: getattr(particles, name)[0] for name in ("x", "y", "z", "radius")}
    frame = {"id": particles.identity, "type": particles.phase} | {
        name: [repr(float(v)) for v in column] for name, column in numbers.items()
    }
    box = [(0, 30), (0, 30), (0, 100)]
    path.write_bytes(gzip.compress("".join(dump_text(step, frame, box=box) for step in range(35)).encode(), 1))
    begin = time.process_time()
    run = read_run([path], RULES)
    assert time.process_time() - begin < 1.5  # 0.3 s on an idle laptop
    assert run.x.shape == (35, 1544) and np.array_equal(run.z[34], particles.z[0])


def test_frames_keep_the_units_of_the_dump(tmp_path):
    (frame,) = read_frames(write_dump(tmp_path / "d", dump_text(3, columns_of(), units="micro", time=1.5)))
    assert (frame.step, frame.time, frame.units, frame.periodic) == (3, 1.5, "micro", (True, True, False))
