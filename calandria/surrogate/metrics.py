"""How near a predicted frame is to the true one."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.phases import CODES, ELECTRODE, NAMES, PORE, VOID
from ..base.volumes import r2


def label_errors(true: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> dict[str, float]:
    """Return MSE, MAE and R2 on the label values 0, 1, 2, 4, void included (eq. 1 to 3 of doi 10.1002/aenm.202400376).

    R2 is NaN where the true frame is of one phase only.

    >>> label_errors(np.array([0, 2], np.uint8), np.array([0, 1], np.uint8))
    {'mse': 0.5, 'mae': 0.5, 'r2_with_void': 0.5}
    """
    t, p = true.astype(np.float64), predicted.astype(np.float64)
    return {"mse": float(((t - p) ** 2).mean()), "mae": float(np.abs(t - p).mean()), "r2_with_void": r2(t, p)}


def r2_film(true: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> float:
    """Return R2 of the film alone: over voxels that are film in either frame, where void counts as pore.

    So void that both agree on says nothing, and a film that is predicted too thick or too thin is still charged for it.
    """
    film = (true != VOID) | (predicted != VOID)
    t, p = true[film].astype(np.float64), predicted[film].astype(np.float64)
    t[t == VOID], p[p == VOID] = PORE, PORE
    return r2(t, p)


def phase_scores(true: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> dict[str, float]:
    """Return the accuracy over all voxels, and per phase the intersection over union (NaN where a phase is in neither)."""
    pairs = np.bincount(true.ravel().astype(np.int64) * 8 + predicted.ravel(), minlength=64).reshape(8, 8)
    scores = {"accuracy": float(np.trace(pairs) / true.size)}
    for code in CODES:
        both, either = int(pairs[code, code]), int(pairs[code].sum() + pairs[:, code].sum() - pairs[code, code])
        scores[f"iou_{NAMES[code]}"] = both / either if either else float("nan")
    return scores


def phase_counts(labels: NDArray[np.uint8]) -> dict[str, int]:
    """Return the number of voxels of each phase."""
    counts = np.bincount(labels.ravel(), minlength=max(CODES) + 1)
    return {NAMES[code]: int(counts[code]) for code in CODES}


def porosity_free(labels: NDArray[np.uint8]) -> float:
    """Return the pore volume outside the binder domain over the electrode volume, void left out; NaN without an electrode."""
    counts = phase_counts(labels)
    electrode = sum(counts[NAMES[code]] for code in ELECTRODE)
    return counts["pore"] / electrode if electrode else float("nan")


def spring_back(
    thickness_um: NDArray[np.float64], released: NDArray[np.bool_] | None = None, turned_um: float = float("inf")
) -> NDArray[np.float64]:
    """Return, per frame, the thickness regained since the lowest so far, over that thickness.

    The press may turn between two frames. ``turned_um``, the height at which it did, counts as reached in the frames that are
    ``released``; elsewhere, and without it, the lowest is that of the frames so far.

    >>> spring_back(np.array([10.0, 5.0, 5.5])).round(3).tolist()
    [0.0, 0.0, 0.1]
    >>> spring_back(np.array([10.0, 6.0, 5.5]), np.array([False, False, True]), 5.0).round(3).tolist()
    [0.0, 0.0, 0.1]
    """
    known = thickness_um if released is None else np.where(released, np.minimum(thickness_um, turned_um), thickness_um)
    return thickness_um / np.minimum.accumulate(known) - 1


def is_release(press_position_um: NDArray[np.float64], turn_frame: int | None = None) -> NDArray[np.bool_]:
    """Return which frames come after ``turn_frame``, the last before the press turns; by default that of its lowest position."""
    turn = int(np.argmin(press_position_um)) if turn_frame is None else turn_frame
    return np.arange(len(press_position_um)) > turn


def frame_row(true: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> dict[str, Any]:
    """Return all errors, scores and counts of one frame, true and predicted."""
    row: dict[str, Any] = {**label_errors(true, predicted), "r2_film": r2_film(true, predicted), **phase_scores(true, predicted)}
    for kind, labels in (("true", true), ("predicted", predicted)):
        row |= {f"voxels_{name}_{kind}": count for name, count in phase_counts(labels).items()}
        row[f"porosity_free_{kind}"] = porosity_free(labels)
    return row
