"""How a cluster is asked for the workers of a hyper-parameter search."""

import shlex
from typing import Self

from pydantic import Field, model_validator

from ..base.settings import Section

NAME = r"^[A-Za-z0-9_.,:@+-]+$"


class ArraySettings(Section):
    """How the workers of a search are asked of SLURM: one array, one worker per task. Nothing here changes what a trial gives."""

    max_running: int | None = Field(None, ge=1, le=10_000)
    """Tasks that run at the same time at most (``--array=...%N``); null: no limit but the cluster's."""

    partition: str | None = Field(None, pattern=NAME)
    """Partition; null: the cluster's default."""

    account: str | None = Field(None, pattern=NAME)
    """Account to be charged; null: the user's default."""

    qos: str | None = Field(None, pattern=NAME)
    """Quality of service; null: the default."""

    constraint: str | None = Field(None, pattern=r"^\S+$")
    """Features that nodes must have, as ``sbatch --constraint`` takes them, e.g. ``ib&a100``; null: any nodes."""

    runtime_minutes: int = Field(1440, ge=1, le=1_000_000)
    """Time limit of a worker, minutes. It stops in time, is requeued, and goes on with its trial: short limits cost little."""

    signal_seconds: int = Field(120, ge=1, le=65_535)
    """A worker is told to stop so many seconds before its time limit; SLURM itself may be up to 60 s late."""

    memory_mb: int = Field(16_000, ge=100, le=100_000_000)
    """Memory of a worker, MB."""

    cpus_per_worker: int | None = Field(None, ge=1, le=4096)
    """Cores of a worker; null: the study's ``threads_per_worker``."""

    gpus: int | None = Field(None, ge=0, le=64)
    """GPUs of a worker (``--gres=gpu:N``); null: one if the study's device is cuda, else none."""

    gpu_type: str | None = Field(None, pattern=NAME)
    """Type of GPU as the cluster names it (``--gres=gpu:TYPE:N``); null: any."""

    sbatch_options: str = ""
    """Further options of sbatch, quoted as in a shell, e.g. ``--exclude=node7 --nice``."""

    setup: str = ""
    """Lines of bash that each task runs before its worker, e.g. ``module load cuda``."""

    worker_python: str | None = None
    """Command that runs Python in a task, e.g. ``apptainer exec --nv images/torch.sif python``; null: this program's."""

    poll_seconds: float = Field(10.0, ge=0.5, le=600.0)
    """Interval between two looks at the queue, seconds."""

    @model_validator(mode="after")
    def _there_is_time_to_stop(self) -> Self:
        if self.signal_seconds >= 60 * self.runtime_minutes:
            raise ValueError(f"signal_seconds ({self.signal_seconds}) leave nothing of runtime_minutes ({self.runtime_minutes})")
        try:
            words = shlex.split(self.sbatch_options)
        except ValueError as error:
            raise ValueError(f"sbatch_options cannot be split into words: {error}") from error
        if words and not words[0].startswith("-"):
            raise ValueError(f"sbatch_options begin with {words[0]!r}; expected options such as --exclude=node7")
        return self
