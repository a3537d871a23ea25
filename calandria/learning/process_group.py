"""The processes of one training, on one node or several: counted, each on its own device, failing together."""

import atexit
import contextlib
import math
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from ..base.errors import CalandriaError, DeviceError, ProcessLostError, report_errors_by, shared_outcome
from ..base.processes import MPI_SIZES
from .devices import select_device

Result = TypeVar("Result")
TIMEOUT_S = 1800.0
PATIENCE_S = 5.0  # between the first and the last process that meet the same error
GRACE_S = 30  # for the libraries' own end after an error; a lost GPU peer can hold it for ever
PIECE_BYTES = 2**28


@dataclass(frozen=True)
class Launch:
    """Which of how many processes this one is, as its launcher says.

    Parameters
    ----------
    rank, size
        Number of this process, from 0, and how many there are.
    local_rank
        Its number on its own node.
    launcher
        ``torchrun``, ``srun``, or empty for a process alone.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    launcher: str = ""


def first_host(nodes: str) -> str:
    """Return the first host of SLURM's short list of nodes.

    >>> first_host("node[003-007,012],login1"), first_host("rack1n[2,4]b[1-2]"), first_host("n1,n2")
    ('node003', 'rack1n2b1', 'n1')
    """
    return re.sub(r"\[(\w+)[^]]*\]", r"\1", nodes).split(",")[0]


def find_launch(environment: Mapping[str, str], promised: int | None = None) -> Launch:
    """Return what torchrun or srun says in the environment, checked against what was promised.

    Raises
    ------
    DeviceError
        Several copies were started that do not know of each other, or another number than ``promised``.
    """

    def number(name: str) -> int:
        word = environment.get(name, "")
        return int(word) if word.isdigit() else 0

    launch, tasks = Launch(), number("SLURM_STEP_NUM_TASKS")
    if "RANK" in environment and "WORLD_SIZE" in environment:
        launch = Launch(number("RANK"), number("WORLD_SIZE"), number("LOCAL_RANK"), "torchrun")
        launchers = number("GROUP_WORLD_SIZE") or launch.size
        if tasks > 1 and launchers != tasks:
            raise DeviceError(
                f"srun started {tasks} tasks (SLURM_STEP_NUM_TASKS), and torchrun in this one knows of {launchers} nodes",
                hint="give torchrun --nnodes and a --rdzv-endpoint that is the same in all tasks, or leave it out and start by srun alone",
            )
    elif tasks > 1:
        launch = Launch(number("SLURM_PROCID"), tasks, number("SLURM_LOCALID"), "srun")
    else:
        # an MPI launcher alone, without torchrun or srun, starts so many copies of one training
        copies = next((name for name in MPI_SIZES if number(name) > 1), None)
        if copies:
            raise DeviceError(
                f"{number(copies)} copies were started ({copies}) that do not know of each other",
                hint="start the processes of a training by torchrun or srun, not by mpiexec",
            )
    if promised is not None and launch.size != promised:
        raise DeviceError(
            f"{promised} processes were promised (--processes), found {launch.size}",
            hint="start as many by torchrun --nproc-per-node or srun --ntasks; docs/cluster.md shows the commands",
        )
    return launch


def own_device(name: str, launch: Launch) -> torch.device:
    """Return the device of one of several processes: ``cuda`` is one GPU for each, ``cpu`` serves all.

    Raises DeviceError where a process would be left without a GPU of its own; there is no fallback.
    """
    if launch.size == 1 or name == "cpu":
        return select_device(name)
    if name != "cuda":
        raise DeviceError(
            f"device {name!r} is one device, and {launch.size} processes were started",
            hint="set device: cuda, which is one GPU for each process, or start one process",
        )
    found = torch.cuda.device_count()
    alone = launch.launcher == "srun" and found == 1 and "CUDA_VISIBLE_DEVICES" in os.environ  # srun --gpus-per-task=1
    index = 0 if alone else launch.local_rank
    if index >= found:
        raise DeviceError(
            f"process {launch.local_rank} of node {socket.gethostname()} needs cuda:{index}; torch {torch.__version__} sees {found} CUDA devices there",
            hint="start as many processes per node as it has GPUs, where a CUDA build of torch is; or set device: cpu",
        )
    return torch.device("cuda", index)


@dataclass(frozen=True)
class Processes:
    """The processes of one training as each of them sees them; :func:`joined` makes several, the default is one alone.

    Parameters
    ----------
    launch
        Which of how many this one is.
    device
        Where it computes.
    """

    launch: Launch = Launch()
    device: torch.device = field(default_factory=partial(torch.device, "cpu"))
    _timeout: timedelta = timedelta(seconds=TIMEOUT_S)
    _gpus: Any = None

    @property
    def size(self) -> int:
        """How many there are."""
        return self.launch.size

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes."""
        return self.launch.rank == 0

    def on(self, name: str) -> "Processes":
        """Return the same processes on the device that the settings name, one GPU each; see :func:`own_device`."""
        device = self.together(partial(own_device, name, self.launch))
        if self.size == 1 or device.type == "cpu":
            return replace(self, device=device)
        torch.cuda.set_device(device)
        claims = self._gathered(f"{socket.gethostname()} {torch.cuda.get_device_properties(device).uuid}")
        shared = sorted({claim for claim in claims if claims.count(claim) > 1})
        if shared:
            raise DeviceError(
                f"several processes would share one GPU: {', '.join(shared)}",
                hint="start one process per GPU (torchrun --nproc-per-node, srun --ntasks-per-node with --gpus-per-task=1)",
            )
        return replace(self, device=device, _gpus=dist.new_group(backend="nccl", timeout=self._timeout))

    def share(self, count: int) -> slice:
        """Return this process's part of ``count`` windows; the parts are consecutive, differ by one at most, and hold each once."""
        return slice(count * self.launch.rank // self.size, count * (self.launch.rank + 1) // self.size)

    def any(self, wanted: bool) -> bool:
        """Return whether any process wants it."""
        return bool(self.largest(wanted))

    def largest(self, number: int) -> int:
        """Return the largest of the processes' numbers."""
        if self.size == 1:
            return number
        found = torch.tensor([int(number)])
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def gathered(self, number: float) -> list[float]:
        """Return the numbers of all processes."""
        return self._gathered(number)

    def own_total(self, totals: list[float]) -> float:
        """Return this process's part of numbers that were gathered, the first taking all where another number of processes did."""
        if len(totals) == self.size:
            return totals[self.launch.rank]
        return math.fsum(totals) if self.is_first else 0.0

    def together(self, work: Callable[[], Result]) -> Result:
        """Do this process's ``work``; when it is a CalandriaError in any of them, all raise the first one."""
        return shared_outcome(work, self._gathered)

    def once(self, work: Callable[[], Result]) -> Result:
        """Let the first process do ``work`` and give its result, tensors among it or not, or its CalandriaError to all."""
        if self.size == 1:
            return work()
        result, failed = None, None
        tensors: list[Tensor] = []
        if self.is_first:
            try:
                result = _apart(work(), tensors)
            except CalandriaError as error:
                failed = error
        told = [(result, failed, [(tensor.shape, tensor.dtype) for tensor in tensors])]
        dist.broadcast_object_list(told, src=0)
        result, failed, kinds = told[0]
        if failed is not None:
            raise failed
        tensors = tensors if self.is_first else [torch.empty(shape, dtype=dtype) for shape, dtype in kinds]
        for tensor in tensors:
            for piece in torch.split(tensor.reshape(-1).view(torch.uint8), PIECE_BYTES):
                dist.broadcast(piece, src=0)
        return cast(Result, _whole(result, tensors))

    def averaging(self, module: nn.Module) -> nn.Module:
        """Return the module with gradients averaged over the processes and weights made those of the first."""
        if self.size == 1:
            return module
        return nn.parallel.DistributedDataParallel(
            module, process_group=self._gpus, forward_sync_buffers=False, gradient_as_bucket_view=True
        )

    def summed(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor on the device over all processes; gradients flow through it."""
        return cast(Tensor, _Summed.apply(values, self._gpus))

    def _gathered(self, value: Any) -> list[Any]:
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor, group: Any) -> Tensor:
        context.group = group
        values = values.clone()
        dist.all_reduce(values, group=group)
        return values

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.clone()
        dist.all_reduce(gradient, group=context.group)
        return gradient, None


@dataclass(frozen=True)
class _Place:
    number: int


def _apart(value: Any, tensors: list[Tensor]) -> Any:
    """Return ``value`` with its tensors replaced by their place in the list, to which they are added."""
    if isinstance(value, Tensor):
        tensors.append(value.detach().cpu().contiguous())
        return _Place(len(tensors) - 1)
    if isinstance(value, dict):
        return {name: _apart(part, tensors) for name, part in value.items()}
    return [_apart(part, tensors) for part in value] if type(value) is list else value


def _whole(value: Any, tensors: list[Tensor]) -> Any:
    if isinstance(value, _Place):
        return tensors[value.number]
    if isinstance(value, dict):
        return {name: _whole(part, tensors) for name, part in value.items()}
    return [_whole(part, tensors) for part in value] if type(value) is list else value


@contextlib.contextmanager
def joined(promised: int | None = None, timeout_s: float = TIMEOUT_S) -> Iterator[Processes]:
    """Join the other processes of this launch; one alone needs none.

    An error that all of them meet is told once. When one ends early the others end too, at the next exchange or after the timeout.

    Parameters
    ----------
    promised
        Number of processes that must take part; None for as many as the launcher says.
    timeout_s
        Time in s that one process waits for another.

    Raises
    ------
    DeviceError
        Not as many processes as promised came.
    ProcessLostError
        Another process ended or stayed silent inside the block.
    """
    launch = find_launch(os.environ, promised)
    if launch.size == 1:
        yield Processes(launch)
        return
    timeout = timedelta(seconds=timeout_s)
    # torchrun overwrites MASTER_ADDR by the address of its first node
    address = "give each torchrun its node's address by --local-addr"
    if launch.launcher == "srun":  # which does not say where the first process is
        address = "set MASTER_ADDR to the first node's address"
        job, step = (int(os.environ.get(name, 0)) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
        os.environ.setdefault("MASTER_ADDR", first_host(os.environ.get("SLURM_STEP_NODELIST", "localhost")))
        os.environ.setdefault("MASTER_PORT", str(20000 + (job * 16 + step) % 12000))
    try:
        socket.getaddrinfo(os.environ.get("MASTER_ADDR", ""), None)
        store, rank, size = next(rendezvous("env://", launch.rank, launch.size, timeout=timeout))
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timeout)
    except socket.gaierror as error:
        raise DeviceError(
            f"process {launch.rank} of {launch.size}: the first one's host {os.environ.get('MASTER_ADDR')!r} has no address here ({error.strerror})",
            hint=f"{address}, a name or number that all nodes reach",
        ) from error
    except (RuntimeError, ValueError) as error:
        raise DeviceError(
            f"process {launch.rank} of {launch.size} could not join the others ({_first_line(error)})",
            hint=f"see whether all were started within --process-timeout; where hosts have no names, {address}; where they have "
            "several networks set GLOO_SOCKET_IFNAME; where ports are closed MASTER_PORT (srun)",
        ) from error
    report_errors_by(partial(_tell_once, store, launch))
    try:
        yield Processes(launch, _timeout=timeout)
        dist.barrier()
    except BaseException as error:
        # the group stays open, so that others notice the end only after this process has told its reason
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(GRACE_S)
        if isinstance(error, RuntimeError) and _is_of_connection(error):
            report_errors_by(sys.stderr.write)
            atexit.register(_end, ProcessLostError.exit_code)
            raise ProcessLostError(
                f"process {launch.rank} of {launch.size} lost another one ({_first_line(error)})",
                hint="see the errors of the others; the same command resumes from the last checkpoint",
            ) from error
        raise
    dist.destroy_process_group()
    report_errors_by(sys.stderr.write)


def _end(code: int) -> None:
    """End at once: taking a broken group apart may hang or abort."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200]


def _is_of_connection(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "Gloo", "NCCL"))


def _tell_once(store: Any, launch: Launch, words: str) -> None:
    """Write an error that all processes met once, by the first one, and all others with the process that met them."""
    wait = timedelta(seconds=PATIENCE_S)
    try:
        if launch.rank == 0:
            sys.stderr.write(words)
            sys.stderr.flush()
            store.set("calandria_error_0", words)
            store.wait([f"calandria_error_{rank}" for rank in range(1, launch.size)], wait)
            return
        store.wait(["calandria_error_0"], wait)
        heard = store.get("calandria_error_0").decode()
        store.set(f"calandria_error_{launch.rank}", words)
    except RuntimeError:  # another process met another fate
        heard = ""
    if launch.rank and words != heard:
        sys.stderr.write(words)
        sys.stderr.flush()
