"""Train an auto-encoder on mini-volumes; a training that was killed resumes from its checkpoint with the same result.

SIGTERM and SIGUSR1 end it after a checkpoint at the next step, with exit status 75. Several processes, one GPU each, train together
when torchrun or srun starts them; batch_size is that of all of them.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from calandria.autoencoder.artefacts import write_model
from calandria.autoencoder.preprocessing import CACHE_MB, mean_value, open_images
from calandria.autoencoder.settings import RULES, AutoencoderSettings, case_plan
from calandria.autoencoder.splits import split_mini_volumes
from calandria.autoencoder.training import train
from calandria.base.processes import stop_signals
from calandria.base.provenance import provenance
from calandria.base.records import file_digest, write_table
from calandria.base.stage import read_given
from calandria.cli.processes import add_processes
from calandria.cli.program import program, run
from calandria.learning.process_group import Processes, joined
from calandria.learning.training import LOSS_COLUMNS
from workflow_scripts.autoencoder.options import add_mini_volumes, add_settings, table_and_volumes
from workflow_scripts.learning.options import add_training_options, with_checkpoints_every
from workflow_scripts.search.options import best_parameters


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, train, write the model and its losses."""
    parser = program(__doc__ or "", "train_autoencoder")
    add_settings(parser, "train_autoencoder", "the settings that training reads, split of the case")
    add_mini_volumes(parser)
    parser.add_argument(
        "--best", help="best.json of search_autoencoder; overrides network and training, while window and stride are the table's"
    )
    add_training_options(parser, CACHE_MB, "resized slices")
    parser.add_argument("--output", required=True, help="trained model (.pt)")
    parser.add_argument(
        "--output-losses", required=True, help="table (CSV): epoch (from 1), mean squared errors per voxel, labels from -1 to 1"
    )
    add_processes(parser)
    options = parser.parse_args(arguments)
    with joined(options.processes, options.process_timeout) as processes, stop_signals() as stop:
        _train(options, processes, stop)


def _train(options: argparse.Namespace, processes: Processes, stop: Callable[[], bool]) -> None:
    given = read_given(options.settings, AutoencoderSettings, RULES, "train_autoencoder")
    settings = AutoencoderSettings.from_mapping(given["autoencoder"], options.settings)
    if options.best:
        settings = settings.with_parameters(best_parameters(options.best))
    learning, drawn = with_checkpoints_every(settings.learning, options), settings.split
    processes = processes.on(learning.device)
    origins, volumes = table_and_volumes(options)
    kind = case_plan(given.content, options.settings).split
    split = split_mini_volumes(origins, kind, drawn.validation_fraction, drawn.seed)
    training, validation = ([origins[index] for index in split.indices(part)] for part in ("train", "validation"))
    checkpoint = Path(options.checkpoint_directory) / "training.pt"
    with open_images(origins, volumes, settings, options.cache_mb) as images:
        trained = train(
            images,
            training,
            validation,
            network=settings.network,
            learning=learning,
            inputs=processes.once(lambda: {name: file_digest(path) for name, path in volumes.items()}),
            checkpoint_path=checkpoint,
            processes=processes,
            stop=stop,
        )
        if not processes.is_first:
            return
        train_mean = mean_value(images, training)
    read = {**volumes, "mini_volumes": options.mini_volumes, **({"best": options.best} if options.best else {})}
    record = provenance(given, inputs=read, seed=learning.seed)
    write_table(options.output_losses, trained.rows, LOSS_COLUMNS)
    write_model(options.output, trained, settings, origins, split, train_mean=train_mean, provenance=record)


if __name__ == "__main__":
    sys.exit(run(main))
