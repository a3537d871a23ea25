"""The linear system of one volume: face conductances on the finest level, aggregates below, and their symmetric cycle."""

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from .blocks import Blocks
from .kernels import LevelArrays, address, extents, kernels, view
from .memory import no_room

STRONG = 0.08
"""Coupling, relative to the best of either node, from which voxels or nodes may share an aggregate."""
SHRUNK = 0.6
"""As in _hierarchy.h, where its meaning is told."""
LEAST_ACROSS = 0.01
"""Coupling, relative to the best of either node, below which ranks do not pair their own nodes while stronger pairs lie across ranks."""
MOST_WHOLE = 2_000_000
"""Nodes of a coarse level above which no rank holds all of it if that can be avoided."""
SPARSE = 100
"""Nodes of all ranks, relative to those of the halo, beyond which the halo is sorted instead of looked up in a table of all."""
FEW = 2000
"""Nodes of a coarse level below which every rank holds all of it."""


class Conductances:
    """The distinct conductances between phases, as codes.

    Parameters
    ----------
    diffusivities
        Of the conducting phases 1, 2, ..., at most 1 each. Phase 0 conducts nothing, and the last phase stands for the end plates.
    """

    def __init__(self, diffusivities: NDArray[np.float64]) -> None:
        d = np.concatenate([[0.0], diffusivities, [0.0]])
        product = d[:, None] * d[None, :]
        pairs = np.where(product > 0, 2 * product / np.where(product > 0, d[:, None] + d[None, :], 1), 0)
        pairs[-1, :] = pairs[:, -1] = 2 * d
        self.table, codes = np.unique(np.append(pairs.ravel(), 0.0).astype(np.float32), return_inverse=True)
        self.pairs = np.ascontiguousarray(codes[:-1].reshape(pairs.shape), np.uint16)
        self.plate = len(d) - 1


