"""Reads particle dumps (LAMMPS ``dump custom``, LIGGGHTS) and turns them into the particles of a run."""

import bz2
import glob
import gzip
import importlib
import io
import itertools
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..base.errors import InputFileError
from ..base.files import existing_file, raise_machine_error
from .settings import DumpSettings, phase_codes

MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst"}
LENGTH_UM = {"micro": 1.0, "si": 1e6, "cgs": 1e4, "nano": 1e-3, "metal": 1e-4, "real": 1e-4}
TIME_US = {"micro": 1.0, "si": 1e6, "cgs": 1e6, "nano": 1e-3, "metal": 1e-6, "real": 1e-9}
COORDINATES = ("{}", "{}u", "{}s", "{}su")
SHEAR_TOLERANCE = 1e-6
DUMP_NAMES = re.compile("dump|lammpstrj")
BOX_SIDES_UM = (0.1, 1e4)
"""Sides in x and y that a box may have; others mean that the unit of length is another."""


@dataclass(frozen=True)
class Frame:
    """One frame of a dump, in the dump's own units and sorted by id.

    Parameters
    ----------
    where
        File and step, for messages.
    step, time, units
        ITEM: TIMESTEP, ITEM: TIME and ITEM: UNITS (None where the dump has none).
    box
        (3, 2) lower and upper bounds of x, y, z; for a triclinic box those of the box itself, not of its bounding box.
    periodic
        Flags of x, y, z, or None where the dump states none.
    position
        (n, 3) x, y, z.
    size
        (n) radii, or None.
    identity, kind, molecule
        (n) integers; kind and molecule are None where the dump has none.
    """

    where: str
    step: int
    time: float | None
    units: str | None
    box: NDArray[np.float64]
    periodic: tuple[bool, bool, bool] | None
    position: NDArray[np.float64]
    size: NDArray[np.float64] | None
    identity: NDArray[np.int64]
    kind: NDArray[np.int64] | None
    molecule: NDArray[np.int64] | None


@dataclass(frozen=True)
class Particles:
    """The particles of every frame of a run; lengths in um, heights counted from the current collector.

    Parameters
    ----------
    x, y, z, radius
        (t, n) centres and radii in um; x and y are wrapped into the box where it is periodic.
    phase, identity
        (n) phase code and id.
    molecule
        (n) clump numbers, or None.
    box
        (t, 3, 2) bounds in um.
    periodic
        Whether x and y wrap around.
    step
        (t) simulation steps.
    time_us
        (t) times as the dump states them (in a run's file: since the first frame), or None where it states none.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    z: NDArray[np.float64]
    radius: NDArray[np.float64]
    phase: NDArray[np.uint8]
    identity: NDArray[np.int64]
    molecule: NDArray[np.int64] | None
    box: NDArray[np.float64]
    periodic: tuple[bool, bool]
    step: NDArray[np.int64]
    time_us: NDArray[np.float64] | None


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Return a sort key in which numbers count as numbers.

    >>> sorted([Path("d10"), Path("d9")], key=natural_key)[0].name
    'd9'
    """
    words = re.split(r"(\d+)", str(path))
    return [(1, int(word), "") if word.isdigit() else (0, 0, word) for word in words]


def dump_files(sources: Iterable[str | Path]) -> list[Path]:
    """Return the dump files that files, folders and glob patterns stand for, in natural order.

    Text that does not begin like a dump (press tables, logs, notes, input scripts) is no dump, whatever it is called; what is empty or damaged counts by its
    name, so that reading refuses it. In a folder the dumps are the files with ``dump`` or ``lammpstrj`` in their names; where none has, those that begin
    like one. A file that is named itself is taken as it is.

    Raises
    ------
    InputFileError
        A file or folder does not exist, or a folder or pattern holds no dump.
    """
    found: list[Path] = []
    for source in sources:
        if _is_pattern(source):
            matches = list(map(Path, _matches(str(source))))
            chosen = [match for match in matches if _content(match) != "text"]
            if not chosen:
                raise InputFileError(
                    f"no {'dump' if matches else 'file'} matches {str(source)!r}"
                    + (f", only other text such as {min(matches).name!r}" if matches else ""),
                    hint="check the pattern and the folder in which the command runs",
                )
            found += chosen
        elif (path := existing_file(source, "dump")).is_dir():
            files = list(map(Path, _entries(path)))
            content = {file: _content(file) for file in files}
            named = [file for file in files if DUMP_NAMES.search(file.name) and content[file] != "text"]
            chosen = named or [file for file in files if content[file] == "dump"]
            if not chosen:
                raise InputFileError(
                    f"folder {str(source)!r} holds no dump", hint="name the dump files themselves, or a pattern such as run/*.txt"
                )
            found += chosen
        else:
            found.append(path)
    if not found:
        raise InputFileError("no dumps are named", hint="name dump files, folders of them, or patterns")
    return sorted(dict.fromkeys(found), key=natural_key)


