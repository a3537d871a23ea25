"""Devices that the settings ask for, mixed precision on them, and the states of their random generators."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from ..base.errors import DeviceError


def select_device(name: str) -> torch.device:
    """Return the device that the settings name (``cpu``, ``cuda``, ``cuda:1``); there is no fallback to another one.

    Raises DeviceError when the name is unknown or the device is not there.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(
            f"device {name!r} is unknown; expected cpu or cuda", hint="correct the device in the settings"
        ) from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"device {name!r} is not supported; expected cpu or cuda", hint="correct the device in the settings")
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if (device.index or 0) >= count:
        raise DeviceError(
            f"device {name!r} was asked for; torch {torch.__version__} sees {count} CUDA devices here",
            hint="run where a GPU and a CUDA build of torch are, or set device: cpu",
        )
    return device


def working_device(name: str) -> torch.device:
    """Return the device as :func:`select_device` does, once it has computed something; raises DeviceError where it does not."""
    device = select_device(name)
    try:
        torch.ones(2, device=device).sum().item()
    except torch.cuda.OutOfMemoryError:  # it answers
        pass
    except Exception as error:  # drivers raise errors of several kinds
        raise DeviceError(
            f"device {name!r} does not compute: {type(error).__name__}: {str(error).partition(chr(10))[0]}",
            hint="look at it by nvidia-smi; keep jobs off its node until it is repaired (sbatch --exclude)",
        ) from error
    return device


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Return the context of a forward pass: bfloat16 for ``precision="amp"`` on GPUs that compute in it, else float32.

    bfloat16 has the exponent range of float32, so no loss scaling is needed. Compute losses outside, in float32.
    """
    if precision == "amp" and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()


@contextlib.contextmanager
def seeded_torch(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's generators of the CPU and of ``device`` (weights, dropout) inside the block and restore them after it.

    Generators of other devices are not touched: on a shared node each of them would cost memory there.
    """
    gpus = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


def rng_state(device: torch.device | None = None, **generators: np.random.Generator | torch.Generator) -> dict[str, Any]:
    """Return the states of torch's generators of the CPU and of ``device`` (dropout draws from them) and of those that are named."""
    state: dict[str, Any] = {"torch": torch.get_rng_state()}
    if device is not None and device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    for name, source in generators.items():
        state[f"generator_{name}"] = (
            source.get_state() if isinstance(source, torch.Generator) else dict(source.bit_generator.state)
        )
    return state


def restore_rng(
    state: Mapping[str, Any], device: torch.device | None = None, **generators: np.random.Generator | torch.Generator
) -> None:
    """Set the generators to what :func:`rng_state` returned for the same names; the device may be another one."""
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and device is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    for name, source in generators.items():
        if isinstance(source, torch.Generator):
            source.set_state(state[f"generator_{name}"].cpu())
        else:
            source.bit_generator.state = state[f"generator_{name}"]
