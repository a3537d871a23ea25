"""Which voxels can carry flux: those that conducting faces join to both ends."""

import numpy as np
from numpy.typing import NDArray

from .blocks import Blocks
from .kernels import address, extents, kernels
from .memory import no_room


class Percolation:
    """The joined parts of a volume's conducting voxels, found once and asked for each direction.

    Parameters
    ----------
    conducts
        Above 0 where this rank's voxels (z, y, x) conduct.
    blocks
        How the volume is cut.
    """

    def __init__(self, conducts: NDArray[np.uint8], blocks: Blocks) -> None:
        self.blocks = blocks
        self.runs = kernels().percolation_find(address(conducts), extents(conducts.shape))
        if not self.runs:
            raise no_room("search for joined parts", blocks)
        self.shape = conducts.shape

    def __del__(self) -> None:
        if getattr(self, "runs", None):
            kernels().percolation_free(self.runs)

    def keep(self, conducts: NDArray[np.uint8], axis: int, wraps: tuple[bool, ...]) -> int:
        """Clear every voxel that is not joined through faces to both ends along an axis; return how many stay (all ranks).

        Parameters
        ----------
        conducts
            The array that this object was made from, or a copy; changed in place.
        axis
            Direction of transport, 0 to 2.
        wraps
            Which sides are periodic; not those of the direction.
        """
        library, blocks = kernels(), self.blocks
        library.percolation_restart(self.runs)
        for side in range(3):
            if wraps[side] and blocks.counts[side] == 1:
                library.percolation_wrap(self.runs, side)
        count = library.percolation_count(self.runs)
        counts = blocks.gathered(count)
        offset = sum(counts[: blocks.rank])
        low = self._roots(axis, False) + offset if blocks.place[axis] == 0 else np.empty(0, np.int64)
        high = self._roots(axis, True) + offset if blocks.place[axis] == blocks.counts[axis] - 1 else np.empty(0, np.int64)
        kept = np.intersect1d(low, high) if blocks.size == 1 else self._kept_of_all(wraps, offset, low, high)
        marked = np.zeros(count + 1, np.uint8)
        marked[kept[(kept >= offset) & (kept < offset + count)] - offset] = 1
        return int(blocks.total(library.percolation_keep(self.runs, address(marked), address(conducts)))[0])

    def _side(self, axis: int, up: bool) -> NDArray[np.int32]:
        root = np.empty([n for k, n in enumerate(self.shape) if k != axis], np.int32)
        kernels().percolation_side(self.runs, axis, up, address(root))
        return root

    def _roots(self, axis: int, up: bool) -> NDArray[np.int64]:
        found = np.unique(self._side(axis, up))
        return found[found >= 0].astype(np.int64)

    def _kept_of_all(self, wraps: tuple[bool, ...], offset: int, low: NDArray, high: NDArray) -> NDArray[np.int64]:
        """Join the ranks' parts across the faces between blocks; return the roots joined to both ends."""
        blocks, mine = self.blocks, {}
        for side, up, _ in blocks.sides:
            root = self._side(side, up)
            mine[side, up] = np.where(root >= 0, root.astype(np.int64) + offset, -1)
        found = [np.empty((0, 2), np.int64)]
        for (side, up), theirs in blocks.swap(mine).items():
            ours = mine[side, up]
            both = (ours >= 0) & (theirs >= 0)
            beyond = blocks.place[side] == (blocks.counts[side] - 1 if up else 0)
            if up and (wraps[side] or not beyond):
                pairs = np.stack([ours[both], theirs[both]], axis=1)
                new = np.ones(len(pairs), bool)  # neighbours along a row mostly repeat each other
                new[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
                found.append(pairs[new])
        parts = blocks.gathered((np.concatenate(found), low, high))
        pairs, low, high = (np.concatenate([part[k] for part in parts]) for k in range(3))
        nodes, place = np.unique(np.concatenate([pairs.ravel(), low, high]), return_inverse=True)
        if not nodes.size:
            return nodes
        joined, component = place[: pairs.size].astype(np.int32), np.empty(nodes.size, np.int32)
        kernels().percolation_join(nodes.size, len(pairs), address(joined), address(component))
        ends = np.zeros((2, nodes.size), bool)
        ends[0, component[place[pairs.size : pairs.size + low.size]]] = True
        ends[1, component[place[pairs.size + low.size :]]] = True
        return nodes[(ends[0] & ends[1])[component]]
