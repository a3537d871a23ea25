"""Interfaces between phases: faces of voxels between unlike labels, the unit of the calendering paper (doi 10.1002/aenm.202400376)."""

import numpy as np
from numpy.typing import NDArray

from ..base.phases import AM, CBD, PORE

INTERFACES = {"pore_cbd": (PORE, CBD), "pore_am": (PORE, AM), "am_cbd": (AM, CBD)}


def count_interfaces(labels: NDArray[np.uint8], periodic: tuple[bool, bool, bool]) -> dict[str, int]:
    """Count voxel faces between each pair of unlike phases.

    Parameters
    ----------
    labels
        Phase codes (z, y, x); faces of void count for nothing.
    periodic
        Whether the sides (z, y, x) wrap; the face across a wrap counts once. An extent of 1 has no faces with itself.

    Returns
    -------
    dict
        Faces of ``pore_cbd``, ``pore_am``, ``am_cbd``.

    >>> count_interfaces(np.array([[[0, 2, 1]]], np.uint8), (False, False, True))
    {'pore_cbd': 1, 'pore_am': 1, 'am_cbd': 1}
    """
    pairs = np.zeros(64, np.int64)
    codes = labels.astype(np.uint8)
    for axis in range(3):
        along = np.moveaxis(codes, axis, 0)
        pairs += np.bincount((along[:-1] * 8 + along[1:]).ravel(), minlength=64)
        if periodic[axis] and along.shape[0] > 1:
            pairs += np.bincount((along[-1] * 8 + along[0]).ravel(), minlength=64)
    table = pairs.reshape(8, 8)
    return {name: int(table[a, b] + table[b, a]) for name, (a, b) in INTERFACES.items()}
