"""Program: train one network on the windows of a split."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from calandria.base.errors import SettingsError, nearest_name
from calandria.base.processes import stop_signals
from calandria.base.provenance import provenance
from calandria.base.records import read_json, write_table
from calandria.base.stage import read_given
from calandria.cli.processes import add_processes
from calandria.cli.program import program, run
from calandria.learning.process_group import Processes, joined
from calandria.learning.training import save_checkpoint
from calandria.surrogate.settings import RULES, SurrogateSettings
from calandria.surrogate.splits import part_places
from calandria.surrogate.training import LOSS_COLUMNS, model_record, train
from calandria.surrogate.trial import with_parameters
from calandria.surrogate.windows import describe_runs

DESCRIPTION = """Train a network to predict the next frame from a lag window.

press_unet: cross-entropy per voxel of the film. paper: mean squared error of label values. A training that was killed goes on
from the checkpoint in --checkpoint-directory when the same command is given again; the weights of the best epoch are written.
SIGTERM and SIGUSR1 end it after a checkpoint at the next step, with exit status 75. Several processes, one GPU each, train together
when torchrun or srun starts them; batch_size is that of all of them."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Read split and series, train, write model and losses."""
    parser = program(DESCRIPTION, "surrogate.train_surrogate")
    parser.add_argument("--settings", required=True, help="JSON file of the section surrogate")
    parser.add_argument("--architecture", required=True, help="press_unet or paper")
    parser.add_argument("--split", required=True, help="JSON record of split_films")
    parser.add_argument("--frames", required=True, nargs="+", help="the series that were split, *.zarr.zip")
    parser.add_argument("--best", help="best.json of search_surrogate; its parameters replace those of the settings")
    parser.add_argument(
        "--checkpoint-directory", required=True, help="scratch folder that survives a kill; may be deleted afterwards"
    )
    parser.add_argument("--output", required=True, help="model to write, *.pt")
    parser.add_argument(
        "--output-losses", required=True, help="CSV to write: epoch (from 0), losses, learning rate, whether best so far"
    )
    add_processes(parser)
    options = parser.parse_args(arguments)
    with joined(options.processes, options.process_timeout) as processes, stop_signals() as stop:
        _train(options, processes, stop)


def _train(options: argparse.Namespace, processes: Processes, stop: Callable[[], bool]) -> None:
    settings = read_given(options.settings, SurrogateSettings, RULES, "train_surrogate").settings
    if options.architecture not in ("press_unet", "paper"):
        raise SettingsError(
            f"architecture {options.architecture!r} is unknown", hint=nearest_name(options.architecture, ["press_unet", "paper"])
        )
    inputs = {"split": options.split, **{f"frames_{number}": path for number, path in enumerate(options.frames)}}
    if options.best:
        inputs["best"] = options.best
        settings = with_parameters(settings, options.architecture, read_json(options.best)["parameters"])
    processes = processes.on(settings.device)
    split, runs = processes.once(lambda: (read_json(options.split), describe_runs(options.frames)))
    steps = settings.loss_steps(options.architecture)
    trained = train(
        settings,
        options.architecture,
        runs,
        part_places(split, runs, "train", steps),
        part_places(split, runs, "validation", steps),
        Path(options.checkpoint_directory) / f"{options.architecture}.pt",
        processes=processes,
        stop=stop,
    )
    if not processes.is_first:
        return
    made = {"architecture": options.architecture, "network": settings.architecture(options.architecture).model_dump()}
    facts = {
        "split_kind": split["kind"],
        "split_is_leaking": split["leaking"],
        "provenance": provenance("surrogate", settings=made, inputs=inputs, seed=settings.seed),
    }
    write_table(options.output_losses, trained.rows, LOSS_COLUMNS)
    save_checkpoint(options.output, model_record(settings, options.architecture, trained, runs[0]) | facts)


if __name__ == "__main__":
    sys.exit(run(main))
