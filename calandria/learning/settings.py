"""Settings that all networks share: the budget, sampler, pruner and workers of a hyper-parameter search."""

import re
from typing import Any, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from ..base.settings import Section

NAME = r"^[A-Za-z0-9_.,:@+-]+$"

RUN_CONTROL = frozenset({"workers", "lease_seconds", "storage", "max_failed_fraction", "max_attempts", "threads_per_worker"})
"""Search settings that change how a study runs but neither what a trial gives nor how many there are."""


class SearchSettings(Section):
    """How many trials are made, how their parameters are drawn, when they are given up, and by how many workers.

    ``n_trials``, ``workers``, ``lease_seconds``, ``storage``, ``max_failed_fraction``, ``max_attempts`` and
    ``threads_per_worker`` may change between two runs of the same study; every other field starts a new study.
    """

    n_trials: int = Field(6, ge=1, le=100_000)
    """Budget: trials in all, whether they complete, are pruned or fail; a finished study with a larger budget goes on."""

    workers: int = Field(2, ge=1, le=1024)
    """Processes that work on the study at the same time on this machine."""

    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """tpe: tree-structured Parzen estimator, learns from finished trials; random: independent draws; grid: every
    combination once, in an order shuffled by the seed (floats need a step), at most n_trials of them."""

    pruner: Literal["median", "hyperband", "none"] = "median"
    """median: give up a trial that is worse than the median of the others at the same step; hyperband: successive
    halving in brackets; none: every trial runs to its end."""

    n_startup_trials: int = Field(4, ge=0, le=10_000)
    """Trials drawn at random before tpe learns, and completed trials before the median pruner acts."""

    n_warmup_steps: int = Field(2, ge=0, le=1_000_000)
    """Steps (epochs) of a trial during which it is not pruned."""

    seed: int = Field(1, ge=0, lt=2**31)
    """Seed of the study. Each trial draws from its own stream of it, so with one worker a study repeats exactly; with
    several workers tpe and the pruners also depend on the order in which results arrive."""

    storage: str | None = None
    """Where trials are recorded: empty for a journal file in the study's folder, or a database URL that Optuna accepts,
    e.g. postgresql://user@host/name. No password: it is named as ${VARIABLE}, or belongs into ~/.pgpass."""

    lease_seconds: float = Field(120.0, ge=1.0, le=86_400.0)
    """A trial whose worker has given no sign of life for this long, in seconds, is taken over by another one; the death
    of a worker on the same machine is seen at once. On network file systems at least 120."""

    max_failed_fraction: float = Field(0.5, ge=0.0, le=1.0)
    """The study stops when three trials or more, and more than this fraction of the finished ones, have failed."""

    max_attempts: int = Field(5, ge=1, le=1000)
    """A trial whose workers died this many times without a new step in between is recorded as failed."""

    threads_per_worker: int = Field(1, ge=1, le=1024)
    """Threads that the numerical libraries of each worker may use."""

    @field_validator("storage", mode="before")
    @classmethod
    def _a_url_without_password(cls, url: object) -> object:
        if not isinstance(url, str):
            return url
        if "://" not in url:
            raise PydanticCustomError("storage", "expected a database URL such as postgresql://user@host/name")
        found = re.search(r"^[^:]+://[^/@]*:([^@]*)@|[?&]pass\w*=([^&]*)", url)
        if found and not re.fullmatch(r"\$\{\w+\}", found[1] or found[2] or ""):
            raise PydanticCustomError(
                "password", "holds a password, which would end up in files; write ${VARIABLE}, or leave it to ~/.pgpass"
            )
        return url

    def run_control(self) -> dict[str, Any]:
        """Return what of RUN_CONTROL is not the default."""
        return self.model_dump(mode="json", include=set(RUN_CONTROL), exclude_defaults=True)

    @property
    def threads(self) -> int:
        """Threads of all workers together."""
        return self.workers * self.threads_per_worker

    def workers_in(self, threads: int) -> int:
        """Return how many workers fit into so many threads, at least one.

        >>> SearchSettings(workers=8, threads_per_worker=2).workers_in(5)
        2
        """
        return min(self.workers, max(1, threads // self.threads_per_worker))
