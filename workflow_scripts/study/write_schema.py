"""Write config/schema.json, the JSON schema of all settings, from the typed settings; or say whether it is up to date."""

import sys
from collections.abc import Sequence
from pathlib import Path

from calandria.base.errors import SettingsError
from calandria.base.files import write_text
from calandria.cli.program import program, run
from calandria.study.study import schema_text


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, write or compare the schema."""
    parser = program(__doc__ or "", "write_schema")
    parser.add_argument("--output", default="config/schema.json", help="schema (JSON)")
    parser.add_argument("--check", action="store_true", help="write nothing; an error if the file differs from the settings")
    options = parser.parse_args(arguments)
    path = Path(options.output)
    if not options.check:
        write_text(path, schema_text())
    elif not path.exists() or path.read_text(encoding="utf-8") != schema_text():
        raise SettingsError(
            f"{str(path)!r} differs from the typed settings",
            hint=f"run python -m workflow_scripts.study.write_schema --output {path}",
        )


if __name__ == "__main__":
    sys.exit(run(main))
