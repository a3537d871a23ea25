"""Solve steady diffusion through every frame of one or more series, for one case along one axis, as one table.

Each row holds relative_diffusivity (D_eff / D_0), effective_diffusivity_m2_s (m2/s), tortuosity_factor (empty when blocked) and the
evidence; fractions are of 1. The electrode of a frame ends at the last slice of which less than half is void.
Under mpiexec whole frames are shared out among the ranks: mpiexec -n N python -m ... --ranks N
"""

import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from calandria.base.errors import CalandriaError
from calandria.base.progress import progress
from calandria.base.records import write_recorded_table
from calandria.base.stage import Given, read_given
from calandria.cli.program import named_files, program, run
from calandria.transport.ranks import together, world
from calandria.transport.series import read_all_series, table_record
from calandria.transport.settings import RULES, TransportSettings, diffusivities_by_code, sides_of_file
from calandria.transport.solver import AXIS_NAMES, UNRECORDED, TransportResult, as_row, electrode, tortuosity

FIRST = ("series", "frame", "case", "axis", "relative_diffusivity", "effective_diffusivity_m2_s", "tortuosity_factor")
COLUMNS = (*FIRST, *(item.name for item in fields(TransportResult) if item.name not in (*FIRST, *UNRECORDED)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, solve all frames."""
    parser = program(__doc__ or "", "solve_series")
    parser.add_argument(
        "--settings", required=True, help="JSON file of what the rule reads: the solver's settings, diffusivities by phase, sides"
    )
    parser.add_argument(
        "--series", nargs="+", required=True, metavar="NAME=FILE", help="series (.zarr.zip) and their names in the table"
    )
    parser.add_argument("--case", required=True, help="name of the case, for the table")
    parser.add_argument("--axis", choices=AXIS_NAMES, required=True, help="direction of transport")
    parser.add_argument("--output", required=True, help="table (CSV), one row per series and frame; its record (.json) beside it")
    parser.add_argument("--ranks", type=int, default=None, help="number of MPI ranks that the launcher promised; checked")
    options = parser.parse_args(arguments)
    communicator = world(options.ranks)
    given = read_given(options.settings, TransportSettings, RULES, "solve_series")
    files = named_files(options.series)
    rows = together(communicator, lambda: _rows(files, given, options.case, options.axis, communicator))
    if communicator is not None:
        parts = communicator.gather(rows)
        if communicator.rank:
            return
        rows = [row for part in parts for row in part]
    rows.sort(key=lambda row: row.pop("order"))
    write_recorded_table(options.output, rows, COLUMNS, table_record(files, given))


def _rows(
    files: dict[str, Path], given: Given[TransportSettings], case: str, axis: str, communicator: Any
) -> list[dict[str, Any]]:
    """Return this rank's rows, each with its place ``order`` in the whole table."""
    size, rank = (communicator.size, communicator.rank) if communicator is not None else (1, 0)
    settings, diffusivities = given.settings, diffusivities_by_code(given["diffusivities"])
    rows: list[dict[str, Any]] = []
    for place, (name, series) in enumerate(read_all_series(files)):
        sides = sides_of_file(given.get("sides", {}), series.periodic)
        for index in progress(range(rank, len(series.labels), size), name, unit="frame"):
            try:
                result = tortuosity(
                    electrode(series.labels[index]),
                    diffusivities,
                    axis=axis,
                    sides=sides,
                    tolerance=settings.tolerance,
                    max_iterations=settings.max_iterations,
                )
            except CalandriaError as error:
                raise type(error)(f"{name}, frame {index}, case {case}: {error.message}", hint=error.hint) from error
            effective = result.relative_diffusivity * settings.bulk_diffusivity_m2_s
            named = {"series": name, "frame": index, "case": case, "effective_diffusivity_m2_s": effective}
            rows.append({"order": (place, index), **named, **as_row(result)})
    return rows


if __name__ == "__main__":
    sys.exit(run(main))
