"""Settings that all networks share: device, seed, training, and the search of hyper-parameters with its space and budget."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator
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


Rate = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]


class Training(Section):
    """How a network is trained: Adam with decoupled weight decay; the epoch of the lowest validation loss is kept."""

    epochs: int = Field(default=40, ge=1, le=100_000)
    """Passes through the training windows at most."""
    batch_size: int = Field(default=4, ge=1, le=65_536)
    """Windows per update, over all processes."""
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    """Step size of Adam in the first epoch."""
    final_learning_rate_fraction: float = Field(default=1.0, gt=0, le=1)
    """Learning rate of the last epoch over that of the first; between them it falls along a cosine. 1 keeps it constant."""
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    """Decoupled weight decay of Adam."""
    patience: int | None = Field(default=None, ge=1, le=100_000)
    """Epochs without a lower validation loss after which training stops; null trains all epochs."""

    def identity(self) -> dict[str, Any]:
        """Return what a half-finished training depends on: at a constant rate, more epochs resume what fewer began."""
        return self.model_dump(mode="json", exclude={"epochs"} if self.final_learning_rate_fraction == 1 else None)


class Range(Section):
    """Numbers between two ends, from which a search draws."""

    low: float
    """Smallest number."""
    high: float
    """Largest number."""
    log: bool = False
    """Whether numbers are drawn on a logarithmic scale."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low:g} has no logarithm")
        return self


class RateRange(Range):
    """Learning rates between two ends, from which a search draws."""

    low: Rate
    """Smallest rate."""
    high: Rate
    """Largest rate."""
    log: bool = True
    """Whether rates are drawn on a logarithmic scale."""


class FractionRange(Range):
    """Fractions between two ends, from which a search draws."""

    low: Fraction
    """Smallest fraction."""
    high: Fraction
    """Largest fraction."""


def _form(values: object) -> str:
    """Return the tag of a parameter's values; tags in brackets are no part of a key that an error names."""
    return "[choices]" if isinstance(values, Sequence) and not isinstance(values, str) else "[range]"


Rates = Annotated[
    Annotated[RateRange, Tag("[range]")] | Annotated[list[Rate], Field(min_length=1), Tag("[choices]")], Discriminator(_form)
]
"""Learning rates of a search: a range, or a list of choices."""
Fractions = Annotated[
    Annotated[FractionRange, Tag("[range]")] | Annotated[list[Fraction], Field(min_length=1), Tag("[choices]")],
    Discriminator(_form),
]
"""Fractions of a search: a range, or a list of choices."""


class Space(Section):
    """What a search may choose; each key is a parameter, with a list of choices or a range of numbers."""

    def draw(self, trial: Any, *names: str) -> dict[str, Any]:
        """Return values of some parameters, drawn by an Optuna trial in this order; a parameter that is null is left out."""
        drawn = {}
        for name in names:
            values = getattr(self, name)
            if isinstance(values, Range):
                drawn[name] = trial.suggest_float(name, values.low, values.high, log=values.log)
            elif values is not None:
                drawn[name] = trial.suggest_categorical(name, list(values))
        return drawn


class Search(Section):
    """A search of hyper-parameters; its winner is then trained in full."""

    epochs: int | None = Field(default=None, ge=1, le=100_000)
    """Epochs of each trial at most; null: as many as its training has."""
    space: Space = Space()
    """Values that it tries."""
    budget: SearchSettings = SearchSettings()
    """Number of trials, sampler, pruner and workers."""


class Learning(Section):
    """How a network learns: where, from which seed, for how long, and whether a search chooses its hyper-parameters."""

    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    """`cpu` or `cuda`; there is no fallback."""
    precision: Literal["fp32", "amp"] = "fp32"
    """`amp` computes in bfloat16 where the GPU does, else in float32."""
    seed: int = Field(default=1, ge=0, lt=2**31)
    """Seed of weights, order, dropout and augmentation."""
    checkpoint_every: int = Field(default=5, ge=1, le=10_000)
    """Epochs between two checkpoints; a killed training loses at most these. Changing it trains nothing again."""
    training: Training = Training()
    """How it is trained."""
    search: Search | None = None
    """Search of hyper-parameters; null: the network is trained as its settings say."""


def learned(learning: Learning) -> dict[str, Any]:
    """Return what a training reads of the section: how it is saved and searched is left out."""
    return learning.model_dump(mode="json", exclude={"checkpoint_every", "search"})


def searched(learning: Learning) -> dict[str, Any]:
    """Return what a search's trials read of the section: what a training reads, the space, and the epochs of a trial."""
    search = None if learning.search is None else learning.search.model_dump(mode="json", exclude={"budget"})
    return {**learned(learning), "search": search}


def trial_epochs(learning: Learning, training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a trial's training: those that were drawn, with the epochs that the search grants."""
    limit = learning.search.epochs if learning.search else None
    return {**training, **({} if limit is None else {"epochs": limit})}
