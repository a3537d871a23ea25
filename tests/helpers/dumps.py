"""Makes particle dumps and runs from a seed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from calandria.calendering.dumps import Particles

BOX = ((0.0, 8.0), (0.0, 6.0), (-1.0, 11.0))


def dump_text(
    step: int,
    columns: Mapping[str, Sequence[object]],
    *,
    box: Sequence[Sequence[float]] = BOX,
    flags: str = "pp pp ff",
    units: str | None = None,
    time: float | None = None,
    count: int | None = None,
    trailing: str = "",
) -> str:
    """Return one frame of a LAMMPS text dump; rows of ``box`` are lo, hi and, in a triclinic box, the tilt."""
    rows = list(zip(*columns.values(), strict=True))
    lines = ["ITEM: UNITS", units] if units else []
    lines += ["ITEM: TIME", f"{time:.9g}"] if time is not None else []
    lines += ["ITEM: TIMESTEP", str(step), "ITEM: NUMBER OF ATOMS", str(len(rows) if count is None else count)]
    tilts = "xy xz yz " if len(box[0]) == 3 else ""
    lines += [f"ITEM: BOX BOUNDS {tilts}{flags}".rstrip(), *(" ".join(f"{value:.12g}" for value in row) for row in box)]
    lines += [f"ITEM: ATOMS {' '.join(columns)}" + trailing, *(" ".join(map(str, row)) + trailing for row in rows)]
    return "\n".join([*lines, ""])


def columns_of(**changed: object) -> dict[str, object]:
    """Return the columns of three spheres (ids 1 to 3; CBD, AM, CBD); ``name=None`` leaves a column out."""
    columns: dict[str, object] = {
        "id": [1, 2, 3],
        "type": [1, 2, 1],
        "radius": [0.5, 1.5, 0.75],
        "x": [1.0, 4.0, 7.5],
        "y": [1.0, 3.0, 5.0],
        "z": [0.5, 1.5, 4.0],
    }
    return {name: column for name, column in (columns | changed).items() if column is not None}


def write_dump(path: Path, *frames: str) -> Path:
    """Write frames into one dump."""
    path.write_text("".join(frames))
    return path


def random_particles(
    seed: int, count: int, shape: tuple[int, int, int], periodic: tuple[bool, bool] = (True, True), frames: int = 1
) -> Particles:
    """Return random spheres of both phases in a box of ``shape`` (z, y, x) um."""
    rng = np.random.default_rng(seed)
    nz, ny, nx = shape
    x, y, z = (rng.uniform(0, length, (frames, count)) for length in (nx, ny, nz))
    radius = np.tile(rng.uniform(0.3, 3.0, count), (frames, 1))
    box = np.tile([[0.0, nx], [0.0, ny], [0.0, nz]], (frames, 1, 1))
    phase = rng.integers(1, 3, count).astype(np.uint8)
    return Particles(x, y, z, radius, phase, np.arange(1, count + 1), None, box, periodic, np.arange(frames) * 500, None)


def write_loading(folder: Path, frames: int = 7, turn: int = 4, count: int = 40, seed: int = 3) -> tuple[Path, Path]:
    """Write the dump and the press table of a film squeezed affinely from 10 um by 5 % per frame until ``turn``, then released by 1 % per frame."""
    rng = np.random.default_rng(seed)
    radius, fractions = rng.uniform(0.4, 1.2, count), rng.uniform(0, 1, count)
    fractions[:8] = 1.0  # these carry the press
    x, y = rng.uniform(0, 8, count), rng.uniform(0, 6, count)
    heights = [10 * (1 - 0.05 * min(t, turn) + 0.01 * max(t - turn, 0)) for t in range(frames)]
    texts = []
    for frame, height in enumerate(heights):
        z = radius + fractions * (height - 2 * radius)
        numbers = {"radius": radius, "x": x, "y": y, "z": z}
        columns = {"id": range(1, count + 1), "type": [1 + number % 2 for number in range(count)]}
        texts.append(
            dump_text(500 * frame, columns | {name: [f"{value:.9g}" for value in column] for name, column in numbers.items()})
        )
    rows = [(500 * frame, 10 * (1 - 0.05 * min(frame, turn) + 0.05 * max(frame - turn, 0))) for frame in range(frames)]
    press = folder / "press.csv"
    press.write_text("step,time_us,z_press\n" + "".join(f"{step},{step * 0.05:.9g},{height:.9g}\n" for step, height in rows))
    return write_dump(folder / "dump.lammpstrj", *texts), press
