"""A volume cut into blocks, one per rank, along up to three axes, and what ranks tell each other; one rank needs no MPI."""

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Extents = tuple[int, int, int]
Sides = dict[tuple[int, bool], NDArray]


@dataclass(frozen=True)
class Blocks:
    """This rank's block [start, stop) of a volume, and its exchanges with the blocks beside it.

    Parameters
    ----------
    communicator
        An mpi4py communicator; None for one rank.
    extents
        Voxels of the whole volume along three axes.
    wraps
        Whether the sides along each axis are periodic.
    counts
        Blocks along each axis; they begin at even voxels, so that aggregates of 2 x 2 x 2 never lie on two ranks.
    """

    communicator: Any
    extents: Extents
    wraps: tuple[bool, bool, bool]
    counts: Extents = (1, 1, 1)

    @classmethod
    def of(cls, communicator: Any, extents: Extents, wraps: tuple[bool, bool, bool]) -> "Blocks":
        """Cut a volume among all ranks, with the least surface; one too small for them is held whole by each of them."""
        size = communicator.size if communicator is not None else 1
        if size == 1:
            return cls(None, extents, wraps)
        pieces = tuple(-(-n // 2) for n in extents)
        divisors = [n for n in range(1, size + 1) if size % n == 0]
        fitting = [
            (a, b, size // (a * b))
            for a, b in itertools.product(divisors, repeat=2)
            if size % (a * b) == 0 and a <= pieces[0] and b <= pieces[1] and size // (a * b) <= pieces[2]
        ]
        if not fitting:
            return cls(None, extents, wraps)
        return cls(communicator, extents, wraps, min(fitting, key=lambda counts: _cost(extents, pieces, counts)))

    @property
    def size(self) -> int:
        """Number of ranks that share the volume."""
        return self.communicator.size if self.communicator is not None else 1

    @property
    def rank(self) -> int:
        """This rank's place among them."""
        return self.communicator.rank if self.communicator is not None else 0

    @cached_property
    def place(self) -> Extents:
        """This block's place along each axis."""
        z, rest = divmod(self.rank, self.counts[1] * self.counts[2])
        return (z, *divmod(rest, self.counts[2]))

    def _bound(self, axis: int, place: int) -> int:
        pieces = -(-self.extents[axis] // 2)
        return min(2 * (pieces * place // self.counts[axis]), self.extents[axis])

    @cached_property
    def start(self) -> Extents:
        """First voxel along each axis."""
        return tuple(self._bound(axis, self.place[axis]) for axis in range(3))  # type: ignore[return-value]

    @cached_property
    def stop(self) -> Extents:
        """Voxel behind the last one along each axis."""
        return tuple(self._bound(axis, self.place[axis] + 1) for axis in range(3))  # type: ignore[return-value]

    @property
    def shape(self) -> Extents:
        """Extents of this block."""
        return tuple(stop - start for start, stop in zip(self.start, self.stop, strict=True))  # type: ignore[return-value]

    def turned(self, order: Extents, wraps: tuple[bool, ...]) -> "Blocks":
        """Return the same blocks with the axes in another order, of which fewer may wrap; ranks keep their voxels."""
        extents, wrapping, counts = (tuple(values[axis] for axis in order) for values in (self.extents, wraps, self.counts))
        return _Turned(self.communicator, extents, wrapping, counts, self, order)  # type: ignore[arg-type]

    def neighbour(self, axis: int, up: bool) -> int | None:
        """Return the rank beyond a side of this block; None where the volume ends or the block meets itself."""
        if self.counts[axis] == 1:
            return None
        place = list(self.place)
        place[axis] += 1 if up else -1
        if not 0 <= place[axis] < self.counts[axis]:
            if not self.wraps[axis]:
                return None
            place[axis] %= self.counts[axis]
        return self._rank_at(place)

    def _rank_at(self, place: list[int]) -> int:
        return (place[0] * self.counts[1] + place[1]) * self.counts[2] + place[2]

    def wraps_alone(self, axis: int) -> bool:
        """Return whether this block meets itself across periodic sides."""
        return self.wraps[axis] and self.counts[axis] == 1

    @cached_property
    def sides(self) -> tuple[tuple[int, bool, int], ...]:
        """Axis, whether it is the upper side, and the rank beyond, of each side that another block touches."""
        found = ((axis, up, self.neighbour(axis, up)) for axis in range(3) for up in (False, True))
        return tuple((axis, up, other) for axis, up, other in found if other is not None)

    def swap(self, parts: Sides, into: Sides | None = None) -> Sides:
        """Send an array across each side and return what the blocks beyond sent, in ``into`` where that is contiguous; shapes agree."""
        received, kept, requests = {}, [], []
        for axis, up, other in self.sides:
            sent = np.ascontiguousarray(parts[axis, up])
            place = into[axis, up] if into else None
            received[axis, up] = place if place is not None and place.flags.c_contiguous else np.empty_like(sent)
            requests.append(self.communicator.Irecv(received[axis, up], source=other, tag=2 * axis + up))
            requests.append(self.communicator.Isend(sent, dest=other, tag=2 * axis + (not up)))
            kept.append(sent)
        for request in requests:
            request.Wait()
        return received

    def exchange(self, padded: NDArray, last: int) -> None:
        """Fill the ghost layers of an array (z, y, x) from the blocks beyond; ``last`` is its last own column along x."""
        if self.size == 1:
            return
        ends = (padded.shape[0] - 2, padded.shape[1] - 2, last)
        planes = {(axis, up): _plane(padded, axis, ends[axis] if up else 1) for axis, up, _ in self.sides}
        ghosts = {(axis, up): _plane(padded, axis, ends[axis] + 1 if up else 0) for axis, up, _ in self.sides}
        for side, plane in self.swap(planes, ghosts).items():
            if plane is not ghosts[side]:
                ghosts[side][...] = plane

    def total(self, *numbers: float) -> list[float]:
        """Return the sum over ranks of each number."""
        if self.communicator is None:
            return list(numbers)
        sums = np.empty(len(numbers))
        self.communicator.Allreduce(np.array(numbers, dtype=np.float64), sums)
        return sums.tolist()

    def total_in_place(self, values: NDArray) -> None:
        """Sum an array over ranks."""
        if self.communicator is not None:
            from mpi4py import MPI

            self.communicator.Allreduce(MPI.IN_PLACE, values)

    def gathered(self, part: Any) -> list:
        """Return the parts of all ranks in their order."""
        return [part] if self.communicator is None else self.communicator.allgather(part)


@dataclass(frozen=True)
class _Turned(Blocks):
    """Blocks whose axes are those of others in another order."""

    of_file: Any = None
    order: Extents = (0, 1, 2)

    @cached_property
    def place(self) -> Extents:
        z, y, x = (self.of_file.place[axis] for axis in self.order)
        return z, y, x

    def _rank_at(self, place: list[int]) -> int:
        back = [0, 0, 0]
        for mine, axis in zip(place, self.order, strict=True):
            back[axis] = mine
        return self.of_file._rank_at(back)


def _plane(array: NDArray, axis: int, index: int) -> NDArray:
    return array[index] if axis == 0 else array[:, index] if axis == 1 else array[:, :, index]


def _cost(extents: Extents, pieces: tuple[int, ...], counts: Extents) -> tuple[float, int]:
    """Voxels of the largest block and, dearer, of the surfaces that it shares; cuts across rows last."""
    block = [min(2 * -(-many // count), n) for n, many, count in zip(extents, pieces, counts, strict=True)]
    surface = sum(2 * math.prod(block) / side for side, count in zip(block, counts, strict=True) if count > 1)
    return math.prod(block) + 4 * surface, counts[2]
