"""Where the press and the film's surface are in each frame."""

import csv
import gzip
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..common.errors import InputFileError
from ..common.files import existing_file
from .dumps import Particles

REACH = 0.02
TOUCH = 0.1
DEEPEST_IMPRINT = 0.2


@dataclass(frozen=True)
class PressPath:
    """Path of the press plane; height in um above the current collector.

    Parameters
    ----------
    step
        (m) simulation steps, or None where the table holds times only.
    time_us
        (m) times, or None where the table holds steps only.
    position_um
        (m) heights of the plane.
    """

    step: NDArray[np.float64] | None
    time_us: NDArray[np.float64] | None
    position_um: NDArray[np.float64]


@dataclass(frozen=True)
class Surface:
    """Press and film surface in every frame.

    Parameters
    ----------
    press_position_um, thickness_um
        (t) height of the press plane and of the film's surface above the current collector.
    compression_degree
        (t) thickness lost since the first frame over the first thickness.
    turn
        Index of the last frame before the press turns.
    source
        How both were found, for humans.
    """

    press_position_um: NDArray[np.float64]
    thickness_um: NDArray[np.float64]
    compression_degree: NDArray[np.float64]
    turn: int
    source: str


def read_press(path: str | Path, length_unit_um: float, collector_z_um: float) -> PressPath:
    """Read a CSV of the press, plain or gz: ``step`` or ``time_us``, and ``z_press`` (unit of the dump) or ``press_position_um`` (from the collector).

    Of lines with one step the last counts. Raises InputFileError when a column lacks, a cell is no number, or steps fall.
    """
    raw = existing_file(path, "press table").read_bytes()
    try:
        text = (gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputFileError(
            f"press table {str(path)!r} cannot be read ({error})", hint="give a CSV, plain or packed by gzip"
        ) from error
    rows = list(csv.reader(io.StringIO(text)))
    header = [name.strip() for name in rows[0]] if rows else []
    clock = [name for name in ("step", "time_us") if name in header]
    height = next((name for name in ("press_position_um", "z_press") if name in header), None)
    if not clock or height is None:
        raise InputFileError(
            f"press table {str(path)!r}: found columns {', '.join(header)}; expected step or time_us, and z_press or press_position_um",
            hint="name the columns in the first line",
        )
    columns = {}
    for name in (*clock, height):
        index = header.index(name)
        try:
            columns[name] = np.array([row[index] for row in rows[1:] if row], dtype=np.float64)
        except (ValueError, IndexError) as error:
            raise InputFileError(
                f"press table {str(path)!r}: column {name}: {error}", hint="every line needs a number there"
            ) from error
    if columns[height].size < 2 or not all(np.isfinite(column).all() for column in columns.values()):
        raise InputFileError(
            f"press table {str(path)!r}: expected two lines or more of finite numbers", hint="check the table's end"
        )
    if any(np.any(np.diff(columns[name]) < 0) for name in clock):
        raise InputFileError(
            f"press table {str(path)!r}: {clock[0]} falls from one line to the next", hint="sort the table, one run only"
        )
    last = np.append(np.diff(columns[clock[0]]) > 0, True)
    columns = {name: column[last] for name, column in columns.items()}
    position = columns[height] * length_unit_um - collector_z_um if height == "z_press" else columns[height]
    return PressPath(columns.get("step"), columns.get("time_us"), position)


def find_surface(particles: Particles, press: PressPath | None, label: float) -> Surface:
    """Find press plane and film surface in every frame.

    While loading, the press plane bounds the film (or the highest sphere, as long as the press is above it by a tenth of a radius). From the turn on the
    surface moves by the mean displacement of the spheres that carried the press in the last frame before the turn; single spheres that jump up do not count.
    Without a table the press is estimated: it turns in the frame with the lowest top, where it stands at (1 - ``label``) of the first thickness;
    before, it lies below the highest sphere by an imprint that grows with the square of the compression; afterwards it lies on the surface. Where that
    imprint would be negative or above a fifth of the film (then the label is no thickness), the press lies on the highest sphere.

    Parameters
    ----------
    particles
        The run.
    press
        The press table, or None.
    label
        Compression degree of the run's label, a fraction.

    Raises
    ------
    InputFileError
        The table does not reach over the frames' steps, or its press lies below every sphere.
    """
    top = (particles.z + particles.radius).max(axis=1)
    if press is None:
        turn = int(np.argmin(top))
        plane, source = _estimated_plane(top, turn, label)
    else:
        clock, known = _clock(particles, press)
        plane = np.interp(clock, known, press.position_um)
        turn = int(np.argmin(plane))
        source = "press table"
        if np.any(plane[: turn + 1] <= 0) or np.any(plane[: turn + 1] < 0.5 * top[: turn + 1]):
            raise InputFileError(
                f"the press lies at {plane[: turn + 1].min():.6g} um, far below the highest sphere at {top[turn]:.6g} um",
                hint="check the units of the press table, and collector_z_um",
            )
    size = float(np.median(particles.radius[turn]))
    thickness = np.where(plane - top > TOUCH * size, top, plane)
    bottom = thickness[turn] - REACH * size
    carriers = np.flatnonzero(particles.z[turn] + particles.radius[turn] >= bottom)
    if turn + 1 < top.size:
        moved = (particles.z[turn + 1 :, carriers] - particles.z[turn, carriers]).mean(axis=1)
        later = thickness[turn] + moved
        thickness[turn + 1 :] = np.minimum(later, plane[turn + 1 :]) if press is not None else later
    if press is None:
        plane[turn + 1 :] = thickness[turn + 1 :]
    return Surface(plane, thickness, 1 - thickness / thickness[0], turn, source)


def _estimated_plane(top: NDArray[np.float64], turn: int, label: float) -> tuple[NDArray[np.float64], str]:
    """Return the press plane (t) from the highest spheres ``top`` (t), and how it was found."""
    imprint = top[turn] - (1 - label) * top[0]
    if turn == 0 or not 0 <= imprint <= DEEPEST_IMPRINT * top[turn]:
        return top.copy(), "estimated: highest sphere until the turn (frame of the lowest top), then the film surface"
    progress = np.clip((top[0] - top) / (top[0] - top[turn]), 0, 1)
    return top - imprint * progress**2, (
        "estimated: highest sphere less an imprint that grows with the square of the compression, so that the label is met at the turn"
        " (frame of the lowest top), then the film surface"
    )


def _clock(particles: Particles, press: PressPath) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the frames' and the table's values of the clock that both have."""
    if press.step is not None:
        clock, known, unit = particles.step.astype(np.float64), press.step, "step"
    elif particles.time_us is not None:
        clock, known, unit = particles.time_us, press.time_us, "time"
    else:
        raise InputFileError(
            "the press table has times but no steps, and the dumps have steps but no times",
            hint="add the column step to the press table",
        )
    interval = clock[1] - clock[0] if clock.size > 1 else 0.0
    if clock[0] < known[0] - 0.5 * interval or clock[-1] > known[-1] + 0.5 * interval:
        raise InputFileError(
            f"the frames reach from {unit} {clock[0]:g} to {clock[-1]:g}, the press table from {known[0]:g} to {known[-1]:g}",
            hint="give the press table of the same run",
        )
    return clock, known


def frame_times(
    particles: Particles, press: PressPath | None, frame_interval_us: float | None, timestep_us: float
) -> tuple[NDArray[np.float64], str]:
    """Return the frames' times (t) in us since the first, and where they come from.

    The stated interval goes first, then ITEM: TIME, then the press table, then steps times ``timestep_us``.
    """
    steps = particles.step
    if frame_interval_us is not None:
        return frame_interval_us * np.arange(steps.size), "settings: frame_interval_us"
    if particles.time_us is not None:
        return particles.time_us, "dump: ITEM: TIME"
    if press is not None and press.step is not None and press.time_us is not None:
        times = np.interp(steps, press.step, press.time_us)
        return times - times[0], "press table"
    return (steps - steps[0]) * timestep_us, "steps times settings: motion.timestep_us"
