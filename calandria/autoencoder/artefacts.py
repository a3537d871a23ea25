"""The file of a trained auto-encoder: weights with all that is needed to use them again."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..base.errors import ContractError, InputFileError
from ..learning.training import load_checkpoint, save_checkpoint
from ..tomography.mini_volumes import Origin, origin_rows
from .models import Autoencoder
from .settings import AutoencoderSettings
from .splits import Split
from .training import Trained

KIND = "calandria-autoencoder-2"


@dataclass(frozen=True)
class Model:
    """A trained network and how it came about.

    Parameters
    ----------
    network
        The network at its best epoch, in evaluation mode.
    settings
        The settings of training; images must be made with these.
    slice_window, stride
        Of the mini-volumes that it learned from, slices.
    origins, split
        Those mini-volumes and their parts.
    train_mean
        Mean of all training voxels as numbers from -1 to 1, the best constant prediction.
    best_epoch, best_mse, n_epochs
        The epoch that was kept, its validation error, and the epochs that were run.
    """

    network: Autoencoder
    settings: AutoencoderSettings
    slice_window: int
    stride: int
    origins: tuple[Origin, ...]
    split: Split
    train_mean: float
    best_epoch: int
    best_mse: float
    n_epochs: int

    @cached_property
    def _parts(self) -> Mapping[tuple[str, int, str, int], str]:
        return {_key(origin): part for origin, part in zip(self.origins, self.split.parts, strict=True)}

    def part_of(self, origin: Origin) -> str:
        """Return train, validation or gap; ``unseen`` for mini-volumes that were not in the table of training."""
        return self._parts.get(_key(origin), "unseen")

    def check(self, origins: Sequence[Origin]) -> None:
        """Raise ContractError when mini-volumes have another number of slices than the model takes."""
        if origins[0].n_slices != self.slice_window:
            raise ContractError(
                f"mini-volumes have {origins[0].n_slices} slices; the model takes {self.slice_window}",
                hint="name the table with which the model was trained, or list one with its slice window",
            )


def _key(origin: Origin) -> tuple[str, int, str, int]:
    return origin.sample, origin.z_start, origin.last_sample, origin.z_stop


def write_model(
    path: str | os.PathLike,
    trained: Trained,
    settings: AutoencoderSettings,
    origins: Sequence[Origin],
    split: Split,
    *,
    train_mean: float,
    provenance: Mapping[str, Any],
) -> None:
    """Write a trained model whole or not at all."""
    state = {
        "kind": KIND,
        "weights": trained.weights,
        "settings": settings.trained(),
        "origins": origin_rows(origins),
        "split": {"kind": split.kind, "parts": list(split.parts), "n_shared_slices": split.n_shared_slices},
        "train_mean": train_mean,
        "best_epoch": trained.best_epoch,
        "best_mse": trained.best_loss,
        "n_epochs": len(trained.rows),
        "processes": trained.processes,
        "provenance": dict(provenance),
    }
    save_checkpoint(path, state)


def read_model(path: str | os.PathLike) -> Model:
    """Read a model that :func:`write_model` wrote.

    Raises
    ------
    InputFileError
        When the file holds something else.
    """
    state = load_checkpoint(path)
    if state.get("kind") != KIND:
        raise InputFileError(
            f"{str(path)!r} is of kind {state.get('kind')!r}; expected {KIND!r}", hint="name the model of train_autoencoder"
        )
    settings = AutoencoderSettings.from_mapping(state["settings"], str(path))
    origins = tuple(Origin(**row) for row in state["origins"])
    split = Split(state["split"]["kind"], tuple(state["split"]["parts"]), state["split"]["n_shared_slices"])
    network = Autoencoder(origins[0].n_slices, settings.image_size, **settings.network.model_dump())
    network.load_state_dict(state["weights"])
    return Model(
        network.eval(),
        settings,
        origins[0].n_slices,
        origins[0].stride,
        origins,
        split,
        *(state[key] for key in ("train_mean", "best_epoch", "best_mse", "n_epochs")),
    )
