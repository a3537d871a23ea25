"""What every stage that trains a network shares: one loop on one process or several, checkpoints that survive a kill, early stopping."""

import contextlib
import math
import os
import pickle
import time
import warnings
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..base.errors import CalandriaError, ConvergenceError, InputFileError, SettingsError, StoppedError
from ..base.files import existing_file, raise_machine_error, replacing
from ..base.progress import progress
from .devices import autocast, restore_rng, rng_state, seeded_torch, select_device
from .process_group import Processes

__all__ = [
    "EarlyStopping", "Learned", "Lesson", "Pace", "autocast", "learn", "load_checkpoint", "restore_rng", "rng_state",
    "save_checkpoint", "seeded_torch", "select_device",
]  # fmt: skip

LOSS_COLUMNS = ("epoch", "loss_train", "loss_validation", "learning_rate", "is_best")
KIND = "calandria-checkpoint-1"
CHECKPOINT_SECONDS = 600.0
"""Time after which a checkpoint is written at the next step, whatever epochs take: a job that is killed loses no more."""


def save_checkpoint(path: str | os.PathLike, state: Mapping[str, Any]) -> None:
    """Write tensors, numbers, text, lists and dicts to a file, whole or not at all."""
    with replacing(path) as unfinished, open(unfinished, "wb") as stream:  # a path would leave its name in the archive
        torch.save(dict(state), stream)


def load_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; only tensors and plain values are accepted, never code.

    Raises InputFileError when the file is missing or is not a checkpoint.
    """
    found = existing_file(path, "checkpoint")
    try:
        zipfile.ZipFile(found).close()  # torch also reads older formats, which hold code
        state = torch.load(found, map_location="cpu", weights_only=True)
    except (
        zipfile.BadZipFile,
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        LookupError,
        ValueError,
        TypeError,
    ) as error:
        raise_machine_error(error, path)
        raise InputFileError(
            f"{str(Path(path))!r} is not a checkpoint ({type(error).__name__}); expected a file of learning.training.save_checkpoint",
            hint="copy it again if it was cut short, or move it away: the training that writes it then starts from the beginning",
        ) from error
    if not isinstance(state, dict):
        raise InputFileError(
            f"{str(Path(path))!r} holds {type(state).__name__}; expected a dictionary",
            hint="name the model that a training wrote",
        )
    return state


@dataclass
class EarlyStopping:
    """Remembers the lowest validation loss and tells when ``patience`` steps brought no lower one.

    Parameters
    ----------
    patience
        Steps without a new lowest loss after which to stop; None never stops.
    best, best_step, stale
        The lowest loss so far, its step, and the steps since then.

    >>> stopping = EarlyStopping(patience=1)
    >>> [stopping.update(step, loss) for step, loss in enumerate([2.0, 1.0, 1.5])], stopping.should_stop
    ([True, True, False], True)
    """

    patience: int | None
    best: float = float("inf")
    best_step: int = -1
    stale: int = 0

    def update(self, step: int, loss: float) -> bool:
        """Note the loss of a step; return whether it is the lowest so far. NaN never is."""
        if loss < self.best:
            self.best, self.best_step, self.stale = float(loss), step, 0
            return True
        self.stale += 1
        return False

    @property
    def should_stop(self) -> bool:
        """Whether patience is at its end."""
        return self.patience is not None and self.stale >= self.patience

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"patience": self.patience, "best": self.best, "best_step": self.best_step, "stale": self.stale}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Return what :meth:`state` described."""
        return cls(**state)


