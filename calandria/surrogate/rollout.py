"""Predicted series: one step from true frames, or a free rollout from the predictor's own output."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..base.errors import ContractError
from ..base.progress import progress
from ..base.volumes import Labelled, occupied_slices
from ..calendering.particles import Run as ParticleRun
from ..calendering.voxels import grid_of_series
from .baselines import check_same_run, press_thickness, squeeze_spheres, squeeze_voxels
from .models import stack_windows
from .windows import Window

Predicted = tuple[NDArray[np.uint8], NDArray[np.float64]]
MODES = ("one_step", "rollout")


def voxel_thickness(labels: NDArray[np.uint8], voxel_edge_um: float) -> NDArray[np.float64]:
    """Return, per frame of a series (t, z, y, x), the height in um up to the last slice of which more than half is not void.

    >>> voxel_thickness(np.array([[[[0, 2]], [[4, 1]]], [[[1, 2]], [[1, 0]]]], np.uint8), 0.4).tolist()
    [0.4, 0.8]
    """
    return np.array([occupied_slices(frame).stop * voxel_edge_um for frame in labels])


def predict_by_model(
    model: nn.Module, series: Labelled, lag_window: int, mode: str, device: torch.device | str = "cpu"
) -> Predicted:
    """Return labels (t, z, y, x) and thickness (t,) in um of a series, the first ``lag_window`` frames as given.

    Of the frames to be predicted only the press position is read; in ``one_step`` true frames before the target too. The
    thickness is what the network states, and where it states none that of its voxels, also in the given frames.
    """
    labels, thickness = series.labels.copy(), np.array(series.frames["thickness_um"])
    press = np.array(series.frames["press_position_um"])
    model.to(device).eval()

    def window(target: int) -> Window:
        past = slice(target - lag_window, target)
        # the true frames, also in one_step of a later target: predictions are written to `labels`, never read from it here
        known = np.array(series.frames["thickness_um"])
        return Window(series.labels[past], press[past], known[past], float(known[0]), float(known[:target].min()))

    state = None
    with torch.no_grad():
        for target in progress(range(lag_window, len(labels)), f"predicting ({mode})", unit="frame"):
            if state is None or mode == "one_step":
                state = model.start(stack_windows([window(target)], series.voxel_edge_um, series.periodic, device))
            next_press = torch.tensor([press[target]], dtype=torch.float32, device=device)
            frame, height, state = model.step(state, next_press)
            labels[target] = frame[0].cpu().numpy()
            if height is not None:
                thickness[target] = float(height[0])
    return labels, thickness if model.states_thickness else voxel_thickness(labels, series.voxel_edge_um)


def predict_by_baseline(name: str, series: Labelled, n_given: int, mode: str, particles: ParticleRun | None = None) -> Predicted:
    """Return labels (t, z, y, x) and thickness (t,) in um of a baseline, the first ``n_given`` frames as given.

    One step starts from the true frame before the target; a rollout from the last given frame, stretched once, since a chain
    of stretches by less than half a voxel would never move anything.

    Raises ContractError when `affine_spheres` is asked for with particles that are missing or of another run.
    """
    labels, true_um = series.labels.copy(), np.array(series.frames["thickness_um"])
    press, edge, thickness = np.array(series.frames["press_position_um"]), series.voxel_edge_um, true_um.copy()
    paint = _sphere_painter(series, particles) if name == "affine_spheres" else None
    for target in range(n_given, len(labels)):
        start = target - 1 if mode == "one_step" else n_given - 1
        if name == "copy":
            labels[target], thickness[target] = series.labels[start], true_um[start]
            continue
        if name == "affine_press":
            thickness[target] = press_thickness(true_um, press, start + 1)[target]
        if paint is not None:
            labels[target] = paint(start, target)
        else:
            labels[target] = squeeze_voxels(series.labels[start], true_um[start], thickness[target], edge)
    return labels, thickness


def _sphere_painter(series: Labelled, particles: ParticleRun | None) -> Callable[[int, int], NDArray[np.uint8]]:
    if particles is None:
        raise ContractError(
            "affine_spheres moves particles, and none were given", hint="add --particles particles.h5 of this run"
        )
    thickness = np.array(series.frames["thickness_um"])
    check_same_run(particles, len(series.labels), thickness)
    grid = grid_of_series(particles.particles.box, series.labels.shape[1:], series.voxel_edge_um, series.periodic)
    return lambda start, target: squeeze_spheres(particles, start, target, grid, float(thickness[target]))


def predict_by_replicate(series: Labelled, replicate: Labelled, n_given: int) -> Predicted:
    """Return what a second run of the same film shows: the ceiling of what can be known. The first frames are given.

    Raises ContractError when the two series differ in shape or voxel edge.
    """
    if replicate.labels.shape != series.labels.shape or replicate.voxel_edge_um != series.voxel_edge_um:
        raise ContractError(
            f"the replicate has shape {replicate.labels.shape} at {replicate.voxel_edge_um} um, the series {series.labels.shape} at {series.voxel_edge_um} um",
            hint="fix the grid height in the settings of calendering, and press both to the same degree",
        )
    labels, thickness = replicate.labels.copy(), np.array(replicate.frames["thickness_um"])
    labels[:n_given], thickness[:n_given] = series.labels[:n_given], series.frames["thickness_um"][:n_given]
    return labels, thickness


def predicted_series(
    series: Labelled, predicted: Predicted, predictor: str, mode: str, n_given: int, thickness_source: str = "stated"
) -> Labelled:
    """Return a prediction as a series of its own; press position and time are inputs, thickness and degree are predicted.

    ``thickness_source`` is ``stated`` by the predictor, or ``voxels`` where it states none (see :func:`voxel_thickness`).
    """
    labels, thickness = predicted
    frames = {name: series.frames[name] for name in ("press_position_um", "time_us") if name in series.frames}
    frames |= {"thickness_um": thickness, "compression_degree": 1 - thickness / thickness[0]}
    kept = ("film", "compression_degree_percent", "frame_interval_us", "turn_frame")
    attributes = {name: series.attributes[name] for name in kept if name in series.attributes}
    return replace(
        series,
        labels=labels,
        frames=frames,
        source=f"{predictor} ({mode}) from {series.source}",
        attributes={
            **attributes,
            "predictor": predictor,
            "mode": mode,
            "n_given_frames": n_given,
            "thickness_source": thickness_source,
        },
    )