def possible_dumps(sources: Iterable[str | Path]) -> list[str]:
    """Return the files among which :func:`dump_files` finds the dumps, without opening any: for planning, where a study has many thousands.

    Files in folders and of patterns count by their names; where no name in a folder speaks of a dump, all its files count. What does
    not exist is left out.
    """
    found: list[str] = []
    for source in sources:
        if _is_pattern(source):
            found += _matches(str(source))
        elif Path(source).is_dir():
            files = _entries(source)
            found += [file for file in files if DUMP_NAMES.search(file.rpartition(os.sep)[2])] or files
        elif Path(source).exists():
            found.append(str(source))
    return sorted(set(found))


def _is_pattern(source: str | Path) -> bool:
    return any(sign in str(source) for sign in "*?[") and not Path(source).exists()


def _matches(pattern: str) -> list[str]:
    """Return the files that match a glob pattern, hidden ones too."""
    # glob lists a folder in a fifth of the time of Path.glob
    return [match for match in glob.iglob(pattern, recursive=True, include_hidden=True) if os.path.isfile(match)]  # noqa: PTH113, PTH207


def _entries(folder: str | Path) -> list[str]:
    """Return the files in a folder that are not hidden; where the system tells their kind, none is looked at."""
    with os.scandir(folder) as entries:
        return [entry.path for entry in entries if not entry.name.startswith(".") and entry.is_file()]


def _content(path: Path) -> Literal["dump", "text", "unclear"]:
    """Return what a file seems to hold: empty, binary and damaged files are unclear."""
    try:
        with open_dump(path) as stream:
            head = stream.read(512).lstrip()
    except InputFileError:
        return "unclear"
    return "dump" if head.startswith(b"ITEM:") else "text" if head and b"\0" not in head else "unclear"


class _Guarded(io.RawIOBase):
    """A compressed stream whose damage is told as InputFileError naming the file."""

    def __init__(self, stream: IO[bytes], path: Path, packing: str) -> None:
        self._stream, self._path, self._packing = stream, path, packing

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            block = self._stream.read(len(buffer))
        except (EOFError, zlib.error, lzma.LZMAError, OSError, ValueError) as error:
            raise_machine_error(error, self._path)
            raise InputFileError(
                f"dump {str(self._path)!r}: the {self._packing} stream is cut or damaged ({error})",
                hint="copy the file again; where the simulation was killed, leave its last file out",
            ) from error
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._stream.close()
        super().close()


def open_dump(path: Path) -> io.BufferedReader:
    """Open a dump for reading; gz, bz2, xz and zst are known by their first bytes, not by their names."""
    with open(existing_file(path, "dump"), "rb") as stream:
        start = stream.read(6)
    packing = next((name for magic, name in MAGIC.items() if start.startswith(magic)), "")
    if not packing:
        return open(path, "rb")
    openers: dict[str, Callable[..., Any]] = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open, "zst": _open_zst}
    return io.BufferedReader(_Guarded(openers[packing](path, "rb"), path, packing), 1 << 18)


def _open_zst(path: Path, mode: str) -> IO[bytes]:
    for module in ("compression.zstd", "zstandard", "pyzstd"):
        try:
            return importlib.import_module(module).open(path, mode)
        except ImportError:
            continue
    raise InputFileError(
        f"dump {str(path)!r} is packed by zstd, which this Python cannot read", hint="unpack it (zstd -d), or install zstandard"
    )


