"""Memory that a rule's job asks for: a function of the size of its input and of the attempt.

The constants are peaks measured by ``benchmarks/volumes.py`` and ``benchmarks/transport.py``, rounded up. A job whose input is not
there when it is planned asks for the floor; one that failed asks for twice as much at each further attempt.
"""

import json
import math
import os
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Need:
    """Memory of a rule's program.

    Parameters
    ----------
    base_mb
        Python, libraries and blocks of a fixed size (MB of 2^20 bytes).
    per_plane
        Bytes for each voxel of one slice; a chunk is 128 slices deep.
    per_voxel
        Bytes for each voxel of a volume, or of one frame.
    per_series
        Bytes for each voxel of all frames together.
    floor_mb
        The least that is asked for.
    """

    base_mb: float
    per_plane: float = 0
    per_voxel: float = 0
    per_series: float = 0
    floor_mb: int = 1000


NEEDS = {
    "import_volume": Need(600, per_plane=4 * 128),
    "measure_phases": Need(300, per_plane=4 * 128),
    "solve_diffusion": Need(400, per_voxel=36, floor_mb=2000),
    "solve_series": Need(400, per_voxel=36, per_series=2, floor_mb=2000),
    "measure_frames": Need(400, per_voxel=20, per_series=2, floor_mb=2000),
}
"""By rule. The solver's 36 bytes a voxel suffice where structures are several voxels wide (docs/transport.md)."""


def memory_mb(rule: str, inputs: str | os.PathLike | Iterable[str | os.PathLike], attempt: int = 1) -> int:
    """Return the memory (MB of 2^20 bytes) that a job asks for.

    Parameters
    ----------
    rule
        One of ``NEEDS``.
    inputs
        The volume, the image, or the series of the job, of which the largest counts; what is missing counts as small.
    attempt
        1 for the first try.

    Examples
    --------
    >>> memory_mb("measure_phases", "gone.zarr.zip"), memory_mb("measure_phases", "gone.zarr.zip", 3)
    (1000, 4000)
    """
    need = NEEDS[rule]
    paths = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    largest = max((needed_mb(need, shape_of(path)) for path in paths), default=0)
    return max(need.floor_mb, largest) * 2 ** (attempt - 1)


def needed_mb(need: Need, shape: tuple[int, ...]) -> int:
    """Return what a volume (z, y, x) or series (t, z, y, x) of this shape takes; an empty shape is that of what is not there."""
    if not shape:
        return 0
    frame = shape[-3:]
    size = need.per_plane * math.prod(frame[1:]) + need.per_voxel * math.prod(frame) + need.per_series * math.prod(shape)
    return math.ceil(need.base_mb + size / 2**20)


def shape_of(path: str | os.PathLike) -> tuple[int, ...]:
    """Return the shape of a volume or series; of an image the cube of as many voxels as its files have bytes, and () where nothing is.

    An image is not opened: compressed ones have more voxels than bytes, of which a further attempt then takes account.
    """
    place = Path(path)
    try:
        if place.name.endswith(".zarr.zip"):
            with zipfile.ZipFile(place) as members:
                return tuple(json.loads(members.read("labels/zarr.json"))["shape"])
        files = [file for file in place.rglob("*") if file.is_file()] if place.is_dir() else [place]
        size = sum(file.stat().st_size for file in files)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError):  # the program that reads it says what is wrong
        return ()
    edge = math.ceil(size ** (1 / 3))
    return (edge, edge, edge)


def largest_frame(inputs: Iterable[str | os.PathLike], most: int = 16) -> int:
    """Return the voxels of the largest frame among the first few volumes or series; 0 where none is there yet."""
    return max((math.prod(shape[-3:]) for path in list(inputs)[:most] if (shape := shape_of(path))), default=0)


def training_mb(learned_bytes: float, cache_mb: int, attempt: int, trainings: int = 1) -> int:
    """Return the memory (MB of 2^20 bytes) that trainings at the same time on one machine ask for.

    Parameters
    ----------
    learned_bytes
        What weights, their gradients and a batch take in each training.
    cache_mb
        Memory of each training for frames that it has read.
    attempt
        1 for the first try.
    trainings
        Processes of a training, or workers of a search.

    Examples
    --------
    >>> training_mb(0, 1000, 1), training_mb(4e9, 1000, 2)
    (8000, 16000)
    """
    each = 2000 + cache_mb + learned_bytes / 2**20  # the first: Python, torch and what CUDA keeps on the host
    return max(8000, math.ceil(trainings * each)) * 2 ** (attempt - 1)


def doubling(first_mb: int) -> Callable[..., int]:
    """Return the function of a rule's ``mem_mb`` where the input's size says little: twice as much at each further attempt.

    >>> doubling(2000)(None, 1), doubling(2000)(None, 3)
    (2000, 8000)
    """
    return lambda wildcards, attempt: first_mb * 2 ** (attempt - 1)
