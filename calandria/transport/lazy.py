"""Volumes that stay in their file until a rank asks for its slices."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import ContractError
from ..base.phases import CODES, VOID
from ..base.volumes import label_counts


class SlicedVolume:
    """The slices [0, stop) along z of something that slices like an array; checks phase codes of what is read."""

    def __init__(self, array: Any, stop: int, known: tuple[int, ...] | None = CODES) -> None:
        self.array, self.known = array, known
        self.shape, self.dtype = (stop, *array.shape[1:]), array.dtype

    def __getitem__(self, box: tuple[slice, slice, slice]) -> NDArray:
        start, stop, _ = box[0].indices(self.shape[0])
        return _read(self.array, (slice(start, stop), *box[1:]), self.known)


def _read(array: Any, box: tuple[slice, slice, slice], known: tuple[int, ...] | None) -> NDArray:
    part = np.asarray(array[box])
    if known is not None:
        unknown = sorted(set(np.flatnonzero(label_counts(part)).tolist()) - set(known))
        if unknown:
            raise ContractError(
                f"slices {box[0].start}:{box[0].stop} hold the labels {unknown}; expected the phase codes {list(known)}",
                hint="name every label of the file in its label map",
            )
    return part


def electrode_slices(array: Any, communicator: Any = None) -> int:
    """Return how many slices along z the electrode fills: up to the last of which less than half is void.

    Each rank looks at its share of the slices, in pieces as the file's chunks are; all ranks return the same number. A volume of
    nothing but void raises ContractError.
    """
    size, rank = (communicator.size, communicator.rank) if communicator is not None else (1, 0)
    height, width, _ = array.shape
    deep, wide, _ = getattr(array, "chunks", (32, width, 0))
    pieces = range(0, height, deep)
    top = 0
    for start in pieces[len(pieces) * rank // size : len(pieces) * (rank + 1) // size]:
        filled = np.zeros(min(deep, height - start), np.int64)
        for begin in range(0, width, wide):
            for index, plane in enumerate(np.asarray(array[start : start + deep, begin : begin + wide])):
                filled[index] += np.count_nonzero(plane != VOID)
        surface = np.flatnonzero(2 * filled > math.prod(array.shape[1:]))
        top = max(top, start + int(surface[-1]) + 1 if surface.size else 0)
    top = max(communicator.allgather(top)) if communicator is not None else top
    if not top:
        raise ContractError(
            "no slice of the volume is electrode: at least half of each is void", hint="check the label map (4 is void)"
        )
    return top
