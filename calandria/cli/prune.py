"""``calandria prune``: what a study no longer needs, and its deletion."""

import sys
from collections.abc import Sequence

from ..base.records import canonical_json
from ..search.pruning import free, study_folder, unneeded
from .program import program
from .status import in_words


def main(arguments: Sequence[str] | None = None) -> None:
    """List what a study no longer needs, or delete it."""
    parser = program(
        "List what a study no longer needs, with sizes, and delete it with --yes: checkpoints of finished trainings and trials, files that\n"
        "a process which is gone left half written, and settings that no result was made with. Results, journals of searches, checkpoints\n"
        "of what can be resumed, and studies at work are never touched.",
        "calandria prune",
    )
    parser.add_argument("study", nargs="+", metavar="STUDY", help="name of a study, or its folder of results")
    parser.add_argument("--logs", action="store_true", help="logs as well")
    parser.add_argument("--yes", action="store_true", help="delete; without it nothing is changed")
    parser.add_argument("--json", action="store_true", help="as JSON, a list of paths, reasons and sizes in bytes")
    options = parser.parse_args(arguments)
    folders = [study_folder(name) for name in options.study]
    for folder in folders:
        found = free(folder, logs=options.logs) if options.yes else unneeded(folder, logs=options.logs)
        if options.json:
            rows = [{"path": str(item.path), "why": item.why, "size": item.size} for item in found]
            sys.stdout.write(canonical_json(rows))
            continue
        for item in found:
            sys.stdout.write(f"{in_words(item.size):>10}  {item.path}  ({item.why})\n")
        total = in_words(sum(item.size for item in found))
        if not found:
            sys.stdout.write(f"{folder}: nothing is unneeded\n")
        elif options.yes:
            sys.stdout.write(f"{folder}: freed {total} in {len(found)} files and folders\n")
        else:
            sys.stdout.write(f"{folder}: {total} in {len(found)} files and folders are not needed; --yes deletes them\n")
