"""First guesses of spheres in a labelled grid, and neighbours among spheres; in voxels."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.spatial import cKDTree

from ..base.phases import AM, CBD, ELECTRODE, VOID
from .rendering import Spheres

LONELY = 6
"""A voxel with fewer of its 26 neighbours in its own phase is taken for an error of the segmentation, if most are of another phase."""


def without_specks(labels: NDArray[np.uint8], periodic: tuple[bool, bool]) -> NDArray[np.uint8]:
    """Return labels in which lonely voxels have the phase of most of their neighbours; void stays void."""
    modes = _modes(periodic, "nearest")
    around = np.ones((3, 3, 3), np.uint8)
    around[1, 1, 1] = 0
    counts = {code: _box_counts(labels == code, modes) for code in ELECTRODE}
    own = np.zeros(labels.shape, np.int8)
    for code, count in counts.items():
        own = np.where(labels == code, count, own)
    cleaned = labels.copy()
    for code, count in counts.items():
        cleaned[(own < LONELY) & (count > 13) & (labels != VOID) & (labels != code)] = code
    return cleaned


def seeds_of_am(am: NDArray[np.bool_], periodic: tuple[bool, bool], radii: tuple[float, float]) -> Spheres:
    """Return spheres at the maxima of the smoothed distance to the border of the active material, none deep inside a larger one.

    Parameters
    ----------
    am
        (z, y, x) mask.
    periodic
        Whether x and y wrap around.
    radii
        Smallest and largest radius, voxels.
    """
    if not am.any():
        return _spheres(np.zeros((0, 3)), 0.0, AM)
    pad = math.ceil(radii[1]) + 3
    depth = ndimage.distance_transform_edt(_padded(am, periodic, pad))
    depth = _cropped(ndimage.gaussian_filter(depth, 0.7), pad)
    highest = ndimage.maximum_filter(depth, size=5, mode=_modes(periodic, "nearest"))
    found = np.argwhere((depth == highest) & (depth > 0.7 * radii[0])).astype(np.float64)
    value = depth[tuple(found.astype(np.int64).T)]
    order = np.argsort(-value, kind="stable")
    found, value = found[order], value[order]
    box = period(am.shape, periodic)
    kept: list[int] = []
    for candidate in range(value.size):
        distance = np.linalg.norm(shortest(found[kept] - found[candidate], box), axis=1)
        if (distance >= 0.62 * value[kept]).all():
            kept.append(candidate)
    return _spheres(found[kept], np.clip(value[kept], *radii), AM)


def seeds_of_cbd(
    cbd: NDArray[np.bool_],
    am: NDArray[np.bool_],
    periodic: tuple[bool, bool],
    radius: float,
    spacing: float,
    threshold: float,
) -> Spheres:
    """Return spheres where a ball of ``radius`` fits best: CBD inside counts 1, active material 0.25, pore -1, CBD in the shell around it -0.15.

    Parameters
    ----------
    cbd, am
        (z, y, x) masks; the rest is pore.
    periodic
        Whether x and y wrap around.
    radius
        Of the ball, voxels.
    spacing
        Smallest distance between two of the spheres, voxels.
    threshold
        Smallest mean over the ball.
    """
    if not cbd.any():
        return _spheres(np.zeros((0, 3)), radius, CBD)
    pad = math.ceil(radius) + 2
    sizes = tuple(size + 2 * pad if not wraps else size for size, wraps in zip(cbd.shape, (False, *periodic[::-1])))
    inside = np.full(sizes, -1.0, np.float32)
    body = tuple(slice(0, size) for size in cbd.shape)
    inside[body] = np.where(cbd, 1.0, np.where(am, 0.25, -1.0))
    around = np.zeros(sizes, np.float32)
    around[body] = cbd
    steps = [np.minimum(np.arange(size), size - np.arange(size)).astype(np.float32) for size in sizes]
    distance = np.sqrt(steps[0][:, None, None] ** 2 + steps[1][:, None] ** 2 + steps[2] ** 2)
    ball = np.clip(radius + 0.5 - distance, 0, 1)
    shell = np.clip(radius + 1.5 - distance, 0, 1) - ball
    transformed = fft.rfftn(inside) * fft.rfftn(ball) - 0.15 * fft.rfftn(around) * fft.rfftn(shell)
    response = (fft.irfftn(transformed, s=sizes) / ball.sum())[body]
    modes = _modes(periodic, "nearest")
    near = ndimage.maximum_filter(cbd, size=3, mode=modes)
    highest = ndimage.maximum_filter(response, size=3, mode=modes)
    found = np.argwhere((response == highest) & (response > threshold) & near).astype(np.float64)
    value = response[tuple(found.astype(np.int64).T)]
    found = found[np.argsort(-value, kind="stable")]
    kept = np.ones(len(found), bool)
    for first, second in close_pairs(found, spacing, period(cbd.shape, periodic)):
        if kept[first] and kept[second]:
            kept[second] = False
    return _spheres(found[kept], radius, CBD)


def blobs_of_am(missing: NDArray[np.bool_], smallest: int, radius: float) -> Spheres:
    """Return a sphere in each connected part of a mask that has more than ``smallest`` voxels."""
    parts, count = ndimage.label(missing)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    large = np.flatnonzero(sizes > smallest) + 1
    centres = np.array(ndimage.center_of_mass(missing, parts, large), np.float64).reshape(-1, 3)
    return _spheres(centres, radius, AM)


def period(shape: tuple[int, ...], periodic: tuple[bool, bool]) -> NDArray[np.float64]:
    """Return the periods along z, y, x in voxels, 0 where there is none."""
    return np.array([0, shape[1] * periodic[1], shape[2] * periodic[0]], np.float64)


def shortest(difference: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return differences (n, 3) between nearest periodic images; ``box`` from :func:`period`."""
    return difference - box * np.round(difference / np.where(box > 0, box, np.inf))


