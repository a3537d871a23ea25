"""Options of programs that several processes run together."""

import argparse

from ..learning.process_group import TIMEOUT_S


def add_processes(parser: argparse.ArgumentParser) -> None:
    """Add --processes and --process-timeout."""
    parser.add_argument(
        "--processes",
        type=int,
        help="how many must take part, started by torchrun or srun; default: as many as the launcher says",
    )
    parser.add_argument(
        "--process-timeout",
        type=float,
        default=TIMEOUT_S,
        metavar="S",
        help="time in s that one process waits for another",
    )
