"""Training of the auto-encoder: Adam on the mean squared error, the best epoch by validation error is kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..base.records import content_digest
from ..base.seeds import derived_seed, generator
from ..learning.process_group import Processes
from ..learning.training import Lesson, Pace, autocast, learn, seeded_torch, select_device, validation_loss
from ..tomography.mini_volumes import Origin, origin_rows
from .models import Autoencoder
from .preprocessing import ResizedSlices
from .settings import NetworkSettings, TrainingSettings

LOSS_COLUMNS = ("epoch", "train_mse", "validation_mse", "is_best")


@dataclass(frozen=True)
class Trained:
    """The best model of a training and how it got there.

    Parameters
    ----------
    weights
        State of the network at the epoch of the lowest validation error.
    losses
        One row per epoch: epoch (from 1), mean squared errors per voxel (training: mean over the epoch's steps), is_best.
    best_epoch, best_mse
        The epoch that was kept and its validation error.
    processes
        Numbers of processes that took part.
    """

    weights: dict[str, Tensor]
    losses: list[dict[str, float | int | bool]]
    best_epoch: int
    best_mse: float
    processes: list[int]


def build(network: NetworkSettings, slice_window: int, image_size: int, seed: int) -> Autoencoder:
    """Return a network with the weights of ``seed``."""
    with seeded_torch(derived_seed(seed, "weights")):
        return Autoencoder(slice_window, image_size, **network.model_dump())


def train(
    images: ResizedSlices,
    training: Sequence[Origin],
    validation: Sequence[Origin],
    *,
    network: NetworkSettings,
    settings: TrainingSettings,
    seed: int,
    inputs: Mapping[str, str] | None = None,
    checkpoint_path: Path | None = None,
    processes: Processes | None = None,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[int, float], None] = lambda epoch, error: None,
) -> Trained:
    """Train a network on mini-volumes, from the checkpoint if it belongs to the same work.

    A training that was killed and is called again in the same way ends with the same weights to the last bit (on the same
    device and number of threads): the order of each epoch has its own generator, and nothing else is drawn.

    Parameters
    ----------
    images
        Where the mini-volumes come from.
    training, validation
        The mini-volumes of each part, all of one slice window.
    network, settings, seed
        What to train and how.
    inputs
        Digests of the volumes; a checkpoint that was made from others is passed over.
    checkpoint_path
        Written every ``checkpoint_every`` epochs; None keeps none.
    processes
        Who trains together; None for this process alone on the device of the settings.
    stop, report
        As in learning.training.learn.

    Raises
    ------
    ConvergenceError, SettingsError, StoppedError
        As in learning.training.learn.
    DeviceError
        When the device is not there.
    """
    processes = processes or Processes(device=select_device(settings.device))
    work = content_digest(
        {
            "network": network.model_dump(),
            "training": settings.model_dump(exclude={"epochs", "checkpoint_every", "device"}),
            "seed": seed,
            "image": [images.image_size, images.coding, images.antialias],
            "parts": [origin_rows(part) for part in (training, validation)],
            "inputs": dict(inputs or {}),
        }
    )
    with seeded_torch(derived_seed(seed, "training"), processes.device):
        model = build(network, training[0].n_slices, images.image_size, seed).to(processes.device)
        learned = learn(
            MiniVolumeLesson(images, training, validation, settings, seed, processes.device),
            model,
            torch.optim.Adam(model.parameters(), lr=settings.learning_rate),
            Pace(settings.epochs, settings.batch_size, settings.checkpoint_every, settings.patience),
            identity=work,
            checkpoint_path=checkpoint_path,
            processes=processes,
            stop=stop,
            report=report,
        )
    names = ("epoch", "loss_train", "loss_validation", "is_best")
    losses = [dict(zip(LOSS_COLUMNS, (row[name] for name in names), strict=True)) for row in learned.rows]
    return Trained(learned.weights, losses, learned.best_epoch, learned.best_loss, learned.processes)


class MiniVolumeLesson(Lesson):
    """Learning to rebuild mini-volumes.

    Parameters
    ----------
    images
        Where the mini-volumes come from.
    training, validation
        The mini-volumes of each part.
    settings, seed
        How they are batched, and the seed of their order.
    device
        Where batches are put.
    """

    name, first_epoch = "auto-encoder", 1

    def __init__(
        self,
        images: ResizedSlices,
        training: Sequence[Origin],
        validation: Sequence[Origin],
        settings: TrainingSettings,
        seed: int,
        device: torch.device,
    ) -> None:
        self.images, self.settings, self.seed, self.device = images, settings, seed, device
        self.parts = {True: training, False: validation}
        self.n_training, self.n_validation = len(training), len(validation)

    def generator(self, epoch: int) -> np.random.Generator:
        """Return the generator of the order."""
        return generator(self.seed, "order", epoch)

    def batches(self, random: np.random.Generator) -> list[NDArray[np.int64]]:
        """Return the training mini-volumes in shuffled batches."""
        return self._batches(random.permutation(self.n_training))

    def validation_batches(self) -> list[NDArray[np.int64]]:
        """Return the validation mini-volumes in batches."""
        return self._batches(np.arange(self.n_validation))

    def _batches(self, order: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        size = self.settings.batch_size
        return [order[start : start + size] for start in range(0, len(order), size)]

    def batch(self, members: NDArray[np.int64], share: slice, random: np.random.Generator | None) -> Tensor:
        """Return the mini-volumes of a share."""
        part = self.parts[random is not None]
        return self.images.batch([part[index] for index in members[share]]).to(self.device)

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        """Return the mean squared error per voxel."""
        return nn.functional.mse_loss(self._rebuilt(model, batch), batch)

    def summed_loss(self, model: nn.Module, batch: Tensor, count: int) -> Tensor:
        """Return the sum of the mini-volumes' mean squared errors."""
        return (self._rebuilt(model, batch) - batch).square().mean(dim=(1, 2, 3)).double().sum()

    def _rebuilt(self, model: nn.Module, batch: Tensor) -> Tensor:
        with autocast(self.device, self.settings.precision):
            return model(batch).float()


def mean_squared_error(
    model: Autoencoder, images: ResizedSlices, mini_volumes: Sequence[Origin], device: torch.device, settings: TrainingSettings
) -> float:
    """Return the mean squared error per voxel over mini-volumes, without changing the model."""
    lesson = MiniVolumeLesson(images, [], mini_volumes, settings, 0, device)
    return validation_loss(lesson, model, Processes(device=device))
