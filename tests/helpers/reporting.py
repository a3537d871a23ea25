"""Small records and tables of the kinds that the report reads."""

from calandria.base.records import write_json, write_recorded_table
from calandria.base.stage import Source
from calandria.base.volumes import Labelled, write_labelled


def made(stage, **more):
    """Return a record of provenance; of a table's record too, with ``table_sha256``."""
    return {"stage": stage, "version": 3, "settings_sha256": "5e77" * 16, "inputs_sha256": {"volume": "ab" * 32}, **more}


def phases_record():
    """Return a record of measure_phases."""
    return {
        "labels_sha256": "c0de",
        "shape": [20, 4, 4],
        "voxel_edge_um": 0.4,
        "phase_fractions": {"pore": 0.5, "am": 0.3, "cbd": 0.2},
        "porosity_free": 0.5,
        "thickness_um": 8.0,
        "provenance": made("tomography"),
    }


def solution(**changed):
    """Return a record of solve_diffusion."""
    record = {
        "case": "pore_cbd",
        "axis": "z",
        "sides": {"y": "no-flux", "x": "no-flux"},
        "shape": [20, 4, 4],
        "diffusivities": {"0": 1.0, "1": 1.0},
        "percolates": True,
        "error_estimate": 2e-6,
        "iterations": 12,
        "relative_residual": 1e-5,
        "flux_in": 0.5,
        "flux_out": 0.499999,
        "relative_diffusivity": 0.5,
        "effective_diffusivity_m2_s": 1e-10,
        "tortuosity_factor": 1.6,
        "conducting_fraction": 0.8,
        "connected_fraction": 0.6,
        "provenance": made("transport"),
    }
    return record | changed


def frame_rows(thickness):
    """Return rows of measure_frames; porosities fall from 0.5 by 0.1 a frame."""
    areas = {f"contact_area_um2_{pair}": str(area) for pair, area in (("pore_cbd", 2.0), ("pore_am", 3.0), ("am_cbd", 1.0))}
    return [
        {
            "series": "true",
            "frame": str(t),
            "thickness_um": str(h),
            "porosity_free": f"{0.5 - 0.1 * t:.1f}",
            "pore_voxels": str(50 - 10 * t),
            "cbd_voxels": "20",
            "am_voxels": str(30 + 10 * t),
            **areas,
        }
        for t, h in enumerate(thickness)
    ]


def transport_rows():
    """Return rows of solve_series for three frames, the last of which is blocked."""
    rows = []
    for frame, (diffusivity, factor, residual) in enumerate(
        (("1e-10", "1.5", "1e-5"), ("8e-11", "1.7", "1e-5"), ("0.0", "", ""))
    ):
        row = {"series": "true", "frame": str(frame), "case": "pore", "axis": "z", "effective_diffusivity_m2_s": diffusivity}
        row["relative_diffusivity"] = str(float(diffusivity) / 2e-10)
        evidence = {
            "relative_residual": residual or "0.0",
            "error_estimate": residual or "0.0",
            "percolates": str(bool(factor)).lower(),
        }
        rows.append({**row, "tortuosity_factor": factor, **evidence})
    return rows


def series_record(**facts):
    """Return the record beside a table of measure_frames or solve_series."""
    return made("transport", table_sha256="7ab1e" * 12, series={"true": {"stage": "calendering", "version": 2, **facts}})


def split_record(leaking=False):
    """Return a record of split_films in which the runs of METRICS are tested."""
    rows = [{"film": "f3", "compression_degree_percent": degree} for degree in (20, 35)]
    why = "f3 at 45 % is used for train and of the same film"
    return {"test_runs": [{**row, "leaking": leaking, "reason": why if leaking else ""} for row in rows]}


def metric_row(film, degree, mode, predictor, frame, r2):
    """Return a row of evaluate_predictions."""
    row = {"film": film, "compression_degree_percent": str(degree), "mode": mode, "predictor": predictor, "frame": str(frame)}
    row |= {"leaking": "false", "thickness_source": "voxels" if predictor == "conv1d_lags" else "stated"}
    row |= {"thickness_um_true": "8.0", "thickness_um_predicted": "8.4"}
    row |= {"contact_area_faces_pore_am_true": "200.0", "contact_area_faces_pore_am_predicted": "150.0"}
    row |= {"r2_with_void": str(r2), "r2_film": "" if frame == 3 else str(r2 / 2), "mse": "0.1", "mae": "0.05"}
    for name, truth in (("porosity_free", 0.4), ("tortuosity_factor_pore_z", 1.5), ("voxels_pore", 50), ("voxels_cbd", 20)):
        row |= {f"{name}_true": str(truth), f"{name}_predicted": str(truth * (1 - 0.05 * (frame - 1)))}
    return row | {"voxels_am_true": "30", "voxels_am_predicted": "31"}


METRICS = [
    metric_row("f3", degree, mode, predictor, frame, r2)
    for degree in (20, 35)
    for mode in ("one_step", "rollout")
    for predictor in ("copy", "model")
    for frame, r2 in ((4, 0.8), (3, 1.0))
]


def evaluation(kind="blocks", leaking=False):
    """Return a record of evaluate_autoencoder."""
    part = {
        "baseline_mse": 0.5,
        "linear_mse": 0.3,
        "r2": 0.6,
        "original_mean": 0.0,
        "reconstructed_mean": 0.01,
        "p_value_mean": 0.4,
    }
    return {
        "samples": ["one"],
        "split": {"kind": kind, "leaking": leaking, "n_train": 8, "n_validation": 2},
        "best_epoch": 3,
        "n_epochs": 5,
        "n_weights": 99,
        "train": {"mse": 0.1, **part},
        "validation": {"mse": 0.2, **part},
        "mse_difference": {
            "validation_less_train": 0.1,
            "interval": {"low": 0.05, "high": 0.15},
            "p_value_mse": 0.03,
            "cohens_d": 0.6,
        },
        "methods": {"interval": "bootstrap", "p_value_mse": "a test"},
        "provenance": made("autoencoder"),
    }


def best(**changed):
    """Return a record of the best trial of a search."""
    record = {"number": 3, "value": 0.1, "value_name": "cross-entropy", "parameters": {"dropout": 0.1, "activation": "mish"}}
    return record | {"n_complete": 3, "n_pruned": 2, "n_failed": 1} | changed


def source_files(folder, stage, kind, files, rule="a_rule", **keys):
    """Write files of a source into a study's folder and return the source.

    ``files`` is content by role: a mapping is a JSON record, rows with a record are a recorded table, a Labelled is a volume.
    """
    paths = {}
    for role, content in files.items():
        name = "_".join([stage, kind, *map(str, keys.values()), role])
        if isinstance(content, Labelled):
            paths[role] = f"{stage}/{name}.zarr.zip"
            write_labelled(folder / paths[role], content)
        elif isinstance(content, tuple):
            rows, record = content
            paths[role] = f"{stage}/{name}.csv"
            write_recorded_table(folder / paths[role], rows, list(rows[0]), record)
        else:
            paths[role] = f"{stage}/{name}.json"
            write_json(folder / paths[role], content)
    return Source(stage, kind, rule, {role: f"<results>/{path}" for role, path in paths.items()}, keys)


def rows_by(rows, *columns):
    """Return rows of results by the values of some columns; two rows with the same values are a mistake."""
    found = {}
    for row in rows:
        key = tuple(getattr(row, name) for name in columns)
        assert key not in found, key
        found[key if len(columns) > 1 else key[0]] = row
    return found
