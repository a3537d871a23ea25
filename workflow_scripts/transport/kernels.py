"""The compiled kernels with the types of their arguments."""

import ctypes
from functools import cache

import numpy as np
from numpy.ctypeslib import ndpointer

from ..common.compiled import library


class Grid(ctypes.Structure):
    """The finest level as the kernels see it (_grid.h)."""

    _fields_ = [
        ("extent", ctypes.c_int64 * 3),
        ("stride", ctypes.c_int64 * 3),
        ("face", ctypes.c_void_p * 3),
        ("node", ctypes.c_void_p),
    ]


def _array(kind: type) -> type:
    return ndpointer(kind, flags="C_CONTIGUOUS")


class _OptionalPointer:
    """An array of one type, or None."""

    def __init__(self, kind: type) -> None:
        self.kind = _array(kind)

    def from_param(self, value: np.ndarray | None) -> object:
        return None if value is None else self.kind.from_param(value)


@cache
def kernels() -> ctypes.CDLL:
    """Return the library with its argument types declared, so that a wrong array is an error instead of a crash."""
    found = library("workflow_scripts.transport._solver")
    grid, integer, real, single, tree = ctypes.POINTER(Grid), ctypes.c_int64, ctypes.c_double, ctypes.c_float, ctypes.c_void_p
    u8, u16, i32, i64, f32, f64 = map(_array, (np.uint8, np.uint16, np.int32, np.int64, np.float32, np.float64))
    maybe = {kind: _OptionalPointer(kind) for kind in (np.uint16, np.int32, np.float32)}
    number = ctypes.c_int
    types = {
        "label_components": (None, [u8, i64, u8, i32]),
        "keep_components": (integer, [u8, i32, u8, integer]),
        "build_faces": (None, [grid, f32, number, number, number]),
        "sweep": (None, [grid, f32, f32, number, number]),
        "restrict_residual": (None, [grid, f32, f32, f32]),
        "prolong": (None, [grid, f32, f32]),
        "multiply": (real, [grid, f32, f32]),
        "true_residual": (None, [grid, f64, f32, real, f64]),
        "energy_and_flux": (real, [grid, f64, number, number, f64]),
        "dot": (real, [f32, f32, integer]),
        "advance": (None, [f32, f32, f32, f32, single, integer]),
        "turn": (None, [f32, f32, single, integer]),
        "add_correction": (None, [grid, f64, f32, real]),
        "find_strongest": (None, [grid, f32]),
        "number_aggregates": (None, [grid, f32, single, maybe[np.uint16], i32]),
        "connect_aggregates": (
            None,
            [grid, number, integer, integer, u16, i32, maybe[np.int32]] + [maybe[np.float32]] * 3 + [u8],
        ),
        "hierarchy_build": (tree, [ctypes.c_int32, i32, number, i32, i32, f32, f32, f32, u16, single]),
        "hierarchy_sizes": (ctypes.c_int32, [tree, i32]),
        "hierarchy_cycle": (None, [tree, f32, f32]),
        "hierarchy_free": (None, [tree]),
    }
    for name, (result, arguments) in types.items():
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
    return found