def _refuse(where: str, what: str, hint: str) -> NoReturn:
    raise InputFileError(f"dump {where}: {what}", hint=hint)


def read_frames(path: Path) -> Iterator[Frame]:
    """Yield the frames of one dump file; raises InputFileError naming file, step and id of what is wrong."""
    with open_dump(path) as stream:
        yield from frames_of(stream, str(path))


def frames_of(stream: io.BufferedReader | io.BytesIO, name: str) -> Iterator[Frame]:
    """Yield the frames of an open dump, named ``name`` in messages; units stated once hold for what follows."""
    where, empty, units = repr(name), True, None
    while (frame := _read_frame(stream, name, empty)) is not None:
        empty, units = False, frame.units or units
        yield replace(frame, units=units)
    if empty:
        _refuse(where, "the file is empty", "leave it out, or copy it again")


def _read_frame(stream: io.BufferedReader | io.BytesIO, name: str, first: bool) -> Frame | None:
    facts: dict[str, tuple[str, list[bytes]]] = {}
    where = repr(name)
    while True:
        line = stream.readline()
        if not line.strip():
            if line:
                continue
            if facts:
                _refuse(where, "the file ends within the head of a frame", "leave the unfinished frame out")
            return None
        if not line.startswith(b"ITEM:"):
            if facts or not first:
                _refuse(
                    where,
                    f"found {_shown(line)}; expected a line ITEM: ... (more atoms than announced?)",
                    "check the frame there",
                )
            _refuse(where, f"found {_shown(line)}; expected ITEM: TIMESTEP", "name LAMMPS or LIGGGHTS text dumps (dump custom)")
        item = line[5:].decode("utf-8", "replace").strip()
        kind = next(
            (n for n in ("TIMESTEP", "NUMBER OF ATOMS", "BOX BOUNDS", "ATOMS", "UNITS", "TIME") if item.startswith(n)), None
        )
        if kind is None:
            _refuse(
                where, f"found item {item!r}", "write dumps with the style custom (grids, local and entries dumps hold no atoms)"
            )
        if kind == "ATOMS":
            return _read_atoms(stream, where, facts, item.removeprefix("ATOMS").split())
        values = [stream.readline() for _ in range(3 if kind == "BOX BOUNDS" else 1)]
        if not values[-1].strip():
            _refuse(where, f"the file ends after ITEM: {kind}", "leave the unfinished frame out")
        facts[kind] = (item.removeprefix(kind).strip(), values)
        if kind == "TIMESTEP":
            where = f"{name!r}, step {values[0].decode('utf-8', 'replace').strip()}"


def _shown(line: bytes) -> str:
    return repr(line[:40].decode("utf-8", "replace").strip())


def _one_number(facts: Mapping[str, tuple[str, list[bytes]]], item: str, kind: type, where: str) -> float:
    try:
        return kind(facts[item][1][0])
    except KeyError:
        _refuse(where, f"the frame has no ITEM: {item}", "write dumps with the style custom")
    except ValueError:
        _refuse(where, f"ITEM: {item} is {_shown(facts[item][1][0])}; expected a number", "check the file there")


