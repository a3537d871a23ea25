"""What a search does in one trial: draw hyperparameters of a network, train it briefly, return its validation loss."""

from collections.abc import Mapping
from typing import Any

import optuna

from ..base.errors import SettingsError
from ..base.records import read_json
from ..search.objective import TrialContext
from .settings import VALUE_NAME as VALUE_NAME
from .settings import SurrogateSettings
from .splits import part_places
from .training import train
from .windows import describe_runs


def suggest(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw the parameters of a trial from the space of the settings (section surrogate as a mapping)."""
    checked = SurrogateSettings.from_mapping(settings, "search")
    space = checked.search.space
    drawn = {
        "conv_activation": trial.suggest_categorical("conv_activation", space.conv_activation),
        "dropout": trial.suggest_float("dropout", *space.dropout),
        "learning_rate": trial.suggest_float("learning_rate", *space.learning_rate, log=True),
    }
    if checked.search.architecture == "press_unet":
        return drawn | {"base_width": trial.suggest_categorical("base_width", space.base_width)}
    return drawn | {
        "conv_layers": trial.suggest_categorical("conv_layers", space.conv_layers),
        "hidden_dense_layers": trial.suggest_categorical("hidden_dense_layers", space.hidden_dense_layers),
        "dense_activation": trial.suggest_categorical("dense_activation", space.dense_activation),
    }


def with_parameters(settings: SurrogateSettings, architecture: str, parameters: Mapping[str, Any]) -> SurrogateSettings:
    """Return the settings with the parameters of a trial in the architecture's section.

    Raises SettingsError when a parameter does not belong to the architecture, as when a search tried the other one.
    """
    section = settings.architecture(architecture).model_dump()
    for name, value in parameters.items():
        if name == "learning_rate":
            section["training"]["learning_rate"] = value
        elif name == "conv_activation":
            section["conv_activation" if architecture == "paper" else "activation"] = value
        elif name == "base_width" and architecture == "press_unet":
            section["widths"] = [max(round(width * value / section["widths"][0]), 1) for width in section["widths"]]
        elif name == "hidden_dense_layers" and architecture == "paper":
            section["dense_widths"] = [(section["dense_widths"] or [section["filters"]])[0]] * value
        elif name in section and name != "training":
            section[name] = value
        else:
            raise SettingsError(
                f"parameter {name!r} does not belong to the architecture {architecture!r}",
                hint="search and train the same architecture (surrogate.search.architecture)",
            )
    return SurrogateSettings.from_mapping(settings.model_dump() | {architecture: section}, f"parameters of {architecture}")


def run(parameters: dict[str, Any], context: TrialContext) -> float:
    """Train with ``parameters`` for the epochs of the search and return the lowest validation loss.

    ``context.data`` holds the paths ``split`` (one) and ``frames``; training resumes from ``context.checkpoint_path``.
    """
    settings = SurrogateSettings.from_mapping(context.settings, "search")
    architecture = settings.search.architecture
    content = with_parameters(settings, architecture, parameters).model_dump()
    content[architecture]["training"]["epochs"] = settings.search.epochs
    settings = SurrogateSettings.from_mapping(content | {"seed": context.seed, "device": context.device}, "trial")
    split, runs = read_json(context.data["split"][0]), describe_runs(context.data["frames"])
    steps = settings.loss_steps(architecture)
    places = [part_places(split, runs, part, steps) for part in ("train", "validation")]
    return train(settings, architecture, runs, *places, context.checkpoint_path, report=context.report).best_loss
