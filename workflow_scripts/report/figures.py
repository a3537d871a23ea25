"""Figures of the calendering surrogate, drawn from its tables and series; every axis names its unit."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

Rows = Sequence[Mapping[str, str]]

# Okabe-Ito colours: told apart by colour-blind readers too.
PREDICTOR_COLOURS = {
    "true": "#000000",
    "copy": "#999999",
    "affine_voxels": "#56B4E9",
    "affine_press": "#0072B2",
    "affine_spheres": "#009E73",
    "model": "#D55E00",
    "paper": "#CC79A7",
    "replicate": "#E69F00",
}
PHASE_COLOURS = {0: "#dfe6ea", 1: "#2b2b2b", 2: "#c9803a", 4: "#ffffff"}
PHASE_LABELS = {0: "pore", 1: "CBD", 2: "AM", 4: "void"}


def _value(cell: str | None) -> float:
    return float(cell) if cell not in (None, "") else float("nan")


def _panels(count: int, columns: int = 3, height: float = 2.7) -> tuple[Figure, list]:
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.6 * columns + 0.6, height * rows + 0.5), squeeze=False, layout="constrained"
    )
    flat = list(axes.ravel())
    for axis in flat[count:]:
        axis.set_visible(False)
    return figure, flat[:count]


def by_run(metrics: Rows) -> dict[tuple[str, int], list[Mapping[str, str]]]:
    """Return the rows of each film and compression degree."""
    runs: dict[tuple[str, int], list[Mapping[str, str]]] = defaultdict(list)
    for row in metrics:
        runs[row["film"], int(row["compression_degree_percent"])].append(row)
    return dict(sorted(runs.items()))


def _curves(rows: Rows, mode: str) -> dict[str, list[Mapping[str, str]]]:
    curves: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for row in rows:
        if row["mode"] == mode:
            curves[row["predictor"]].append(row)
    return {name: sorted(curve, key=lambda row: int(row["frame"])) for name, curve in curves.items()}


def loss_curves(losses: Mapping[str, Rows]) -> Figure:
    """Draw training and validation loss over epochs, a panel per network."""
    figure, axes = _panels(len(losses))
    for axis, (name, rows) in zip(axes, losses.items()):
        epochs = [int(row["epoch"]) for row in rows]
        for column in (name for name in rows[0] if "loss" in name):
            axis.plot(epochs, [_value(row[column]) for row in rows], label=column.replace("_", " "))
        axis.set(title=name, xlabel="epoch", ylabel="loss", yscale="log")
        axis.legend(frameon=False)
    return figure


def r2_per_frame(metrics: Rows, column: str = "r2_with_void") -> Figure:
    """Draw R2 of each predicted frame for every predictor: a row of panels per mode, a column per film and degree."""
    runs = by_run(metrics)
    modes = ("one_step", "rollout")
    figure, axes = plt.subplots(
        len(modes), len(runs), figsize=(3.4 * len(runs) + 1.2, 5.4), squeeze=False, sharey="row", layout="constrained"
    )
    handles: dict[str, object] = {}
    for i, mode in enumerate(modes):
        for axis, ((film, degree), rows) in zip(axes[i], runs.items()):
            for name, curve in _curves(rows, mode).items():
                (line,) = axis.plot(
                    [int(row["frame"]) for row in curve],
                    [_value(row[column]) for row in curve],
                    color=PREDICTOR_COLOURS.get(name),
                    lw=2 if name in ("model", "paper") else 1.3,
                )
                handles[name.replace("_", " ")] = line
            axis.set(title=f"{film}, {degree} %, {mode.replace('_', '-')}", xlabel="frame")
        axes[i][0].set_ylabel("R², void included" if column == "r2_with_void" else "R² of the film")
    figure.legend(handles.values(), handles.keys(), loc="outside right center", frameon=False)
    return figure


def phase_volumes(metrics: Rows, voxel_um3: float) -> Figure:
    """Draw the volume of pore, CBD and AM over the frames of each rollout: true, model and baselines."""
    runs = by_run(metrics)
    phases = ("pore", "cbd", "am")
    figure, axes = plt.subplots(
        len(phases), len(runs), figsize=(3.4 * len(runs) + 1.2, 7.2), squeeze=False, layout="constrained", sharex="col"
    )
    handles: dict[str, object] = {}
    for j, ((film, degree), rows) in enumerate(runs.items()):
        curves = _curves(rows, "rollout")
        for i, phase in enumerate(phases):
            truth = next(iter(curves.values()))
            series = {"true": (truth, f"voxels_{phase}_true")} | {
                name: (curve, f"voxels_{phase}_predicted") for name, curve in curves.items()
            }
            for name, (curve, column) in series.items():
                values = [_value(row[column]) * voxel_um3 / 1e3 for row in curve]
                style = "--" if name == "true" else "-"
                (line,) = axes[i][j].plot(
                    [int(row["frame"]) for row in curve],
                    values,
                    style,
                    color=PREDICTOR_COLOURS.get(name),
                    lw=2 if name in ("true", "model") else 1.1,
                )
                handles[name.replace("_", " ")] = line
            axes[i][j].set_title(f"{film}, {degree} %" if i == 0 else "")
            if j == 0:
                axes[i][j].set_ylabel(f"{PHASE_LABELS[{'pore': 0, 'cbd': 1, 'am': 2}[phase]]} / 10³ µm³")
        axes[-1][j].set_xlabel("frame")
    figure.legend(handles.values(), handles.keys(), loc="outside right center", frameon=False)
    return figure


def against_degree(metrics: Rows, quantities: Mapping[str, str]) -> Figure:
    """Draw quantities of the last frame of rollouts against the compression degree.

    Parameters
    ----------
    metrics
        Rows of evaluate_predictions of all runs.
    quantities
        Column (without ``_true`` or ``_predicted``) to axis label.
    """
    films = sorted({film for film, _ in by_run(metrics)})
    figure, axes = _panels(len(films) * len(quantities), height=2.9)
    handles: dict[str, object] = {}
    for i, film in enumerate(films):
        points: dict[str, list[tuple[int, Mapping[str, str]]]] = defaultdict(list)
        for (name, degree), rows in by_run(metrics).items():
            if name == film:
                for predictor, curve in _curves(rows, "rollout").items():
                    points[predictor].append((degree, curve[-1]))
        for axis, (column, label) in zip(axes[i * len(quantities) :], quantities.items()):
            lines = {"true": ([(d, row) for d, row in next(iter(points.values()))], "_true")} | {
                name: (found, "_predicted") for name, found in points.items()
            }
            for name, (found, suffix) in lines.items():
                (line,) = axis.plot(
                    [d for d, _ in found],
                    [_value(row[column + suffix]) for _, row in found],
                    "--o" if name == "true" else "-o",
                    ms=4,
                    color=PREDICTOR_COLOURS.get(name),
                    lw=2 if name in ("true", "model") else 1.1,
                )
                handles[name.replace("_", " ")] = line
            axis.set(title=film, xlabel="compression degree / %", ylabel=label)
    figure.legend(handles.values(), handles.keys(), loc="outside right center", frameon=False)
    return figure


def slices(columns: Mapping[str, NDArray[np.uint8]], edge_um: float, title: str) -> Figure:
    """Draw the middle (z, x) slice of several volumes side by side, the current collector at the bottom."""
    figure, axes = _panels(len(columns), columns=min(4, len(columns)), height=3.6)
    codes = sorted(PHASE_COLOURS)
    colours, norm = ListedColormap([PHASE_COLOURS[code] for code in codes]), BoundaryNorm([*codes, codes[-1] + 1], len(codes))
    for axis, (name, labels) in zip(axes, columns.items()):
        plane = labels[:, labels.shape[1] // 2]
        extent = (0, plane.shape[1] * edge_um, 0, plane.shape[0] * edge_um)
        axis.imshow(plane, origin="lower", cmap=colours, norm=norm, extent=extent, interpolation="nearest")
        axis.set(title=name, xlabel="x / µm", ylabel="z / µm")
    figure.legend(
        handles=[Patch(facecolor=PHASE_COLOURS[code], edgecolor="#888888", label=PHASE_LABELS[code]) for code in codes],
        loc="outside right center",
        frameon=False,
    )
    figure.suptitle(title)
    return figure
