"""Options that the programs of all trainings share; none of them changes a number."""

import argparse
from typing import TypeVar

from calandria.learning.settings import Learning

AnyLearning = TypeVar("AnyLearning", bound=Learning)


def add_training_options(parser: argparse.ArgumentParser, cache_mb: int, what: str) -> None:
    """Add --checkpoint-directory, --checkpoint-every and --cache-mb."""
    parser.add_argument(
        "--checkpoint-directory", required=True, help="scratch folder that survives a kill; may be deleted afterwards"
    )
    parser.add_argument(
        "--checkpoint-every", type=int, metavar="N", help="epochs between two checkpoints; default: those of the network"
    )
    parser.add_argument("--cache-mb", type=int, default=cache_mb, metavar="MB", help=f"memory for {what} that were read, MB")


def with_checkpoints_every(learning: AnyLearning, options: argparse.Namespace) -> AnyLearning:
    """Return the settings with the interval of checkpoints that the options state, if they do."""
    if options.checkpoint_every is None:
        return learning
    return type(learning).from_mapping(
        learning.model_dump() | {"checkpoint_every": options.checkpoint_every}, "--checkpoint-every"
    )
