"""Measure every frame of one or more series: phase volumes, free porosity, thickness and contact areas, as one table.

Volumes are counts of voxels, porosity_free is the fraction of the electrode that is pore outside the binder domain (void above it left out), thickness_um is the
film's thickness in um, contact areas are counts of voxel faces between unlike phases and the same in um2. Faces across
periodic sides count, as the file says.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from calandria.base.phases import PHASES
from calandria.base.records import write_recorded_table
from calandria.base.stage import read_given
from calandria.base.volumes import Labelled, volume_fractions
from calandria.cli.program import named_files, program, run
from calandria.transport.interfaces import INTERFACES, count_interfaces
from calandria.transport.series import read_all_series, table_record
from calandria.transport.settings import RULES, TransportSettings

COLUMNS = (
    "series",
    "frame",
    "thickness_um",
    "porosity_free",
    *(f"{phase}_voxels" for phase in PHASES),
    *(f"contact_area_faces_{pair}" for pair in INTERFACES),
    *(f"contact_area_um2_{pair}" for pair in INTERFACES),
)


def frame_rows(name: str, series: Labelled) -> Iterator[Mapping[str, Any]]:
    """Yield one table row per frame of a series."""
    for index, labels in enumerate(series.labels):
        counts = np.bincount(labels.ravel(), minlength=5)
        faces = count_interfaces(labels, series.periodic)
        yield {
            "series": name,
            "frame": index,
            "thickness_um": float(series.frames["thickness_um"][index]) if "thickness_um" in series.frames else None,
            "porosity_free": volume_fractions(labels)["pore"],
            **{f"{phase}_voxels": int(counts[code]) for phase, code in PHASES.items()},
            **{f"contact_area_faces_{pair}": count for pair, count in faces.items()},
            **{f"contact_area_um2_{pair}": count * series.voxel_edge_um**2 for pair, count in faces.items()},
        }


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, measure all frames."""
    parser = program(__doc__ or "", "measure_frames")
    parser.add_argument("--settings", help="JSON file that the workflow writes; it holds the rule and its version")
    parser.add_argument(
        "--series", nargs="+", required=True, metavar="NAME=FILE", help="series (.zarr.zip) and their names in the table"
    )
    parser.add_argument("--output", required=True, help="table (CSV), one row per frame; its record goes beside it (.json)")
    options = parser.parse_args(arguments)
    given = read_given(options.settings, TransportSettings, RULES, "measure_frames")
    files = named_files(options.series)
    rows = [row for name, series in read_all_series(files) for row in frame_rows(name, series)]
    write_recorded_table(options.output, rows, COLUMNS, table_record(files, given))


if __name__ == "__main__":
    sys.exit(run(main))
