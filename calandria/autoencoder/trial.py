"""What a search over auto-encoders tries: the paper's Table 2, slice window and stride among it."""

from collections.abc import Mapping
from typing import Any

import optuna

from ..base.records import file_digest
from ..base.volumes import open_labelled
from ..search.objective import TrialContext
from ..tomography.mini_volumes import list_origins
from .preprocessing import open_images
from .settings import SpaceSettings, from_training_slice
from .splits import split_mini_volumes
from .training import train


def suggest(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw slice window, stride and the hyper-parameters of network and training from the space of the settings."""
    space = SpaceSettings.from_mapping(settings["space"], "space")
    choices = {
        "slice_window": space.slice_windows,
        "stride": space.strides,
        "conv_layers": space.conv_layers,
        "hidden_neurons": space.hidden_neurons,
        "epochs": space.epochs,
        "batch_size": space.batch_sizes,
        "learning_rate": space.learning_rates,
    }
    return {name: trial.suggest_categorical(name, list(values)) for name, values in choices.items()}


def run(parameters: dict[str, Any], context: TrialContext) -> float:
    """Train one auto-encoder and return its lowest validation error per voxel.

    The context's settings hold ``autoencoder`` (the settings of the stage), ``samples`` (in the order of the stack),
    ``split``, ``straddle`` and ``slice_axis``; its data hold one path per sample.
    """
    settings = from_training_slice(context.settings["autoencoder"], "autoencoder").with_parameters(
        {**parameters, "device": context.device}
    )
    volumes = {name: context.data[name][0] for name in context.settings["samples"]}
    axis = context.settings["slice_axis"]
    n_slices = {}
    for name, path in volumes.items():
        with open_labelled(path) as (labels, _):
            n_slices[name] = labels.shape["zyx".index(axis)]
    origins = list_origins(
        n_slices,
        parameters["slice_window"],
        parameters["stride"],
        straddle=context.settings["straddle"],
        slice_axis=axis,
    )
    split = split_mini_volumes(origins, context.settings["split"], settings.validation_fraction, settings.seed)
    with open_images(origins, volumes, settings) as images:
        trained = train(
            images,
            *([origins[index] for index in split.indices(part)] for part in ("train", "validation")),
            network=settings.network,
            settings=settings.training,
            seed=context.seed,
            inputs={name: file_digest(path) for name, path in volumes.items()},
            checkpoint_path=context.checkpoint_path,
            report=context.report,
        )
    return trained.best_mse
