"""Solve steady diffusion through one labelled volume and write effective diffusivity and tortuosity factor with their evidence.

D_eff is taken along --axis between the outer faces of the first and last slice; along z the electrode ends at its surface (the last
slice of which less than half is void). effective_diffusivity_m2_s is in m2/s; all other quantities have no unit, fractions are of 1.
Under mpiexec the volume is cut into blocks, and each rank reads its own: mpiexec -n N python -m ... --ranks N
"""

import sys
from collections.abc import Sequence

from calandria.base.errors import ContractError
from calandria.base.provenance import provenance
from calandria.base.records import write_json
from calandria.base.stage import read_given
from calandria.base.volumes import open_labelled
from calandria.cli.program import program, run
from calandria.transport.lazy import SlicedVolume, electrode_slices
from calandria.transport.ranks import world
from calandria.transport.settings import RULES, TransportSettings, diffusivities_by_code, sides_of_file
from calandria.transport.solver import AXIS_NAMES, tortuosity


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, solve one volume."""
    parser = program(__doc__ or "", "solve_diffusion")
    parser.add_argument(
        "--settings", required=True, help="JSON file of what the rule reads: the solver's settings, diffusivities by phase, sides"
    )
    parser.add_argument("--volume", required=True, help="labelled volume (.zarr.zip)")
    parser.add_argument("--case", required=True, help="name of the case, for the record")
    parser.add_argument("--axis", choices=AXIS_NAMES, required=True, help="direction of transport")
    parser.add_argument("--output", required=True, help="record (JSON)")
    parser.add_argument("--ranks", type=int, default=None, help="number of MPI ranks that the launcher promised; checked")
    options = parser.parse_args(arguments)
    communicator = world(options.ranks)
    given = read_given(options.settings, TransportSettings, RULES, "solve_diffusion")
    settings = given.settings
    with open_labelled(options.volume) as (array, facts):
        if array.ndim != 3:
            raise ContractError(
                f"{options.volume} is a series; expected a volume (z, y, x)", hint="series are solved by transport.solve_series"
            )
        volume = SlicedVolume(array, electrode_slices(array, communicator))
        result = tortuosity(
            volume,
            diffusivities_by_code(given["diffusivities"]),
            axis=options.axis,
            sides=sides_of_file(given.get("sides", {}), facts.periodic),
            tolerance=settings.tolerance,
            max_iterations=settings.max_iterations,
            communicator=communicator,
        )
    if communicator is not None and communicator.rank:
        return
    sys.stderr.write(
        f"solved on {result.ranks} ranks in {result.wall_s:.3g} s\n"
    )  # the log has it; a record is the same for equal work
    write_json(
        options.output,
        {
            "sample": facts.attributes.get("sample"),
            "source": facts.source,
            "case": options.case,
            **result.record(),
            "effective_diffusivity_m2_s": result.relative_diffusivity * settings.bulk_diffusivity_m2_s,
            "bulk_diffusivity_m2_s": settings.bulk_diffusivity_m2_s,
            "voxel_edge_um": facts.voxel_edge_um,
            "length_um": result.shape[AXIS_NAMES.index(options.axis)] * facts.voxel_edge_um,
            "provenance": provenance(given, inputs={"volume": options.volume}),
        },
    )


if __name__ == "__main__":
    sys.exit(run(main))
