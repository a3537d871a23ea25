"""List mini-volumes, windows of consecutive slices, as a table of origins; nothing is copied."""

import sys
from collections.abc import Sequence

from calandria.base.errors import ContractError
from calandria.base.records import write_table
from calandria.base.volumes import open_labelled
from calandria.cli.program import named_files, program, run
from calandria.tomography.mini_volumes import COLUMNS, list_origins, origin_rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, list the mini-volumes of some volumes."""
    parser = program(__doc__ or "", "list_mini_volumes")
    parser.add_argument(
        "--volumes", required=True, nargs="+", metavar="NAME=PATH", help="labelled volumes, in the order of the stack"
    )
    parser.add_argument("--slice-window", required=True, type=int, help="consecutive slices of a mini-volume")
    parser.add_argument("--stride", required=True, help="slices between successive starts, or the word window")
    parser.add_argument(
        "--slice-axis", choices=["z", "y", "x"], default="z", help="axis along which slices follow each other; z is the thickness"
    )
    parser.add_argument("--straddle", action="store_true", help="run windows across the samples' borders, over one stack of all")
    parser.add_argument("--output", required=True, help="table (CSV); starts and stops in slices")
    options = parser.parse_args(arguments)
    n_slices, sides = {}, {}
    axis = "zyx".index(options.slice_axis)
    for name, path in named_files(options.volumes).items():
        with open_labelled(path) as (array, _):
            if array.ndim != 3:
                raise ContractError(
                    f"{path} has {array.ndim} axes; expected a volume (z, y, x)", hint="series are for the surrogate stage"
                )
            n_slices[name] = array.shape[axis]
            sides[name] = tuple(extent for i, extent in enumerate(array.shape) if i != axis)
    if options.straddle and len(set(sides.values())) > 1:
        raise ContractError(
            f"windows cannot straddle samples of different cross-sections: {sides}", hint="crop them to one size on import"
        )
    origins = list_origins(
        n_slices, options.slice_window, options.stride, straddle=options.straddle, slice_axis=options.slice_axis
    )
    write_table(options.output, origin_rows(origins), COLUMNS)


if __name__ == "__main__":
    sys.exit(run(main))
