"""What a search does in one trial: draw hyperparameters of a network, train it briefly, return its validation loss."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import optuna

from ..base.records import read_json
from ..search.objective import TrialContext
from .networks import NetworkSettings
from .settings import network_settings
from .splits import part_places
from .training import CACHE_MB, train
from .windows import Run, describe_runs


def searched_slice(network: NetworkSettings, lag_window: int) -> dict[str, Any]:
    """Return the settings of a search's trials: what a training reads, with the space and the epochs of a trial; no budget."""
    return {"lag_window": lag_window, "network": network.searched()}


def suggest(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw the parameters of a trial from the space of the settings, as :func:`searched_slice` returns them."""
    return network_settings(settings["network"], "search").suggest(trial)


def run(parameters: dict[str, Any], context: TrialContext) -> float:
    """Train with ``parameters`` for the epochs of the search and return the lowest validation loss.

    ``context.data`` holds the paths ``split`` (one) and ``frames``; training resumes from ``context.checkpoint_path``.
    """
    network, lag_window = network_settings(context.settings["network"], "search"), int(context.settings["lag_window"])
    chosen = network.for_trial(parameters, seed=context.seed, device=context.device)
    every = context.control.get("checkpoint_every", chosen.learning.checkpoint_every)
    chosen = chosen.model_copy(update={"learning": chosen.learning.model_copy(update={"checkpoint_every": every})})
    split, runs = read_json(context.data["split"][0]), _described(tuple(context.data["frames"]))
    train_places, validation_places = (part_places(split, runs, part, chosen.loss_steps) for part in ("train", "validation"))
    cache_mb = int(context.control.get("cache_mb", CACHE_MB))
    where = context.checkpoint_path
    trained = train(chosen, lag_window, runs, train_places, validation_places, where, cache_mb=cache_mb, report=context.report)
    return trained.best_loss


def _described(paths: tuple[str, ...]) -> list[Run]:
    """Describe the series once for all trials of a worker, as long as the files stay the same."""
    return list(_described_as_they_are(paths, tuple(Path(path).stat().st_mtime_ns for path in paths)))


@lru_cache(maxsize=1)
def _described_as_they_are(paths: tuple[str, ...], written: tuple[int, ...]) -> tuple[Run, ...]:
    return tuple(describe_runs(paths))