def _read_atoms(
    stream: io.BufferedReader | io.BytesIO, where: str, facts: Mapping[str, tuple[str, list[bytes]]], columns: Sequence[str]
) -> Frame:
    step = int(_one_number(facts, "TIMESTEP", int, where))
    count = int(_one_number(facts, "NUMBER OF ATOMS", int, where))
    time = float(_one_number(facts, "TIME", float, where)) if "TIME" in facts else None
    units = facts["UNITS"][1][0].decode("utf-8", "replace").strip() if "UNITS" in facts else None
    box, tilt, periodic = _read_box(facts, where)
    if count < 1:
        _refuse(where, f"the frame has {count} atoms", "leave empty frames out")
    if len(set(columns)) < len(columns):
        _refuse(where, f"a column occurs twice in {' '.join(columns)}", "check the dump command")
    lines = list(itertools.islice(stream, count))
    table = _split(lines, count, len(columns), where)

    def column(name: str) -> list[bytes]:
        return table[columns.index(name) :: len(columns)]

    if "id" not in columns:
        _refuse(where, f"found columns {' '.join(columns)}; expected id among them", "dump the particles' ids")
    identity = _integers(column("id"), "id", where)
    order = np.argsort(identity, kind="stable")
    identity = identity[order]
    twice = np.flatnonzero(identity[1:] == identity[:-1])
    if twice.size:
        _refuse(where, f"id {identity[twice[0]]} occurs twice", "dump every particle once")

    def numbers(name: str) -> NDArray[np.float64]:
        return _reals(column(name), name, where, order, identity)

    axes = [next((form.format(axis) for form in COORDINATES if form.format(axis) in columns), "") for axis in "xyz"]
    if "" in axes:
        _refuse(where, f"found columns {' '.join(columns)}; expected x, y, z (or xu, xs, xsu)", "dump the positions")
    position = np.stack([numbers(name) for name in axes], axis=1)
    scaled = np.array(["s" in name for name in axes])
    if scaled.any():
        if tilt.any() and not scaled.all():
            _refuse(where, f"columns {' '.join(axes)} mix scaled and plain positions in a sheared box", "dump x y z or xs ys zs")
        fractions, lengths = position * scaled, box[:, 1] - box[:, 0]
        shear = np.stack(
            [fractions[:, 1] * tilt[0] + fractions[:, 2] * tilt[1], fractions[:, 2] * tilt[2], 0 * fractions[:, 0]], axis=1
        )
        position = np.where(scaled, box[:, 0] + position * lengths + shear, position)
    size = numbers("radius") if "radius" in columns else numbers("diameter") / 2 if "diameter" in columns else None
    if size is not None and not np.all(size > 0):
        worst = int(np.argmin(size > 0))
        _refuse(
            where,
            f"id {identity[worst]} has radius {size[worst]:g}; expected a number above 0",
            "remove such particles from the dump",
        )
    kind = _integers(column("type"), "type", where)[order] if "type" in columns else None
    molecule = _integers(column("mol"), "mol", where)[order] if "mol" in columns else None
    return Frame(where, step, time, units, box, periodic, position, size, identity, kind, molecule)


def _read_box(
    facts: Mapping[str, tuple[str, list[bytes]]], where: str
) -> tuple[NDArray, NDArray, tuple[bool, bool, bool] | None]:
    """Return bounds (3, 2), tilts (xy, xz, yz) and flags; the bounds of a triclinic frame are those of its bounding box (LAMMPS, Howto_triclinic)."""
    if "BOX BOUNDS" not in facts:
        _refuse(where, "the frame has no ITEM: BOX BOUNDS", "write dumps with the style custom")
    words, lines = facts["BOX BOUNDS"][0].split(), facts["BOX BOUNDS"][1]
    if "abc" in words:
        _refuse(where, "the box is general triclinic (abc origin)", "write the dump without triclinic/general")
    try:
        rows = np.array([line.split() for line in lines], dtype=np.float64)
    except ValueError:
        rows = np.empty((0, 0))
    if rows.shape not in ((3, 2), (3, 3)) or not np.isfinite(rows).all():
        _refuse(
            where,
            f"BOX BOUNDS are {_shown(b' / '.join(line.strip() for line in lines))}; expected lo hi [tilt] in three lines",
            "check the file there",
        )
    tilt = rows[:, 2] if rows[0].size == 3 else np.zeros(3)
    (xy, xz, yz), box = tilt, rows[:, :2].copy()
    box[0] -= [min(0.0, xy, xz, xy + xz), max(0.0, xy, xz, xy + xz)]
    box[1] -= [min(0.0, yz), max(0.0, yz)]
    for axis, (low, high) in zip("xyz", box, strict=True):
        if high <= low:
            _refuse(where, f"the box ends at {axis} = {high:g}, before it begins at {low:g}", "check BOX BOUNDS")
    flags = [word for word in words if re.fullmatch(r"[pfsm]{2}", word)]
    periodic = (flags[0] == "pp", flags[1] == "pp", flags[2] == "pp") if len(flags) == 3 else None
    turns = xy / (box[0, 1] - box[0, 0])
    if abs(turns - round(turns)) > SHEAR_TOLERANCE and (periodic is None or periodic[1]):
        _refuse(where, f"the periodic box is sheared (xy = {xy:g})", "the voxel grid is rectangular: dump a box with xy = 0")
    return box, tilt, periodic


