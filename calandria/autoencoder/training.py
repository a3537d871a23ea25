"""Training of the auto-encoder: Adam on the mean squared error, the best epoch by validation error is kept."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..base.records import content_digest
from ..base.seeds import derived_seed, generator
from ..learning.process_group import Processes
from ..learning.training import Learned as Trained
from ..learning.training import Lesson, Pace, autocast, learn, seeded_torch, select_device, validation_loss
from ..tomography.mini_volumes import Origin, origin_rows
from .models import Autoencoder
from .preprocessing import ResizedSlices
from .settings import RULES, AutoencoderLearning, NetworkSettings

__all__ = ["MiniVolumeLesson", "Trained", "build", "mean_squared_error", "train"]


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
    learning: AutoencoderLearning,
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
    network, learning
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
    processes, rules = processes or Processes(device=select_device(learning.device)), learning.training
    work = content_digest(
        {
            "version": RULES["train_autoencoder"].version,
            "network": network.model_dump(),
            "training": rules.identity(),
            "learning": [learning.seed, learning.precision],
            "image": [images.image_size, images.coding, images.antialias],
            "parts": [origin_rows(part) for part in (training, validation)],
            "inputs": dict(inputs or {}),
        }
    )
    with seeded_torch(derived_seed(learning.seed, "training"), processes.device):
        model = build(network, training[0].n_slices, images.image_size, learning.seed).to(processes.device)
        return learn(
            MiniVolumeLesson(images, training, validation, learning, processes.device),
            model,
            torch.optim.AdamW(model.parameters(), lr=rules.learning_rate, weight_decay=rules.weight_decay),
            Pace(rules, learning.checkpoint_every),
            identity=work,
            checkpoint_path=checkpoint_path,
            processes=processes,
            stop=stop,
            report=report,
        )


class MiniVolumeLesson(Lesson):
    """Learning to rebuild mini-volumes.

    Parameters
    ----------
    images
        Where the mini-volumes come from.
    training, validation
        The mini-volumes of each part.
    learning
        How they are batched, and the seed of their order.
    device
        Where batches are put.
    """

    name = "auto-encoder"

    def __init__(
        self,
        images: ResizedSlices,
        training: Sequence[Origin],
        validation: Sequence[Origin],
        learning: AutoencoderLearning,
        device: torch.device,
    ) -> None:
        self.images, self.learning, self.device = images, learning, device
        self.parts = {True: training, False: validation}
        self.n_training, self.n_validation = len(training), len(validation)

    def generator(self, epoch: int) -> np.random.Generator:
        """Return the generator of the order."""
        return generator(self.learning.seed, "order", epoch)

    def batches(self, random: np.random.Generator) -> list[NDArray[np.int64]]:
        """Return the training mini-volumes in shuffled batches."""
        return self._batches(random.permutation(self.n_training))

    def validation_batches(self) -> list[NDArray[np.int64]]:
        """Return the validation mini-volumes in batches."""
        return self._batches(np.arange(self.n_validation))

    def _batches(self, order: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        size = self.learning.training.batch_size
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
        with autocast(self.device, self.learning.precision):
            return model(batch).float()


def mean_squared_error(
    model: Autoencoder, images: ResizedSlices, mini_volumes: Sequence[Origin], device: torch.device, learning: AutoencoderLearning
) -> float:
    """Return the mean squared error per voxel over mini-volumes, without changing the model."""
    lesson = MiniVolumeLesson(images, [], mini_volumes, learning, device)
    return validation_loss(lesson, model, Processes(device=device))
