"""``calandria status``: how far the searches of a study are."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ..base.records import canonical_json
from ..search.status import find_studies, study_status, table
from .program import program


def main(arguments: Sequence[str] | None = None) -> None:
    """Tell how far the searches are."""
    parser = program(
        "How far searches are: trials done, pruned, running, stale (their worker is gone; another one takes them over) and failed, the\n"
        "best value so far, hours of GPUs and workers, and the time left (h:mm:ss). Needs nothing but the files and writes nothing.",
        "calandria status",
    )
    parser.add_argument(
        "folders",
        nargs="*",
        type=Path,
        metavar="STUDY_FOLDER",
        default=argparse.SUPPRESS,
        help="folder of a search or one above it; all below results/ if none is named",
    )
    parser.add_argument("--json", action="store_true", help="as JSON, a list of records")
    options = parser.parse_args(arguments)
    folders = getattr(options, "folders", [])
    if not folders:
        folders = sorted(Path("results").glob("*/scratch")) or [Path("results")]
        folders = [place for place in folders if len(folders) == 1 or any(place.glob("**/search.json"))]
    rows = [study_status(folder) for folder in find_studies(folders)]
    sys.stdout.write(canonical_json([asdict(row) for row in rows]) if options.json else table(rows))
