"""Predicted series: one step from true frames, or a free rollout from the predictor's own output."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..base.progress import progress
from ..base.volumes import Labelled, occupied_slices
from .models import FrameModel, stack_windows
from .windows import Window

Predicted = tuple[NDArray[np.uint8], NDArray[np.float64]]


def voxel_thickness(labels: NDArray[np.uint8], voxel_edge_um: float) -> NDArray[np.float64]:
    """Return, per frame of a series (t, z, y, x), the height in um up to the last slice of which more than half is not void.

    >>> voxel_thickness(np.array([[[[0, 2]], [[4, 1]]], [[[1, 2]], [[1, 0]]]], np.uint8), 0.4).tolist()
    [0.4, 0.8]
    """
    return np.array([occupied_slices(frame).stop * voxel_edge_um for frame in labels])


def predict_by_model(
    model: FrameModel, series: Labelled, lag_window: int, mode: str, device: torch.device | str = "cpu"
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
