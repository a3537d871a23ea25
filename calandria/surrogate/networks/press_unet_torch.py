"""A U-Net on any grid that corrects the affine squeeze: the module; its settings are in press_unet.py."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import cast

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from ...base.phases import CBD, ELECTRODE, VOID
from ..models import ACTIVATIONS, Batch, FrameModel
from ..windows import PressColumns
from .press_unet import PressUnetSettings


@dataclass(frozen=True)
class FilmState:
    """What the U-Net knows of a film between two steps.

    Parameters
    ----------
    phases
        Probabilities (batch, lag_window, 3, z, y, x) of pore, CBD, AM; all 0 in void.
    press_um, thickness_um
        (batch, lag_window).
    first_um, lowest_um
        (batch,).
    voxel_edge_um, periodic
        As in the data contract.
    """

    phases: Tensor
    press_um: Tensor
    thickness_um: Tensor
    first_um: Tensor
    lowest_um: Tensor
    voxel_edge_um: float
    periodic: tuple[bool, bool, bool]


def one_hot(labels: Tensor) -> Tensor:
    """Return (..., 3, z, y, x) indicators of pore, CBD and AM of labels (..., z, y, x); void is 0 in all."""
    return torch.stack([labels == code for code in ELECTRODE], dim=-4).float()


def impose_void(labels: Tensor, thickness_um: Tensor, voxel_edge_um: float) -> Tensor:
    """Return labels (batch, z, y, x) with void in all voxels whose centre lies above ``thickness_um`` (batch,)."""
    height = (torch.arange(labels.shape[1], device=labels.device) + 0.5) * voxel_edge_um
    above = height[None, :] > thickness_um[:, None]
    return torch.where(above[:, :, None, None], torch.full_like(labels, VOID), labels)


def squeeze_positions(n_z: int, ratio: Tensor) -> Tensor:
    """Return (batch, z): the index in the old frame of each slice of the new; ``ratio`` is old over new thickness, (batch,)."""
    index = torch.arange(n_z, device=ratio.device, dtype=ratio.dtype)
    return ((index[None, :] + 0.5) * ratio[:, None] - 0.5).clamp(0, n_z - 1)


def squeeze(volume: Tensor, ratio: Tensor) -> Tensor:
    """Stretch volumes (batch, channel, z, y, x) along z from the foil, linearly interpolated; ``ratio`` old over new thickness."""
    n_z = volume.shape[2]
    position = squeeze_positions(n_z, ratio)
    low = position.floor().long().clamp(max=max(n_z - 2, 0))
    weight = position - low
    parts = [
        torch.lerp(one[:, below], one[:, (below + 1).clamp(max=n_z - 1)], share[None, :, None, None])
        for one, below, share in zip(volume, low, weight)
    ]
    return torch.stack(parts)


def sample(volume: Tensor, points: Tensor, periodic: tuple[bool, bool, bool]) -> Tensor:
    """Interpolate volumes (batch, channel, z, y, x) trilinearly at ``points`` (batch, 3, z, y, x), voxel indices in order z, y, x.

    Sides wrap where ``periodic`` says so, else the outermost value goes on.
    """
    coordinates = []
    for axis in range(3):
        n, position = volume.shape[2 + axis], points[:, axis]
        if periodic[axis]:
            volume = torch.cat([volume, volume.narrow(2 + axis, 0, 1)], dim=2 + axis)
            position = torch.remainder(position, n)
        else:
            n -= 1
        coordinates.append(2 * position / max(n, 1) - 1)
    grid = torch.stack(coordinates[::-1], dim=-1)  # grid_sample wants x first
    return functional.grid_sample(volume, grid, mode="bilinear", padding_mode="border", align_corners=True)


def _indices(shape: Sequence[int], like: Tensor) -> Tensor:
    axes = [torch.arange(n, device=like.device, dtype=like.dtype) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


class WrappedConv(nn.Module):
    """A 3x3x3 convolution whose sides wrap where the film's do; other sides repeat their outermost value."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(inputs, outputs, 3)

    def forward(self, volume: Tensor, periodic: tuple[bool, bool, bool]) -> Tensor:
        """Return (batch, outputs, z, y, x) of the same size."""
        return _convolved(self.convolution, _pad(volume, (1, 1, 1), (1, 1, 1), periodic))


