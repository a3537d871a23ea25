"""A direct solution of small volumes in which conjugate gradients stall: long, narrow ones whose phases differ a million times."""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..base.optional import OptionalModule
from .blocks import Blocks, Extents
from .multigrid import Conductances

if TYPE_CHECKING:
    from scipy import sparse
else:
    sparse = OptionalModule("scipy.sparse", "the direct solution of a small volume in which the iteration stalls")

MOST_WORK = 3e7
"""Joined voxels times the two smaller extents, up to which a volume is small: a bound of the factor's entries."""
REFINEMENTS = 5


def is_small(n_joined: int, extents: Extents) -> bool:
    """Return whether a volume may be solved directly (at most 0.5 GB, some seconds)."""
    return n_joined * math.prod(sorted(extents)[:2]) <= MOST_WORK


def solve_directly(phases: NDArray[np.uint8], conductances: Conductances, blocks: Blocks) -> tuple[NDArray[np.float64], float]:
    """Solve a small volume by a sparse factorization in float64, refined by flows from differences of concentrations.

    Parameters
    ----------
    phases
        This rank's voxels (z along the transport, y, x): 0 where nothing flows, or the number of a conducting phase from 1, joined to
        both ends.
    conductances
        Between phases.
    blocks
        How the volume is cut, axes in the same order; every rank gathers and solves the whole volume.

    Returns
    -------
    tuple
        Concentrations of this rank's voxels, 0 where nothing flows, and their error: energy of what is left of the residual, over
        the dissipated energy.

    Raises
    ------
    RuntimeError
        The factorization met a pivot of zero.
    """
    whole = np.zeros(blocks.extents, np.uint8)
    for start, part in blocks.gathered((blocks.start, np.ascontiguousarray(phases))):
        whole[tuple(slice(first, first + n) for first, n in zip(start, part.shape, strict=True))] = part
    table, pairs = conductances.table.astype(np.float64), conductances.pairs
    joined = whole > 0
    number = np.cumsum(joined).reshape(whole.shape) - 1
    n = int(joined.sum())
    ends = []
    for axis in range(3):
        along = np.arange(whole.shape[axis])
        lower, upper = (along, np.roll(along, -1)) if blocks.wraps[axis] else (along[:-1], along[1:])
        phase = whole.take(lower, axis), whole.take(upper, axis)
        both = (phase[0] > 0) & (phase[1] > 0)
        codes = pairs[phase[0][both], phase[1][both]]
        ends.append((number.take(lower, axis)[both], number.take(upper, axis)[both], table[codes]))
    i, j, g = (np.concatenate(part) for part in zip(*ends, strict=True))
    plates = np.zeros((2, n))
    for plate, plane in enumerate((0, -1)):
        plates[plate, number[plane][joined[plane]]] = table[pairs[whole[plane][joined[plane]], conductances.plate]]

    diagonal = np.bincount(i, g, n) + np.bincount(j, g, n) + plates.sum(axis=0)
    nodes = np.arange(n)
    matrix = sparse.coo_array(
        (np.concatenate([-g, -g, diagonal]), (np.concatenate([i, j, nodes]), np.concatenate([j, i, nodes]))), shape=(n, n)
    )
    factor = sparse.linalg.splu(
        matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    c, error = np.zeros(n), math.inf
    for _ in range(REFINEMENTS):
        flow = g * (c[j] - c[i])
        residual = np.bincount(i, flow, n) - np.bincount(j, flow, n) - plates[0] * c + plates[1] * (1 - c)
        step = factor.solve(residual)
        energy = float(np.sum(g * (c[i] - c[j]) ** 2) + np.sum(plates[0] * c**2) + np.sum(plates[1] * (1 - c) ** 2))
        before, error = error, abs(float(residual @ step)) / energy
        if not error < 0.1 * before:
            break
        c += step
    concentrations = np.zeros(whole.shape)
    concentrations[joined] = c
    here = tuple(slice(start, stop) for start, stop in zip(blocks.start, blocks.stop, strict=True))
    return concentrations[here], error
