"""What a searched stage provides and what it is given: the objective module and the context of one trial."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import optuna

from ..base.errors import SettingsError


class StopRequested(BaseException):
    """The worker was asked to stop (or lost its trial); passes through ``except Exception`` of objectives."""


def _report_to_nobody(step: int, value: float) -> None:
    """Take the place of a study's report where a trial runs alone."""


@dataclass(frozen=True)
class TrialContext:
    """All that ``run`` may use beside its parameters.

    Parameters
    ----------
    settings, data
        The settings and the paths by name that the search was defined with.
    seed
        Seed of this trial, derived from the study's seed and the trial's number; the same when the trial is resumed.
    device
        ``cpu`` or ``cuda``; asked for, no fallback.
    checkpoint_path
        File from which ``run`` resumes if it exists, and to which it saves (whole or not at all) as it goes; it is deleted when the
        trial ends.
    report
        ``report(step, value)``: to be called once per step (epoch, from 1 upwards), *after* the checkpoint of that step is saved. Raises
        ``optuna.TrialPruned`` when the trial is given up and StopRequested when the worker must end; let both pass.
        Steps that were reported before a resumption are passed over.
    number
        The trial's number.
    data_sha256
        Digests of the files of ``data``, as the search read them once for all trials.
    control
        Settings of the run that change no value: cache sizes, epochs between checkpoints.
    """

    settings: Mapping[str, Any]
    data: Mapping[str, list[str]]
    seed: int
    device: str
    checkpoint_path: Path
    report: Callable[[int, float], None] = _report_to_nobody
    number: int = 0
    data_sha256: Mapping[str, list[str]] = field(default_factory=dict)
    control: Mapping[str, Any] = field(default_factory=dict)


class Objective(Protocol):
    """The module that a search names, e.g. ``calandria.surrogate.trial``."""

    def suggest(self, trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Draw the parameters of a trial; called again when a trial is resumed, and then given the same values."""

    def run(self, parameters: dict[str, Any], context: TrialContext) -> float:
        """Do the work of a trial and return its value."""


def load_objective(module: str) -> Objective:
    """Import an objective module and check that it has ``suggest`` and ``run``."""
    try:
        loaded: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"objective {module!r} cannot be imported ({error})", hint="name a module, e.g. calandria.surrogate.trial"
        ) from error
    missing = [name for name in ("suggest", "run") if not callable(getattr(loaded, name, None))]
    if missing:
        raise SettingsError(
            f"objective {module!r} lacks {' and '.join(missing)}", hint="calandria/search/objective.py shows what it needs"
        )
    return loaded
