"""How much memory a solve takes, and errors that say how much suffices."""

import math
from typing import Any

from ..base.errors import DeviceError
from ..base.machine import available_memory
from .blocks import Blocks
from .ranks import together

LEAST_BYTES = 12.0
"""Bytes per voxel that every solve takes, and ..."""
LEAST_BYTES_CONNECTED = 10.0
"""... those that each voxel joined to both ends adds at least; measured on blobs (benchmarks/transport.py, docs/transport.md)."""
USUAL_BYTES = 36.0
"""Bytes per voxel that suffice where structures are several voxels wide, whatever conducts and at any contrast."""
MOST_VOXELS = (2**31 - 1024) // 3
"""Voxels of a block that never overflow its numbers of 32 bits: a block of 2 x 2 x 2 voxels has at most 4 parts of 6 neighbours."""
UNCHECKED_VOXELS = 4_000_000
"""Voxels of a volume up to which memory is not looked at: they take 150 MB."""


def sufficient_ranks(voxels: int) -> int:
    """Return how many ranks hold a volume without an overflow of numbers of 32 bits.

    >>> sufficient_ranks(600**3), sufficient_ranks(2000**3)
    (1, 12)
    """
    return max(1, -(-voxels // MOST_VOXELS))


def check_memory(blocks: Blocks, connected: float) -> None:
    """Raise DeviceError, on all ranks, where a machine surely has too little memory for its ranks' blocks; before the work begins.

    Parameters
    ----------
    blocks
        How the volume is cut.
    connected
        Share of the voxels that are joined to both ends.
    """
    voxels = math.prod(blocks.extents)
    if voxels <= UNCHECKED_VOXELS:
        return
    here = _voxels_here(blocks)
    each = LEAST_BYTES + LEAST_BYTES_CONNECTED * connected
    least = here * each

    def check() -> None:
        available, alone = available_memory(own=False), available_memory()
        suffices = available is None or available >= least
        if suffices and (alone is None or alone >= math.prod(blocks.shape) * each):
            return
        available = alone or 0 if suffices else available or 0
        machines = -(-int(USUAL_BYTES * voxels) // max(available, 1))
        raise DeviceError(
            f"the solver needs at least {_gb(least)} on this machine for {here:,} of the volume's {voxels:,} voxels; "
            f"{_gb(available)} are available",
            hint=f"give it {_gb(USUAL_BYTES * here)} (mem_mb, or --mem of a job), or {machines} machines like this one, a rank on each "
            f"(mpiexec or srun -n {machines}); or crop the volume",
        )

    together(blocks.communicator, check)


def _voxels_here(blocks: Blocks) -> int:
    """Return the voxels of all ranks on this machine."""
    own = math.prod(blocks.shape)
    if blocks.communicator is None:
        return own
    from mpi4py import MPI

    local: Any = blocks.communicator.Split_type(MPI.COMM_TYPE_SHARED)
    try:
        return int(local.allreduce(own))
    finally:
        local.Free()


def no_room(what: str, blocks: Blocks) -> DeviceError:
    """Return the error for a level that could not be made: its numbers have too few bits, or no memory is left."""
    own, voxels = math.prod(blocks.shape), math.prod(blocks.extents)
    if own > MOST_VOXELS:
        ranks = sufficient_ranks(voxels)
        return DeviceError(
            f"a block of {own:,} voxels has more than 2^31 entries on the solver's {what}",
            hint=f"start at least {ranks} ranks: mpiexec -n {ranks}, or the resource tasks of the rule",
        )
    available = available_memory()
    left = "" if available is None else f", and {_gb(available)} are left"
    return DeviceError(
        f"no memory for the solver's {what}: a block of {own:,} voxels takes up to {_gb(USUAL_BYTES * own)}{left}",
        hint="give it more (mem_mb, or --mem of a job), or put its ranks on more machines; or crop the volume",
    )


def _gb(count: float) -> str:
    return f"{count / 2**30:.3g} GB"