class Lesson(ABC):
    """What a stage teaches: its windows, batch by batch, and their loss. The loop around it is :func:`learn`.

    Everything random is drawn for whole batches, so that any number of processes sees the same windows changed in the same way.
    """

    name: str
    n_training: int
    n_validation: int
    first_epoch: int = 0

    @abstractmethod
    def generator(self, epoch: int) -> np.random.Generator:
        """Return the generator of an epoch."""

    @abstractmethod
    def batches(self, random: np.random.Generator) -> Sequence[NDArray[np.int64]]:
        """Return the training windows of an epoch, each once, in batches in the order of learning."""

    @abstractmethod
    def validation_batches(self) -> Sequence[NDArray[np.int64]]:
        """Return the validation windows, each once, in batches."""

    @abstractmethod
    def batch(self, members: NDArray[np.int64], share: slice, random: np.random.Generator | None) -> Any:
        """Return those windows of a batch that ``share`` takes, on the device.

        With ``random`` they are training windows, and what is drawn is drawn for all members; without, they are validation windows.
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the mean loss over the windows of what :meth:`batch` returned."""

    def summed_loss(self, model: nn.Module, batch: Any, count: int) -> Tensor:
        """Return the sum of the losses of ``count`` validation windows, float64."""
        return self.loss(model, batch).double() * count

    def learning_rate(self, epoch: int) -> float | None:
        """Return the step size of an epoch, None to keep the optimizer's."""
        return None

    def begin(self, model: nn.Module) -> None:  # noqa: B027 - most have nothing to prepare
        """Prepare an untrained network; not called where a checkpoint is."""


@dataclass(frozen=True)
class Pace:
    """How long and how carefully is learned.

    Parameters
    ----------
    epochs, batch_size
        Passes at most; windows per update over all processes.
    checkpoint_every
        Epochs between two checkpoints at most; CHECKPOINT_SECONDS after one the next is written too.
    patience
        As in :class:`EarlyStopping`.
    largest_gradient
        Norm to which gradients are cut, None for any.
    """

    epochs: int
    batch_size: int
    checkpoint_every: int
    patience: int | None
    largest_gradient: float | None = None


@dataclass(frozen=True)
class Learned:
    """What a training ends with.

    Parameters
    ----------
    weights
        Of the epoch of the lowest validation loss, on the CPU.
    rows
        LOSS_COLUMNS of each epoch.
    best_epoch, best_loss
        That epoch and its validation loss.
    processes
        Numbers of processes that took part, more than one where a training was resumed by another number.
    """

    weights: dict[str, Tensor]
    rows: list[dict[str, Any]]
    best_epoch: int
    best_loss: float
    processes: list[int]


class _Loss(nn.Module):
    """The loss as a module, which is what averages gradients while they are computed."""

    def __init__(self, lesson: Lesson, model: nn.Module) -> None:
        super().__init__()
        self.lesson, self.model = lesson, model

    def forward(self, batch: Any) -> Tensor:
        return self.lesson.loss(self.model, batch)


