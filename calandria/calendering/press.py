"""Where the press and the film's surface are in each frame."""

import csv
import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..base.errors import InputFileError
from ..base.files import existing_file
from .dumps import Particles

REACH = 0.02
TOUCH = 0.1
DEEPEST_IMPRINT = 0.2
LARGEST_GAP = 0.2
"""How far above the highest sphere a press table may lie in the last frame of loading, in median radii."""
LARGEST_FIRST_IMPRINT = 0.5
"""How far below the highest sphere it may lie in the first frame, in median radii."""
LABEL_TOLERANCE = 0.03
"""How far the deepest compression degree may be off the run's label, a fraction of the first thickness."""
SAME_RUN = "z_press is in the dumps' unit of length, press_position_um in um from the collector; both must be of this very run"


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
    press_is_estimated
        Whether there was no press table.
    lowest_um
        Height of the surface at the press's lowest point, which may lie between two frames.
    lowest_source
        ``press table``, or ``frames`` where the lowest frame stands for the lowest point.
    degree_source
        Where the deepest compression degree is from: ``press table``; ``label`` where the press is estimated so that the label is met; ``frames`` where
        these hold no loading, so that the label says nothing about them.
    """

    press_position_um: NDArray[np.float64]
    thickness_um: NDArray[np.float64]
    compression_degree: NDArray[np.float64]
    turn: int
    source: str
    press_is_estimated: bool
    lowest_um: float
    lowest_source: str
    degree_source: str


def read_press(path: str | Path, length_unit_um: float, collector_z_um: float) -> PressPath:
    """Read a CSV of the press, plain or gz: ``step`` or ``time_us``, and ``z_press`` (unit of the dump) or ``press_position_um`` (from the collector).

    Of lines with one step the last counts. Raises InputFileError when a column lacks, a cell is no number, or steps fall.
    """
    raw = existing_file(path, "press table").read_bytes()
    try:
        text = (gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
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


def find_surface(particles: Particles, press: PressPath | None, label: float, frame_interval_us: float | None = None) -> Surface:
    """Find press plane and film surface in every frame.

    While loading, the press plane bounds the film (or the highest sphere, as long as the press is above it by a tenth of a radius). From the turn on the
    surface moves by the mean displacement of the spheres that carried the press in the last frame before the turn; single spheres that jump up do not count.

    Without a table the press is estimated. It touches the film in the last frame before the highest sphere sinks, turns in the frame of the lowest top, and
    stands there at (1 - ``label``) of the first thickness. Between them it sinks at constant speed, a motion that no frame's surface enters. Where that line
    is no press (above the highest sphere, or below it by more than a fifth of the film) it follows the highest sphere while loading. After the turn it always
    rises at the mean speed of loading: never on the film's surface, which a model that is given the press would then read.

    Parameters
    ----------
    particles
        The run.
    press
        The press table, or None.
    label
        Compression degree of the run's label, a fraction.
    frame_interval_us
        Time between frames as the settings state it; it matches a table of times with dumps that hold steps only.

    Raises
    ------
    InputFileError
        The table does not reach over the frames' steps, its press does not meet the highest sphere, or the degree that it reaches is not the label's.
        Without a table: the frames end while loading, or the highest sphere sinks by more than the label says, or by far less.
    """
    top = (particles.z + particles.radius).max(axis=1)
    first_size = float(np.median(particles.radius[0]))
    if press is None:
        plane, turn, source, loads = _estimated_plane(top, first_size, label)
        lowest, lowest_source, degree_source = np.inf, "frames", "label" if loads else "frames"
        if loads:
            _label_fits_spheres(particles, top, turn, label)
    else:
        plane, turn, lowest = _tabled_plane(particles, press, frame_interval_us)
        source = lowest_source = degree_source = "press table"
        _press_meets_spheres(particles, plane, top, turn, first_size)
    size = float(np.median(particles.radius[turn]))
    thickness = np.where(plane - top > TOUCH * size, top, plane)
    carriers = particles.z[turn] + particles.radius[turn] >= min(thickness[turn], top[turn]) - REACH * size
    later = thickness[turn] + (particles.z[turn + 1 :, carriers] - particles.z[turn, carriers]).mean(axis=1)
    thickness[turn + 1 :] = later if press is None else np.minimum(later, plane[turn + 1 :])
    lowest = min(lowest, float(thickness.min()))
    if press is not None and abs(1 - lowest / thickness[0] - label) > LABEL_TOLERANCE:
        raise InputFileError(
            f"by its press table the film is pressed from {thickness[0]:.6g} to {lowest:.6g} um, a compression degree of {1 - lowest / thickness[0]:.1%}; "
            f"the run's label says {label:.0%}",
            hint="check the run's compression_degree_percent; " + SAME_RUN,
        )
    degree = 1 - thickness / thickness[0]
    return Surface(plane, thickness, degree, turn, source, press is None, lowest, lowest_source, degree_source)


def _press_meets_spheres(
    particles: Particles, plane: NDArray[np.float64], top: NDArray[np.float64], turn: int, size: float
) -> None:
    """Refuse a press table that does not lie on the highest spheres ``top`` (t) of a film of radii ``size``: a press holds the film that it presses."""
    lowest = int(np.argmin(plane[: turn + 1] / top[: turn + 1]))
    if plane[0] < top[0] - LARGEST_FIRST_IMPRINT * size:
        frame, expected = 0, f"{top[0] - LARGEST_FIRST_IMPRINT * size:.6g} um or more, since the first frame is hardly pressed"
    elif plane[lowest] < 0.5 * top[lowest]:
        frame, expected = lowest, "half of that or more"
    elif plane[turn] > top[turn] + LARGEST_GAP * size:
        frame, expected = turn, f"{top[turn] + LARGEST_GAP * size:.6g} um or less, since the film is pressed there"
    else:
        return
    raise InputFileError(
        f"the press table puts the press at {plane[frame]:.6g} um at step {particles.step[frame]}, where the highest sphere reaches {top[frame]:.6g} um; "
        f"expected {expected}",
        hint=f"check its units, its zero and collector_z_um: {SAME_RUN}",
    )


def _label_fits_spheres(particles: Particles, top: NDArray[np.float64], turn: int, label: float) -> None:
    """Refuse a label that the highest spheres ``top`` (t) of a run without a press table contradict, or cannot bear out."""
    if turn == top.size - 1:
        raise InputFileError(
            f"the dumps end at step {particles.step[-1]} while the film is still being pressed (the highest sphere is lowest there); "
            f"whether the label's {label:.0%} is reached cannot be told",
            hint="add the dumps after the press turns, or give the press table of the run",
        )
    sunk, deepest = 1 - top[turn] / top[0], 1 - (1 - DEEPEST_IMPRINT) * top[turn] / top[0]
    if not sunk - LABEL_TOLERANCE <= label <= deepest + LABEL_TOLERANCE:
        raise InputFileError(
            f"the highest sphere sinks from {top[0]:.6g} to {top[turn]:.6g} um at step {particles.step[turn]}, so the compression degree is between "
            f"{sunk:.1%} and {deepest:.1%}; the run's label says {label:.0%}",
            hint="check compression_degree_percent and that these are the dumps of that run, or give its press table",
        )


def _tabled_plane(
    particles: Particles, press: PressPath, frame_interval_us: float | None
) -> tuple[NDArray[np.float64], int, float]:
    """Return the press plane (t), the last frame before it turns, and its lowest height from the first frame to the last, frames or not."""
    clock, known = _clock(particles, press, frame_interval_us)
    plane = np.interp(clock, known, press.position_um)
    between = (known >= clock[0]) & (known <= clock[-1])
    moments, heights = np.append(clock, known[between]), np.append(plane, press.position_um[between])
    lowest = float(heights.min())
    # a frame counts as before the turn where the press has risen by no more than carrying spheres reach
    turns = moments[heights <= lowest + REACH * float(np.median(particles.radius[0]))].max()
    return plane, int(np.searchsorted(clock, turns, side="right")) - 1, lowest


def _estimated_plane(top: NDArray[np.float64], size: float, label: float) -> tuple[NDArray[np.float64], int, str, bool]:
    """Return the press plane (t) from the highest spheres ``top`` (t) of a film of radii ``size``.

    Also the last frame before it turns, how the plane was found, and whether the film is loaded in the frames.
    """
    turn, frames = int(np.argmin(top)), np.arange(top.size)
    touch = max(int(np.argmax(top < top[0] - REACH * size)) - 1, 0)
    if turn <= touch:
        return (
            np.full_like(top, top[turn]),
            turn,
            "estimated: no loading in the frames; the press rests on the highest sphere of the lowest frame",
            False,
        )
    plane = top[0] * (1 - label * (frames - touch) / (turn - touch))
    imprint = (top - plane)[touch : turn + 1]
    source = "estimated: constant speed from the highest sphere of the first frame to the label's height in the frame of the lowest top"
    if imprint.min() < -TOUCH * size or np.any(imprint > DEEPEST_IMPRINT * top[touch : turn + 1]):
        source = "estimated: highest sphere until the frame of the lowest top"
        deepest = top[turn] - (1 - label) * top[0]
        plane = np.minimum.accumulate(top)
        if 0 <= deepest <= DEEPEST_IMPRINT * top[turn]:
            plane -= deepest * ((top[0] - plane) / (top[0] - top[turn])) ** 2
            source += ", less an imprint that grows with the square of the compression, so that the label is met there"
    speed = (plane[touch] - plane[turn]) / (turn - touch)
    plane[turn + 1 :] = plane[turn] + speed * (frames[turn + 1 :] - turn)
    return plane, turn, source + "; then up at the mean speed of loading", True


def _clock(
    particles: Particles, press: PressPath, frame_interval_us: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the frames' and the table's values of the clock that both have; steps become times where only the interval of frames is stated."""
    if press.step is not None:
        clock, known, unit = particles.step.astype(np.float64), press.step, "step"
    elif particles.time_us is not None and press.time_us is not None:
        clock, known, unit = particles.time_us, press.time_us, "time"
    elif frame_interval_us is not None and press.time_us is not None and particles.step.size > 1:
        clock, known, unit = frame_interval_us * particles.step / (particles.step[1] - particles.step[0]), press.time_us, "time"
    else:
        raise InputFileError(
            "the press table has times but no steps, and the dumps have steps but no times",
            hint="add the column step to the press table, or state frame_interval_us (then time 0 is at step 0)",
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
        return frame_interval_us * np.arange(steps.size, dtype=np.float64), "settings: frame_interval_us"
    if particles.time_us is not None:
        return particles.time_us - particles.time_us[0], "dump: ITEM: TIME"
    if press is not None and press.step is not None and press.time_us is not None:
        times = np.interp(steps, press.step, press.time_us)
        return times - times[0], "press table"
    return (steps - steps[0]) * timestep_us, "steps times settings: motion.timestep_us"
