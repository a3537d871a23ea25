"""``calandria status``: how far the searches of a study are, and how large its folders."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ..base.records import canonical_json
from ..search.pruning import Sizes, is_study, sizes
from ..search.status import find_studies, study_status, table
from .program import program


def main(arguments: Sequence[str] | None = None) -> None:
    """Tell how far the searches are."""
    parser = program(
        "How far searches are: trials done, pruned, running, stale (their worker is gone; another one takes them over) and failed, the\n"
        "best value so far, hours of GPUs and workers, and the time left (h:mm:ss); and how large each study's results, scratch and logs\n"
        "are. Needs nothing but the files and writes nothing.",
        "calandria status",
    )
    parser.add_argument(
        "folders",
        nargs="*",
        type=Path,
        metavar="STUDY_FOLDER",
        default=argparse.SUPPRESS,
        help="folder of a study or of a search, or one above it; all below results/ if none is named",
    )
    parser.add_argument("--json", action="store_true", help="as JSON: searches, and the studies' sizes in bytes")
    options = parser.parse_args(arguments)
    named = getattr(options, "folders", [])
    places = named or sorted(path for path in Path("results").glob("*") if is_study(path)) or [Path("results")]
    studies = [place for place in places if is_study(place)]
    # a study that has no search is told by its sizes alone
    searched = [place for place in places if place not in studies or any((place / "scratch").glob("**/search.json"))]
    rows = [study_status(folder) for folder in find_studies(searched)]
    parts = [sizes(folder) for folder in studies]
    if options.json:
        sys.stdout.write(canonical_json({"searches": [asdict(row) for row in rows], "studies": [asdict(part) for part in parts]}))
        return
    sys.stdout.write("\n".join(filter(None, [table(rows) if rows else "", _sizes_table(parts) if parts else ""])))


def _sizes_table(parts: Sequence[Sizes]) -> str:
    rows = [("study", "results", "scratch", "logs")]
    rows += [(part.folder, in_words(part.results), in_words(part.scratch), in_words(part.logs)) for part in parts]
    width = max(len(row[0]) for row in rows)
    return "".join(f"{row[0].ljust(width)}  " + "  ".join(cell.rjust(9) for cell in row[1:]) + "\n" for row in rows)


def in_words(size: float) -> str:
    """Return a number of bytes in the unit in which it is short.

    >>> in_words(999), in_words(12_345_678)
    ('999 B', '12.3 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
