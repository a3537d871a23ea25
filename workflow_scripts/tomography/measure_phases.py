"""Measure phase fractions, thickness (um) and profiles through the thickness of a labelled volume; all fractions are of 1.

labels_sha256 is the digest of the voxels alone (uint8 phase codes in the order z, y, x), by which a volume is known again.
"""

import hashlib
import sys
from collections.abc import Sequence

import numpy as np

from calandria.base.errors import ContractError
from calandria.base.provenance import provenance
from calandria.base.records import write_json
from calandria.base.stage import read_given
from calandria.base.volumes import checked_slabs, open_labelled
from calandria.cli.program import program, run
from calandria.tomography.measurements import PhaseCounts
from calandria.tomography.settings import RULES, TomographySettings


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, measure one volume."""
    parser = program(__doc__ or "", "measure_phases")
    parser.add_argument("--settings", help="JSON file that the workflow writes; it holds the rule and its version")
    parser.add_argument("--volume", required=True, help="labelled volume (.zarr.zip)")
    parser.add_argument("--output", required=True, help="record (JSON); lengths in um, fractions of 1")
    options = parser.parse_args(arguments)
    given = read_given(options.settings, TomographySettings, RULES, "measure_phases")
    digest, phases = hashlib.sha256(), PhaseCounts()
    with open_labelled(options.volume) as (array, volume):
        if array.ndim != 3:
            raise ContractError(
                f"{options.volume} is a series; expected a volume (z, y, x)",
                hint="series are measured by transport.measure_frames",
            )
        for slab in checked_slabs(array, options.volume):
            digest.update(np.ascontiguousarray(slab).data)
            phases.add(slab)
        shape = array.shape
    write_json(
        options.output,
        {
            "sample": volume.attributes.get("sample"),
            "source": volume.source,
            "segmentation": volume.attributes.get("segmentation"),
            "shape": shape,
            "voxel_edge_um": volume.voxel_edge_um,
            "labels_sha256": digest.hexdigest(),
            **phases.measurement(volume.voxel_edge_um).record(),
            "provenance": provenance(given, inputs={"volume": options.volume}),
        },
    )


if __name__ == "__main__":
    sys.exit(run(main))
