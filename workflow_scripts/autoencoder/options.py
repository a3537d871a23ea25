"""Options and inputs that the programs of this stage share."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from calandria.base.errors import ContractError
from calandria.cli.program import named_files
from calandria.tomography.mini_volumes import Origin, read_origins


def add_settings(parser: argparse.ArgumentParser, rule: str, what: str) -> None:
    """Add --settings, the JSON file of a rule."""
    parser.add_argument("--settings", required=True, help=f"JSON file of the rule {rule}: {what}")


def add_volumes(parser: argparse.ArgumentParser) -> None:
    """Add --volumes."""
    parser.add_argument(
        "--volumes",
        nargs="+",
        required=True,
        metavar="NAME=PATH",
        help="labelled volumes (z, y, x) by sample, in the order in which the mini-volumes were listed",
    )


def add_mini_volumes(parser: argparse.ArgumentParser) -> None:
    """Add --mini-volumes and --volumes."""
    parser.add_argument("--mini-volumes", required=True, help="table (CSV) of list_mini_volumes; starts and stops in slices")
    add_volumes(parser)


def table_and_volumes(options: argparse.Namespace) -> tuple[list[Origin], Mapping[str, Path]]:
    """Return the mini-volumes of the table and the paths of their volumes.

    Raises
    ------
    ContractError
        When the table holds mini-volumes of different windows.
    """
    origins = read_origins(options.mini_volumes)
    check_one_window(origins, options.mini_volumes)
    return origins, named_files(options.volumes)


def check_one_window(origins: Sequence[Origin], where: str) -> None:
    """Raise ContractError unless all mini-volumes have the same number of slices and the same axis."""
    kinds = {(origin.n_slices, origin.slice_axis) for origin in origins}
    if len(kinds) != 1:
        raise ContractError(
            f"{where!r} holds mini-volumes of several windows or axes: {sorted(kinds)}; expected one",
            hint="list each slice window in a table of its own",
        )