class System:
    """Conductances of a block and the multigrid cycle that approximates the inverse of their operator.

    Voxels are even or odd as z + y + x is, and faces join voxels of different colours. Even concentrations follow
    from the odd ones, so that conjugate gradients move the odd ones only. Vectors hold one colour (_grid.h).

    Parameters
    ----------
    phases
        This rank's voxels (z along the transport, y, x): 0, or the number of a conducting phase from 1.
    conductances
        Between phases.
    blocks
        How the volume is cut, axes in the same order; extents with periodic sides are even.
    """

    def __init__(self, phases: NDArray[np.uint8], conductances: Conductances, blocks: Blocks) -> None:
        self.blocks, self.shape, library = blocks, phases.shape, kernels()
        self.has_low, self.has_high = blocks.place[0] == 0, blocks.place[0] == blocks.counts[0] - 1
        padded = np.zeros([n + 2 for n in phases.shape], np.uint8)
        padded[1:-1, 1:-1, 1:-1] = phases
        if self.has_low:
            padded[0] = conductances.plate
        if self.has_high:
            padded[-1] = conductances.plate
        for axis in (1, 2):
            if blocks.wraps_alone(axis):
                turned = np.moveaxis(padded, axis, 0)
                turned[0], turned[-1] = turned[-2], turned[1]
        blocks.exchange(padded, phases.shape[2])
        self.grid = library.fine_build(
            extents(phases.shape),
            self.has_low,
            self.has_high,
            address(padded),
            address(conductances.pairs),
            len(conductances.pairs),
            address(conductances.table),
            len(conductances.table),
        )
        if not self.grid:
            raise no_room("finest level", blocks)
        del padded
        layout = np.empty(4, np.int64)
        library.fine_layout(self.grid, address(layout))
        self.half, self.row, _, self.entries = map(int, layout)
        self.z = np.zeros(2 * self.entries, np.float32)
        self.z_even, self.z_odd = self.z[: self.entries], self.z[self.entries :]
        self._alone = (blocks.wraps_alone(1), blocks.wraps_alone(2))
        self._build_coarse()
        self.z[...] = 0

    def __del__(self) -> None:
        if getattr(self, "grid", None):
            kernels().fine_free(self.grid)
            self.grid = None

    def vector(self, kind: type = np.float32) -> NDArray:
        """Return zeros for one colour."""
        return np.zeros(self.entries, kind)

    def boxed(self, vector: NDArray) -> NDArray:
        """Return a vector of one colour as an array (z, y, entry of a row), with ghosts; own entries are 1 to half."""
        nz, ny, _ = self.shape
        return vector[7 : 7 + (nz + 2) * (ny + 2) * self.row].reshape(nz + 2, ny + 2, self.row)

    def matching(self, vector: NDArray, colour: int, whole: NDArray) -> Iterator[tuple[NDArray, NDArray]]:
        """Pair the entries of a vector of one colour, ghosts included, with their places in a padded array (z, y, x), as views."""
        boxed = self.boxed(vector)
        for z in (0, 1):
            for y in (0, 1):
                first = (z + y + colour + 1) % 2  # the first padded column of this colour in rows of these parities
                place = whole[z::2, y::2, first::2]
                # entry -1 of a row stands at column 0 or -1, entry 0 at 2 or 1
                yield boxed[z::2, y::2, first:][..., : place.shape[2]], place

    def clear_ghosts(self) -> None:
        """Set the ghosts of z to 0; its own entries are all written by the cycle."""
        for part in (self.z_even, self.z_odd):
            boxed = self.boxed(part)
            for axis in range(3):
                ends = np.moveaxis(boxed, axis, 0)
                ends[0] = ends[-1] = 0
            if self.row > self.half + 2:
                boxed[:, :, self.half + 1 :] = 0

    def exchange(self, vector: NDArray) -> None:
        """Fill the ghosts of a vector across periodic sides and from other ranks; those at the end plates stay."""
        if any(self._alone):
            kernels().wrap_sides(self.grid, vector.ctypes.data, vector.itemsize, *self._alone)
        if self.blocks.size > 1:
            self.blocks.exchange(self.boxed(vector), self.half)

    def _build_coarse(self) -> None:
        library, blocks = kernels(), self.blocks
        home = np.array([start // 2 for start in blocks.start], np.int32)
        n = library.fine_number(self.grid, address(self.z_even), address(self.z_odd), address(home), STRONG)
        ids = [part.view(np.int32) for part in (self.z_even, self.z_odd)]
        halo = np.empty(0, np.int64)
        for part in ids:
            self.exchange(part)
        if blocks.size > 1:
            offsets = np.concatenate([[0], np.cumsum(blocks.gathered(n))])
            ghosts = [
                (_ghosts(self.boxed(part), axis, up, self.half), offsets[other])
                for part in ids
                for axis, up, other in blocks.sides
            ]
            halo, number = _numbered([ghost[ghost >= 0] + offset for ghost, offset in ghosts], int(offsets[-1]))
            for ghost, offset in ghosts:
                ghost[...] = np.where(ghost >= 0, n + number(ghost + offset), -1)
        level = library.fine_connect(self.grid, *(address(part) for part in ids), address(home), halo.size)
        if not level:
            raise no_room("coarse levels", blocks)
        self.coarse = Coarse(level, halo, blocks)

    def precondition(self, r: NDArray[np.float32]) -> float:
        """Set z to one symmetric cycle on r; z_odd holds r over the diagonal before. Return r . z."""
        library, grid = kernels(), self.grid
        even, odd = self.z_even.ctypes.data, self.z_odd.ctypes.data
        self.exchange(self.z_odd)
        self.coarse.b[...] = 0
        library.restrict_even(grid, odd, self.coarse.b.ctypes.data)
        self.coarse.cycle()
        library.prolong_even(grid, self.coarse.x.ctypes.data, even)
        self.exchange(self.z_even)
        product = library.relax_odd(grid, r.ctypes.data, even, odd)
        self.exchange(self.z_odd)
        library.relax_even(grid, odd, even)
        self.exchange(self.z_even)
        return self.blocks.total(product)[0]


def _ghosts(boxed: NDArray, axis: int, up: bool, last: int) -> NDArray:
    """Return the ghost layer beyond a side, without its rim."""
    if axis == 0:
        return boxed[-1 if up else 0, 1:-1, 1 : last + 1]
    if axis == 1:
        return boxed[1:-1, -1 if up else 0, 1 : last + 1]
    return boxed[1:-1, 1:-1, last + 1 if up else 0]


def _numbered(ids: list[NDArray[np.int64]], total: int) -> tuple[NDArray[np.int64], Callable[[NDArray], NDArray]]:
    """Return the distinct ones among ids below ``total``, in order, and what tells the place of each among them."""
    if total > SPARSE * sum(some.size for some in ids):
        distinct = np.unique(np.concatenate([np.empty(0, np.int64), *ids]))
        return distinct, lambda some: np.searchsorted(distinct, some)
    present = np.zeros(total, bool)
    for some in ids:
        present[some] = True
    distinct = np.flatnonzero(present)
    table = np.empty(total + 1, np.int32)  # and one more, for the number -1
    table[distinct] = np.arange(distinct.size)
    return distinct, table.__getitem__


@dataclass
class _Halo:
    """Values of other ranks' nodes that this rank's nodes touch; they stand behind its own."""

    communicator: object
    n: int
    sends: list[tuple[int, NDArray[np.int64]]]
    receives: list[tuple[int, int, int]]

    @classmethod
    def of(cls, ids: NDArray[np.int64], n: int, blocks: Blocks) -> "_Halo":
        """Agree with all ranks on what is sent; ids are global numbers, in order."""
        counts = blocks.gathered(n)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        bounds = np.searchsorted(ids, offsets)
        wanted = [ids[bounds[k] : bounds[k + 1]] - offsets[k] for k in range(blocks.size)]
        asked = blocks.communicator.alltoall(wanted)
        return cls(
            blocks.communicator,
            n,
            [(k, numbers) for k, numbers in enumerate(asked) if numbers.size],
            [(k, int(bounds[k]), int(bounds[k + 1])) for k in range(blocks.size) if bounds[k + 1] > bounds[k]],
        )

    def fill(self, values: NDArray) -> None:
        """Bring the rows of other ranks' nodes."""
        communicator = self.communicator
        requests = [communicator.Irecv(values[self.n + a : self.n + b], source=k, tag=7) for k, a, b in self.receives]  # type: ignore[attr-defined]
        sent = [np.ascontiguousarray(values[numbers]) for _, numbers in self.sends]
        requests += [communicator.Isend(part, dest=k, tag=7) for (k, _), part in zip(self.sends, sent, strict=True)]  # type: ignore[attr-defined]
        for request in requests:
            request.Wait()

    def kept_for(self, values: NDArray) -> "_KeptExchange":
        """Return an exchange of one array, for which all is made ready once."""
        return _KeptExchange(self, values)


class _KeptExchange:
    """What :meth:`_Halo.fill` does, for one array again and again."""

    def __init__(self, halo: _Halo, values: NDArray) -> None:
        from mpi4py import MPI

        communicator: Any = halo.communicator
        self._values, self._start, self._wait = values, MPI.Prequest.Startall, MPI.Request.Waitall
        self._sent = [(numbers, np.empty(numbers.size, values.dtype)) for _, numbers in halo.sends]
        self._requests = [communicator.Recv_init(values[halo.n + a : halo.n + b], source=k, tag=7) for k, a, b in halo.receives]
        self._requests += [
            communicator.Send_init(part, dest=k, tag=7) for (k, _), (_, part) in zip(halo.sends, self._sent, strict=True)
        ]

    def fill(self) -> None:
        """Bring the values of other ranks' nodes."""
        for numbers, part in self._sent:
            self._values.take(numbers, out=part, mode="clip")
        self._start(self._requests)
        self._wait(self._requests)

    def free(self) -> None:
        """Give the requests back."""
        for request in self._requests:
            request.Free()
        self._requests = []


class Coarse:
    """The levels of aggregates. One rank hands them to the kernels; several share the largest ones and each hold all of the rest."""

    def __init__(self, first: "ctypes._Pointer[LevelArrays]", halo: NDArray[np.int64], blocks: Blocks) -> None:
        self.blocks, self.tree = blocks, None
        self.shared: list[_Shared] = []
        if blocks.size > 1:
            first = self._share(first, halo)
        self.tree = kernels().hierarchy_build(first, STRONG)
        if not self.tree:
            raise no_room("coarse levels", blocks)
        n = self.sizes()[0][0]
        self.whole_b = view(kernels().hierarchy_b(self.tree), (n + 1,), np.float32)
        self.whole_x = view(kernels().hierarchy_x(self.tree), (n + 1,), np.float32)
        if self.shared:
            self.b, self.x = self.shared[0].b, self.shared[0].x
        elif blocks.size > 1:
            self.b, self.x = np.zeros(self.own.size + 1, np.float32), np.zeros(self.own.size + halo.size + 1, np.float32)
        else:
            self.b, self.x = self.whole_b, self.whole_x

    def __del__(self) -> None:
        if getattr(self, "tree", None):
            kernels().hierarchy_free(self.tree)
            self.tree = None

    def sizes(self) -> list[tuple[int, int]]:
        """Return nodes and entries of each level that one rank holds whole."""
        sizes = np.zeros((64, 2), np.int32)
        count = kernels().hierarchy_sizes(self.tree, address(sizes))
        return [(int(n), int(entries)) for n, entries in sizes[:count]]

    def cycle(self) -> None:
        """Set x to one cycle on b, of this rank's nodes of the first level; x has its halo and one more behind."""
        if self.shared:
            self._cycle(0, True)
        elif self.blocks.size > 1:
            self._whole(self.b, self.x, 1)
        else:
            kernels().hierarchy_cycle(self.tree, 1)

    def _whole(self, b: NDArray[np.float32], x: NDArray[np.float32], times: int) -> None:
        n = self.own.size
        self.whole_b[...] = 0
        self.whole_b[self.own] = b[:n]
        self.blocks.total_in_place(self.whole_b)
        kernels().hierarchy_cycle(self.tree, times)
        x[:n] = self.whole_x[self.own]
        x[n : n + self.others.size] = self.whole_x[self.others]

    def _cycle(self, k: int, zero: bool) -> None:
        library, level = kernels(), self.shared[k]
        for colour in (0, 1):
            library.level_sweep(level.pointer, colour, 1, zero)
            level.exchange.fill()
        level.next_b[...] = 0
        library.level_down(level.pointer, level.parent.ctypes.data, level.next_b.ctypes.data, zero)
        if k + 1 == len(self.shared):
            self._whole(level.next_b, level.next_x, 1 + level.twice)
        else:
            following = self.shared[k + 1]
            following.b[: following.n] = level.next_b[: following.n]
            self._cycle(k + 1, True)
            if level.twice:
                self._cycle(k + 1, False)
            level.next_x = following.x
        library.level_up(level.pointer, level.parent.ctypes.data, level.next_x.ctypes.data)
        for colour in (1, 0):
            library.level_sweep(level.pointer, colour, 0, 0)
            level.exchange.fill()

    def _share(self, level: "ctypes._Pointer[LevelArrays]", ids: NDArray[np.int64]) -> "ctypes._Pointer[LevelArrays]":
        """Coarsen until few nodes are left; return the last level, whole."""
        blocks = self.blocks
        halo = _ready(level, ids, blocks)
        while blocks.total(level.contents.n)[0] > FEW:
            shared = _Shared(level, halo)
            made = shared.coarsened(blocks)
            if made is None:
                shared.pointer = None
                break
            self.shared.append(shared)
            level, ids, halo = made
        return self._gathered(level, ids)

    def _gathered(self, level: "ctypes._Pointer[LevelArrays]", ids: NDArray[np.int64]) -> "ctypes._Pointer[LevelArrays]":
        """Bring all ranks' rows to every rank, in the order that one rank alone would give them."""
        blocks, part = self.blocks, level.contents
        n = part.n
        start = view(part.start, (n + 1,), np.int32)
        entry = view(part.entry, (int(start[-1]) + 1,), np.dtype([("column", np.int32), ("g", np.float32)]))[:-1]
        offsets = np.concatenate([[0], np.cumsum(blocks.gathered(n))])
        column = entry["column"].astype(np.int64)
        column = np.where(column < n, column + offsets[blocks.rank], np.append(ids, 0)[np.maximum(column - n, 0)])
        end, block = view(part.end, (n + 1,), np.float32)[:n], view(part.block, (n + 1, 3), np.uint16)[:n]
        parts = blocks.gathered((np.diff(start), column, entry["g"].copy(), end.copy(), block.copy()))
        lengths, column, g, end, block = (np.concatenate([each[k] for each in parts]) for k in range(5))
        kernels().level_free(level)
        order = np.lexsort((block[:, 2], block[:, 1], block[:, 0], block.sum(axis=1, dtype=np.int64) & 1))
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        begin = np.concatenate([[0], np.cumsum(lengths)])
        start = np.concatenate([[0], np.cumsum(lengths[order])])
        rows = np.arange(start[-1]) - np.repeat(start[:-1], lengths[order]) + np.repeat(begin[:-1][order], lengths[order])
        self.total, self.own, self.others = len(order), place[offsets[blocks.rank] : offsets[blocks.rank] + n], place[ids]
        whole = kernels().level_new()
        if not whole or not kernels().level_reserve(whole, self.total, 0, int(start[-1])):
            raise no_room("coarse levels", blocks)
        made = whole.contents
        view(made.start, (self.total + 1,), np.int32)[...] = start
        entries = view(made.entry, (int(start[-1]) + 1,), np.dtype([("column", np.int32), ("g", np.float32)]))[:-1]
        entries["column"], entries["g"] = place[column[rows]], g[rows]
        view(made.end, (self.total + 1,), np.float32)[:-1] = end[order]
        view(made.block, (self.total + 1, 3), np.uint16)[:-1] = block[order]
        return whole


def _ready(level: "ctypes._Pointer[LevelArrays]", ids: NDArray[np.int64], blocks: Blocks) -> _Halo:
    """Complete a level that ranks share: blocks and inner conductances of its halo, then its own conductances."""
    arrays = level.contents
    halo = _Halo.of(ids, arrays.n, blocks)
    everything = (arrays.n + arrays.halo + 1, 3)
    halo.fill(view(arrays.inside, everything, np.float32))
    halo.fill(view(arrays.block, everything, np.uint16))
    if not kernels().level_ready(level):
        raise no_room("coarse levels", blocks)
    return halo


def _made(count: int, blocks: Blocks) -> int:
    """Return a count of nodes; kernels give -1 without memory."""
    if count < 0:
        raise no_room("coarse levels", blocks)
    return count


class _Shared:
    """A coarse level of which each rank holds a part."""

    def __init__(self, pointer: "ctypes._Pointer[LevelArrays]", halo: _Halo) -> None:
        self.pointer: ctypes._Pointer[LevelArrays] | None = pointer
        self.halo = halo
        arrays = pointer.contents
        self.n = arrays.n
        self.x = view(arrays.x, (arrays.n + arrays.halo + 1,), np.float32)
        self.b = view(arrays.b, (arrays.n + 1,), np.float32)
        self.exchange = halo.kept_for(self.x)
        self.start = view(arrays.start, (arrays.n + 1,), np.int32)

    def __del__(self) -> None:
        self.exchange.free()
        if self.pointer:
            kernels().level_free(self.pointer)

    def coarsened(self, blocks: Blocks) -> "tuple[ctypes._Pointer[LevelArrays], NDArray[np.int64], _Halo] | None":
        """Make the next level, with the numbers of its halo; None when every rank had better hold it whole."""
        library, arrays, n = kernels(), cast("ctypes._Pointer[LevelArrays]", self.pointer).contents, self.n
        self.parent = np.empty(n + arrays.halo + 1, np.int32)
        block = np.empty((n + 1, 3), np.uint16)
        nodes = blocks.total(n)[0]
        count = _made(library.level_parts(self.pointer, STRONG, address(self.parent), address(block)), blocks)
        total = blocks.total(count)[0]
        self.matched, least = total > SHRUNK * nodes, 0.25
        while self.matched:  # as level_group of _hierarchy.h
            count = _made(library.level_pairs(self.pointer, least, address(self.parent), address(block)), blocks)
            total = blocks.total(count)[0]
            if total <= 0.9 * nodes or least == 0:
                break
            least = 0.2 * least if least > 1e-9 else 0.0
            if least < LEAST_ACROSS and nodes <= MOST_WHOLE:
                return None
        if total >= nodes:
            return None
        offset = sum(blocks.gathered(count)[: blocks.rank])
        numbers = np.zeros(n + arrays.halo, np.int64)
        numbers[:n] = self.parent[:n] + offset
        self.halo.fill(numbers)
        ids, number = _numbered([numbers[n:]], int(total))
        self.parent[n : n + arrays.halo] = count + number(numbers[n:])
        coarse = library.level_new()
        if not coarse or not library.level_join(self.pointer, address(self.parent), address(block), count, ids.size, coarse):
            library.level_free(coarse)
            raise no_room("coarse levels", blocks)
        sizes = blocks.total(int(self.start[-1]) + n, int(view(coarse.contents.start, (count + 1,), np.int32)[-1]) + count)
        self.twice = sizes[1] < SHRUNK * sizes[0]
        if self.matched or not self.twice:
            view(coarse.contents.inside, (count + ids.size + 1, 3), np.float32)[...] = 0
        halo = _ready(coarse, ids, blocks)
        self.next_b, self.next_x = np.zeros(count + 1, np.float32), np.zeros(count + ids.size + 1, np.float32)
        return coarse, ids, halo
