"""The compiled kernels with the types of their arguments."""

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..base.compiled import library


class LevelArrays(ctypes.Structure):
    """One coarse level as the kernels see it (_hierarchy.h)."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("n", "halo", "red", "twice")),
        *(
            (name, ctypes.c_void_p)
            for name in ("start", "middle", "parent", "entry", "end", "inside", "inverse", "x", "b", "block")
        ),
    ]


def address(array: NDArray) -> int:
    """Return where a contiguous array begins; the caller keeps it alive."""
    if not array.flags.c_contiguous:
        raise ValueError("a kernel was given an array that is not contiguous")
    return array.ctypes.data


def extents(shape: Sequence[int]) -> ctypes.Array:
    """Return three extents as the kernels take them."""
    return (ctypes.c_int64 * 3)(*shape)


def view(pointer: int, shape: tuple[int, ...], kind: DTypeLike) -> NDArray:
    """Return an array over memory that a kernel owns."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    memory: Any = (ctypes.c_char * size).from_address(pointer)
    return np.frombuffer(memory, kind).reshape(shape)


@cache
def kernels() -> ctypes.CDLL:
    """Return the library with its argument types declared."""
    found = library("calandria.transport._solver")
    number, count, long, pointer = ctypes.c_int, ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p
    single, real, level = ctypes.c_float, ctypes.c_double, ctypes.POINTER(LevelArrays)
    types = {
        "use_kernels": (number, [number]),
        "look_up": (None, [pointer] * 4 + [long]),
        "percolation_find": (pointer, [pointer] * 2),
        "percolation_restart": (None, [pointer]),
        "percolation_wrap": (None, [pointer, number]),
        "percolation_side": (None, [pointer, number, number, pointer]),
        "percolation_count": (long, [pointer]),
        "percolation_keep": (long, [pointer] * 3),
        "percolation_join": (None, [long, long, pointer, pointer]),
        "percolation_free": (None, [pointer]),
        "fine_build": (pointer, [pointer, number, number, pointer, pointer, number, pointer, number]),
        "fine_layout": (None, [pointer] * 2),
        "memory_trim": (None, []),
        "fine_number": (count, [pointer] * 4 + [single]),
        "fine_connect": (level, [pointer] * 4 + [count]),
        "fine_free": (None, [pointer]),
        "wrap_sides": (None, [pointer, pointer, number, number, number]),
        "first_odd": (None, [pointer] * 3),
        "restrict_even": (None, [pointer] * 3),
        "prolong_even": (None, [pointer] * 3),
        "relax_odd": (real, [pointer] * 4),
        "relax_even": (None, [pointer] * 3),
        "turn": (real, [pointer] * 5 + [single]),
        "advance": (None, [pointer, single, real] + [pointer] * 5),
        "balance_even": (None, [pointer] * 3),
        "residual_odd": (real, [pointer] * 3 + [real, pointer]),
        "energy_and_flux": (real, [pointer] * 4),
        "level_new": (level, []),
        "level_free": (None, [level]),
        "level_reserve": (number, [level, count, count, long]),
        "level_ready": (number, [level]),
        "level_parts": (count, [level, single, pointer, pointer]),
        "level_pairs": (count, [level, single, pointer, pointer]),
        "level_join": (number, [level, pointer, pointer, count, count, level]),
        "level_sweep": (None, [level, number, number, number]),
        "level_down": (None, [level, pointer, pointer, number]),
        "level_up": (None, [level, pointer, pointer]),
        "hierarchy_build": (pointer, [level, single]),
        "hierarchy_sizes": (count, [pointer] * 2),
        "hierarchy_b": (pointer, [pointer]),
        "hierarchy_x": (pointer, [pointer]),
        "hierarchy_cycle": (None, [pointer, number]),
        "hierarchy_free": (None, [pointer]),
    }
    for name, (result, arguments) in types.items():
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
    return found
