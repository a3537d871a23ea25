"""Write the settings of one stage to the JSON file that its programs read.

The workflow hands them over as text and names the file by their digest, so that a file never holds other settings than its name says.
"""

import json
import sys
from collections.abc import Sequence

from calandria.base.errors import SettingsError
from calandria.base.records import write_json
from calandria.cli.program import program, run


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, write one section."""
    parser = program(__doc__ or "", "write_settings")
    parser.add_argument("--content", required=True, help="section of the settings as JSON text")
    parser.add_argument("--output", required=True, help="settings of the stage (JSON)")
    options = parser.parse_args(arguments)
    try:
        content = json.loads(options.content)
    except json.JSONDecodeError as error:
        raise SettingsError(f"--content is not JSON: {error}", hint="let the workflow call this program") from error
    write_json(options.output, content)


if __name__ == "__main__":
    sys.exit(run(main))
