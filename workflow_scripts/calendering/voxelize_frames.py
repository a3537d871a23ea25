"""Program: the particles of a run to a labelled time series."""

import logging
import sys
from collections.abc import Sequence

from calandria.base.provenance import provenance
from calandria.base.stage import read_given
from calandria.base.volumes import Labelled, write_labelled
from calandria.calendering.particles import read_run_file
from calandria.calendering.settings import RULES, CalenderingSettings
from calandria.calendering.voxels import choose_grid, paint_frames, volume_missing
from calandria.cli.program import program, run

log = logging.getLogger(__name__)

DESCRIPTION = """Paint every frame of a run into a labelled time series (t, z, y, x): 0 pore, 1 CBD, 2 AM, 4 void above the film.

Frame quantities in the file: press_position_um, thickness_um, compression_degree, time_us, porosity_free, overlap_loss_cbd, overlap_loss_am, cut_loss, grown_cbd, grown_am (fractions)."""
FACTS = (
    "film",
    "compression_degree_percent",
    "frame_interval_us",
    "turn_frame",
    "surface_source",
    "press_is_estimated",
    "lowest_thickness_um",
    "lowest_thickness_source",
    "time_source",
    "deepest_compression_degree",
    "deepest_compression_degree_source",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the run, paint its frames, write the series."""
    parser = program(DESCRIPTION, "calendering.voxelize_frames")
    parser.add_argument("--settings", required=True, help="JSON file of what the rule reads: voxels of the section calendering")
    parser.add_argument("--particles", required=True, help="HDF5 file of calendering.read_dumps")
    parser.add_argument("--output", required=True, help="labelled series to write, *.zarr.zip")
    options = parser.parse_args(arguments)

    given = read_given(options.settings, CalenderingSettings, RULES, "voxelize_frames")
    settings = given.settings.voxels
    dem = read_run_file(options.particles)
    grid = choose_grid(dem.particles, dem.thickness_um, settings)
    labels, measured = paint_frames(dem.particles, dem.thickness_um, grid)
    missing = volume_missing(measured) if grid.conserve_volume else ""
    if missing:
        log.warning("voxelize_frames: the pores do not hold the volume of the spheres: %s", missing)
    columns = {name: getattr(dem, name) for name in ("press_position_um", "thickness_um", "compression_degree", "time_us")}
    columns |= measured
    attributes = {name: dem.attributes[name] for name in FACTS} | {
        **{name: dem.attributes[name] for name in ("replicate_of",) if name in dem.attributes},
        "box_misfit": grid.misfit,
        "conserve_volume": grid.conserve_volume,
        **({"volume_missing": missing} if missing else {}),
        "particles_provenance": dem.attributes["provenance"],
        "provenance": provenance(given, inputs={"particles": options.particles}),
    }
    periodic = (False, dem.particles.periodic[1], dem.particles.periodic[0])
    write_labelled(options.output, Labelled(labels, grid.edge_um, periodic, dem.attributes["source"], columns, attributes))


if __name__ == "__main__":
    sys.exit(run(main))
