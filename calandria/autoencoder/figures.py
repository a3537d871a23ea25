"""Figures of a trained auto-encoder."""

import os
from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from ..base.files import replacing


def save_figure(path: str | os.PathLike, figure: Figure, dpi: int = 130) -> None:
    """Write a PNG whole or not at all, without clock time or software names, and close the figure."""
    try:
        with replacing(path) as unfinished:
            figure.savefig(unfinished, format="png", dpi=dpi, metadata={"Software": None})
    finally:
        plt.close(figure)


def reconstruction_figure(original: NDArray, rebuilt: NDArray, captions: Sequence[str], phases: Sequence[str]) -> Figure:
    """Draw the middle slice of mini-volumes (n, z, y, x): original, reconstruction and difference, a row each.

    ``phases`` names what -1, 0 and +1 stand for.
    """
    figure, axes = plt.subplots(len(original), 3, figsize=(7.4, 2.3 * len(original)), squeeze=False, layout="constrained")
    middle = original.shape[1] // 2
    for row, (true, output, caption) in enumerate(zip(original[:, middle], rebuilt[:, middle], captions, strict=True)):
        for axis, image in zip(axes[row, :2], (true, output), strict=True):
            grey = axis.imshow(image, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        red = axes[row, 2].imshow(output - true, cmap="RdBu_r", vmin=-2, vmax=2, interpolation="nearest")
        axes[row, 0].set_ylabel(caption, fontsize=7)
        for axis in axes[row]:
            axis.set_xticks([])
            axis.set_yticks([])
    for axis, title in zip(axes[0], ("original", "reconstructed", "reconstructed - original"), strict=True):
        axis.set_title(title, fontsize=9)
    bar = figure.colorbar(grey, ax=axes[:, :2], shrink=0.6, location="bottom", ticks=[-1, 0, 1])
    bar.ax.set_xticklabels(phases, fontsize=8)
    figure.colorbar(red, ax=axes[:, 2], shrink=0.8, location="bottom").ax.tick_params(labelsize=8)
    return figure


def loss_figure(
    epochs: ArrayLike, train: ArrayLike, validation: ArrayLike, *, best_epoch: int, baseline_mse: float, linear_mse: float
) -> Figure:
    """Draw mean squared errors per voxel over epochs, beside the two baselines of the validation part."""
    figure, axis = plt.subplots(figsize=(6.0, 3.8), layout="constrained")
    marked: dict[str, Any] = {"marker": ".", "markersize": 7 if np.size(epochs) <= 60 else 0}  # a single epoch makes no line
    axis.plot(np.asarray(epochs), np.asarray(train), label="training", **marked)
    axis.plot(np.asarray(epochs), np.asarray(validation), label="validation", **marked)
    axis.axhline(baseline_mse, color="0.4", ls=":", label="baseline: the mean")
    axis.axhline(linear_mse, color="0.4", ls="--", label="baseline: principal components")
    axis.axvline(best_epoch, color="C3", lw=0.8, label=f"kept: epoch {best_epoch}")
    axis.set_ylim(bottom=0)
    axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    axis.set_xlabel("epoch")
    axis.set_ylabel("mean squared error per voxel")
    axis.legend(fontsize=8)
    return figure
