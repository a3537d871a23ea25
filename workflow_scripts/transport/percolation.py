"""Which voxels can carry flux: those that conducting faces join to both ends."""

import numpy as np
from numpy.typing import NDArray

from ..common.errors import ContractError
from .kernels import kernels
from .ranks import Slab


def keep_connected(conducts: NDArray[np.uint8], slab: Slab, axis: int) -> int:
    """Clear every conducting voxel that is not joined through faces to both ends along ``axis``; return how many stay (all ranks).

    Parameters
    ----------
    conducts
        1 where this rank's voxels (z, y, x) conduct; changed in place.
    slab
        This rank's slab; its ``wraps`` are the periodic sides.
    axis
        Direction of transport, 0 to 2; its ends never wrap.
    """
    if conducts.size >= 2**31:
        raise ContractError(
            f"a part of {conducts.size} voxels is too large for one rank; expected fewer than 2147483648",
            hint="start the solver on more ranks",
        )
    wraps = np.array(slab.wraps, np.uint8)
    wraps[0] &= slab.communicator is None
    root = np.empty(conducts.shape, np.int32)
    kernels().label_components(conducts, np.array(conducts.shape, np.int64), wraps, root)

    sizes = slab.gathered(conducts.size)
    offset = sum(sizes[: slab.rank])

    def roots(plane: NDArray[np.int32]) -> NDArray[np.int64]:
        found = np.unique(plane)
        return found[found >= 0].astype(np.int64) + offset

    along = np.moveaxis(root, axis, 0)
    nothing = np.empty(0, np.int64)
    low = roots(along[0]) if axis != 0 or slab.rank == 0 else nothing
    high = roots(along[-1]) if axis != 0 or slab.rank == slab.size - 1 else nothing
    alone = slab.communicator is None
    kept = np.intersect1d(low, high) if alone else _kept_of_all(root, offset, low, high, slab)
    mask = np.zeros(conducts.size, np.uint8)
    mask[kept[(kept >= offset) & (kept < offset + conducts.size)] - offset] = 1
    return int(slab.total(kernels().keep_components(conducts, root, mask, conducts.size))[0])


def _kept_of_all(root: NDArray[np.int32], offset: int, low: NDArray, high: NDArray, slab: Slab) -> NDArray[np.int64]:
    """Join the ranks' components across the faces between slabs; return the roots joined to both ends."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    def shifted(plane: NDArray[np.int32]) -> NDArray[np.int64]:
        return np.where(plane >= 0, plane.astype(np.int64) + offset, -1)

    below, mine = slab.from_below(shifted(root[-1])), shifted(root[0])
    pairs = np.empty((0, 2), np.int64)
    if below is not None:
        both = (below >= 0) & (mine >= 0)
        pairs = np.unique(np.stack([below[both], mine[both]], axis=1), axis=0)
    parts = slab.gathered((pairs, low, high))
    pairs, low, high = (np.concatenate([part[k] for part in parts]) for k in range(3))
    nodes, place = np.unique(np.concatenate([pairs.ravel(), low, high]), return_inverse=True)
    if not nodes.size:
        return nodes
    a, b = place[: pairs.size].reshape(-1, 2).T
    graph = coo_array((np.ones(a.size, np.uint8), (a, b)), shape=(nodes.size, nodes.size))
    component = connected_components(graph, directed=False)[1]
    ends = np.zeros((2, nodes.size), bool)
    ends[0, component[place[pairs.size : pairs.size + low.size]]] = True
    ends[1, component[place[pairs.size + low.size :]]] = True
    return nodes[(ends[0] & ends[1])[component]]
