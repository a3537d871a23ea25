"""Program: train one network on the windows of a split."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from calandria.base.processes import stop_signals
from calandria.base.provenance import provenance
from calandria.base.records import read_json, write_table
from calandria.base.stage import read_given
from calandria.cli.processes import add_processes
from calandria.cli.program import program, run
from calandria.learning.process_group import Processes, joined
from calandria.learning.training import save_checkpoint
from calandria.surrogate.settings import RULES, SurrogateSettings, network_settings
from calandria.surrogate.splits import part_places
from calandria.surrogate.training import CACHE_MB, LOSS_COLUMNS, model_record, train
from calandria.surrogate.windows import describe_runs
from workflow_scripts.learning.options import add_training_options, with_checkpoints_every
from workflow_scripts.search.options import best_parameters

DESCRIPTION = """Train a network to predict the next frame from a lag window.

A training that was killed resumes from the checkpoint in --checkpoint-directory when the same command is given again; the weights of the best
epoch are written. SIGTERM and SIGUSR1 end it after a checkpoint at the next step, with exit status 75.
Several processes, one GPU each, train together when torchrun or srun starts them; batch_size is that of all of them.
@FILE stands for the options in a file, one word a line."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Read split and series, train, write model and losses."""
    parser = program(DESCRIPTION, "surrogate.train_surrogate")
    parser.fromfile_prefix_chars = "@"
    parser.add_argument("--settings", required=True, help="JSON file of the rule train_surrogate: lag_window, network")
    parser.add_argument("--split", required=True, help="JSON record of split_films")
    parser.add_argument("--frames", required=True, nargs="+", help="the series that were split, *.zarr.zip")
    parser.add_argument("--best", help="best.json of search_surrogate; its parameters replace those of the settings")
    add_training_options(parser, CACHE_MB, "frames")
    parser.add_argument("--output", required=True, help="model to write, *.pt")
    parser.add_argument(
        "--output-losses", required=True, help="CSV to write: epoch (from 1), losses, learning rate, whether best so far"
    )
    add_processes(parser)
    options = parser.parse_args(arguments)
    with joined(options.processes, options.process_timeout) as processes, stop_signals() as stop:
        _train(options, processes, stop)


def _train(options: argparse.Namespace, processes: Processes, stop: Callable[[], bool]) -> None:
    given = read_given(options.settings, SurrogateSettings, RULES, "train_surrogate")
    network, lag_window = network_settings(given["network"], options.settings), given.settings.lag_window
    inputs = {"split": options.split, **{f"frames_{number}": path for number, path in enumerate(options.frames)}}
    if options.best:
        inputs["best"] = options.best
        network = network.with_parameters(best_parameters(options.best))
    network = network.model_copy(update={"learning": with_checkpoints_every(network.learning, options)})
    processes = processes.on(network.learning.device)
    split, runs = processes.once(lambda: (read_json(options.split), describe_runs(options.frames)))
    checkpoint = Path(options.checkpoint_directory) / "training.pt"
    trained = train(
        network,
        lag_window,
        runs,
        part_places(split, runs, "train", network.loss_steps),
        part_places(split, runs, "validation", network.loss_steps),
        checkpoint,
        processes=processes,
        cache_mb=options.cache_mb,
        stop=stop,
    )
    if not processes.is_first:
        return
    facts = {
        "split_kind": split["kind"],
        "split_is_leaking": split["leaking"],
        "provenance": provenance(given, inputs=inputs, seed=network.learning.seed),
    }
    write_table(options.output_losses, trained.rows, LOSS_COLUMNS)
    save_checkpoint(options.output, model_record(network, lag_window, trained, runs[0]) | facts)


if __name__ == "__main__":
    sys.exit(run(main))
