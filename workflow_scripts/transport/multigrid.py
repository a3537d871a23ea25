"""The linear system of one volume: face conductances on the finest level, aggregates below, and their symmetric cycle."""

import ctypes

import numpy as np
from numpy.typing import NDArray

from .kernels import Grid, kernels
from .ranks import Slab

STRONG = 0.1


class System:
    """Conductances of a slab and the multigrid cycle that approximates the inverse of their operator.

    Vectors are float32 arrays (z, y, x) with one ghost layer; ghosts at the end plates stay 0, because the system is
    solved for corrections.

    Parameters
    ----------
    diffusivity
        Of this rank's voxels (z, y, x), at most 1; 0 where nothing conducts or nothing is joined to both ends.
    slab
        This rank's slab.
    axis
        Direction of transport, 0 to 2.
    """

    def __init__(self, diffusivity: NDArray[np.float32], slab: Slab, axis: int) -> None:
        self.slab, self.axis, self.extent = slab, axis, diffusivity.shape
        self.padded_shape = tuple(n + 2 for n in diffusivity.shape)
        self.inner = (slice(1, -1),) * 3
        self.has_low = axis != 0 or slab.rank == 0
        self.has_high = axis != 0 or slab.rank == slab.size - 1
        padded = self.vector()
        padded[self.inner] = diffusivity
        slab.exchange(padded)
        self.faces = [self.vector() for _ in range(3)]
        self.node = np.full(self.padded_shape, -1, np.int32)
        self.grid = Grid(
            (ctypes.c_int64 * 3)(*self.extent),
            (ctypes.c_int64 * 3)(*(stride // 4 for stride in padded.strides)),
            (ctypes.c_void_p * 3)(*(face.ctypes.data for face in self.faces)),
            self.node.ctypes.data,
        )
        self.tree = None
        kernels().build_faces(self.grid, padded, axis, self.has_low, self.has_high)
        self._build_tree(padded)

    def __del__(self) -> None:
        if getattr(self, "tree", None):
            kernels().hierarchy_free(self.tree)
            self.tree = None

    def vector(self, dtype: type = np.float32) -> NDArray:
        """Return a padded array of zeros."""
        return np.zeros(self.padded_shape, dtype)

    def _build_tree(self, scratch: NDArray[np.float32]) -> None:
        library, slab = kernels(), self.slab
        library.find_strongest(self.grid, scratch)
        counts = np.zeros(2, np.int32)
        library.number_aggregates(self.grid, scratch, STRONG, None, counts)
        rows = int(counts[1])
        block = np.empty((rows + 1, 3), np.uint16)
        library.number_aggregates(self.grid, scratch, STRONG, block, counts)
        block = block[:rows]
        offset = sum(slab.gathered(rows)[: slab.rank])
        inner = self.node[self.inner]
        solid = inner < 0
        inner[...] += offset
        slab.exchange(self.node)
        ends = np.array([self.has_low, self.has_high], np.uint8)
        start = np.zeros(rows + 1, np.int32)
        library.connect_aggregates(self.grid, self.axis, offset, rows, block, start, None, None, None, None, ends)
        column, g = np.empty(start[-1], np.int32), np.empty(start[-1], np.float32)
        end, inside = np.zeros(rows, np.float32), np.zeros((rows, 3), np.float32)
        library.connect_aggregates(self.grid, self.axis, offset, rows, block, start, column, g, end, inside, ends)
        if slab.size > 1:
            place, (start, column, g, end, inside, block) = self._gather(start, column, g, end, inside, block)
            inner[~solid] = place[inner[~solid]]
        self.n_coarse = len(end)
        inner[solid] = self.n_coarse
        grid = np.array([(n + 1) // 2 for n in (self.slices, *self.extent[1:])], np.int32)
        self.tree = library.hierarchy_build(self.n_coarse, grid, self.axis, start, column, g, end, inside, block, STRONG)
        if not self.tree:
            raise MemoryError("no room for the coarse levels")
        self.coarse_b, self.coarse_x = np.zeros(self.n_coarse + 1, np.float32), np.zeros(self.n_coarse + 1, np.float32)

    @property
    def slices(self) -> int:
        """Number of slices along z of the whole volume."""
        return int(self.slab.total(self.extent[0])[0])

    def _gather(self, start, column, g, end, inside, block) -> tuple[NDArray[np.int32], tuple[NDArray, ...]]:
        """Bring all ranks' rows to every rank, in the order that one rank alone would give them.

        Returns the place of each global number and the arrays of the first coarse level.
        """
        block = block + np.array([self.slab.start // 2, 0, 0], np.uint16)
        parts = self.slab.gathered((np.diff(start), column, g, end, inside, block))
        lengths, column, g, end, inside, block = (np.concatenate([part[k] for part in parts]) for k in range(6))
        colour = block.sum(axis=1, dtype=np.int64) & 1
        order = np.lexsort((block[:, 2], block[:, 1], block[:, 0], colour))
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        begin = np.concatenate([[0], np.cumsum(lengths)])
        start = np.concatenate([[0], np.cumsum(lengths[order])]).astype(np.int32)
        entry = np.arange(start[-1]) - np.repeat(start[:-1], lengths[order]) + np.repeat(begin[:-1][order], lengths[order])
        ordered = (place[column[entry]], g[entry], end[order], inside[order], block[order])
        return place, (start, *(np.ascontiguousarray(part) for part in ordered))

    def sizes(self) -> list[tuple[int, int]]:
        """Return nodes and entries of each coarse level."""
        sizes = np.zeros((64, 2), np.int32)
        count = kernels().hierarchy_sizes(self.tree, sizes)
        return [(int(n), int(entries)) for n, entries in sizes[:count]]

    def precondition(self, b: NDArray[np.float32], x: NDArray[np.float32]) -> None:
        """Set x to one symmetric cycle on b: red, black, coarse correction, black, red; its ghosts are filled."""
        library, grid, exchange = kernels(), self.grid, self.slab.exchange
        library.sweep(grid, x, b, 0, 1)
        exchange(x)
        library.sweep(grid, x, b, 1, 0)
        exchange(x)
        self.coarse_b[...] = 0
        library.restrict_residual(grid, x, b, self.coarse_b)
        self.slab.total_in_place(self.coarse_b)
        library.hierarchy_cycle(self.tree, self.coarse_b, self.coarse_x)
        library.prolong(grid, x, self.coarse_x)
        exchange(x)
        library.sweep(grid, x, b, 1, 0)
        exchange(x)
        library.sweep(grid, x, b, 0, 0)
        exchange(x)
