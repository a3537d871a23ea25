"""List mini-volumes, windows of consecutive slices, as a table of origins; nothing is copied."""

import sys
from collections.abc import Sequence

from calandria.autoencoder.settings import RULES, AutoencoderSettings, mini_volume_plan
from calandria.base.errors import ContractError
from calandria.base.records import write_table
from calandria.base.stage import read_given
from calandria.base.volumes import open_labelled
from calandria.cli.program import named_files, program, run
from calandria.tomography.mini_volumes import COLUMNS, list_origins, origin_rows
from workflow_scripts.autoencoder.options import add_settings, add_volumes


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, list the mini-volumes of some volumes."""
    parser = program(__doc__ or "", "list_mini_volumes")
    add_settings(parser, "list_mini_volumes", "slice_window and stride in slices, straddle, slice_axis")
    add_volumes(parser)
    parser.add_argument("--output", required=True, help="table (CSV); starts and stops in slices")
    options = parser.parse_args(arguments)
    cut = mini_volume_plan(
        read_given(options.settings, AutoencoderSettings, RULES, "list_mini_volumes").content, options.settings
    )
    n_slices, sides = {}, {}
    axis = "zyx".index(cut.slice_axis)
    for name, path in named_files(options.volumes).items():
        with open_labelled(path) as (array, _):
            if array.ndim != 3:
                raise ContractError(
                    f"{path} has {array.ndim} axes; expected a volume (z, y, x)", hint="series are for the surrogate stage"
                )
            n_slices[name] = array.shape[axis]
            sides[name] = tuple(extent for i, extent in enumerate(array.shape) if i != axis)
    if cut.straddle and len(set(sides.values())) > 1:
        raise ContractError(
            f"windows cannot straddle samples of different cross-sections: {sides}", hint="crop them to one size on import"
        )
    origins = list_origins(n_slices, cut.slice_window, cut.stride, straddle=cut.straddle, slice_axis=cut.slice_axis)
    write_table(options.output, origin_rows(origins), COLUMNS)


if __name__ == "__main__":
    sys.exit(run(main))
