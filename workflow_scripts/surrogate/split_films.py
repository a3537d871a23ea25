"""Program: which windows of which run train, validate and test."""

import sys
from collections.abc import Sequence

from calandria.base.provenance import provenance
from calandria.base.records import write_json
from calandria.base.stage import read_given
from calandria.cli.program import program, run
from calandria.surrogate.settings import RULES, SurrogateSettings
from calandria.surrogate.splits import split_runs
from calandria.surrogate.windows import describe_runs

DESCRIPTION = """Divide the windows of all series among training, validation and test.

The record names, per run, the target frames of each part. `test_runs` says of each test run whether it is `leaking` and the `reason`: its film, or one
that it replicates, is used for training or validation, or its frames are. `overlaps` lists frames of equal content in two parts. `leaking` is true if any
test run is. @FILE stands for the options in a file, one word a line."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Describe the series, split them, write the record."""
    parser = program(DESCRIPTION, "surrogate.split_films")
    parser.fromfile_prefix_chars = "@"
    parser.add_argument("--settings", required=True, help="JSON file of the rule split_films: lag_window, split")
    parser.add_argument("--frames", required=True, nargs="+", help="series of calendering.voxelize_frames, *.zarr.zip")
    parser.add_argument("--output", required=True, help="JSON record to write")
    options = parser.parse_args(arguments)

    given = read_given(options.settings, SurrogateSettings, RULES, "split_films")
    split = split_runs(describe_runs(options.frames), given.settings.split, given.settings.lag_window)
    inputs = {f"frames_{number}": path for number, path in enumerate(options.frames)}
    write_json(options.output, split | {"provenance": provenance(given, inputs=inputs, seed=given.settings.split.seed)})


if __name__ == "__main__":
    sys.exit(run(main))
