"""Training of a network on lag windows: early stopping, checkpoints that survive a kill, the same weights for the same seed."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..common.errors import ContractError, ConvergenceError, InputFileError
from ..common.progress import progress
from ..common.records import content_digest
from ..common.seeds import derived_seed, generator
from ..common.training import (
    EarlyStopping,
    autocast,
    load_checkpoint,
    restore_rng,
    rng_state,
    save_checkpoint,
    seeded_torch,
    select_device,
)
from . import VERSION
from .models import Batch, PressUnet, build, grid_remedy, stack_windows
from .settings import PaperSettings, PressUnetSettings, PressUnetTraining, SurrogateSettings
from .windows import Run, Window, WindowPlace, WindowReader, press_columns

LARGEST_EDGE_DIFFERENCE = 0.05
"""Relative difference of voxel edges up to which films are of one resolution; each may be off by calendering.voxels.largest_misfit."""
LOSS_COLUMNS = ("epoch", "loss_train", "loss_validation", "learning_rate", "is_best")


@dataclass(frozen=True)
class Trained:
    """A trained network with its evidence: the weights of the best epoch and one row per epoch."""

    model: nn.Module
    rows: list[dict[str, Any]]
    best_epoch: int
    best_loss: float


def check_runs_alike(runs: Sequence[Run], architecture: str) -> None:
    """Raise ContractError unless all runs share periodic sides and, nearly, the voxel edge; for ``paper`` the grid too."""
    for run in runs[1:]:
        if run.periodic != runs[0].periodic or not edges_alike(run.voxel_edge_um, runs[0].voxel_edge_um):
            raise ContractError(
                f"{run.name} has voxel_edge_um {run.voxel_edge_um:g} and periodic sides {run.periodic} (z, y, x), "
                f"{runs[0].name} {runs[0].voxel_edge_um:g} and {runs[0].periodic}",
                hint=f"train on films that were voxelized alike; voxel edges may differ by {LARGEST_EDGE_DIFFERENCE:.0%}",
            )
    films: dict[tuple[int, ...], list[str]] = {}
    for run in runs:
        films.setdefault(run.shape[1:], []).append(run.name)
    if architecture == "paper" and len(films) > 1:
        found = "; ".join(f"{grid}: {', '.join(names)}" for grid, names in films.items())
        raise ContractError(
            f"the network of paper is bound to one grid, and the films have {len(films)} (z, y, x): {found}",
            hint=grid_remedy(list(films)),
        )


def edges_alike(one_um: float, other_um: float) -> bool:
    """Return whether two voxel edges are one resolution to a network: boxes that hold whole voxels differ by a little."""
    return abs(one_um - other_um) <= LARGEST_EDGE_DIFFERENCE * min(one_um, other_um)


def augmented(window: Window, periodic: Sequence[bool], random: np.random.Generator, augments: bool, crop: int | None) -> Window:
    """Return the window flipped in x and y and shifted along those of them that are periodic, then cropped in x and y.

    All frames are treated alike; a cropped window is no longer periodic.
    """
    labels = window.labels
    for axis in (2, 3) if augments else ():
        if random.random() < 0.5:
            labels = np.flip(labels, axis)
        if periodic[axis - 1]:
            labels = np.roll(labels, int(random.integers(labels.shape[axis])), axis)
    if augments and labels.shape[2] == labels.shape[3] and periodic[1] == periodic[2] and random.random() < 0.5:
        labels = labels.swapaxes(2, 3)
    for axis in (2, 3) if crop else ():
        size = min(crop, labels.shape[axis])
        first = int(random.integers(labels.shape[axis] - size + 1))
        labels = np.moveaxis(np.moveaxis(labels, axis, 0)[first : first + size], 0, axis)
    return Window(np.ascontiguousarray(labels), window.press_position_um, window.thickness_um, window.first_um, window.lowest_um)


def learning_rate(epoch: int, epochs: int, first: float, last_fraction: float) -> float:
    """Return the rate of an epoch (from 0): a cosine from ``first`` to ``first * last_fraction`` in the last epoch.

    >>> learning_rate(0, 11, 1.0, 0.5), learning_rate(10, 11, 1.0, 0.5)
    (1.0, 0.5)
    """
    share = 0.5 * (1 + math.cos(math.pi * epoch / max(epochs - 1, 1)))
    return first * (last_fraction + (1 - last_fraction) * share)


def train(
    settings: SurrogateSettings,
    architecture: str,
    runs: Sequence[Run],
    train_places: Sequence[WindowPlace],
    validation_places: Sequence[WindowPlace],
    checkpoint_path: str | os.PathLike,
    *,
    report: Callable[[int, float], None] = lambda epoch, loss: None,
) -> Trained:
    """Train a network and return it with the weights of the epoch of the lowest validation loss.

    If ``checkpoint_path`` holds a checkpoint of the same settings, data and seed, training goes on from there and ends, on a
    CPU, in bitwise the same weights as if it had never been stopped; a checkpoint of anything else is overwritten.

    Parameters
    ----------
    settings, architecture
        What to train and how.
    runs
        The series that the places refer to; they share voxel edge and sides, for ``paper`` the grid too.
    train_places, validation_places
        The windows; each once (see windows.window_places).
    checkpoint_path
        Scratch file.
    report
        Called as ``report(epoch, validation_loss)`` after the checkpoint of each epoch; it may raise to end the training.

    Raises
    ------
    ContractError, DeviceError
        The runs differ in voxels, for ``paper`` in grid; the device is not there.
    ConvergenceError
        The loss became infinite or NaN.
    """
    check_runs_alike(runs, architecture)
    chosen = settings.architecture(architecture)
    rules, device = chosen.training, select_device(settings.device)
    identity = content_digest(
        {
            "version": VERSION,
            "architecture": architecture,
            "network": chosen.model_dump(),
            "common": [settings.lag_window, settings.seed, settings.precision],
            "windows": [
                [runs[place.run].digests[place.target - settings.lag_window : place.target + place.steps] for place in places]
                for places in (train_places, validation_places)
            ],
        }
    )
    with seeded_torch(derived_seed(settings.seed, "surrogate", architecture)), WindowReader(runs, settings.lag_window) as reader:
        model = build(architecture, chosen, settings.lag_window, runs[0].shape[1:]).to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=rules.learning_rate, weight_decay=rules.weight_decay, fused=True)
        stopping, rows, start, best = EarlyStopping(rules.patience), [], 0, None
        held = _checkpoint(checkpoint_path, identity)
        if held is not None:
            model.load_state_dict(held["model"])
            optimizer.load_state_dict(held["optimizer"])
            restore_rng(held["random"])
            stopping, rows, start, best = (
                EarlyStopping.from_state(held["stopping"]),
                held["rows"],
                held["epoch"] + 1,
                held["best"],
            )
            for row in rows:
                report(row["epoch"], row["loss_validation"])

        def kind(place: WindowPlace) -> tuple:
            return (*runs[place.run].shape[1:], runs[place.run].voxel_edge_um, place.steps)

        def batch(places: Sequence[WindowPlace], random: np.random.Generator | None) -> Batch:
            windows, run = [reader.window(place) for place in places], runs[places[0].run]
            whole = periodic = run.periodic
            if random is not None and isinstance(rules, PressUnetTraining):
                windows = [augmented(window, whole, random, rules.augment, rules.crop_voxels) for window in windows]
                if rules.crop_voxels:
                    sides = [w and n <= rules.crop_voxels for w, n in zip(whole[1:], run.shape[2:])]
                    periodic = (whole[0], *sides)
            return stack_windows(windows, run.voxel_edge_um, periodic, device)

        if start == 0 and isinstance(model, PressUnet):
            columns = [press_columns(runs[place.run], place, settings.lag_window) for place in train_places]
            model.fit_recovery(columns, runs[0].voxel_edge_um)
        for epoch in progress(range(start, rules.epochs), f"training {architecture}", unit="epoch"):
            if stopping.should_stop:
                break
            random = generator(settings.seed, "surrogate", architecture, "epoch", epoch)
            rate = learning_rate(epoch, rules.epochs, rules.learning_rate, rules.final_learning_rate_fraction)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss_train = _pass(model, train_places, kind, rules.batch_size, batch, settings, device, random, optimizer)
            loss_validation = _pass(model, validation_places, kind, rules.batch_size, batch, settings, device)
            if not math.isfinite(loss_train + loss_validation):
                raise ConvergenceError(
                    f"training {architecture}: the loss of epoch {epoch} is {loss_train} (training), {loss_validation} (validation)",
                    hint="lower the learning rate",
                )
            is_best = stopping.update(epoch, loss_validation)
            if is_best:
                best = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
            rows.append(dict(zip(LOSS_COLUMNS, (epoch, loss_train, loss_validation, rate, is_best), strict=True)))
            if (epoch + 1) % settings.checkpoint_every == 0 or epoch + 1 == rules.epochs or stopping.should_stop:
                save_checkpoint(
                    checkpoint_path,
                    {
                        "identity": identity, "epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict(),
                        "random": rng_state(), "stopping": stopping.state(), "rows": rows,
                        # the same tensors are written once, and the best epoch is often the last
                        "best": model.state_dict() if is_best else best,
                    },
                )  # fmt: skip
            report(epoch, loss_validation)
        model.load_state_dict(best)
        model.eval()
        return Trained(model, rows, stopping.best_step, stopping.best)


def _checkpoint(path: str | os.PathLike, identity: str) -> dict[str, Any] | None:
    if not Path(path).exists():
        return None
    held = load_checkpoint(path)
    return held if held.get("identity") == identity else None


def batches(kinds: Sequence, size: int, random: np.random.Generator | None = None) -> list[NDArray[np.int64]]:
    """Return the indices of windows in batches of ``size``, windows of the same kind (grid, voxel edge, steps) together.

    With ``random`` windows and batches are shuffled, and a last batch of one window joins another, since batch norm learns
    nothing from it.

    >>> [batch.tolist() for batch in batches([2, 1, 2, 2], 2)]
    [[1], [0, 2], [3]]
    """
    order = np.arange(len(kinds)) if random is None else random.permutation(len(kinds))
    parts = []
    for kind in sorted(set(kinds)):
        group = order[[kinds[index] == kind for index in order]]
        found = [group[first : first + size] for first in range(0, len(group), size)]
        if random is not None and size > 1 and len(found) > 1 and len(found[-1]) == 1:
            found[-2:] = [np.concatenate(found[-2:])]
        parts += found
    return parts if random is None else [parts[index] for index in random.permutation(len(parts))]


def _pass(
    model: nn.Module,
    places: Sequence[WindowPlace],
    kind: Callable[[WindowPlace], tuple],
    batch_size: int,
    batch: Callable[[Sequence[WindowPlace], np.random.Generator | None], Batch],
    settings: SurrogateSettings,
    device: torch.device,
    random: np.random.Generator | None = None,
    optimizer: torch.optim.Optimizer | None = None,
) -> float:
    """Go through the windows once; return the mean loss over windows. With an optimizer the network learns, else it is only measured."""
    model.train(optimizer is not None)
    parts = batches([kind(place) for place in places], batch_size, random)
    total = 0.0
    with torch.set_grad_enabled(optimizer is not None):
        for part in parts:
            windows = batch([places[index] for index in part], random)
            with autocast(device, settings.precision):
                loss = model.window_loss(windows)
            total += float(loss.detach()) * len(part)
            if optimizer is not None:
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
    return total / len(places)


def model_record(settings: SurrogateSettings, architecture: str, trained: Trained, run: Run) -> dict[str, Any]:
    """Return what a model file holds: the weights, and all that is needed to build the network again."""
    return {
        "kind": "calandria-surrogate-1",
        "architecture": architecture,
        "settings": settings.architecture(architecture).model_dump(),
        "lag_window": settings.lag_window,
        "grid": list(run.shape[1:]),
        "voxel_edge_um": run.voxel_edge_um,
        "best_epoch": trained.best_epoch,
        "best_loss": trained.best_loss,
        "n_weights": sum(weights.numel() for weights in trained.model.parameters()),
        "weights": {name: value.detach().cpu() for name, value in trained.model.state_dict().items()},
    }


def load_model(path: str | os.PathLike) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network of a model file, ready to predict on the CPU, and the file's other facts."""
    record = load_checkpoint(path)
    if record.get("kind") != "calandria-surrogate-1":
        raise InputFileError(
            f"{str(path)!r} is not a surrogate model; it holds {', '.join(map(str, list(record)[:5]))}",
            hint="name the file that train_surrogate wrote with --output",
        )
    kind = PaperSettings if record["architecture"] == "paper" else PressUnetSettings
    model = build(record["architecture"], kind.from_mapping(record["settings"], str(path)), record["lag_window"], record["grid"])
    model.load_state_dict(record.pop("weights"))
    return model.eval(), record
