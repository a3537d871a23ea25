"""Program: the frames that a predictor expects after the first ones of a series."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from calandria.base.errors import ContractError, InputFileError, SettingsError, nearest_name
from calandria.base.provenance import provenance
from calandria.base.stage import read_given
from calandria.base.volumes import Labelled, read_labelled, write_labelled
from calandria.cli.program import program, run
from calandria.surrogate.networks import network_of
from calandria.surrogate.predicted import predicted_series
from calandria.surrogate.predictors import BASELINES, INPUTS, MODES, Predictor, Task, of_network
from calandria.surrogate.settings import RULES, SurrogateSettings

DESCRIPTION = (
    "Predict the frames of a series, one step from true frames and as a free rollout from the first lag_window ones.\n\n"
    + "\n".join(f"{predictor.name}: {predictor.sentence}." for predictor in BASELINES.values())
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the series, predict in each mode that has an output, write a series per mode."""
    parser = program(DESCRIPTION, "surrogate.predict_frames")
    parser.add_argument(
        "--settings",
        required=True,
        help="JSON file of the rule predict_frames: lag_window, predictor, kind and device of a network",
    )
    parser.add_argument("--frames", required=True, help="true series, *.zarr.zip; lengths in it are um, times us")
    users = {key: [name for name, one in BASELINES.items() if key in one.needs] or ["networks"] for key in INPUTS}
    for key, what in INPUTS.items():
        parser.add_argument(_option(key), help=f"for {', '.join(users[key])}: {what}")
    parser.add_argument("--output-one-step", help="series to write, predicted from true frames")
    parser.add_argument("--output-rollout", help="series to write, predicted from own frames")
    options = parser.parse_args(arguments)

    given = read_given(options.settings, SurrogateSettings, RULES, "predict_frames")
    predictor, n_given = _predictor(given["predictor"], given.get("kind")), given.settings.lag_window
    outputs = _outputs(options, predictor)
    files = {key: _needed(getattr(options, key), key, predictor.name) for key in predictor.needs}
    series = read_labelled(options.frames)
    _check_series(series, options.frames, n_given)
    prediction = predictor.prepared(Task(series, n_given, files, given.get("device", "cpu"), predictor.kind))
    record = provenance(given, inputs={"frames": options.frames, **files})
    for mode, path in outputs.items():
        result = predicted_series(series, prediction.frames(mode), predictor.name, mode, n_given, prediction.thickness_source)
        write_labelled(path, replace(result, attributes={**result.attributes, "provenance": record}))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _predictor(name: str, kind: str | None) -> Predictor:
    if kind:
        return of_network(name, network_of(kind))
    if name not in BASELINES:
        raise SettingsError(
            f"predictor {name!r} is no baseline, and no kind of network is given", hint=nearest_name(name, BASELINES)
        )
    return BASELINES[name]


def _outputs(options: argparse.Namespace, predictor: Predictor) -> dict[str, str]:
    found = {mode: path for mode in MODES if (path := getattr(options, f"output_{mode}"))}
    if not found or set(found) - set(predictor.modes):
        raise InputFileError(
            f"predictor {predictor.name!r} has outputs for the modes {list(found)}; expected one or more of {', '.join(predictor.modes)}",
            hint="name " + " or ".join(f"{_option(f'output_{mode}')} FILE" for mode in predictor.modes),
        )
    return found


def _needed(path: str | None, key: str, predictor: str) -> str:
    if path is None:
        raise InputFileError(f"predictor {predictor!r} needs {_option(key)}", hint=f"add {_option(key)} FILE: {INPUTS[key]}")
    return path


def _check_series(series: Labelled, path: str, n_given: int) -> None:
    missing = {"press_position_um", "thickness_um"} - set(series.frames)
    if missing or series.labels.ndim != 4 or len(series.labels) <= n_given:
        raise ContractError(
            f"{path!r}: shape {series.labels.shape}, without {sorted(missing)}; expected a series of more than {n_given} frames",
            hint="make it with calendering.voxelize_frames, or shorten lag_window",
        )


if __name__ == "__main__":
    sys.exit(run(main))
