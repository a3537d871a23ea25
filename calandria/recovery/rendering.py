"""Soft rendering of spheres into a labelled grid, the error of it, and the fit that lowers the error; in voxels."""

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.compiled import library
from ..base.phases import AM, CBD

SOFTNESS, FINE_SOFTNESS = 0.3, 0.15
"""Widths w of a sphere's soft border, voxels: it holds a voxel at distance d with occupancy 1 / (1 + exp((d - r) / w)). The wide one
leads spheres from afar, the fine one places them."""
REACH = 4.5
"""How far from its surface a sphere is rendered, widths; its occupancy there is 0.01 outside and 0.99 inside."""


@dataclass(frozen=True)
class Spheres:
    """Spheres in voxels.

    Parameters
    ----------
    centre
        (n, 3) along z, y, x; the centre of voxel 0 is at 0.
    radius
        (n).
    code
        (n) phase codes, CBD or AM.
    """

    centre: NDArray[np.float64]
    radius: NDArray[np.float64]
    code: NDArray[np.uint8]

    def __post_init__(self) -> None:
        for name, kind in (("centre", np.float64), ("radius", np.float64), ("code", np.uint8)):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), kind))

    def __len__(self) -> int:
        return self.radius.size

    def chosen(self, which: NDArray) -> "Spheres":
        """Return those of a mask or of indices, in their order."""
        return Spheres(self.centre[which], self.radius[which], self.code[which])

    def joined(self, *others: "Spheres") -> "Spheres":
        """Return these and then the others."""
        parts = (self, *others)
        return Spheres(
            np.concatenate([part.centre for part in parts]),
            np.concatenate([part.radius for part in parts]),
            np.concatenate([part.code for part in parts]),
        )


def rendering_error(
    labels: NDArray[np.uint8], periodic: tuple[bool, bool], spheres: Spheres, softness: float = SOFTNESS, reach: float = REACH
) -> tuple[float, NDArray[np.float64]]:
    """Return the squared error of the rendered spheres and its gradient.

    The spheres of a phase are joined as 1 - product of (1 - occupancy), and active material lies over CBD. The error sums, over both phases and the
    voxels that are not void, the squares of rendered share minus labelled share.

    Parameters
    ----------
    labels
        (z, y, x) phase codes.
    periodic
        Whether x and y wrap around.
    spheres
        In voxels.
    softness
        Width of the borders, voxels.
    reach
        How far from their surfaces spheres are rendered, widths.

    Returns
    -------
    tuple
        The error, and its derivatives (n, 4) along z, y, x and the radius.
    """
    gradient = np.zeros((len(spheres), 4))
    error = _kernels().rendering_error(*_scene(labels, periodic, spheres), softness, reach * softness, _pointer(gradient))
    return _in_memory(error), gradient


def fit(
    labels: NDArray[np.uint8],
    periodic: tuple[bool, bool],
    spheres: Spheres,
    limits: dict[int, tuple[float, float]],
    iterations: int,
    rate: float,
    softness: float,
) -> Spheres:
    """Move and resize all spheres together so that the rendering error falls (Adam).

    Parameters
    ----------
    labels, periodic, spheres
        As of :func:`rendering_error`; ``spheres`` are the start.
    limits
        Lowest and highest radius per phase code, voxels.
    iterations
        Steps.
    rate
        First rate for centres, voxels; radii have half of it, and it falls to a tenth.
    softness
        Width of the borders, voxels.
    """
    centre, radius = spheres.centre.copy(), spheres.radius.copy()
    moved = Spheres(centre, radius, spheres.code)
    lowest, highest = (np.array([limits[int(code)][side] for code in spheres.code], np.float64) for side in (0, 1))
    scene = _scene(labels, periodic, moved)
    reach = REACH * softness
    _in_memory(_kernels().fit_spheres(*scene, softness, reach, _pointer(lowest), _pointer(highest), iterations, rate))
    return moved


def own_gains(
    labels: NDArray[np.uint8], periodic: tuple[bool, bool], spheres: Spheres
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Paint spheres, and count for each the voxels that it alone sets right minus those that it alone sets wrong.

    Returns
    -------
    tuple
        Labels (z, y, x), void where ``labels`` are void; and the counts (n).
    """
    painted, gain = np.empty(labels.shape, np.uint8), np.zeros(len(spheres), np.int64)
    _in_memory(_kernels().own_gains(*_scene(labels, periodic, spheres), _pointer(painted), _pointer(gain)))
    return painted, gain


def _scene(labels: NDArray[np.uint8], periodic: tuple[bool, bool], spheres: Spheres) -> tuple:
    if not labels.flags.c_contiguous or labels.dtype != np.uint8:
        raise ValueError("a kernel was given labels that are not contiguous uint8")
    if not np.isin(spheres.code, (CBD, AM)).all():
        raise ValueError("a sphere is neither CBD nor AM")
    arrays = (_pointer(array) for array in (spheres.centre, spheres.radius, spheres.code))
    return (_pointer(labels), *labels.shape, periodic[1], periodic[0], len(spheres), *arrays)


def _in_memory(answer: float) -> float:
    if answer < 0:
        raise MemoryError("no memory for the fit of spheres")
    return answer


@cache
def _kernels() -> ctypes.CDLL:
    found = library("calandria.recovery._recovery")
    pointer, long, number, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_double
    scene: list[Any] = [pointer, long, long, long, number, number, long, pointer, pointer, pointer]
    found.rendering_error.restype, found.rendering_error.argtypes = real, [*scene, real, real, pointer]
    found.fit_spheres.restype, found.fit_spheres.argtypes = real, [*scene, real, real, pointer, pointer, long, real]
    found.own_gains.restype, found.own_gains.argtypes = number, [*scene, pointer, pointer]
    return found


def _pointer(array: NDArray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
