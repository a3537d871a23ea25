"""Small records and tables of the kinds that the report reads."""


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
        "ranks": 2,
        "relative_residual": 1e-5,
        "flux_in": 0.5,
        "flux_out": 0.499999,
        "relative_diffusivity": 0.5,
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
        {"frame": str(t), "thickness_um": str(h), "porosity_free": f"{0.5 - 0.1 * t:.1f}", **areas}
        for t, h in enumerate(thickness)
    ]


def transport_rows():
    """Return rows of solve_series for three frames, the last of which is blocked."""
    rows = []
    for frame, (diffusivity, factor, residual) in enumerate(
        (("1e-10", "1.5", "1e-5"), ("8e-11", "1.7", "1e-5"), ("0.0", "", ""))
    ):
        row = {"frame": str(frame), "case": "pore", "axis": "z", "effective_diffusivity_m2_s": diffusivity}
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


SCORES = [{"quantity": "r2_mean", "mode": "one_step", "predictor": "conv1d_lags", "value": "0.95"}]


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