def _convolved(convolution: nn.Conv3d, padded: Tensor) -> Tensor:
    """Return a 3x3x3 convolution; on a CPU one small volume goes as two halves, for torch has a slower method for one."""
    batch, channels, depth, width = padded.shape[:4]
    is_slow = batch == 1 and channels * depth * width <= 20480  # torch's own condition for not using oneDNN
    if padded.is_cuda or not is_slow:
        return convolution(padded)
    height, half = depth - 2, (depth - 1) // 2  # an odd height has its middle in both halves
    halves = torch.cat([padded[:, :, : half + 2], padded[:, :, height - half :]])
    lower, upper = convolution(halves).split(1)
    return torch.cat([lower, upper[:, :, 2 * half - height :]], dim=2)


def _pad(volume: Tensor, before: Sequence[int], after: Sequence[int], periodic: Sequence[bool]) -> Tensor:
    for mode, wraps in (("circular", True), ("replicate", False)):
        widths = [width if side == wraps else 0 for low, high, side in zip(before, after, periodic) for width in (low, high)]
        if any(widths):
            z, y, x = widths[0:2], widths[2:4], widths[4:6]
            volume = functional.pad(volume, [*x, *y, *z], mode=mode)
    return volume


def _to_depth(volume: Tensor) -> Tensor:
    """(b, c, 2z, 2y, 2x) -> (b, 8c, z, y, x)."""
    b, c, z, y, x = volume.shape
    return (
        volume.reshape(b, c, z // 2, 2, y // 2, 2, x // 2, 2)
        .permute(0, 1, 3, 5, 7, 2, 4, 6)
        .reshape(b, c * 8, z // 2, y // 2, x // 2)
    )


def _to_space(volume: Tensor) -> Tensor:
    """(b, 8c, z, y, x) -> (b, c, 2z, 2y, 2x)."""
    b, c, z, y, x = volume.shape
    return volume.reshape(b, c // 8, 2, 2, 2, z, y, x).permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, c // 8, 2 * z, 2 * y, 2 * x)


class PressUnet(FrameModel):
    """Predicts the next frame as the last one squeezed affinely, moved by a displacement field and corrected by logits.

    The input is the lag window squeezed to the next thickness, and the press: its positions at the lag frames and at the next
    frame. While the press goes down the next thickness *is* the press position; when it goes up, the film takes a learned share
    of the gap that opens, so the true future thickness is never read. Before training the network is the affine squeeze.

    In a rollout the predicted probabilities, not their most probable phases, take the place of the last frame, so that motions by
    less than half a voxel add up; the loss runs through `rollout_steps` such steps.
    """

    states_thickness = True

    def __init__(self, settings: PressUnetSettings, lag_window: int) -> None:
        super().__init__()
        self.settings, self.lag_window = settings, lag_window
        widths = settings.widths
        self.activation = ACTIVATIONS[settings.activation]()
        self.stem = WrappedConv(8 * (2 * lag_window + 2), widths[0])
        self.condition = nn.Linear(2 * lag_window + 3, widths[0])
        self.down = nn.ModuleList(
            nn.ModuleList([WrappedConv(widths[max(level - 1, 0)], width), WrappedConv(width, width)])
            for level, width in enumerate(widths)
        )
        self.up = nn.ModuleList(WrappedConv(low + high, high) for high, low in pairwise(widths))
        self.dropout = nn.Dropout3d(settings.dropout)
        self.head = nn.Conv3d(widths[0], 8 * 6, 1)
        self.detail = nn.ModuleList(
            [WrappedConv(6 + 2 * lag_window, settings.detail_width), nn.Conv3d(settings.detail_width, 3, 1)]
        )
        self.recovery = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
        for last in (self.head, cast(nn.Conv3d, self.detail[1])):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(cast(Tensor, last.bias))

    def prepare(self, windows: Sequence[PressColumns], voxel_edge_um: float) -> None:
        """Fit the thickness of released films; see :meth:`fit_recovery`."""
        self.fit_recovery(windows, voxel_edge_um)

    def start(self, batch: Batch) -> FilmState:
        """Return the state that the lag frames of ``batch`` give."""
        n = self.lag_window
        return FilmState(
            one_hot(batch.labels[:, :n]), batch.press_um[:, :n], batch.thickness_um[:, :n], batch.first_um, batch.lowest_um,
            batch.voxel_edge_um, batch.periodic,
        )  # fmt: skip

    def next_thickness(self, state: FilmState, next_press_um: Tensor) -> Tensor:
        """Return the thickness (batch,) that the film will have when the press is at ``next_press_um`` (batch,)."""
        return self._recovered(state.press_um, state.thickness_um, state.first_um, state.lowest_um, next_press_um)

    def _recovered(self, press: Tensor, thickness: Tensor, first: Tensor, lowest: Tensor, next_press: Tensor) -> Tensor:
        now = thickness[:, -1]
        gap = next_press - now
        facts = [
            (now - lowest) * 10, first - lowest, gap * 10, (now - thickness[:, -2]) * 10, (press[:, -1] - now) * 10,
            (now - thickness[:, 0]) * 10,
        ]  # fmt: skip
        share = torch.sigmoid(self.recovery(torch.stack(facts, dim=1) / first[:, None]))[:, 0]
        return torch.where(gap > 0, now + gap * share, next_press)

    def fit_recovery(self, windows: Sequence[PressColumns], voxel_edge_um: float, steps: int = 400) -> float:
        """Fit the share of the gap that a released film takes to the first following frame of each window; return the error in voxels.

        These are a few numbers per window, so hundreds of full steps cost less than one step of the volume.
        """
        n, optimizer = self.lag_window, torch.optim.Adam(self.recovery.parameters(), lr=0.02)
        released = [one for one in windows if one.press_position_um[n] > one.thickness_um[n - 1]]
        if not released:
            return 0.0
        device = self.head.weight.device
        press, thickness, first, lowest = (
            torch.tensor(np.array(values), dtype=torch.float32, device=device)
            for values in zip(*((one.press_position_um[: n + 1], one.thickness_um[: n + 1], *one[2:]) for one in released))
        )
        for _ in range(steps):
            found = self._recovered(press[:, :n], thickness[:, :n], first, lowest, press[:, n])
            error = (found - thickness[:, n]) / voxel_edge_um
            loss = (error**2).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return float(loss.detach()) ** 0.5

    def forward(self, state: FilmState, next_press_um: Tensor, next_thickness_um: Tensor) -> Tensor:
        """Return the logits (batch, 3, z, y, x) of pore, CBD and AM in the next frame, whose film is ``next_thickness_um`` (batch,) thick."""
        b, n, _, z, y, x = state.phases.shape
        ratio = state.thickness_um / next_thickness_um[:, None]
        solid = squeeze(state.phases[:, :, CBD:].flatten(0, 1), ratio.flatten()).reshape(b, 2 * n, z, y, x)
        height = (torch.arange(z, device=solid.device) + 0.5) * state.voxel_edge_um / next_thickness_um[:, None]
        plane = torch.stack([height, (height <= 1).float()], dim=1)[..., None, None].expand(b, 2, z, y, x)
        residual, moved = self._unet(
            torch.cat([solid, plane], dim=1), self._condition(state, next_press_um, next_thickness_um), state
        )
        source = _indices((z, y, x), solid)[None].repeat(b, 1, 1, 1, 1)
        source[:, 0] = squeeze_positions(z, ratio[:, -1])[:, :, None, None]
        source = source + moved
        base = sample(state.phases[:, -1], source, state.periodic)
        detail = self.activation(self.detail[0](torch.cat([base, residual, solid], dim=1), state.periodic))
        return torch.log(base.clamp(min=0.02)) + residual + self.detail[1](detail)

    def _condition(self, state: FilmState, press: Tensor, thickness: Tensor) -> Tensor:
        facts = torch.cat(
            [
                state.thickness_um, state.press_um, press[:, None],
                state.first_um[:, None], state.lowest_um[:, None],
            ],
            dim=1,
        )  # fmt: skip
        return self.condition(10 * (facts / thickness[:, None] - 1))

    def _unet(self, inputs: Tensor, condition: Tensor, state: FilmState) -> tuple[Tensor, Tensor]:
        size, periodic = inputs.shape[2:], state.periodic
        inputs = _pad(inputs, (0, 0, 0), [n % 2 for n in size], periodic)
        features = self.activation(self.stem(_to_depth(inputs), periodic) + condition[:, :, None, None, None])
        skips = []
        for level, (first, second) in enumerate(cast(Iterable[tuple[WrappedConv, WrappedConv]], self.down)):
            if level:
                features = functional.avg_pool3d(features, [min(2, n) for n in features.shape[2:]], 2, ceil_mode=True)
            changed = self.activation(first(features, periodic))
            features = self.activation(second(changed, periodic)) + (changed if level else features)
            skips.append(features)
        features = self.dropout(skips.pop())
        for convolution in reversed(self.up):
            skip = skips.pop()
            features = functional.interpolate(features, size=skip.shape[2:], mode="nearest")
            features = self.activation(convolution(torch.cat([features, skip], dim=1), periodic)) + skip
        out = _to_space(self.head(features))[:, :, : size[0], : size[1], : size[2]]
        return out[:, :3], out[:, 3:]

    def advance(self, state: FilmState, logits: Tensor, press_um: Tensor, thickness_um: Tensor) -> FilmState:
        """Return the state one frame later, the prediction being the last of its lag frames."""
        height = (torch.arange(logits.shape[2], device=logits.device) + 0.5) * state.voxel_edge_um
        inside = (height[None, :] <= thickness_um[:, None]).float()[:, None, :, None, None]
        phases = torch.softmax(logits, dim=1) * inside
        return replace(
            state,
            phases=torch.cat([state.phases[:, 1:], phases[:, None]], dim=1),
            press_um=torch.cat([state.press_um[:, 1:], press_um[:, None]], dim=1),
            thickness_um=torch.cat([state.thickness_um[:, 1:], thickness_um[:, None]], dim=1),
            lowest_um=torch.minimum(state.lowest_um, thickness_um),
        )

    def step(self, state: FilmState, next_press_um: Tensor) -> tuple[Tensor, Tensor, FilmState]:
        """Return the next labels uint8 (batch, z, y, x), the next thickness in um (batch,) and the state after it."""
        thickness = self.next_thickness(state, next_press_um)
        logits = self(state, next_press_um, thickness)
        labels = impose_void(logits.argmax(dim=1).to(torch.uint8), thickness, state.voxel_edge_um)
        return labels, thickness, self.advance(state, logits.float(), next_press_um, thickness)

    def window_loss(self, batch: Batch) -> Tensor:
        """Return the cross-entropy per voxel of the film plus 0.1 times the squared error of the released thickness in voxels.

        It is the mean over windows, whatever they are batched with. Phases are learned at the true next thickness, so that errors
        of thickness do not blur them.
        """
        if self.training:  # slices above the thickest frame are void in all of them and cost time only
            height = min(int(np.float32(batch.tallest_um) / np.float32(batch.voxel_edge_um)) + 2, batch.labels.shape[2])
            batch = replace(batch, labels=batch.labels[:, :, :height])
        state, losses = self.start(batch), []
        for step in range(self.lag_window, batch.labels.shape[1]):
            press, thickness = batch.press_um[:, step], batch.thickness_um[:, step]
            logits = self(state, press, thickness)
            truth = batch.labels[:, step].long()
            film = truth != VOID
            entropy = functional.cross_entropy(logits.float(), truth.where(film, -100), ignore_index=-100, reduction="none")
            error = (self.next_thickness(state, press) - thickness) / batch.voxel_edge_um
            voxels = film.sum(dim=(1, 2, 3)).clamp(min=1)
            losses.append((entropy.sum(dim=(1, 2, 3)) / voxels + 0.1 * error**2).mean())
            if step + 1 < batch.labels.shape[1]:
                state = self.advance(state, logits.float(), press, thickness)
        return torch.stack(losses).mean()


def build(settings: PressUnetSettings, lag_window: int, grid: Sequence[int]) -> PressUnet:
    """Return the untrained network; it takes any grid."""
    return PressUnet(settings, lag_window)