def learn(
    lesson: Lesson,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    pace: Pace,
    *,
    identity: str,
    checkpoint_path: str | os.PathLike | None,
    processes: Processes,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[int, float], None] = lambda epoch, loss: None,
) -> Learned:
    """Train a network until its epochs or its patience end; a checkpoint of the same work is gone on from.

    Each batch is dealt to the processes, losses are weighted by the windows behind them, batch norm and dropout see the whole batch;
    so the result is that of one process up to rounding, and a checkpoint may be gone on from by any number of processes. By the
    same number (one, or two on CPUs) it ends in the same bits as an uninterrupted training.

    Parameters
    ----------
    lesson, model, optimizer, pace
        What is learned by what; the model is on ``processes.device``.
    identity
        Digest of all that the result depends on; a checkpoint of another identity is overwritten.
    checkpoint_path
        Written by the first process every ``checkpoint_every`` epochs, CHECKPOINT_SECONDS after the last time, and when the
        training is left early; None keeps none.
    processes
        Who takes part.
    stop
        Asked before each step; when it is true in any process, all save and raise StoppedError.
    report
        Called as ``report(epoch, validation_loss)`` after the checkpoint of each epoch, and again for past epochs where a
        checkpoint is gone on from; it may raise to end the training.

    Raises
    ------
    ConvergenceError
        A loss became infinite or NaN.
    SettingsError
        There are more processes than windows in a batch.
    StoppedError
        See ``stop``.
    """
    if processes.size > pace.batch_size:
        raise SettingsError(
            f"training {lesson.name}: a batch of {pace.batch_size} (batch_size) cannot be dealt to {processes.size} processes",
            hint=f"set batch_size to {processes.size} or more, better a multiple of it, or start fewer processes",
        )
    device, stopping = processes.device, EarlyStopping(pace.patience)
    rows: list[dict[str, Any]] = []
    best: dict[str, Tensor] = {}
    numbers, saved_at = {processes.size}, time.monotonic()
    held = processes.once(partial(_held, checkpoint_path, identity, pace.epochs))
    if held is None:
        lesson.begin(model)
    else:
        model.load_state_dict(held["model"])
        optimizer.load_state_dict(held["optimizer"])
        restore_rng(held["random"], device)
        stopping, rows, best = EarlyStopping.from_state(held["stopping"]), held["rows"], held["best"]
        numbers |= set(held["processes"])
        for row in rows:
            report(row["epoch"], row["loss_validation"])

    def save(done: int, step: int, total: Tensor, random: np.random.Generator) -> None:
        """Write what is needed to go on after ``done`` epochs and ``step`` steps of the next one."""
        nonlocal saved_at
        totals, saved_at = processes.gathered(float(total)), time.monotonic()
        if checkpoint_path is None or not processes.is_first:
            return
        weights = model.state_dict()
        is_best = (
            step == 0 and bool(rows) and stopping.stale == 0
        )  # the same tensors are written once, and the best epoch is often the last
        save_checkpoint(
            checkpoint_path,
            {
                "kind": KIND, "identity": identity, "epoch": done, "step": step, "totals": totals, "processes": sorted(numbers),
                "model": weights, "optimizer": optimizer.state_dict(), "random": rng_state(device, order=random),
                "stopping": stopping.state(), "rows": rows, "best": weights if is_best else best,
            },
        )  # fmt: skip

    def heed(done: int, step: int, total: Tensor, random: np.random.Generator) -> None:
        wish = processes.largest(2 if stop() else int(time.monotonic() - saved_at > CHECKPOINT_SECONDS))
        if wish:
            save(done, step, total, random)
        if wish == 2:
            processes.any(False)  # all wait for the one that writes, since launchers kill what is left once the first has ended
            raise StoppedError(
                f"training {lesson.name} was stopped by a signal after {done} epochs and {step} steps; a checkpoint was written",
                hint="give the same command again; it goes on from there",
            )

    with _joint_layers(model, processes) as joint:
        learner = processes.averaging(_Loss(lesson, model))
        left: Iterable[int] = range(held["epoch"] if held else 0, pace.epochs)
        if processes.is_first:
            left = progress(left, f"training {lesson.name}", unit="epoch")
        for done in left:
            if stopping.should_stop:
                break
            epoch = done + lesson.first_epoch
            random, rate = lesson.generator(epoch), lesson.learning_rate(epoch)
            for group in optimizer.param_groups if rate is not None else ():
                group["lr"] = rate
            parts, first, total = lesson.batches(random), 0, torch.zeros((), dtype=torch.float64, device=device)
            if held and held["step"] and done == held["epoch"]:
                first, total = held["step"], total + processes.own_total(held["totals"])
                restore_rng(held["random"], device, order=random)
            model.train()
            for step in range(first, len(parts)):
                heed(done, step, total, random)
                members = parts[step]
                joint.take(members, processes)
                # a process without a window computes one without weight, since the others wait for its part of the sums
                loss = learner(lesson.batch(members, joint.share if joint.count else slice(0, 1), random))
                optimizer.zero_grad(set_to_none=True)
                (loss if processes.size == 1 else loss * (joint.count * processes.size / joint.total)).backward()
                if pace.largest_gradient is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), pace.largest_gradient)
                optimizer.step()
                total += loss.detach().double() * joint.count
            loss_train = math.fsum(processes.gathered(float(total))) / lesson.n_training
            heeding = partial(heed, done, len(parts), total, random)
            loss_validation = validation_loss(lesson, model, processes, heeding)
            if not math.isfinite(loss_train + loss_validation):
                raise ConvergenceError(
                    f"training {lesson.name}: the loss of epoch {epoch} is not finite: {loss_train} (training), {loss_validation} (validation)",
                    hint="lower the learning rate",
                )
            is_best = stopping.update(epoch, loss_validation)
            if is_best:
                best = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
            now = optimizer.param_groups[0]["lr"]
            rows.append(dict(zip(LOSS_COLUMNS, (epoch, loss_train, loss_validation, now, is_best), strict=True)))
            is_saved = (done + 1) % pace.checkpoint_every == 0 or done + 1 == pace.epochs or stopping.should_stop
            if is_saved:
                save(done + 1, 0, total, random)
            try:
                report(epoch, loss_validation)
            except BaseException:
                if not is_saved:
                    save(done + 1, 0, total, random)
                raise
    return Learned(best, rows, stopping.best_step, stopping.best, sorted(numbers))


