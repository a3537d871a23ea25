"""Import the image of a row of the sample sheet: give its labels or grey values the phase codes, write a labelled volume."""

import sys
from collections.abc import Sequence

from calandria.base.inputs import write_inputs
from calandria.base.provenance import provenance
from calandria.base.stage import read_given
from calandria.cli.program import program, run
from calandria.tomography.imports import import_image
from calandria.tomography.settings import RULES, SampleRow, TomographySettings


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, import one image."""
    parser = program(__doc__ or "", "import_volume")
    parser.add_argument(
        "--settings", required=True, help="JSON file of what the rule reads: median_filter of the section tomography, the row"
    )
    parser.add_argument("--output", required=True, help="labelled volume (.zarr.zip)")
    parser.add_argument("--output-inputs", help="JSON to write: size, time and SHA-256 of the image's file")
    options = parser.parse_args(arguments)
    given = read_given(options.settings, TomographySettings, RULES, "import_volume")
    row = SampleRow.from_mapping({"median_filter": given.settings.median_filter, **given["row"]}, str(options.settings))
    made = import_image(row, options.output, lambda: provenance(given, inputs={"source": row.path}))
    if options.output_inputs:
        write_inputs(options.output_inputs, given.get("inputs"), {"source": row.path}, made["inputs_sha256"])


if __name__ == "__main__":
    sys.exit(run(main))
