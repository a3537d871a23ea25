"""Say that a sample's image is not where the sample sheet says; the workflow calls it in place of an import that cannot be."""

import sys
from collections.abc import Sequence

from ..common.cli import program, run
from ..common.errors import InputFileError


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, raise InputFileError."""
    parser = program(__doc__ or "", "report_missing_source")
    parser.add_argument("--sample", required=True, help="name of the sample")
    parser.add_argument("--source", required=True, help="file or folder that is missing")
    parser.add_argument("--sheet", required=True, help="sample sheet that names it")
    options = parser.parse_args(arguments)
    raise InputFileError(
        f"sample {options.sample}: no file or folder {options.source!r}, which {options.sheet} names",
        hint="put the image there, or mend the column path (relative to the folder in which snakemake runs) or delete the line",
    )


if __name__ == "__main__":
    sys.exit(run(main))
