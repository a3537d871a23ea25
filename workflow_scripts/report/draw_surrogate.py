"""Draw the figures of the calendering surrogate: losses, R2 per frame, phase volumes, trends with the degree, slices."""

import sys
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from calandria.base.files import replacing
from calandria.base.records import read_table
from calandria.base.stage import read_given
from calandria.base.volumes import open_labelled
from calandria.cli.program import named_files, program, run
from calandria.report.figures import against_degree, loss_curves, phase_volumes, r2_per_frame, slices
from calandria.study.reporting import RULES, ReportSettings
from calandria.surrogate.results import Pair, pairs


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, draw every figure."""
    parser = program(__doc__ or "", "draw_surrogate")
    parser.add_argument("--settings", required=True, help="JSON slice of the report section of the settings")
    parser.add_argument("--metrics", required=True, nargs="+", help="tables of evaluate_predictions")
    parser.add_argument("--losses", required=True, nargs="+", metavar="NETWORK=FILE", help="tables of losses of train_surrogate")
    parser.add_argument(
        "--series",
        required=True,
        nargs="+",
        metavar="NAME=FILE",
        help="series of one run whose last frames are drawn, the true one first",
    )
    parser.add_argument(
        "--runs",
        required=True,
        nargs="+",
        metavar="FILM,DEGREE=FILE",
        help="true series of each run of --metrics; its voxel edge is read",
    )
    parser.add_argument("--run-name", required=True, help="what that run is called on the figure")
    for figure in ("losses", "r2", "r2-film", "phases", "degrees", "slices"):
        parser.add_argument(f"--output-{figure}", required=True, help="PNG")
    options = parser.parse_args(arguments)
    given = read_given(options.settings, ReportSettings, RULES, "draw_surrogate")
    dpi, look = given.settings.figure_dpi, (given["colours"], given["losses"])
    metrics = [row for path in options.metrics for row in read_table(path)]

    columns = {}
    for name, path in named_files(options.series).items():
        with open_labelled(path) as (array, facts):
            columns[name] = np.asarray(array[-1], np.uint8)
            edge_um = facts.voxel_edge_um
    voxels_um3 = {}
    for name, path in named_files(options.runs).items():
        film, degree = name.split(",")
        with open_labelled(path) as (_, facts):
            voxels_um3[film, int(degree)] = facts.voxel_edge_um**3
    quantities = {
        pair.column: label_of(pair)
        for pair in pairs(metrics[0])
        if pair.quantity in ("porosity_free", "relative_diffusivity", "tortuosity_factor")
    }
    drawn: dict[str, Figure] = {
        "losses": loss_curves({name: read_table(path) for name, path in named_files(options.losses).items()}, given["losses"]),
        "r2": r2_per_frame(metrics, *look),
        "r2_film": r2_per_frame(metrics, *look, "r2_film"),
        "phases": phase_volumes(metrics, voxels_um3, *look),
        "degrees": against_degree(metrics, quantities, *look),
        "slices": slices(columns, edge_um, f"last frame of {options.run_name}, middle slice"),
    }
    for name, drawing in drawn.items():
        with replacing(getattr(options, f"output_{name}")) as unfinished:
            drawing.savefig(unfinished, dpi=dpi, metadata={"Software": None})
        plt.close(drawing)


def label_of(pair: Pair) -> str:
    """Return how an axis of a figure names a quantity of a table of metrics.

    >>> label_of(pairs(["porosity_free_true", "porosity_free_predicted"])[0])
    'porosity free'
    """
    name = {"relative_diffusivity": r"D$_\mathrm{eff}$ / D$_0$"}.get(pair.quantity, pair.quantity.replace("_", " "))
    return ", ".join([name, *pair.keys.values()])


if __name__ == "__main__":
    sys.exit(run(main))
