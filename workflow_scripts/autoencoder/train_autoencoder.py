"""Train an auto-encoder on mini-volumes; a training that was killed goes on from its checkpoint with the same result.

SIGTERM and SIGUSR1 end it after a checkpoint at the next step, with exit status 75. Several processes, one GPU each, train together
when torchrun or srun starts them; batch_size is that of all of them.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from calandria.autoencoder.artefacts import write_model
from calandria.autoencoder.preprocessing import mean_value, open_images
from calandria.autoencoder.settings import RULES, AutoencoderSettings, training_slice
from calandria.autoencoder.splits import SPLITS, split_mini_volumes
from calandria.autoencoder.training import LOSS_COLUMNS, train
from calandria.base.errors import InputFileError
from calandria.base.processes import stop_signals
from calandria.base.provenance import provenance
from calandria.base.records import file_digest, read_json, write_table
from calandria.base.stage import read_given
from calandria.cli.processes import add_processes
from calandria.cli.program import program, run
from calandria.learning.process_group import Processes, joined
from workflow_scripts.autoencoder.options import SPLIT_HELP, add_mini_volumes, add_settings, table_and_volumes


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, train, write the model and its losses."""
    parser = program(__doc__ or "", "train_autoencoder")
    add_settings(parser)
    add_mini_volumes(parser)
    parser.add_argument("--split", required=True, choices=SPLITS, help=SPLIT_HELP)
    parser.add_argument(
        "--best", help="best.json of search_autoencoder; overrides network and training, while window and stride are the table's"
    )
    parser.add_argument("--checkpoint-directory", required=True, help="scratch folder that survives a kill")
    parser.add_argument("--output", required=True, help="trained model (.pt)")
    parser.add_argument(
        "--output-losses", required=True, help="table (CSV): mean squared error per voxel of each epoch, labels from -1 to 1"
    )
    add_processes(parser)
    options = parser.parse_args(arguments)
    with joined(options.processes, options.process_timeout) as processes, stop_signals() as stop:
        _train(options, processes, stop)


def _train(options: argparse.Namespace, processes: Processes, stop: Callable[[], bool]) -> None:
    settings = read_given(options.settings, AutoencoderSettings, RULES, "train_autoencoder").settings
    if options.best:
        settings = settings.with_parameters(_parameters(options.best))
    processes = processes.on(settings.training.device)
    origins, volumes = table_and_volumes(options)
    split = split_mini_volumes(origins, options.split, settings.validation_fraction, settings.seed)
    training, validation = ([origins[index] for index in split.indices(part)] for part in ("train", "validation"))
    with open_images(origins, volumes, settings) as images:
        trained = train(
            images,
            training,
            validation,
            network=settings.network,
            settings=settings.training,
            seed=settings.seed,
            inputs=processes.once(lambda: {name: file_digest(path) for name, path in volumes.items()}),
            checkpoint_path=Path(options.checkpoint_directory) / "training.pt",
            processes=processes,
            stop=stop,
        )
        if not processes.is_first:
            return
        train_mean = mean_value(images, training)
    read = {**volumes, "mini_volumes": options.mini_volumes, **({"best": options.best} if options.best else {})}
    record = provenance("autoencoder", settings=training_slice(settings), inputs=read, seed=settings.seed)
    write_table(options.output_losses, trained.losses, LOSS_COLUMNS)
    write_model(options.output, trained, settings, origins, split, train_mean=train_mean, provenance=record)


def _parameters(path: str) -> dict:
    record = read_json(path)
    if not isinstance(record, dict) or not isinstance(record.get("parameters"), dict):
        raise InputFileError(
            f"{path!r} holds no parameters; expected best.json of a search", hint="make it by search_autoencoder"
        )
    return record["parameters"]


if __name__ == "__main__":
    sys.exit(run(main))
