"""Program: every predictor's frames of one series against the true ones."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..common.cli import program, run
from ..common.errors import ContractError, InputFileError
from ..common.progress import progress
from ..common.records import number, read_table, write_table
from ..common.volumes import Labelled, read_labelled
from .metrics import frame_row, is_release, spring_back
from .rollout import MODES
from .settings import SurrogateSettings

DESCRIPTION = """Compare predicted series with the true one: a row per predictor, mode and predicted frame.

mse, mae, r2_with_void: on label values 0, 1, 2, 4, void included. r2_film: over voxels that are film in either, void counted as pore.
accuracy and iou_*: fractions of voxels. *_true and *_predicted: voxel counts, porosity (fraction), thickness_um, spring_back (thickness regained
over the lowest so far), contact_area_faces_* (voxel faces), relative_diffusivity_CASE_AXIS (D_eff / D_0), tortuosity_factor_CASE_AXIS.
affine_voxels and affine_spheres were told the true thickness; given frames are left out."""
INTERFACES = ("pore_cbd", "pore_am", "am_cbd")
TRANSPORT = ("relative_diffusivity", "tortuosity_factor")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the true series, the predictions and the two tables; write the rows."""
    parser = program(DESCRIPTION, "surrogate.evaluate_predictions")
    parser.add_argument("--settings", required=True, help="JSON file of the section surrogate")
    parser.add_argument("--frames", required=True, help="true series, *.zarr.zip")
    parser.add_argument(
        "--prediction", required=True, nargs="+", metavar="PREDICTOR:MODE=FILE", help="predicted series; MODE one_step or rollout"
    )
    parser.add_argument("--transport", help="CSV of transport.solve_series with the series `true` and PREDICTOR:MODE")
    parser.add_argument("--interfaces", help="CSV of transport.measure_frames with the same series")
    parser.add_argument("--output", required=True, help="CSV to write")
    options = parser.parse_args(arguments)

    SurrogateSettings.from_slice(options.settings)
    true = read_labelled(options.frames)
    transport = transport_table(read_table(options.transport)) if options.transport else {}
    contacts = contact_table(read_table(options.interfaces)) if options.interfaces else {}
    rows: list[dict[str, Any]] = []
    for word in progress(options.prediction, "comparing", unit="series"):
        name, predictor, mode, path = _parse(word)
        predicted = read_labelled(path)
        _check_alike(true, predicted, path)
        for row in compare(true, predicted):
            frame = row["frame"]
            for table in (transport, contacts):
                for kind, series in (("true", "true"), ("predicted", name)):
                    row |= {f"{column}_{kind}": value for column, value in table.get((series, frame), {}).items()}
            rows.append({"predictor": predictor, "mode": mode, **row})
    leading = ("film", "compression_degree_percent", "predictor", "mode", "frame", "is_release")
    columns = dict.fromkeys([*leading, *(column for row in rows for column in row)])
    write_table(options.output, rows, list(columns))


def _parse(word: str) -> tuple[str, str, str, str]:
    name, equals, path = word.partition("=")
    predictor, colon, mode = name.partition(":")
    if not (equals and colon and path and predictor and mode in MODES):
        raise InputFileError(
            f"--prediction {word!r} is not PREDICTOR:MODE=FILE with a mode of {', '.join(MODES)}",
            hint="write e.g. copy:one_step=copy_one_step.zarr.zip",
        )
    return name, predictor, mode, path


def _check_alike(true: Labelled, predicted: Labelled, path: str) -> None:
    if predicted.labels.shape != true.labels.shape or predicted.voxel_edge_um != true.voxel_edge_um:
        raise ContractError(
            f"{path!r} has shape {predicted.labels.shape} at {predicted.voxel_edge_um} um; the true series has {true.labels.shape} at {true.voxel_edge_um} um",
            hint="name predictions of this very series",
        )
    if "n_given_frames" not in predicted.attributes:
        raise ContractError(f"{path!r} does not say n_given_frames", hint="name series that predict_frames wrote")


def compare(true: Labelled, predicted: Labelled) -> list[dict[str, Any]]:
    """Return a row per predicted frame; the frames that were given are left out."""
    heights = {"true": np.array(true.frames["thickness_um"]), "predicted": np.array(predicted.frames["thickness_um"])}
    regained = {kind: spring_back(height) for kind, height in heights.items()}
    released = is_release(true.frames["press_position_um"])
    rows = []
    for frame in range(int(predicted.attributes["n_given_frames"]), len(true.labels)):
        if predicted.attributes.get("mode") == "one_step":  # its lowest so far is known from the true frames before it
            history = np.append(heights["true"][:frame], heights["predicted"][frame])
            regained["predicted"][frame] = spring_back(history)[-1]
        row = {
            "film": true.attributes.get("film"),
            "compression_degree_percent": true.attributes.get("compression_degree_percent"),
            "frame": frame,
            "is_release": bool(released[frame]),
            **frame_row(true.labels[frame], predicted.labels[frame]),
        }
        for kind in ("true", "predicted"):
            row |= {f"thickness_um_{kind}": float(heights[kind][frame]), f"spring_back_{kind}": float(regained[kind][frame])}
        rows.append(row)
    return rows


def transport_table(rows: Sequence[dict[str, str]]) -> dict[tuple[str, int], dict[str, float]]:
    """Return, per series and frame, relative diffusivity and tortuosity factor by case and axis; a blocked frame's tau is NaN.

    >>> rows = [{"series": "true", "frame": "4", "case": "pore", "axis": "z", "relative_diffusivity": "0.25", "tortuosity_factor": ""}]
    >>> transport_table(rows)
    {('true', 4): {'relative_diffusivity_pore_z': 0.25, 'tortuosity_factor_pore_z': nan}}
    """
    table: dict[tuple[str, int], dict[str, float]] = {}
    for row in rows:
        found = table.setdefault((row["series"], int(row["frame"])), {})
        found |= {f"{quantity}_{row['case']}_{row['axis']}": number(row[quantity]) for quantity in TRANSPORT}
    return table


def contact_table(rows: Sequence[dict[str, str]]) -> dict[tuple[str, int], dict[str, float]]:
    """Return, per series and frame, the contact areas in voxel faces."""
    names = [f"contact_area_faces_{pair}" for pair in INTERFACES]
    return {(row["series"], int(row["frame"])): {name: number(row[name]) for name in names} for row in rows}


if __name__ == "__main__":
    sys.exit(run(main))
