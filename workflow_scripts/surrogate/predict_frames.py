"""Program: the frames that a predictor expects after the first ones of a series."""

import sys
from collections.abc import Sequence
from dataclasses import replace

from calandria.base.errors import ContractError, InputFileError, SettingsError, nearest_name
from calandria.base.provenance import provenance
from calandria.base.stage import read_given
from calandria.base.volumes import Labelled, read_labelled, write_labelled
from calandria.calendering.particles import read_run_file
from calandria.cli.program import program, run
from calandria.learning.training import select_device
from calandria.surrogate.models import grid_remedy
from calandria.surrogate.rollout import MODES, predict_by_baseline, predict_by_model, predict_by_replicate, predicted_series
from calandria.surrogate.settings import RULES, SurrogateSettings
from calandria.surrogate.training import edges_alike, load_model

DESCRIPTION = """Predict the frames of a series, one step from true frames and as a free rollout from the first lag_window ones.

copy: the last frame. affine_voxels: it squeezed along z to the TRUE next thickness. affine_press: to the press position, no
spring-back. affine_spheres: sphere centres moved affinely to the TRUE thickness, radii rigid. model (press_unet) reads the press
position only; paper reads labels only, and its thickness is that of its voxels. replicate: a second DEM run of the same film; it
knows no true frames after the given ones, so it is a rollout and nothing else."""
PREDICTORS = ("copy", "affine_voxels", "affine_press", "affine_spheres", "model", "paper", "replicate")
ARCHITECTURES = {"model": "press_unet", "paper": "paper"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the series, predict in each mode that is asked for, write a series per mode."""
    parser = program(DESCRIPTION, "surrogate.predict_frames")
    parser.add_argument("--settings", required=True, help="JSON file of the section surrogate")
    parser.add_argument("--predictor", required=True, help=", ".join(PREDICTORS))
    parser.add_argument("--frames", required=True, help="true series, *.zarr.zip; lengths in it are um, times us")
    parser.add_argument("--model", help="for model and paper: file of train_surrogate")
    parser.add_argument("--particles", help="for affine_spheres: particles.h5 of this run")
    parser.add_argument("--replicate-frames", help="for replicate: series of the second run")
    parser.add_argument("--output-one-step", help="series to write, predicted from true frames; not for replicate")
    parser.add_argument("--output-rollout", help="series to write, predicted from own frames")
    options = parser.parse_args(arguments)

    settings = read_given(options.settings, SurrogateSettings, RULES, "predict_frames").settings
    if options.predictor not in PREDICTORS:
        raise SettingsError(f"predictor {options.predictor!r} is unknown", hint=nearest_name(options.predictor, PREDICTORS))
    outputs = {"one_step": options.output_one_step, "rollout": options.output_rollout}
    modes = [mode for mode in MODES if outputs[mode]]
    if not modes or (options.predictor == "replicate" and "one_step" in modes):
        raise InputFileError(
            f"predictor {options.predictor!r} was asked for the modes {modes}; expected "
            + ("rollout only" if options.predictor == "replicate" else f"one or more of {', '.join(MODES)}"),
            hint="name --output-rollout FILE" + ("" if options.predictor == "replicate" else " or --output-one-step FILE"),
        )
    series, n_given, source = read_labelled(options.frames), settings.lag_window, "stated"
    _check_series(series, options.frames, n_given)
    inputs = {"frames": options.frames}
    if options.predictor in ARCHITECTURES:
        inputs["model"] = _needed(options.model, "--model", options.predictor)
        model, facts = load_model(options.model)
        _check_model(facts, options.predictor, series, n_given, options.model)
        device = select_device(settings.device)
        predicted = {mode: predict_by_model(model, series, n_given, mode, device) for mode in modes}
        source = "stated" if model.states_thickness else "voxels"
    elif options.predictor == "replicate":
        inputs["replicate"] = _needed(options.replicate_frames, "--replicate-frames", "replicate")
        predicted = {"rollout": predict_by_replicate(series, read_labelled(options.replicate_frames), n_given)}
    else:
        particles = None
        if options.predictor == "affine_spheres":
            inputs["particles"] = _needed(options.particles, "--particles", "affine_spheres")
            particles = read_run_file(options.particles)
        predicted = {mode: predict_by_baseline(options.predictor, series, n_given, mode, particles) for mode in modes}
    record = provenance("surrogate", settings={"lag_window": n_given, "predictor": options.predictor}, inputs=inputs)
    for mode in modes:
        result = predicted_series(series, predicted[mode], options.predictor, mode, n_given, source)
        write_labelled(outputs[mode], replace(result, attributes={**result.attributes, "provenance": record}))


def _needed(path: str | None, option: str, predictor: str) -> str:
    if path is None:
        raise InputFileError(f"predictor {predictor!r} needs {option}", hint=f"add {option} FILE; see --help")
    return path


def _check_series(series: Labelled, path: str, n_given: int) -> None:
    missing = {"press_position_um", "thickness_um"} - set(series.frames)
    if missing or series.labels.ndim != 4 or len(series.labels) <= n_given:
        raise ContractError(
            f"{path!r}: shape {series.labels.shape}, without {sorted(missing)}; expected a series of more than {n_given} frames",
            hint="make it with calendering.voxelize_frames, or shorten lag_window",
        )


def _check_model(facts: dict, predictor: str, series: Labelled, n_given: int, path: str) -> None:
    found = (facts["architecture"], facts["lag_window"], facts["voxel_edge_um"])
    wanted = (ARCHITECTURES[predictor], n_given, series.voxel_edge_um)
    if found[:2] != wanted[:2] or not edges_alike(found[2], wanted[2]):
        raise ContractError(
            f"{path!r} holds architecture, lag window and voxel edge {found}; expected {wanted}",
            hint="train a model with these settings on films of this voxel edge",
        )
    grids = tuple(facts["grid"]), series.labels.shape[1:]
    if predictor == "paper" and grids[0] != grids[1]:
        raise ContractError(
            f"{path!r} was trained on the grid {grids[0]} (z, y, x), which paper is bound to; the series has {grids[1]}",
            hint=grid_remedy(grids),
        )


if __name__ == "__main__":
    sys.exit(run(main))
