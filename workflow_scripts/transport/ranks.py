"""A volume cut into slabs along z, one per rank, and what ranks tell each other; works without MPI as one rank."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ..common.cli import tell_errors_by
from ..common.errors import CalandriaError, DeviceError

Result = TypeVar("Result")
PATIENCE_S = 5.0  # between the first and the last rank that meet the same error


def world(promised: int | None = None) -> Any:
    """Return MPI's world communicator, or None for one rank without MPI; ``promised`` ranks must be there.

    Raises DeviceError when the launcher started another number of ranks than promised, which N independent copies of
    a program would otherwise hide.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        if promised in (None, 1):
            return None
        raise DeviceError(
            f"{promised} ranks were promised, but MPI cannot be loaded ({error})", hint="install mpi4py and an MPI library"
        ) from error
    found = MPI.COMM_WORLD.size
    if promised is not None and found != promised:
        raise DeviceError(
            f"{promised} ranks were promised, found a communicator of {found}",
            hint="start the program by the mpiexec of the MPI library that mpi4py uses: mpiexec -n N python -m ...",
        )
    if found == 1:
        return None
    sys.excepthook = _abort_all
    tell_errors_by(partial(_tell_once, MPI.COMM_WORLD.Dup()))
    return MPI.COMM_WORLD


def _tell_once(communicator: Any, words: str) -> None:
    """Write an error that all ranks met once; one that only some of them met ends all ranks, for the others would wait for ever.

    The communicator is a copy of its own, on which nothing else waits.
    """
    everybody, deadline = communicator.Ibarrier(), time.monotonic() + PATIENCE_S
    while not (met_by_all := everybody.Test()) and time.monotonic() < deadline:
        time.sleep(0.01)
    if not met_by_all or communicator.rank == 0:
        sys.stderr.write(words)
        sys.stderr.flush()
    if not met_by_all:
        communicator.Abort(2)


def _abort_all(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End all ranks after an error that only one of them met; the others would wait for it for ever."""
    from mpi4py import MPI

    sys.__excepthook__(kind, error, trace)
    sys.stderr.flush()
    MPI.COMM_WORLD.Abort(1)


def together(communicator: Any, work: Callable[[], Result]) -> Result:
    """Do this rank's ``work``; when it is a CalandriaError on any rank, all ranks raise the first one."""
    if communicator is None:
        return work()
    result, failed = None, None
    try:
        result = work()
    except CalandriaError as error:
        failed = error
    for error in communicator.allgather(failed):
        if error is not None:
            raise error
    return cast(Result, result)


@dataclass(frozen=True)
class Slab:
    """The slices [start, stop) along z that a rank holds, and its exchanges with the ranks below and above.

    Slabs begin at even slices, so that blocks of 2 x 2 x 2 voxels never lie on two ranks.
    """

    communicator: Any
    start: int
    stop: int
    wraps: tuple[bool, bool, bool]

    @classmethod
    def of(cls, communicator: Any, n_slices: int, wraps: tuple[bool, bool, bool]) -> "Slab":
        """Return this rank's slab; a volume too thin for all ranks is held whole by each of them."""
        size = communicator.size if communicator is not None else 1
        pairs = (n_slices + 1) // 2
        if size == 1 or pairs < size:
            return cls(None, 0, n_slices, wraps)
        rank = communicator.rank
        return cls(communicator, 2 * (pairs * rank // size), min(2 * (pairs * (rank + 1) // size), n_slices), wraps)

    @property
    def size(self) -> int:
        """Number of ranks that share the volume."""
        return self.communicator.size if self.communicator is not None else 1

    @property
    def rank(self) -> int:
        """This rank's place among them."""
        return self.communicator.rank if self.communicator is not None else 0

    def exchange(self, padded: NDArray) -> None:
        """Fill the ghost layers (z, y, x) from the neighbours and across periodic sides; other ghosts stay as they are."""
        for axis in (2, 1):
            if self.wraps[axis]:
                view = np.moveaxis(padded, axis, 0)
                view[0], view[-1] = view[-2], view[1]
        if self.communicator is not None:
            below, above = self._neighbours()
            self.communicator.Sendrecv(padded[-2], dest=above, recvbuf=padded[0], source=below)
            self.communicator.Sendrecv(padded[1], dest=below, recvbuf=padded[-1], source=above)
        elif self.wraps[0]:
            padded[0], padded[-1] = padded[-2], padded[1]

    def from_below(self, plane: NDArray) -> NDArray | None:
        """Send a plane (y, x) upward and return the plane of the rank below; None at the bottom."""
        if self.communicator is None:
            return None
        below, above = self._neighbours()
        received = np.empty_like(plane)
        self.communicator.Sendrecv(np.ascontiguousarray(plane), dest=above, recvbuf=received, source=below)
        return received if below >= 0 else None

    def _neighbours(self) -> tuple[int, int]:
        from mpi4py import MPI

        below, above = self.rank - 1, self.rank + 1
        if self.wraps[0]:
            return below % self.size, above % self.size
        return (below if below >= 0 else MPI.PROC_NULL), (above if above < self.size else MPI.PROC_NULL)

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
