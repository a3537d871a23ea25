"""Command-line options that every search program has, and the run that they describe."""

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from calandria.base.errors import InputFileError, SettingsError
from calandria.base.records import read_json
from calandria.learning.settings import RUN_CONTROL, SearchSettings
from calandria.search.controller import run_search
from calandria.search.launch import local_processes
from calandria.search.settings import ArraySettings
from calandria.search.slurm import slurm_array
from calandria.search.study import SearchDefinition

ARRAY_OPTIONS = {
    "max_running": ("K", "tasks that run at the same time at most; no limit of ours if empty"),
    "partition": ("NAME", "partition; the cluster's default if empty"),
    "account": ("NAME", "account to be charged; the user's default if empty"),
    "qos": ("NAME", "quality of service; the default if empty"),
    "constraint": ("FEATURES", "features that nodes must have, e.g. ib or 'ib&a100'; any nodes if empty"),
    "runtime_minutes": ("MINUTES", "time limit of a worker; it stops in time, is requeued and goes on (1440)"),
    "signal_seconds": ("S", "a worker is told to stop so many seconds before its time limit (120)"),
    "memory_mb": ("MB", "memory of a worker (16000)"),
    "cpus_per_worker": ("N", "cores of a worker; the study's threads_per_worker if empty"),
    "gpus": ("N", "GPUs of a worker; one if the study's device is cuda, else none, if empty"),
    "gpu_type": ("TYPE", "type of GPU as the cluster names it; any if empty"),
    "sbatch_options": ("TEXT", "further options of sbatch, quoted as in a shell: --sbatch-options='--exclude=n7 --nice'"),
    "setup": ("TEXT", "lines of bash before the worker, e.g. 'module load cuda'"),
    "worker_python": (
        "COMMAND",
        "runs Python in a task, e.g. 'apptainer exec --nv torch.sif python'; this program's Python if empty",
    ),
    "poll_seconds": ("S", "interval between two looks at the queue (10)"),
}
"""Fields of ArraySettings that are options, each with its unit and help; all take an empty text for their default."""


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """Add the study's folder, its results, and how its workers are started."""
    parser.add_argument(
        "--directory", required=True, help="scratch folder of the study; it survives kills; keep it to resume the study"
    )
    parser.add_argument("--output-trials", required=True, help="CSV to write: one row per trial, durations in s")
    parser.add_argument("--output-best", required=True, help="JSON to write: the best trial and its parameters")
    parser.add_argument("--output-importance", required=True, help="PNG to write: importance of the parameters, history")
    parser.add_argument("--workers", type=int, help="workers at the same time; as many as the study's settings say if not given")
    parser.add_argument(
        "--run-control",
        metavar="JSON",
        default="{}",
        help="search settings that change no trial, instead of those in the file of settings, e.g. '{\"lease_seconds\": 300}'",
    )
    parser.add_argument("--checkpoint-every", type=int, metavar="N", help="epochs between two checkpoints of a trial")
    parser.add_argument("--cache-mb", type=int, metavar="MB", help="memory of each worker for data that were read, MB")
    parser.add_argument(
        "--launch",
        default="local",
        choices=["local", "slurm"],
        help="workers are processes of this machine, or tasks of a SLURM array",
    )
    array = parser.add_argument_group("SLURM array", "Only with --launch slurm; an empty text means the default.")
    for name, (unit, words) in ARRAY_OPTIONS.items():
        array.add_argument(f"--{name.replace('_', '-')}", metavar=unit, default="", help=words.replace("%", "%%"))


def array_settings(options: argparse.Namespace) -> ArraySettings:
    """Return the settings that the options state; raises SettingsError with all mistakes."""
    given = {name: getattr(options, name) for name in ARRAY_OPTIONS}
    try:
        return ArraySettings.from_mapping(
            {name: text for name, text in given.items() if text != ""}, "options of the SLURM array"
        )
    except SettingsError as error:
        raise SettingsError(
            error.message, hint="correct the options, or the resources of this rule in the profile; --help explains them"
        ) from error


def with_run_control(options: argparse.Namespace, search: SearchSettings) -> SearchSettings:
    """Return search settings with what the option says of their run; raises SettingsError where it says anything else."""
    try:
        given = dict(json.loads(options.run_control))
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"--run-control is {options.run_control!r}; expected a JSON object", hint="name settings and values in it"
        ) from error
    if unknown := sorted(given.keys() - RUN_CONTROL):
        raise SettingsError(
            f"--run-control names {', '.join(unknown)}; expected some of {', '.join(sorted(RUN_CONTROL))}",
            hint="write the others into the file of settings",
        )
    return SearchSettings.from_mapping(search.model_dump() | given, "--run-control")


def control_of(options: argparse.Namespace) -> dict[str, int]:
    """Return what the options say of checkpoints and caches of trials, which changes no value."""
    return {name: value for name in ("checkpoint_every", "cache_mb") if (value := getattr(options, name)) is not None}


def best_parameters(path: str | os.PathLike) -> dict[str, Any]:
    """Return the parameters of the best trial of a search; raises InputFileError when the file holds something else."""
    record = read_json(path)
    if not isinstance(record, dict) or not isinstance(record.get("parameters"), dict):
        raise InputFileError(
            f"{os.fspath(path)!r} holds no parameters; expected best.json of a search",
            hint="name the file that a search wrote with --output-best",
        )
    return dict(record["parameters"])


def run_as_asked(options: argparse.Namespace, definition: SearchDefinition) -> None:
    """Run the search that a program defined with the workers that its options ask for."""
    definition = replace(definition, search=with_run_control(options, definition.search))
    run_search(
        Path(options.directory),
        definition,
        workers=options.workers or definition.search.workers,
        trials_path=Path(options.output_trials),
        best_path=Path(options.output_best),
        importance_path=Path(options.output_importance),
        launch=local_processes if options.launch == "local" else slurm_array(array_settings(options)),
    )
