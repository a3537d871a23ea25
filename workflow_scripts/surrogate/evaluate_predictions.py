"""Program: every predictor's frames of one series against the true ones."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calandria.base.errors import ContractError, InputFileError
from calandria.base.progress import progress
from calandria.base.provenance import provenance
from calandria.base.records import number, read_json, read_table, write_recorded_table
from calandria.base.stage import read_given
from calandria.base.volumes import Labelled, read_labelled
from calandria.cli.program import program, run
from calandria.surrogate.metrics import frame_row, is_release, spring_back
from calandria.surrogate.predicted import voxel_thickness
from calandria.surrogate.predictors import MODES
from calandria.surrogate.settings import RULES, SurrogateSettings
from calandria.surrogate.splits import run_is_leaking

DESCRIPTION = """Compare predicted series with the true one: a row per predictor, mode and predicted frame.

mse, mae, r2_with_void: on label values 0, 1, 2, 4, void included. r2_film: over voxels that are film in either, void counted as pore.
accuracy and iou_*: fractions of voxels. *_true and *_predicted: voxel counts, porosity_free (fraction), thickness_um, spring_back (thickness regained
over the lowest so far; after the turn the press's lowest position counts too, where a press table tells it), contact_area_faces_* (voxel faces), relative_diffusivity_CASE_AXIS (D_eff / D_0), tortuosity_factor_CASE_AXIS.
affine_voxels and affine_spheres were told the true thickness; given frames are left out.
thickness_source: stated, if the predictor states a thickness, which is compared with the true surface; voxels, if it states none: then thickness_um and
spring_back, true and predicted alike, are counted from voxels (slices of which more than half is not void, times the voxel edge).
leaking: true if the run's film, or frames of equal content, were used to train or validate; empty without --split."""
INTERFACES = ("pore_cbd", "pore_am", "am_cbd")
TRANSPORT = ("relative_diffusivity", "tortuosity_factor")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the true series, the predictions and the two tables; write the rows."""
    parser = program(DESCRIPTION, "surrogate.evaluate_predictions")
    parser.add_argument("--settings", required=True, help="JSON file of the rule evaluate_predictions: lag_window")
    parser.add_argument("--frames", required=True, help="true series, *.zarr.zip")
    parser.add_argument(
        "--prediction", required=True, nargs="+", metavar="PREDICTOR:MODE=FILE", help="predicted series; MODE one_step or rollout"
    )
    parser.add_argument("--split", help="JSON record of split_films; it tells whether the run leaks")
    parser.add_argument(
        "--transport", nargs="+", default=[], help="CSVs of transport.solve_series with the series `true` and PREDICTOR:MODE"
    )
    parser.add_argument("--interfaces", help="CSV of transport.measure_frames with the same series")
    parser.add_argument("--output", required=True, help="CSV to write; its record goes beside it (.json)")
    options = parser.parse_args(arguments)

    given = read_given(options.settings, SurrogateSettings, RULES, "evaluate_predictions")
    true = read_labelled(options.frames)
    leaking = None
    if options.split:
        leaking = run_is_leaking(
            read_json(options.split), str(true.attributes.get("film")), true.attributes.get("compression_degree_percent", 0)
        )
    transport = transport_table([row for path in options.transport for row in read_table(path)])
    contacts = contact_table(read_table(options.interfaces)) if options.interfaces else {}
    rows: list[dict[str, Any]] = []
    for word in progress(options.prediction, "comparing", unit="series"):
        name, predictor, mode, path = _parse(word)
        predicted = read_labelled(path)
        _check_alike(true, predicted, path, given.settings.lag_window)
        for row in compare(true, predicted):
            frame = row["frame"]
            for table in (transport, contacts):
                for kind, series in (("true", "true"), ("predicted", name)):
                    row |= {f"{column}_{kind}": value for column, value in table.get((series, frame), {}).items()}
            rows.append({"predictor": predictor, "mode": mode, "leaking": leaking, **row})
    leading = ("film", "compression_degree_percent", "leaking", "predictor", "mode", "frame", "is_release")
    columns = dict.fromkeys([*leading, *(column for row in rows for column in row)])
    inputs = {name: path for name, _, _, path in map(_parse, options.prediction)}
    inputs |= {key: path for key in ("frames", "split", "interfaces") if (path := getattr(options, key))}
    inputs |= {f"transport_{Path(path).stem}": path for path in options.transport}
    made = provenance(given, inputs=inputs)
    write_recorded_table(options.output, rows, list(columns), made)


def _parse(word: str) -> tuple[str, str, str, str]:
    name, equals, path = word.partition("=")
    predictor, colon, mode = name.partition(":")
    if not (equals and colon and path and predictor and mode in MODES):
        raise InputFileError(
            f"--prediction {word!r} is not PREDICTOR:MODE=FILE with a mode of {', '.join(MODES)}",
            hint="write e.g. copy:one_step=copy_one_step.zarr.zip",
        )
    return name, predictor, mode, path


def _check_alike(true: Labelled, predicted: Labelled, path: str, lag_window: int) -> None:
    if predicted.labels.shape != true.labels.shape or predicted.voxel_edge_um != true.voxel_edge_um:
        raise ContractError(
            f"{path!r} has shape {predicted.labels.shape} at {predicted.voxel_edge_um} um; the true series has {true.labels.shape} at {true.voxel_edge_um} um",
            hint="name predictions of this very series",
        )
    if predicted.attributes.get("n_given_frames") != lag_window:
        raise ContractError(
            f"{path!r} has n_given_frames {predicted.attributes.get('n_given_frames')}; expected the lag window of the settings, {lag_window}",
            hint="name series that predict_frames wrote with these settings",
        )


def compare(true: Labelled, predicted: Labelled) -> list[dict[str, Any]]:
    """Return a row per predicted frame; the frames that were given are left out."""
    heights = {"true": np.array(true.frames["thickness_um"]), "predicted": np.array(predicted.frames["thickness_um"])}
    source, turned = predicted.attributes.get("thickness_source", "stated"), float("inf")
    if source == "voxels":  # whole slices on both sides, and no height that is known to a fraction of a slice
        heights["true"] = voxel_thickness(true.labels, true.voxel_edge_um)
    elif true.attributes.get("lowest_thickness_source") == "press table":  # commanded motion, so a predictor may know it
        turned = float(true.attributes["lowest_thickness_um"])
    released = is_release(true.frames["press_position_um"], true.attributes.get("turn_frame"))
    regained = {kind: spring_back(height, released, turned) for kind, height in heights.items()}
    rows = []
    for frame in range(int(predicted.attributes["n_given_frames"]), len(true.labels)):
        if predicted.attributes.get("mode") == "one_step":  # its lowest so far is known from the true frames before it
            history = np.append(heights["true"][:frame], heights["predicted"][frame])
            regained["predicted"][frame] = spring_back(history, released[: frame + 1], turned)[-1]
        row = {
            "film": true.attributes.get("film"),
            "compression_degree_percent": true.attributes.get("compression_degree_percent"),
            "frame": frame,
            "is_release": bool(released[frame]),
            "thickness_source": source,
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
