"""Frames that a network predicts: one step from true frames, or a free rollout from its own output."""

import numpy as np
import torch

from ..base.progress import progress
from ..base.volumes import Labelled
from .models import FrameModel, stack_windows
from .predicted import Predicted, voxel_thickness
from .windows import Window


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
