"""Samplers and pruners of a study, and the grid of a search space that is written as code."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from ..base.errors import SettingsError
from ..base.seeds import derived_seed, generator
from ..learning.settings import SearchSettings

MAX_GRID_POINTS = 10_000

Suggest = Callable[[Any, Mapping[str, Any]], dict[str, Any]]


class _Prefix:
    """A trial that answers with the given choices, and with the first choice where they end; it notes what was asked."""

    def __init__(self, chosen: Mapping[str, Any]) -> None:
        self.answers: dict[str, Any] = {}
        self.choices: dict[str, list[Any]] = {}
        self._chosen = chosen

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        if name not in self.answers:
            self.choices[name] = _choices(name, distribution)
            self.answers[name] = self._chosen.get(name, self.choices[name][0])
        return self.answers[name]

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> float:
        """Answer as Optuna's trial does."""
        return self._suggest(name, FloatDistribution(low, high, log=log, step=step))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Answer as Optuna's trial does."""
        return self._suggest(name, IntDistribution(low, high, log=log, step=step))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Answer as Optuna's trial does."""
        return self._suggest(name, CategoricalDistribution(choices))


def _choices(name: str, distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    if isinstance(distribution, FloatDistribution) and distribution.single():
        return [distribution.low]
    if isinstance(distribution, FloatDistribution) and distribution.step is not None:
        count = round((distribution.high - distribution.low) / distribution.step) + 1
        return [min(distribution.low + i * distribution.step, distribution.high) for i in range(count)]
    raise SettingsError(
        f"parameter {name!r} is a continuous range, of which a grid has no end",
        hint="use sampler: random or tpe, or give the parameter a list of choices",
    )


def grid_points(suggest: Suggest, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every combination that ``suggest`` can draw, also where one parameter decides which others exist.

    Raises SettingsError for a continuous parameter and for more than 10,000 combinations.
    """
    points: list[dict[str, Any]] = []
    open_prefixes: list[dict[str, Any]] = [{}]
    while open_prefixes:
        chosen = open_prefixes.pop()
        trial = _Prefix(chosen)
        suggest(trial, settings)
        points.append(trial.answers)
        before: dict[str, Any] = {}
        for name, answer in trial.answers.items():
            if name not in chosen:
                open_prefixes += [before | {name: other} for other in trial.choices[name][1:]]
            before[name] = answer
        if len(points) + len(open_prefixes) > MAX_GRID_POINTS:
            raise SettingsError(
                f"the grid has more than {MAX_GRID_POINTS} combinations",
                hint="use sampler: random or tpe, or offer fewer choices",
            )
    return points


class GridOrder(BaseSampler):
    """Give trial number ``i`` the ``i``-th point of a shuffled grid: no point twice, whatever the number of workers."""

    def __init__(self, points: Sequence[Mapping[str, Any]], seed: int) -> None:
        order = generator(seed, "grid").permutation(len(points))
        self._points = [points[i] for i in order]

    def infer_relative_search_space(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> dict[str, BaseDistribution]:
        """Return nothing; every parameter is drawn alone."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return nothing; every parameter is drawn alone."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the value of the trial's grid point."""
        return self._points[trial.number % len(self._points)][param_name]


def make_sampler(search: SearchSettings, number: int, points: Sequence[Mapping[str, Any]] | None = None) -> BaseSampler:
    """Return the sampler of trial ``number``; its stream depends on the study's seed and the number, not on the worker.

    ``points`` is the grid, needed for ``sampler: grid`` only.
    """
    if search.sampler == "grid":
        return GridOrder(points or [], search.seed)
    seed = derived_seed(search.seed, "sampler", number)
    if search.sampler == "random":
        return RandomSampler(seed=seed)
    return TPESampler(seed=seed, n_startup_trials=search.n_startup_trials)


def make_pruner(search: SearchSettings) -> BasePruner:
    """Return the pruner that the settings name; steps count from 1, where Optuna expects 0."""
    if search.pruner == "median":
        return MedianPruner(n_startup_trials=search.n_startup_trials, n_warmup_steps=search.n_warmup_steps + 1)
    if search.pruner == "hyperband":
        return HyperbandPruner(min_resource=max(1, search.n_warmup_steps))
    return NopPruner()


def is_finite(value: Any) -> bool:
    """Say whether a value is one finite number."""
    try:
        return bool(np.isfinite(float(value)))
    except (TypeError, ValueError):
        return False
