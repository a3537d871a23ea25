"""Training of the auto-encoder: Adam on the mean squared error, the best epoch by validation error is kept."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..common.errors import CalandriaError, ConvergenceError
from ..common.progress import progress
from ..common.records import content_digest
from ..common.seeds import derived_seed, generator
from ..common.training import EarlyStopping, autocast, load_checkpoint, save_checkpoint, seeded_torch, select_device
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
    """

    weights: dict[str, Tensor]
    losses: list[dict[str, float | int | bool]]
    best_epoch: int
    best_mse: float


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
    report: Callable[[int, float], None] | None = None,
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
    report
        Called as ``report(epoch, validation_mse)`` after each epoch; an exception from it ends the training, after a
        checkpoint.

    Raises
    ------
    ConvergenceError
        When no epoch has a finite validation error.
    DeviceError
        When the device is not there.
    """
    device = select_device(settings.device)
    model = build(network, training[0].n_slices, images.image_size, seed).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    stopping = EarlyStopping(settings.patience)
    losses: list[dict[str, float | int | bool]] = []
    best: dict[str, Tensor] = {}
    work = content_digest(
        {
            "network": network.model_dump(),
            "training": settings.model_dump(exclude={"epochs", "checkpoint_every"}),
            "seed": seed,
            "image": [images.image_size, images.coding, images.antialias],
            "parts": [origin_rows(part) for part in (training, validation)],
            "inputs": dict(inputs or {}),
        }
    )
    saved = _saved(checkpoint_path, work, settings.epochs)
    if saved:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        stopping = EarlyStopping.from_state(saved["stopping"])
        losses, best = saved["losses"], saved["best"]

    def save() -> None:
        if checkpoint_path is not None:
            state = {
                "work": work,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "losses": losses,
                "best": best,
            }
            save_checkpoint(checkpoint_path, {**state, "stopping": stopping.state()})

    first = len(losses) + 1
    for epoch in progress(range(first, settings.epochs + 1), "training", unit="epoch"):
        if stopping.should_stop:
            break
        order = generator(seed, "order", epoch).permutation(len(training))
        train_mse = _epoch(model, optimizer, images, [training[index] for index in order], device, settings)
        validation_mse = mean_squared_error(model, images, validation, device, settings)
        is_best = stopping.update(epoch, validation_mse)
        losses.append({"epoch": epoch, "train_mse": train_mse, "validation_mse": validation_mse, "is_best": is_best})
        if is_best:
            best = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        ends = epoch == settings.epochs or stopping.should_stop
        if ends or epoch % settings.checkpoint_every == 0:
            save()
        if report is not None:
            try:
                report(epoch, validation_mse)
            except BaseException:
                save()
                raise
    if not best:
        raise ConvergenceError(
            f"no epoch of {len(losses)} had a finite validation error", hint="lower the learning rate (training.learning_rate)"
        )
    return Trained(best, losses, stopping.best_step, stopping.best)


def _saved(path: Path | None, work: str, epochs: int) -> dict[str, Any] | None:
    """Return the checkpoint if it is of the same work; scratch that cannot be read or is of other work is passed over."""
    if path is None or not path.exists():
        return None
    try:
        state = load_checkpoint(path)
    except CalandriaError:
        return None
    return state if state.get("work") == work and len(state["losses"]) <= epochs else None


def _batches(mini_volumes: Sequence[Origin], size: int) -> Iterator[Sequence[Origin]]:
    return (mini_volumes[start : start + size] for start in range(0, len(mini_volumes), size))


def _epoch(
    model: Autoencoder,
    optimizer: torch.optim.Optimizer,
    images: ResizedSlices,
    mini_volumes: Sequence[Origin],
    device: torch.device,
    settings: TrainingSettings,
) -> float:
    model.train()
    total = torch.zeros((), dtype=torch.float64, device=device)
    for members in _batches(mini_volumes, settings.batch_size):
        batch = images.batch(members).to(device)
        with autocast(device, settings.precision):
            rebuilt = model(batch)
        loss = torch.nn.functional.mse_loss(rebuilt.float(), batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += loss.detach().double() * len(members)
    return float(total) / len(mini_volumes)


@torch.inference_mode()
def mean_squared_error(
    model: Autoencoder,
    images: ResizedSlices,
    mini_volumes: Sequence[Origin],
    device: torch.device,
    settings: TrainingSettings,
) -> float:
    """Return the mean squared error per voxel over mini-volumes, without changing the model."""
    model.eval()
    total = torch.zeros((), dtype=torch.float64, device=device)
    for members in _batches(mini_volumes, settings.batch_size):
        batch = images.batch(members).to(device)
        with autocast(device, settings.precision):
            rebuilt = model(batch)
        total += (rebuilt.float() - batch).square().mean(dim=(1, 2, 3)).double().sum()
    return float(total) / len(mini_volumes)
