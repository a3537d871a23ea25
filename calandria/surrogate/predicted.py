"""Predictions as series of their own, whoever predicted them; nothing here needs torch."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..base.volumes import Labelled, occupied_slices

Predicted = tuple[NDArray[np.uint8], NDArray[np.float64]]


def voxel_thickness(labels: NDArray[np.uint8], voxel_edge_um: float) -> NDArray[np.float64]:
    """Return, per frame of a series (t, z, y, x), the height in um up to the last slice of which more than half is not void.

    >>> voxel_thickness(np.array([[[[0, 2]], [[4, 1]]], [[[1, 2]], [[1, 0]]]], np.uint8), 0.4).tolist()
    [0.4, 0.8]
    """
    return np.array([occupied_slices(frame).stop * voxel_edge_um for frame in labels])


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
