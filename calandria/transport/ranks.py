"""The ranks of an MPI launch, checked against what was promised, and errors that they share."""

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from ..base.errors import DeviceError, report_errors_by, shared_outcome
from ..base.processes import MPI_SIZES

Result = TypeVar("Result")
LAUNCHERS = (*MPI_SIZES, "SLURM_STEP_NUM_TASKS")
"""Variables by which launchers tell each rank how many there are, srun among them."""
PATIENCE_S = 5.0  # between the first and the last rank that meet the same error


def world(promised: int | None = None) -> Any:
    """Return MPI's world communicator, or None for one rank without MPI; the ranks that were promised must be there.

    Parameters
    ----------
    promised
        Number of ranks; None for what the launcher says in the environment, if it says anything.

    Raises
    ------
    DeviceError
        The launcher started another number of ranks, which N independent copies of a program would otherwise hide.
    """
    name = "--ranks" if promised is not None else next((name for name in LAUNCHERS if os.environ.get(name, "").isdigit()), None)
    expected = promised if promised is not None else int(os.environ[name]) if name else None
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        if expected in (None, 1):
            return None
        raise DeviceError(
            f"{expected} ranks were promised ({name}), but MPI cannot be loaded ({error})",
            hint="install mpi4py and an MPI library",
        ) from error
    found = MPI.COMM_WORLD.size
    if found > 1:
        report_errors_by(partial(_tell_once, MPI.COMM_WORLD.Dup()))
    if expected is not None and found != expected:
        raise DeviceError(
            f"{expected} ranks were promised ({name}), found a communicator of {found}",
            hint="start by the mpiexec of the MPI library that mpi4py uses, or srun --mpi=pmi2; --ranks 1 if copies are meant",
        )
    if found == 1:
        return None
    sys.excepthook = _abort_all
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
    return work() if communicator is None else shared_outcome(work, communicator.allgather)