def _split(lines: list[bytes], count: int, width: int, where: str) -> list[bytes]:
    """Return the words of all lines in one list after checking that there are ``width`` in each line."""
    text = b"".join(lines)
    words = text.split()
    if len(lines) == count and len(words) == count * width and b"ITEM:" not in text:
        codes = np.frombuffer(text, np.uint8)
        blank = codes <= 32
        starts = ~blank & np.concatenate(([True], blank[:-1]))
        ends = np.concatenate(([0], np.flatnonzero(codes == 10) + 1))[:count]
        if np.all(np.add.reduceat(starts, ends, dtype=np.int64) == width):
            return words
    for number, line in enumerate(lines):
        if line.startswith(b"ITEM:"):
            _refuse(where, f"found {number} atoms; {count} were announced", "leave the damaged frame out, or dump it again")
        cells = line.split()
        if len(cells) != width:
            _refuse(
                where,
                f"the line of atom {number + 1} (it begins {_shown(line)}) has {len(cells)} words; expected {width}, one per column",
                "leave the damaged frame out, or dump it again",
            )
    _refuse(where, f"the file ends after {len(lines)} of {count} atoms", "leave the unfinished frame out, or dump it again")


def _integers(cells: list[bytes], name: str, where: str) -> NDArray[np.int64]:
    try:
        return np.array(cells).astype(np.int64)
    except (ValueError, OverflowError):
        try:
            values = np.array(cells).astype(np.float64)
            if np.all(values == np.trunc(values)):
                return values.astype(np.int64)
        except ValueError:
            pass
    bad = next(cell for cell in cells if not re.fullmatch(rb"[+-]?\d+", cell))
    _refuse(where, f"column {name} holds {_shown(bad)}; expected whole numbers", "check the columns of the dump command")


def _reals(
    cells: list[bytes], name: str, where: str, order: NDArray[np.int64], identity: NDArray[np.int64]
) -> NDArray[np.float64]:
    try:
        values = np.array(cells).astype(np.float64)[order]
    except ValueError:
        for row, index in enumerate(order):
            try:
                float(cells[index])
            except ValueError:
                _refuse(
                    where, f"id {identity[row]} has {name} = {_shown(cells[index])}; expected a number", "check the file there"
                )
        raise
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        _refuse(
            where,
            f"id {identity[bad[0]]} has {name} = {values[bad[0]]}",
            "the simulation lost this particle; leave this frame out, or run again",
        )
    return values


