"""Training of a network on lag windows: early stopping, checkpoints that survive a kill, the same weights for the same seed."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..base.errors import ContractError, InputFileError
from ..base.records import content_digest
from ..base.seeds import derived_seed, generator
from ..learning.process_group import Processes
from ..learning.training import LOSS_COLUMNS as LOSS_COLUMNS
from ..learning.training import Lesson, Pace, autocast, learn, load_checkpoint, seeded_torch, select_device
from .models import Batch, FrameModel, stack_windows
from .networks import NetworkSettings, grid_remedy, network_of
from .settings import RULES, network_settings
from .windows import PressColumns, Run, Window, WindowPlace, WindowReader, press_columns

KIND = "calandria-surrogate-2"
CACHE_MB = 1000
LARGEST_EDGE_DIFFERENCE = 0.05
"""Relative difference of voxel edges up to which films are of one resolution; each may be off by calendering.voxels.largest_misfit."""


@dataclass(frozen=True)
class Trained:
    """A trained network with its evidence: the weights of the best epoch (from 1), one row per epoch, the numbers of processes."""

    model: FrameModel
    rows: list[dict[str, Any]]
    best_epoch: int
    best_loss: float
    processes: list[int]


def check_runs_alike(runs: Sequence[Run], needs_one_grid: bool) -> None:
    """Raise ContractError unless all runs share periodic sides and, nearly, the voxel edge; where it is needed, the grid too."""
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
    if needs_one_grid and len(films) > 1:
        found = "; ".join(f"{grid}: {', '.join(names)}" for grid, names in films.items())
        raise ContractError(
            f"the network is bound to one grid, and the films have {len(films)} (z, y, x): {found}",
            hint=grid_remedy(list(films)),
        )


def edges_alike(one_um: float, other_um: float) -> bool:
    """Return whether two voxel edges are one resolution to a network: boxes that hold whole voxels differ by a little."""
    return abs(one_um - other_um) <= LARGEST_EDGE_DIFFERENCE * min(one_um, other_um)


class Changes(NamedTuple):
    """How a window is changed: flips, rolls and first voxels along y and x, None to keep all; whether y and x change places."""

    flips: tuple[bool, bool]
    rolls: tuple[int, int]
    swaps: bool
    firsts: tuple[int, int] | None


def drawn_changes(
    grid: Sequence[int], periodic: Sequence[bool], random: np.random.Generator, augments: bool, crop: int | None
) -> Changes:
    """Draw how windows on a grid (z, y, x) are changed: flips in x and y, shifts along those of them that are periodic, the crop."""
    flips, rolls, sizes = [False, False], [0, 0], list(grid[1:])
    for axis in range(2) if augments else ():
        flips[axis] = random.random() < 0.5
        if periodic[axis + 1]:
            rolls[axis] = int(random.integers(sizes[axis]))
    swaps = augments and sizes[0] == sizes[1] and periodic[1] == periodic[2] and random.random() < 0.5
    firsts = None
    if crop:
        y, x = (int(random.integers(size - min(crop, size) + 1)) for size in sizes)
        firsts = (y, x)
    return Changes((flips[0], flips[1]), (rolls[0], rolls[1]), swaps, firsts)


def changed(window: Window, changes: Changes, crop: int | None) -> Window:
    """Return the window with all frames changed alike; a cropped window is no longer periodic."""
    labels = window.labels
    for axis, flips, roll in zip((2, 3), changes.flips, changes.rolls):
        labels = np.roll(np.flip(labels, axis) if flips else labels, roll, axis)
    if changes.swaps:
        labels = labels.swapaxes(2, 3)
    if changes.firsts is not None and crop is not None:
        y, x = changes.firsts
        labels = labels[:, :, y : y + crop, x : x + crop]
    return replace(window, labels=np.ascontiguousarray(labels))


def train(
    network: NetworkSettings,
    lag_window: int,
    runs: Sequence[Run],
    train_places: Sequence[WindowPlace],
    validation_places: Sequence[WindowPlace],
    checkpoint_path: str | os.PathLike,
    *,
    processes: Processes | None = None,
    cache_mb: int = CACHE_MB,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[int, float], None] = lambda epoch, loss: None,
) -> Trained:
    """Train a network and return it with the weights of the epoch of the lowest validation loss.

    If ``checkpoint_path`` holds a checkpoint of the same settings, data and seed, training resumes there and ends, on a
    CPU, in bitwise the same weights as if it had never been stopped; a checkpoint of anything else is overwritten.

    Parameters
    ----------
    network
        What to train and how.
    lag_window
        Frames that the network sees.
    runs
        The series that the places refer to; they share voxel edge and sides, and the grid where the network is bound to one.
    train_places, validation_places
        The windows; each once (see windows.window_places).
    checkpoint_path
        Scratch file.
    processes
        Who trains together; None for this process alone on the device of the settings.
    cache_mb
        Memory for frames that are read, MB.
    stop, report
        As in learning.training.learn.

    Raises
    ------
    ContractError, DeviceError
        The runs differ in voxels, or in the grid that the network is bound to; the device is not there.
    ConvergenceError, SettingsError, StoppedError
        As in learning.training.learn.
    """
    entry, learning = network_of(network.kind), network.learning
    check_runs_alike(runs, entry.needs_one_grid)
    processes = processes or Processes(device=select_device(learning.device))
    rules, device = learning.training, processes.device
    windows = [
        [runs[place.run].digests[place.target - lag_window : place.target + place.steps] for place in places]
        for places in (train_places, validation_places)
    ]
    seed = derived_seed(learning.seed, "surrogate", entry.seed_word)
    with seeded_torch(seed, device), WindowReader(runs, lag_window, cache_mb * 10**6) as reader:
        model = entry.made(network, lag_window, runs[0].shape[1:]).to(device)
        learned = learn(
            WindowLesson(network, reader, train_places, validation_places, device),
            model,
            torch.optim.AdamW(model.parameters(), lr=rules.learning_rate, weight_decay=rules.weight_decay, fused=True),
            Pace(rules, learning.checkpoint_every, largest_gradient=1.0),
            identity=_identity(network, lag_window, windows),
            checkpoint_path=checkpoint_path,
            processes=processes,
            stop=stop,
            report=report,
        )
    model.load_state_dict(learned.weights)
    return Trained(model.eval(), learned.rows, learned.best_epoch, learned.best_loss, learned.processes)


def _identity(network: NetworkSettings, lag_window: int, windows: Sequence[Sequence[Sequence[str]]]) -> str:
    """Return the digest of all that a training's result depends on, but for the device."""
    content = network.trained()
    content["learning"] = {**content["learning"], "device": None, "training": network.learning.training.identity()}
    return content_digest(
        {"version": RULES["train_surrogate"].version, "network": content, "lag_window": lag_window, "windows": windows}
    )