@torch.no_grad()
def validation_loss(lesson: Lesson, model: nn.Module, processes: Processes, between: Callable[[], None] = lambda: None) -> float:
    """Return the mean loss over the validation windows; whole batches are dealt to the processes, ``between`` is called before each."""
    model.eval()
    parts = lesson.validation_batches()
    total = torch.zeros((), dtype=torch.float64, device=processes.device)
    for first in range(0, len(parts), processes.size):
        between()
        for members in parts[first : first + processes.size][processes.launch.rank :][:1]:
            total += lesson.summed_loss(model, lesson.batch(members, slice(None), None), len(members))
    return math.fsum(processes.gathered(float(total))) / lesson.n_validation


def _held(path: str | os.PathLike | None, identity: str, epochs: int) -> dict[str, Any] | None:
    """Return the checkpoint if it is of the same work and of no more epochs; one that cannot be read is told and passed over."""
    if path is None or not Path(path).exists():
        return None
    try:
        held = load_checkpoint(path)
    except CalandriaError as error:
        warnings.warn(f"{error.message}; the training starts again", stacklevel=2)
        return None
    return held if (held.get("kind"), held.get("identity")) == (KIND, identity) and held["epoch"] <= epochs else None


@dataclass
class _Joint:
    """Which windows of the present batch this process has."""

    share: slice = field(default_factory=lambda: slice(0))
    count: int = 0
    total: int = 0

    def take(self, members: Sequence[int] | NDArray[np.int64], processes: Processes) -> None:
        self.share, self.total = processes.share(len(members)), len(members)
        self.count = self.share.stop - self.share.start


@contextlib.contextmanager
def _joint_layers(model: nn.Module, processes: Processes) -> Iterator[_Joint]:
    """Let batch norm and dropout see the whole batch inside the block, though each process has a share of it."""
    joint, changed = _Joint(), []
    for layer in model.modules() if processes.size > 1 else ():
        if isinstance(layer, _BatchNorm):
            layer.forward = partial(_batch_norm, layer, joint, processes)  # type: ignore[method-assign]
        elif isinstance(layer, nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d):
            layer.forward = partial(_dropout, layer, joint)  # type: ignore[method-assign]
        else:
            continue
        changed.append(layer)
    try:
        yield joint
    finally:
        for layer in changed:
            del layer.forward


def _dropout(layer: nn.Module, joint: _Joint, values: Tensor) -> Tensor:
    """Draw the mask of the whole batch, as one process would, and use the rows of this share."""
    if not layer.training:
        return values
    shape = values.shape[1:] if isinstance(layer, nn.Dropout) else (values.shape[1], *[1] * (values.ndim - 2))
    mask: Tensor = type(layer).forward(layer, values.new_ones((joint.total, *shape)))
    first = min(joint.share.start, joint.total - 1)
    return values * mask[first : first + len(values)]


def _batch_norm(layer: _BatchNorm, joint: _Joint, processes: Processes, values: Tensor) -> Tensor:
    """Normalize by mean and variance of the whole batch; running statistics are the same in all processes."""
    if not layer.training:
        return type(layer).forward(layer, values)
    kind, values = values.dtype, values.float()
    over = [0, *range(2, values.ndim)]
    wide = [1, -1, *[1] * (values.ndim - 2)]
    own = values[: joint.count]  # without the window that only keeps an idle process in step
    sums = processes.summed(torch.cat([own.sum(over), own.new_tensor([own.numel() / own.shape[1]])]))
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centred = values - mean.view(wide)
    variance = processes.summed(centred[: joint.count].square().sum(over)) / count
    if layer.running_mean is not None and layer.running_var is not None and layer.num_batches_tracked is not None:
        layer.num_batches_tracked += 1
        weight = layer.momentum if layer.momentum is not None else 1 / float(layer.num_batches_tracked)
        layer.running_mean.lerp_(mean.detach(), weight)
        layer.running_var.lerp_(variance.detach() * count / (count - 1), weight)
    normal = centred * torch.rsqrt(variance + layer.eps).view(wide)
    if layer.affine:
        normal = normal * layer.weight.view(wide) + layer.bias.view(wide)
    return normal.to(kind)
