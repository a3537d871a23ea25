"""The ``calandria`` command: tools for any volume without the workflow, a look at running searches, and where numbers come from.

>>> commands()["tortuosity"].__name__
'main'
"""

import sys
from collections.abc import Callable, Sequence

from .program import program, run


def commands() -> dict[str, Callable[[Sequence[str] | None], None]]:
    """Return the programs by their command's name."""
    from .import_image import main as import_image
    from .prune import main as prune
    from .status import main as status
    from .tortuosity import main as tortuosity
    from .trace import main as trace

    return {"import": import_image, "prune": prune, "status": status, "tortuosity": tortuosity, "trace": trace}


def main(arguments: Sequence[str] | None = None) -> None:
    """Hand the arguments behind the command's name to its program."""
    known = commands()
    parser = program(__doc__.splitlines()[0] if __doc__ else "", "calandria")
    parser.add_argument("command", choices=known, help="what to do; each has its own --help")
    words = list(sys.argv[1:] if arguments is None else arguments)
    known[parser.parse_args(words[:1]).command](words[1:])


def entry_point() -> int:
    """Run the command line and return its exit code."""
    return run(main)


if __name__ == "__main__":
    sys.exit(entry_point())