def assemble(frames: Iterable[Frame], settings: DumpSettings) -> Particles:
    """Join the frames of a run, converted to um and phases.

    Parameters
    ----------
    frames
        In the order of their files.
    settings
        Units, phases and radii of types, height of the current collector, expected number of frames.

    Raises
    ------
    InputFileError
        Ids, types or radii that change between frames; steps that are not equidistant; a frame count, type, unit or radius that is not
        as the settings say; a box of impossible size; spheres outside a box that is not periodic or below the current collector.
    """
    kept: list[Frame] = []
    positions, radii = [], []
    codes = phase_codes(settings.phase_of_type)
    phase = np.empty(0, np.uint8)
    scale, flags = 1.0, (False, False, False)
    for frame in frames:
        if not kept:
            scale = length_unit(frame, settings)
            _box_has_size(frame, scale)
            phase = _phases(frame, codes)
            flags = frame.periodic or (settings.periodic_if_unsaid, settings.periodic_if_unsaid, False)
        else:
            _same_particles(kept[0], frame)
        position, radius = _in_um(frame, settings, scale, phase, flags)
        positions.append(position)
        radii.append(radius)
        kept.append(frame)
    if not kept:
        raise InputFileError("the run has no frames", hint="check the path of its dumps")
    _equidistant(kept)
    if settings.expected_frames not in (None, len(kept)):
        raise InputFileError(
            f"dump {kept[0].where} and after: found {len(kept)} frames; expected {settings.expected_frames}",
            hint="add the missing dumps, or change expected_frames",
        )
    position = np.stack(positions)
    position[..., 2] -= settings.collector_z_um
    _on_collector(kept[0], position[0, :, 2], radii[0], settings)
    _above_collector(kept, position[..., 2], np.stack(radii))
    box = np.stack([frame.box for frame in kept]) * scale
    box[:, 2] -= settings.collector_z_um
    times = None
    if all(frame.time is not None for frame in kept) and kept[0].units in TIME_US:
        times = np.array([frame.time for frame in kept]) * TIME_US[kept[0].units]
    x, y, z = (np.ascontiguousarray(position[..., axis]) for axis in range(3))
    return Particles(
        x,
        y,
        z,
        np.stack(radii),
        phase,
        kept[0].identity,
        kept[0].molecule,
        box,
        flags[:2],
        np.array([frame.step for frame in kept]),
        times,
    )


def length_unit(frame: Frame, settings: DumpSettings) -> float:
    """Return the length of one unit of the dump in um: as stated, as ITEM: UNITS says, or 1."""
    if settings.length_unit_um is not None:
        return settings.length_unit_um
    if frame.units is not None and frame.units not in LENGTH_UM:
        _refuse(frame.where, f"ITEM: UNITS is {frame.units!r}, a unit of unknown length", "state length_unit_um")
    return LENGTH_UM[frame.units] if frame.units is not None else 1.0


def _phases(frame: Frame, codes: Mapping[int, int]) -> NDArray[np.uint8]:
    if frame.kind is None:
        if len(codes) > 1:
            _refuse(
                frame.where,
                "the dump has no column type",
                "dump the type, or state one phase for all in phase_of_type, e.g. 1:am",
            )
        return np.full(frame.identity.size, next(iter(codes.values())), np.uint8)
    unknown = np.flatnonzero(~np.isin(frame.kind, list(codes)))
    if unknown.size:
        _refuse(
            frame.where,
            f"id {frame.identity[unknown[0]]} has type {frame.kind[unknown[0]]}; expected one of {sorted(codes)}",
            "add the type to phase_of_type",
        )
    table = np.zeros(max(codes) + 1, np.uint8)
    table[list(codes)] = list(codes.values())
    return table[frame.kind]


def _same_particles(first: Frame, frame: Frame) -> None:
    if not np.array_equal(first.identity, frame.identity):
        gone, new = np.setdiff1d(first.identity, frame.identity), np.setdiff1d(frame.identity, first.identity)
        what = (
            f"{gone.size} particles are gone (id {gone[0]} first)"
            if gone.size
            else f"{new.size} particles are new (id {new[0]} first)"
        )
        _refuse(frame.where, f"{what}, compared with {first.where}", "a run must hold the same particles in every frame")
    none = np.empty(0, np.int64)
    if not np.array_equal(none if first.kind is None else first.kind, none if frame.kind is None else frame.kind):
        changed = (
            frame.identity[0] if frame.kind is None or first.kind is None else frame.identity[np.argmax(first.kind != frame.kind)]
        )
        _refuse(frame.where, f"id {changed} has another type than in {first.where}", "types must stay as they are in a run")
    if (None not in (frame.units, first.units) and frame.units != first.units) or (frame.size is None) != (first.size is None):
        _refuse(frame.where, f"units or columns differ from those of {first.where}", "dump all frames of a run in one way")
    if frame.periodic != first.periodic:
        _refuse(frame.where, f"the box's flags differ from those of {first.where}", "a run must keep its boundary conditions")


