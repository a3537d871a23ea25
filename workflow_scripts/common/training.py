"""What every stage that trains a network shares: the device, mixed precision, checkpoints that survive a kill, early stopping."""

import contextlib
import os
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from .errors import DeviceError, InputFileError
from .files import existing_file, replacing


def select_device(name: str) -> torch.device:
    """Return the device that the settings name (``cpu``, ``cuda``, ``cuda:1``); there is no fallback to another one.

    Raises DeviceError when the name is unknown or the device is not there.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"device {name!r} is unknown; expected cpu or cuda", hint="mend the device in the settings") from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"device {name!r} is not supported; expected cpu or cuda", hint="mend the device in the settings")
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if (device.index or 0) >= count:
        raise DeviceError(
            f"device {name!r} was asked for; torch {torch.__version__} sees {count} CUDA devices here",
            hint="run where a GPU and a CUDA build of torch are, or set device: cpu",
        )
    return device


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Return the context of a forward pass: bfloat16 for ``precision="amp"`` on GPUs that compute in it, else float32.

    bfloat16 has the exponent range of float32, so no loss scaling is needed. Compute losses outside, in float32.
    """
    if precision == "amp" and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()


@contextlib.contextmanager
def seeded_torch(seed: int) -> Iterator[None]:
    """Seed torch's global generators (weights, dropout) inside the block and restore them after it."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def rng_state(**generators: np.random.Generator | torch.Generator) -> dict[str, Any]:
    """Return the state of torch's global generators (dropout draws from them) and of the generators that are named."""
    state: dict[str, Any] = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    for name, source in generators.items():
        state[f"generator_{name}"] = (
            source.get_state() if isinstance(source, torch.Generator) else dict(source.bit_generator.state)
        )
    return state


def restore_rng(state: Mapping[str, Any], **generators: np.random.Generator | torch.Generator) -> None:
    """Set the generators to what :func:`rng_state` returned for the same names."""
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([part.cpu() for part in state["cuda"]])
    for name, source in generators.items():
        if isinstance(source, torch.Generator):
            source.set_state(state[f"generator_{name}"].cpu())
        else:
            source.bit_generator.state = state[f"generator_{name}"]


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
        if not zipfile.is_zipfile(found):
            raise zipfile.BadZipFile
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
        raise InputFileError(
            f"{str(Path(path))!r} is not a checkpoint ({type(error).__name__}); expected a file of common.training.save_checkpoint",
            hint="delete the file; the training that writes it starts again",
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