class WindowLesson(Lesson):
    """Learning the frames that follow lag windows.

    Parameters
    ----------
    network
        What is trained and how.
    reader
        The windows of the runs.
    training, validation
        The windows' places.
    device
        Where batches are put.
    """

    def __init__(
        self,
        network: NetworkSettings,
        reader: WindowReader,
        training: Sequence[WindowPlace],
        validation: Sequence[WindowPlace],
        device: torch.device,
    ) -> None:
        self.name, self.network, self.reader, self.runs, self.device = network.kind, network, reader, reader.runs, device
        self.seed_word = network_of(network.kind).seed_word
        self.places = {True: training, False: validation}
        self.kinds = {learns: [self._kind(place) for place in places] for learns, places in self.places.items()}
        self.n_training, self.n_validation = len(training), len(validation)

    def _kind(self, place: WindowPlace) -> tuple:
        run = self.runs[place.run]
        return (*run.shape[1:], run.voxel_edge_um, place.steps)

    def generator(self, epoch: int) -> np.random.Generator:
        """Return the generator of order, augmentation and crops; its streams count epochs from 0."""
        return generator(self.network.learning.seed, "surrogate", self.seed_word, "epoch", epoch - 1)

    def batches(self, random: np.random.Generator) -> list[NDArray[np.int64]]:
        """Return the training windows in shuffled batches."""
        return batches(self.kinds[True], self.network.learning.training.batch_size, random)

    def validation_batches(self) -> list[NDArray[np.int64]]:
        """Return the validation windows in batches."""
        return batches(self.kinds[False], self.network.learning.training.batch_size)

    def begin(self, model: nn.Module) -> None:
        """Prepare the untrained network from the columns of the training windows."""
        cast(FrameModel, model).prepare([self._columns(place) for place in self.places[True]], self.runs[0].voxel_edge_um)

    def _columns(self, place: WindowPlace) -> PressColumns:
        return press_columns(self.runs[place.run], place, self.reader.lag_window)

    def batch(self, members: NDArray[np.int64], share: slice, random: np.random.Generator | None) -> Batch:
        """Return the windows of a share; training windows are augmented and cropped where the network wants that."""
        places = [self.places[random is not None][index] for index in members]
        run, wanted = self.runs[places[0].run], self.network.augmentation
        windows, periodic = [self.reader.window(place) for place in places[share]], run.periodic
        if random is not None and wanted is not None:
            crop = wanted.crop_voxels
            changes = [drawn_changes(run.shape[1:], run.periodic, random, wanted.augments, crop) for _ in places]
            windows = [changed(window, change, crop) for window, change in zip(windows, changes[share], strict=True)]
            if crop:
                sides = [wraps and n <= crop for wraps, n in zip(run.periodic[1:], run.shape[2:])]
                periodic = (run.periodic[0], *sides)
        tallest = max(self._columns(place).thickness_um.max() for place in places)
        return replace(stack_windows(windows, run.voxel_edge_um, periodic, self.device), tallest_um=float(tallest))

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the mean loss of windows."""
        with autocast(self.device, self.network.learning.precision):
            return cast(FrameModel, model).window_loss(batch)


def batches(kinds: Sequence, size: int, random: np.random.Generator | None = None) -> list[NDArray[np.int64]]:
    """Return the indices of windows in batches of ``size``, windows of the same kind (grid, voxel edge, steps) together.

    With ``random`` windows and batches are shuffled, and a last batch of one window joins another, since batch norm learns
    nothing from it.

    >>> [batch.tolist() for batch in batches([2, 1, 2, 2], 2)]
    [[1], [0, 2], [3]]
    """
    order = np.arange(len(kinds)) if random is None else random.permutation(len(kinds))
    groups: dict[Any, list[int]] = {}
    for index in order:
        groups.setdefault(kinds[index], []).append(index)
    parts = []
    for kind in sorted(groups):
        group = np.array(groups[kind])
        found = [group[first : first + size] for first in range(0, len(group), size)]
        if random is not None and size > 1 and len(found) > 1 and len(found[-1]) == 1:
            found[-2:] = [np.concatenate(found[-2:])]
        parts += found
    return parts if random is None else [parts[index] for index in random.permutation(len(parts))]


def model_record(network: NetworkSettings, lag_window: int, trained: Trained, run: Run) -> dict[str, Any]:
    """Return what a model file holds: the weights, and all that is needed to build the network again."""
    return {
        "kind": KIND,
        "network": network.model_dump(mode="json"),
        "lag_window": lag_window,
        "grid": list(run.shape[1:]),
        "voxel_edge_um": run.voxel_edge_um,
        "best_epoch": trained.best_epoch,
        "best_loss": trained.best_loss,
        "processes": trained.processes,
        "n_weights": sum(weights.numel() for weights in trained.model.parameters()),
        "weights": {name: value.detach().cpu() for name, value in trained.model.state_dict().items()},
    }


def load_model(path: str | os.PathLike) -> tuple[FrameModel, dict[str, Any]]:
    """Return the network of a model file, ready to predict on the CPU, and the file's other facts.

    Raises InputFileError when the file is something else, SettingsError when its network is not registered here.
    """
    record = load_checkpoint(path)
    if record.get("kind") != KIND:
        raise InputFileError(
            f"{str(path)!r} is not a surrogate model of kind {KIND}; it holds {', '.join(map(str, list(record)[:5]))}",
            hint="name the file that train_surrogate of this version wrote with --output",
        )
    network = network_settings(record["network"], str(path))
    model = network_of(network.kind).made(network, record["lag_window"], record["grid"])
    model.load_state_dict(record.pop("weights"))
    return model.eval(), record