def _in_um(
    frame: Frame, settings: DumpSettings, scale: float, phase: NDArray[np.uint8], flags: tuple[bool, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return positions (n, 3), wrapped in x and y where periodic, and radii (n), both in um."""
    box = frame.box * scale
    position = frame.position * scale
    if frame.size is not None:
        radius = frame.size * scale
    else:
        kinds = frame.kind if frame.kind is not None else np.full(phase.size, next(iter(settings.phase_of_type)))
        missing = sorted(set(kinds.tolist()) - set(settings.radius_of_type_um))
        if missing:
            _refuse(
                frame.where,
                f"the dump holds neither radius nor diameter, and the settings no radius of type {missing[0]}",
                "dump the radius, or state radius_of_type_um, e.g. 1:0.9,2:2.6",
            )
        radius = np.array([settings.radius_of_type_um[kind] for kind in kinds.tolist()])
    for axis, name in enumerate("xyz"):
        low, high = box[axis]
        if not flags[axis]:
            outside = np.flatnonzero((position[:, axis] + radius < low) | (position[:, axis] - radius > high))
            if outside.size:
                _refuse(
                    frame.where,
                    f"id {frame.identity[outside[0]]} lies at {name} = {position[outside[0], axis]:g} um, outside the box {low:g} to {high:g} um",
                    "remove lost particles, or check units and the box",
                )
        elif axis < 2:
            position[:, axis] = low + np.mod(position[:, axis] - low, high - low)
    return position, radius


def _equidistant(frames: Sequence[Frame]) -> None:
    """Refuse steps that are not equally far apart; the most frequent distance (the first of those) is taken as the run's, so that the odd frame is named."""
    gaps = np.diff([frame.step for frame in frames])
    rising = gaps[gaps > 0].tolist()
    usual = max(dict.fromkeys(rising), key=rising.count, default=None)
    bad = np.flatnonzero(gaps != usual)
    if not bad.size:
        return
    before, later = frames[bad[0]], frames[bad[0] + 1]
    if bad[0] == 0 and gaps.size > 1 and gaps[1] == usual:
        where, what = before.where, f"the next frame ({later.where}) follows after {gaps[0]} steps"
    else:
        where, what = later.where, f"the step follows {before.step} after {gaps[bad[0]]} steps"
    distance = f"one distance ({usual}, the most frequent)" if usual else "rising steps"
    _refuse(
        where,
        f"{what}; expected {distance} in the whole run",
        "leave out doubled or extra dumps; all frames must lie equally far apart",
    )


def _box_has_size(frame: Frame, scale: float) -> None:
    sides = (frame.box[:2, 1] - frame.box[:2, 0]) * scale
    low, high = BOX_SIDES_UM
    if sides.min() < low or sides.max() > high:
        _refuse(
            frame.where,
            f"the box is {sides[0]:.4g} x {sides[1]:.4g} um wide where one unit of length is {scale:g} um; expected {low:g} to {high:g} um",
            "state length_unit_um, the length of one unit of the dump in um: 1e6 for metres, 1e3 for millimetres, 1e-3 for nanometres",
        )


def _on_collector(frame: Frame, z: NDArray[np.float64], radius: NDArray[np.float64], settings: DumpSettings) -> None:
    lowest = float((z - radius).min())
    if lowest > 2 * radius.max():
        _refuse(
            frame.where,
            f"the lowest sphere begins {lowest:.6g} um above the current collector at z = {settings.collector_z_um:g} um",
            f"state collector_z_um, e.g. {lowest + settings.collector_z_um:.6g} for a film that rests on it, and check the units",
        )


def _above_collector(frames: Sequence[Frame], z: NDArray[np.float64], radius: NDArray[np.float64]) -> None:
    below = np.argwhere(z + radius < 0)
    if below.size:
        time, index = below[0]
        _refuse(
            frames[time].where,
            f"id {frames[time].identity[index]} lies {-z[time, index]:.6g} um below the current collector",
            "state collector_z_um, the height of the collector's surface in the dump",
        )


def read_run(sources: Iterable[str | Path], settings: DumpSettings) -> Particles:
    """Read all dumps of a run; ``sources`` are files, folders or glob patterns."""
    return assemble(itertools.chain.from_iterable(read_frames(path) for path in dump_files(sources)), settings)
