"""What all networks are to the stage: modules that take windows and give frames; needs torch, unlike their settings."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..base.errors import ContractError
from .windows import PressColumns, Window

ACTIVATIONS = {
    "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU, "gelu": nn.GELU, "mish": nn.Mish, "tanh": nn.Tanh,
}  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """Windows stacked for a network.

    Parameters
    ----------
    labels
        uint8 (batch, lag_window + steps, z, y, x).
    press_um, thickness_um
        (batch, lag_window + steps).
    first_um, lowest_um
        (batch,): thickness of the first frame, and the lowest so far.
    voxel_edge_um, periodic
        As in the data contract, the same for all windows.
    tallest_um
        Largest thickness of the batch; where these windows are a share of it, that of the whole.
    """

    labels: Tensor
    press_um: Tensor
    thickness_um: Tensor
    first_um: Tensor
    lowest_um: Tensor
    voxel_edge_um: float
    periodic: tuple[bool, bool, bool]
    tallest_um: float


def stack_windows(
    windows: Sequence[Window], voxel_edge_um: float, periodic: tuple[bool, bool, bool], device: torch.device | str = "cpu"
) -> Batch:
    """Stack windows of the same number of frames; raises ContractError when they differ."""
    lengths = sorted({len(window.labels) for window in windows})
    if len(lengths) != 1:
        raise ContractError(f"windows of {lengths} frames cannot be stacked", hint="stack windows of as many steps together")

    def column(values: list) -> Tensor:
        return torch.tensor(np.array(values), dtype=torch.float32, device=device)

    return Batch(
        torch.from_numpy(np.stack([window.labels for window in windows])).to(device),
        column([window.press_position_um for window in windows]),
        column([window.thickness_um for window in windows]),
        column([window.first_um for window in windows]),
        column([window.lowest_um for window in windows]),
        voxel_edge_um,
        periodic,
        float(max(window.thickness_um.max() for window in windows)),
    )


class FrameModel(nn.Module):
    """A network that predicts the next frame of a film; every network of the stage is one.

    A state is whatever the network keeps between two steps of a rollout: its lag frames as a rule.
    """

    states_thickness = False
    """Whether it predicts the thickness in um; else that of its voxels is taken."""

    def prepare(self, windows: Sequence[PressColumns], voxel_edge_um: float) -> None:
        """Prepare the untrained network from the press positions and thicknesses of the training windows."""

    @abstractmethod
    def start(self, batch: Batch) -> Any:
        """Return the state that the lag frames of ``batch`` give."""

    @abstractmethod
    def step(self, state: Any, next_press_um: Tensor) -> tuple[Tensor, Tensor | None, Any]:
        """Return the next labels uint8 (batch, z, y, x), the next thickness in um (batch,) or None, and the state after it."""

    @abstractmethod
    def window_loss(self, batch: Batch) -> Tensor:
        """Return the mean loss over the windows of ``batch``, a number."""