def wrapped(centre: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return centres (n, 3) within [0, period) along the periodic axes."""
    inside = np.where(box > 0, np.mod(centre, np.where(box > 0, box, 1.0)), centre)
    return np.where((box > 0) & (inside >= box), 0.0, inside)


def tree(centre: NDArray[np.float64], box: NDArray[np.float64]) -> cKDTree:
    """Return a search tree over periodic centres (n, 3)."""
    return cKDTree(wrapped(centre, box), boxsize=box)


def close_pairs(centre: NDArray[np.float64], distance: float, box: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the pairs (m, 2) of centres nearer than ``distance``, sorted, the lower index first."""
    if len(centre) < 2:
        return np.zeros((0, 2), np.int64)
    pairs = tree(centre, box).query_pairs(distance, output_type="ndarray")
    return pairs[np.lexsort(pairs.T[::-1])]


def _spheres(centre: NDArray[np.float64], radius: float | NDArray[np.float64], code: int) -> Spheres:
    return Spheres(centre, np.broadcast_to(radius, len(centre)), np.full(len(centre), code, np.uint8))


def _modes(periodic: tuple[bool, bool], walls: str) -> tuple[str, str, str]:
    return walls, "wrap" if periodic[1] else walls, "wrap" if periodic[0] else walls


def _box_counts(mask: NDArray[np.bool_], modes: tuple[str, str, str]) -> NDArray[np.int8]:
    """Return how many of the 26 neighbours are in the mask."""
    counts = mask.astype(np.int8)
    for axis, mode in enumerate(modes):
        counts = ndimage.correlate1d(counts, np.ones(3, np.int8), axis=axis, mode=mode)
    return counts - mask


def _padded(mask: NDArray[np.bool_], periodic: tuple[bool, bool], pad: int) -> NDArray[np.bool_]:
    padded = mask
    for axis, wraps in enumerate((False, *periodic[::-1])):
        widths = [(pad, pad) if axis == other else (0, 0) for other in range(3)]
        padded = np.pad(padded, widths, mode="wrap") if wraps else np.pad(padded, widths, constant_values=False)
    return padded


def _cropped(array: NDArray, pad: int) -> NDArray:
    return array[pad:-pad, pad:-pad, pad:-pad]
