"""List mini-volumes, windows of consecutive slices, as a table of origins; nothing is copied."""

import sys
from collections.abc import Mapping, Sequence

from ..common.cli import program, run
from ..common.errors import ContractError, SettingsError
from ..common.records import write_table
from ..common.volumes import open_labelled
from .mini_volumes import COLUMNS, list_origins, origin_rows


def named_paths(words: Sequence[str]) -> Mapping[str, str]:
    """Return the paths of ``name=path`` words by name, in their order.

    >>> named_paths(["a=x/a.zarr.zip"])
    {'a': 'x/a.zarr.zip'}
    """
    paths: dict[str, str] = {}
    for word in words:
        name, separator, path = word.partition("=")
        if not (name and separator and path):
            raise SettingsError(
                f"{word!r} is not name=path", hint="write e.g. cathode=results/tomography/cathode/labels.zarr.zip"
            )
        if name in paths:
            raise SettingsError(f"the sample {name!r} is named twice", hint="give each volume a name of its own")
        paths[name] = path
    return paths


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
    for name, path in named_paths(options.volumes).items():
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
