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
from .settings import Training

__all__ = [
    "EarlyStopping", "Learned", "Lesson", "Pace", "autocast", "learn", "learning_rate", "load_checkpoint",
    "restore_rng", "rng_state", "save_checkpoint", "seeded_torch", "select_device",
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

    @abstractmethod
    def generator(self, epoch: int) -> np.random.Generator:
        """Return the generator of an epoch, which count from 1."""

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

    def begin(self, model: nn.Module) -> None:  # noqa: B027 - most have nothing to prepare
        """Prepare an untrained network; not called where a checkpoint is."""


@dataclass(frozen=True)
class Pace:
    """How long and how carefully a network is trained.

    Parameters
    ----------
    training
        Epochs, batch size, learning rates, patience.
    checkpoint_every
        Epochs between two checkpoints at most; CHECKPOINT_SECONDS after one the next is written too.
    largest_gradient
        Norm to which gradients are cut, None for any.
    """

    training: Training
    checkpoint_every: int
    largest_gradient: float | None = None

    def learning_rate(self, epoch: int) -> float:
        """Return the step size of an epoch (from 1): a cosine from the first rate to its final fraction in the last epoch."""
        rules = self.training
        return learning_rate(epoch, rules.epochs, rules.learning_rate, rules.final_learning_rate_fraction)


def learning_rate(epoch: int, epochs: int, first: float, last_fraction: float) -> float:
    """Return the rate of an epoch (from 1): a cosine from ``first`` to ``first * last_fraction`` in the last epoch.

    >>> learning_rate(1, 11, 1.0, 0.5), learning_rate(11, 11, 1.0, 0.5)
    (1.0, 0.5)
    """
    share = 0.5 * (1 + math.cos(math.pi * (epoch - 1) / max(epochs - 1, 1)))
    return first * (last_fraction + (1 - last_fraction) * share)


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
        That epoch, counted from 1, and its validation loss.
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
    """Train a network until its epochs or its patience end; a checkpoint of the same work is resumed.

    Each batch is dealt to the processes, losses are weighted by the windows behind them, batch norm and dropout see the whole batch;
    so the result is that of one process up to rounding, and any number of processes can resume from a checkpoint. The same
    number (one, or two on CPUs) ends in the same bits as an uninterrupted training.

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
        Called before each step; when it is true in any process, all save and raise StoppedError.
    report
        Called as ``report(epoch, validation_loss)`` after the checkpoint of each epoch (from 1), and again for past epochs where a
        checkpoint is resumed; it may raise to end the training.

    Raises
    ------
    ConvergenceError
        A loss became infinite or NaN.
    SettingsError
        There are more processes than windows in a batch.
    StoppedError
        See ``stop``.
    """
    if processes.size > pace.training.batch_size:
        raise SettingsError(
            f"training {lesson.name}: a batch of {pace.training.batch_size} (batch_size) cannot be dealt to {processes.size} processes",
            hint=f"set batch_size to {processes.size} or more, better a multiple of it, or start fewer processes",
        )
    course = _Course(lesson, model, optimizer, pace, processes, identity, checkpoint_path, stop)
    for row in course.rows:
        report(row["epoch"], row["loss_validation"])
    with _joint_layers(model, processes) as joint:
        learner = processes.averaging(_Loss(lesson, model))
        for done in course.epochs_left():
            if course.stopping.should_stop:
                break
            at = course.begin_epoch(done)
            course.take_steps(at, learner, joint)
            course.end_epoch(at, report)
    return course.learned()


@dataclass
class _Place:
    """Where a training is: epochs that are done, steps of the next one, the sum of its losses, and the generator of its order."""

    done: int
    step: int
    total: Tensor
    random: np.random.Generator
    parts: Sequence[NDArray[np.int64]]


class _Course:
    """A training under way, resumed from its checkpoint where there is one; the parameters are those of :func:`learn`."""

    def __init__(
        self,
        lesson: Lesson,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        pace: Pace,
        processes: Processes,
        identity: str,
        checkpoint_path: str | os.PathLike | None,
        stop: Callable[[], bool],
    ) -> None:
        self.lesson, self.model, self.optimizer, self.pace, self.processes = lesson, model, optimizer, pace, processes
        self.identity, self.checkpoint_path, self.stop = identity, checkpoint_path, stop
        self.stopping = EarlyStopping(pace.training.patience)
        self.rows: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] = {}
        self.numbers, self.saved_at = {processes.size}, time.monotonic()
        self.reached: dict[str, Any] = {"epoch": 0, "step": 0}
        held = processes.once(partial(_held, checkpoint_path, identity, pace.training.epochs))
        if held is None:
            lesson.begin(model)
        else:
            self._resume(held)

    def _resume(self, held: dict[str, Any]) -> None:
        self.model.load_state_dict(held["model"])
        self.optimizer.load_state_dict(held["optimizer"])
        restore_rng(held["random"], self.processes.device)
        self.stopping, self.rows, self.best = EarlyStopping.from_state(held["stopping"]), held["rows"], held["best"]
        self.numbers |= set(held["processes"])
        self.reached = {name: held[name] for name in ("epoch", "step", "totals", "random")}

    def epochs_left(self) -> Iterable[int]:
        """Return the numbers of epochs that are done before each one that is left; the first process shows a bar."""
        left = range(self.reached["epoch"], self.pace.training.epochs)
        return progress(left, f"training {self.lesson.name}", unit="epoch") if self.processes.is_first else left

    def begin_epoch(self, done: int) -> _Place:
        """Return where an epoch begins: at its first step, or where the checkpoint was written."""
        random, rate = self.lesson.generator(done + 1), self.pace.learning_rate(done + 1)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        total = torch.zeros((), dtype=torch.float64, device=self.processes.device)
        at = _Place(done, 0, total, random, self.lesson.batches(random))
        if self.reached["step"] and done == self.reached["epoch"]:
            at.step, at.total = self.reached["step"], total + self.processes.own_total(self.reached["totals"])
            restore_rng(self.reached["random"], self.processes.device, order=random)
        return at

    def take_steps(self, at: _Place, learner: nn.Module, joint: "_Joint") -> None:
        """Take the steps of an epoch that are left."""
        self.model.train()
        for members in at.parts[at.step :]:
            self._heed(at)
            joint.take(members, self.processes)
            # a process without a window computes one without weight, since the others wait for its part of the sums
            loss = learner(self.lesson.batch(members, joint.share if joint.count else slice(0, 1), at.random))
            self.optimizer.zero_grad(set_to_none=True)
            (loss if self.processes.size == 1 else loss * (joint.count * self.processes.size / joint.total)).backward()
            if self.pace.largest_gradient is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.pace.largest_gradient)
            self.optimizer.step()
            at.total += loss.detach().double() * joint.count
            at.step += 1

    def end_epoch(self, at: _Place, report: Callable[[int, float], None]) -> None:
        """Validate, note the losses, write the checkpoint that is due, and report."""
        loss_train = math.fsum(self.processes.gathered(float(at.total))) / self.lesson.n_training
        loss_validation = validation_loss(self.lesson, self.model, self.processes, partial(self._heed, at))
        self._note(at.done + 1, loss_train, loss_validation)
        at.done, at.step = at.done + 1, 0
        epochs, every = self.pace.training.epochs, self.pace.checkpoint_every
        is_saved = at.done % every == 0 or at.done == epochs or self.stopping.should_stop
        if is_saved:
            self._save(at)
        try:
            report(at.done, loss_validation)
        except BaseException:
            if not is_saved:
                self._save(at)
            raise

    def learned(self) -> Learned:
        """Return what the training ended with."""
        return Learned(self.best, self.rows, self.stopping.best_step, self.stopping.best, sorted(self.numbers))

    def _note(self, epoch: int, loss_train: float, loss_validation: float) -> None:
        if not math.isfinite(loss_train + loss_validation):
            raise ConvergenceError(
                f"training {self.lesson.name}: the loss of epoch {epoch} is not finite: {loss_train} (training), {loss_validation} (validation)",
                hint="lower the learning rate",
            )
        is_best = self.stopping.update(epoch, loss_validation)
        if is_best:
            self.best = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}
        rate = self.optimizer.param_groups[0]["lr"]
        self.rows.append(dict(zip(LOSS_COLUMNS, (epoch, loss_train, loss_validation, rate, is_best), strict=True)))

    def _heed(self, at: _Place) -> None:
        """Write a checkpoint that is due by the clock; save and raise StoppedError where any process is to stop."""
        wish = self.processes.largest(2 if self.stop() else int(time.monotonic() - self.saved_at > CHECKPOINT_SECONDS))
        if wish:
            self._save(at)
        if wish == 2:
            # all wait for the one that writes, since launchers kill what is left once the first has ended
            self.processes.any(False)
            raise StoppedError(
                f"training {self.lesson.name} was stopped by a signal after {at.done} epochs and {at.step} steps; a checkpoint was written",
                hint="give the same command again; it resumes there",
            )

    def _save(self, at: _Place) -> None:
        """Write what is needed to resume here."""
        totals, self.saved_at = self.processes.gathered(float(at.total)), time.monotonic()
        if self.checkpoint_path is None or not self.processes.is_first:
            return
        weights = self.model.state_dict()
        # the same tensors are written once, and the best epoch is often the last
        is_best = at.step == 0 and bool(self.rows) and self.stopping.stale == 0
        save_checkpoint(
            self.checkpoint_path,
            {
                "kind": KIND, "identity": self.identity, "epoch": at.done, "step": at.step, "totals": totals,
                "processes": sorted(self.numbers), "model": weights, "optimizer": self.optimizer.state_dict(),
                "random": rng_state(self.processes.device, order=at.random), "stopping": self.stopping.state(),
                "rows": self.rows, "best": weights if is_best else self.best,
            },
        )  # fmt: skip


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
