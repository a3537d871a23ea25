"""What a search over auto-encoders tries: the paper's Table 2, slice window and stride among it."""

from collections.abc import Mapping
from typing import Any

import optuna

from ..base.volumes import open_labelled
from ..search.objective import TrialContext
from ..tomography.mini_volumes import list_origins
from .preprocessing import open_images
from .settings import AutoencoderSettings
from .splits import split_mini_volumes
from .training import train


def suggest(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw slice window, stride and the hyper-parameters of network and training from the space of the settings."""
    return AutoencoderSettings.from_mapping(settings["autoencoder"], "search").suggest(trial)


def run(parameters: dict[str, Any], context: TrialContext) -> float:
    """Train one auto-encoder and return its lowest validation error per voxel.

    The context's settings hold ``autoencoder`` (what AutoencoderSettings.searched returns), ``samples`` (in the order of the stack),
    ``split``, ``straddle`` and ``slice_axis``; its data hold one path per sample.
    """
    content = AutoencoderSettings.from_mapping(context.settings["autoencoder"], "search")
    settings = content.for_trial(parameters, seed=context.seed, device=context.device)
    learning = settings.learning
    learning = learning.model_copy(
        update={"checkpoint_every": context.control.get("checkpoint_every", learning.checkpoint_every)}
    )
    cache_mb = int(context.control.get("cache_mb", settings.cache_mb))
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
    split = split_mini_volumes(origins, context.settings["split"], settings.split.validation_fraction, settings.split.seed)
    with open_images(origins, volumes, settings, cache_mb) as images:
        trained = train(
            images,
            *([origins[index] for index in split.indices(part)] for part in ("train", "validation")),
            network=settings.network,
            learning=learning,
            inputs={name: digests[0] for name, digests in context.data_sha256.items()},
            checkpoint_path=context.checkpoint_path,
            report=context.report,
        )
    return trained.best_loss
