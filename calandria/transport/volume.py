"""A labelled volume as the solver takes it: read block by block, its joined parts found once, turned to each direction."""

import math
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..base.errors import ContractError
from .blocks import Blocks, Extents
from .kernels import address, kernels
from .multigrid import Conductances
from .percolation import Percolation
from .ranks import together

ORDERS: tuple[Extents, ...] = ((0, 1, 2), (1, 0, 2), (2, 0, 1))
"""Axes of the file for each direction: the direction first."""


class Volume:
    """This rank's block of a labelled volume, as phases; ``labels`` are those that occur in the whole volume.

    An odd periodic extent is doubled: the periodic field repeats, and every face then joins an even and an odd voxel.

    Parameters
    ----------
    labels
        Labels (z, y, x), an array or anything that slices like one.
    table
        Diffusivity of each label, 256 of them.
    wraps
        Which sides are periodic, along all three axes.
    doubled
        1, or 2 where an axis is doubled.
    communicator
        An mpi4py communicator, or None.
    """

    def __init__(
        self, labels: Any, table: NDArray[np.float64], wraps: tuple[bool, ...], doubled: tuple[int, ...], communicator: Any
    ) -> None:
        self.doubled = doubled
        extents = tuple(int(n) * many for n, many in zip(labels.shape, doubled, strict=True))
        self.size = math.prod(extents)
        self.blocks = Blocks.of(communicator, cast(Extents, extents), cast(tuple[bool, bool, bool], wraps))
        values = np.unique(table[table > 0])
        self.conductances = Conductances(values / values[-1])
        self.scale = float(values[-1])
        phase = np.zeros(256, np.uint8)
        phase[table > 0] = 1 + np.searchsorted(values, table[table > 0])
        seen = np.zeros(256, np.uint8)
        self.phases = together(communicator, lambda: _looked_up(_read(labels, self.blocks, doubled), phase, seen))
        everywhere = np.any(self.blocks.gathered(seen), axis=0)
        self.labels = tuple(np.flatnonzero(everywhere).tolist())
        self.percolation = together(communicator, lambda: Percolation(self.phases, self.blocks))
        self.n_conducting = int(self.blocks.total(float(np.count_nonzero(self.phases)))[0])


class Problem:
    """One direction of a volume: the phases that are joined to both ends, the direction's axis first.

    ``last`` says that the volume is not asked for again, so that its own phases may be taken.
    """

    def __init__(self, volume: Volume, direction: int, wraps: tuple[bool, ...], *, last: bool = False) -> None:
        kept = volume.phases if last else volume.phases.copy()
        self.n_connected = volume.percolation.keep(kept, direction, wraps)
        order = ORDERS[direction]
        self.direction, self.order, self.conductances = direction, order, volume.conductances
        self.phases = kept.transpose(order)
        self.blocks = volume.blocks.turned(order, wraps)
        extents = self.blocks.extents
        self.to_diffusivity = volume.scale * extents[0] ** 2 / math.prod(extents)


def columns_alone(labels: Any, table: NDArray[np.float64], direction: int, blocks: Blocks, doubled: tuple[int, ...]) -> float:
    """Return D_eff / D_0 of columns along the direction that exchange nothing: a lower bound of the true one, by Thomson's principle."""
    resistance = np.divide(1.0, table, out=np.full(256, np.inf), where=table > 0)
    part = np.moveaxis(together(blocks.communicator, lambda: _read(labels, blocks, doubled)), direction, 0)
    across = [axis for axis in range(3) if axis != direction]
    columns = np.zeros([blocks.extents[axis] for axis in across])
    mine = columns[tuple(slice(blocks.start[axis], blocks.stop[axis]) for axis in across)]
    for plane in part:
        mine += resistance[plane]
    blocks.total_in_place(columns)
    return float(np.mean(blocks.extents[direction] / columns))


def _looked_up(labels: NDArray[np.uint8], table: NDArray[np.uint8], seen: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the phase of each label, and mark in ``seen`` which labels there are."""
    labels, found = np.ascontiguousarray(labels), np.empty(labels.shape, np.uint8)
    kernels().look_up(address(labels), address(table), address(found), address(seen), labels.size)
    return found


def _read(labels: Any, blocks: Blocks, doubled: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read this rank's block; of a doubled axis, both copies."""
    whole = [(start, stop, n) for start, stop, n in zip(blocks.start, blocks.stop, labels.shape, strict=True)]
    box = tuple(slice(0, n) if many == 2 else slice(start, stop) for (start, stop, n), many in zip(whole, doubled, strict=True))
    part = np.asarray(labels[box])
    for axis, ((start, stop, n), many) in enumerate(zip(whole, doubled, strict=True)):
        if many == 2:
            part = part.take(np.arange(start, stop) % n, axis)
    if part.dtype == np.bool_:
        return part.view(np.uint8)
    if part.dtype != np.uint8:
        if part.min() < 0 or part.max() > 255:
            raise ContractError(
                f"labels range from {part.min()} to {part.max()}; expected 0 to 255", hint="segment grey values into phases first"
            )
        part = part.astype(np.uint8)
    return part
