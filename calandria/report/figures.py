"""Figures of the calendering surrogate, drawn from its tables and series; every axis names its unit."""

import textwrap
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..base.phases import PHASES

Rows = Sequence[Mapping[str, str]]

PREDICTOR_STYLES = {"true": (0, (4, 2)), "affine_voxels": (0, (1, 1)), "affine_press": "-."}  # they often coincide
LOWEST_R2 = -1.0
PER_ROW = 4
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


def whole_ticks(axis: Axes) -> None:
    """Let the ticks of x be whole numbers, also where there is but one."""
    axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))


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


def _style(name: str, bold: Collection[str], colours: Mapping[str, str]) -> dict[str, Any]:
    return {
        "color": {"true": "#000000", **colours}.get(name),
        "linestyle": PREDICTOR_STYLES.get(name, "-"),
        "lw": 2 if name in bold else 1.3,
        "zorder": 4 if name == "true" else 3 if name in bold else 2,
    }


def _run_panels(kinds: int, runs: int, height: float, **options: Any) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure and its axes by kind and run: a row of panels per kind, and a further block of rows after PER_ROW runs."""
    columns, blocks = min(runs, PER_ROW), -(-runs // PER_ROW)
    size = (3.4 * columns + 1.2, height * kinds * blocks)
    figure, axes = plt.subplots(kinds * blocks, columns, figsize=size, squeeze=False, layout="constrained", **options)
    for axis in axes[-kinds:, (runs - 1) % PER_ROW + 1 :].ravel():
        axis.set_visible(False)
    return figure, [[axes[j // PER_ROW * kinds + i, j % PER_ROW] for j in range(runs)] for i in range(kinds)]


def _title(film: str, degree: int, rows: Rows) -> str:
    return f"{film}, {degree} %" + (" (leaking)" if any(row["leaking"] != "false" for row in rows) else "")


def marker_size(count: int) -> float:
    """Return the size of a curve's markers: a single epoch is a point, and many are a line.

    >>> marker_size(1), marker_size(1000)
    (7, 0)
    """
    return 7 if count <= 60 else 0


def loss_curves(losses: Mapping[str, Rows], names: Mapping[str, str]) -> Figure:
    """Draw training and validation loss over epochs, a panel per network; ``names`` says what the loss of each network is."""
    figure, axes = _panels(len(losses), height=3.2)
    for axis, (name, rows) in zip(axes, losses.items()):
        epochs = [int(row["epoch"]) for row in rows]
        for column in (name for name in rows[0] if "loss" in name):
            values = [_value(row[column]) for row in rows]
            axis.plot(epochs, values, marker=".", markersize=marker_size(len(epochs)), label=column.removeprefix("loss_"))
        axis.set(title=name, xlabel="epoch", ylabel="\n".join(textwrap.wrap(names[name], 40)))
        shown = [value for line in axis.get_lines() for value in np.asarray(line.get_ydata(), float) if value > 0]
        if shown and max(shown) > 5 * min(shown):
            axis.set_yscale("log")
        whole_ticks(axis)
        axis.legend(frameon=False)
    return figure


def r2_per_frame(metrics: Rows, colours: Mapping[str, str], networks: Collection[str], column: str = "r2_with_void") -> Figure:
    """Draw R2 of each predicted frame for every predictor: a row of panels per mode, a column per film and degree.

    Values below LOWEST_R2 are cut off. ``colours`` are those of the predictors, and ``networks`` are drawn with broader lines.
    """
    runs = by_run(metrics)
    modes = ("one_step", "rollout")
    figure, axes = _run_panels(len(modes), len(runs), 2.7)
    handles: dict[str, Any] = {}
    for i, mode in enumerate(modes):
        for axis, ((film, degree), rows) in zip(axes[i], runs.items()):
            for name, curve in _curves(rows, mode).items():
                (line,) = axis.plot(
                    [int(row["frame"]) for row in curve],
                    [_value(row[column]) for row in curve],
                    **_style(name, networks, colours),
                )
                handles[name] = line
            axis.set(title=f"{_title(film, degree, rows)}, {mode.replace('_', '-')}", xlabel="frame")
            whole_ticks(axis)
        lowest = min(axis.get_ylim()[0] for axis in axes[i])
        for j, axis in enumerate(axes[i]):
            axis.set_ylim(max(lowest, LOWEST_R2), 1.04)
            if j % PER_ROW == 0:
                axis.set_ylabel("R², void included" if column == "r2_with_void" else "R² of the film")
    figure.legend([*handles.values()], [*handles], loc="outside right center", frameon=False, handlelength=3)
    return figure


def phase_volumes(
    metrics: Rows, voxel_um3: Mapping[tuple[str, int], float], colours: Mapping[str, str], networks: Collection[str]
) -> Figure:
    """Draw the volume of pore, CBD and AM over the frames of each rollout: true, networks and baselines.

    ``voxel_um3`` is the volume of a voxel by film and degree; ``colours`` and ``networks`` as in :func:`r2_per_frame`.
    """
    runs = by_run(metrics)
    phases = ("pore", "cbd", "am")
    figure, axes = _run_panels(len(phases), len(runs), 2.4)
    handles: dict[str, Any] = {}
    for j, ((film, degree), rows) in enumerate(runs.items()):
        curves = _curves(rows, "rollout")
        for i, phase in enumerate(phases):
            truth = next(iter(curves.values()))
            series = {"true": (truth, f"voxels_{phase}_true")} | {
                name: (curve, f"voxels_{phase}_predicted") for name, curve in curves.items()
            }
            for name, (curve, column) in series.items():
                values = [_value(row[column]) * voxel_um3[film, degree] / 1e3 for row in curve]
                (line,) = axes[i][j].plot(
                    [int(row["frame"]) for row in curve], values, **_style(name, ("true", *networks), colours)
                )
                handles[name] = line
            axes[i][j].set_title(_title(film, degree, rows) if i == 0 else "")
            whole_ticks(axes[i][j])
            if j % PER_ROW == 0:
                axes[i][j].set_ylabel(f"{PHASE_LABELS[PHASES[phase]]} / 10³ µm³")
        axes[-1][j].set_xlabel("frame")
    figure.legend([*handles.values()], [*handles], loc="outside right center", frameon=False, handlelength=3)
    return figure


def against_degree(metrics: Rows, quantities: Mapping[str, str], colours: Mapping[str, str], networks: Collection[str]) -> Figure:
    """Draw quantities of the last frame of rollouts against the compression degree.

    Parameters
    ----------
    metrics
        Rows of evaluate_predictions of all runs.
    quantities
        Column (without ``_true`` or ``_predicted``) to axis label.
    colours, networks
        As in :func:`r2_per_frame`.
    """
    films = sorted({film for film, _ in by_run(metrics)})
    figure, axes = _panels(len(films) * len(quantities), height=2.9)
    handles: dict[str, Any] = {}
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
                    marker="o",
                    ms=4,
                    **_style(name, ("true", *networks), colours),
                )
                handles[name] = line
            axis.set(title=film, xlabel="compression degree / %", ylabel=label, xticks=sorted({d for _, d in by_run(metrics)}))
    figure.legend([*handles.values()], [*handles], loc="outside right center", frameon=False, handlelength=3)
    return figure


def slices(columns: Mapping[str, NDArray[np.uint8]], edge_um: float, title: str) -> Figure:
    """Draw the middle (z, x) slice of several volumes side by side, the current collector at the bottom."""
    tall = max(labels.shape[0] / labels.shape[2] for labels in columns.values())
    width = min(3.2, 3.4 / tall)
    across, down = min(PER_ROW, len(columns)), -(-len(columns) // PER_ROW)
    size = ((width + 0.7) * across + 1.1, (width * tall + 0.8) * down + 0.3)
    figure, grid = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
    axes = list(grid.ravel())
    for axis in axes[len(columns) :]:
        axis.set_visible(False)
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
