"""Write the table of quantities into the docs, below their introduction; --check only compares."""

import sys
from collections.abc import Sequence
from pathlib import Path

from calandria.base.errors import InputFileError
from calandria.base.files import read_text, write_text
from calandria.base.quantities import markdown_table
from calandria.cli.program import program, run


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, replace the table, which is the end of the file."""
    parser = program(__doc__ or "", "write_quantities")
    parser.add_argument("--output", default="docs/quantities.md", help="page (Markdown) that ends with the table")
    parser.add_argument("--check", action="store_true", help="write nothing; an error if the table differs from the code")
    options = parser.parse_args(arguments)
    text, table = read_text(options.output, "page"), markdown_table()
    written = text[: text.index(table.splitlines()[0])] + table if table.splitlines()[0] in text else f"{text}\n{table}"
    if not options.check:
        write_text(Path(options.output), written)
    elif written != text:
        raise InputFileError(
            f"the table of {options.output!r} is not that of calandria/base/quantities.py",
            hint="run python -m workflow_scripts.report.write_quantities",
        )


if __name__ == "__main__":
    sys.exit(run(main))
