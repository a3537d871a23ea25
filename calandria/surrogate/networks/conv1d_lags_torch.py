"""Conv1D over the lag frames with the voxels as channels: the module; its settings are in conv1d_lags.py."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from ...base.errors import ContractError
from ...base.phases import AM, CBD, PORE, VOID
from ..models import ACTIVATIONS, Batch, FrameModel
from .conv1d_lags import Conv1dLagsSettings
from .network import grid_remedy


class Conv1dLags(FrameModel):
    """The network of doi 10.1002/aenm.202400376, section 2.3: Conv1D over the lag frames with the voxels as channels.

    Each block is convolution ("same" padding) - activation - batch norm - max-pool of 1; then dropout, flatten, dense layers.
    The output is one label value per voxel, learned by mean squared error and rounded to the nearest phase code. It sees neither
    the press nor the thickness. Any other reading of "256 filters, flatten, dense" would need 1e14 weights.
    """

    states_thickness = False

    def __init__(self, settings: Conv1dLagsSettings, lag_window: int, grid: Sequence[int]) -> None:
        super().__init__()
        self.settings, self.lag_window, self.grid = settings, lag_window, tuple(grid)
        voxels, blocks = math.prod(grid), []
        for layer in range(settings.conv_layers):
            blocks += [
                nn.Conv1d(settings.filters if layer else voxels, settings.filters, settings.kernel, padding="same"),
                ACTIVATIONS[settings.conv_activation](),
                nn.BatchNorm1d(settings.filters),
                nn.MaxPool1d(1),
            ]
        width = settings.filters * lag_window
        blocks += [nn.Dropout(settings.dropout), nn.Flatten()]
        for units in settings.dense_widths:
            blocks += [nn.Linear(width, units), ACTIVATIONS[settings.dense_activation]()]
            width = units
        self.layers = nn.Sequential(*blocks, nn.Linear(width, voxels))

    def forward(self, frames: Tensor) -> Tensor:
        """Return label values (batch, z, y, x) of the frame after ``frames`` (batch, lag_window, z, y, x)."""
        if tuple(frames.shape[2:]) != self.grid:
            raise ContractError(
                f"the network was built for the grid {self.grid} (z, y, x); found {tuple(frames.shape[2:])}",
                hint=grid_remedy([self.grid, tuple(frames.shape[2:])]),
            )
        return self.layers(frames.float().flatten(2).transpose(1, 2)).unflatten(1, self.grid)  # channels are voxels

    def start(self, batch: Batch) -> Tensor:
        """Return the lag frames, (batch, lag_window, z, y, x)."""
        return batch.labels[:, : self.lag_window].float()

    def step(self, state: Tensor, next_press_um: Tensor) -> tuple[Tensor, None, Tensor]:
        """Return the next labels uint8 (batch, z, y, x), no thickness, and the lag frames after it."""
        labels = nearest_code(self(state))
        return labels, None, torch.cat([state[:, 1:], labels[:, None].float()], dim=1)

    def window_loss(self, batch: Batch) -> Tensor:
        """Return the mean squared error of the next frame's label values."""
        return functional.mse_loss(self(self.start(batch)).float(), batch.labels[:, self.lag_window].float())


def nearest_code(values: Tensor) -> Tensor:
    """Return the phase code (uint8) nearest to each label value.

    >>> nearest_code(torch.tensor([-1.0, 0.6, 2.9, 3.1])).tolist()
    [0, 1, 2, 4]
    """
    codes = torch.tensor([PORE, CBD, AM, VOID], dtype=torch.uint8, device=values.device)
    return codes[torch.bucketize(values, torch.tensor([0.5, 1.5, 3.0], device=values.device))]


def n_weights(voxels: int, lag_window: int, settings: Conv1dLagsSettings) -> int:
    """Return the number of trainable weights of :class:`Conv1dLags`.

    >>> n_weights(76 * 76 * 125, 3, Conv1dLagsSettings(filters=256, dense_widths=[256]))
    740642384
    """
    f, k = settings.filters, settings.kernel
    count = voxels * f * k + f + (settings.conv_layers - 1) * (f * f * k + f) + settings.conv_layers * 2 * f
    widths = [f * lag_window, *settings.dense_widths, voxels]
    return count + sum(low * high + high for low, high in pairwise(widths))


def build(settings: Conv1dLagsSettings, lag_window: int, grid: Sequence[int]) -> Conv1dLags:
    """Return the untrained network, which is bound to ``grid`` (z, y, x)."""
    return Conv1dLags(settings, lag_window, grid)
