"""Tortuosity factor and effective diffusivity of a labelled volume in any common file.

Steady diffusion on cubic voxels: the concentration is 0 and 1 on the outer faces of the first and last slice along --axis (half a voxel
from the voxels' centres, so that an open channel has a tortuosity factor of exactly 1), the face between two voxels conducts with
the harmonic mean of their diffusivities. relative_diffusivity is D_eff / D_0; tortuosity_factor = conducting_fraction /
relative_diffusivity, with the fraction of all conducting voxels; both have no unit. The volume is taken as (z, y, x), whole,
voids included. Labels that no --diffusivity names do not conduct. A volume that nothing conducts through is a result: percolates is
false, tortuosity_factor null. Files: .tif, a folder of TIFF or PNG slices, .npy, .h5 (--dataset), .raw (--shape, --dtype), .zarr, .zarr.zip.
With --axis all the record holds one result per axis, under axes. Folders of outputs are made.
Under MPI: mpiexec -n N calandria tortuosity ... --ranks N
"""

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from ..base.errors import ContractError, SettingsError
from ..base.files import check_output
from ..base.provenance import provenance
from ..base.records import canonical_json, write_json
from ..tomography.notation import parse_axes, parse_shape
from ..tomography.readers import Stack, open_image
from ..transport.fields import write_fields
from ..transport.ranks import world
from ..transport.solver import AXIS_NAMES, SIDES, directions
from .program import program, run


class _Slices:
    """A stack of a file, seen in (z, y, x), of which each rank reads its slices."""

    def __init__(self, stack: Stack, axes: str) -> None:
        self.stack, self.order = stack, [axes.index(name) for name in "zyx"]
        self.shape, self.dtype = tuple(stack.shape[k] for k in self.order), stack.dtype

    def __getitem__(self, asked: tuple[slice, ...]) -> np.ndarray:
        box = [slice(None)] * 3
        for axis, slices in zip(self.order, asked, strict=True):
            box[axis] = slices
        box = [slice(*bounds.indices(extent)[:2]) for bounds, extent in zip(box, self.stack.shape, strict=True)]
        return self.stack[tuple(box)].transpose(self.order)


def parse_diffusivities(words: Sequence[str]) -> dict[int, float]:
    """Return ``LABEL=VALUE`` words as a mapping.

    >>> parse_diffusivities(["0=1", "1=0.05"])
    {0: 1.0, 1: 0.05}
    """
    found: dict[int, float] = {}
    for word in words:
        label, _, value = word.partition("=")
        try:
            key, number = int(label), float(value)
        except ValueError as error:
            raise SettingsError(
                f"--diffusivity {word!r} is not LABEL=VALUE",
                hint="write a label of the file and its diffusivity over D_0, e.g. 0=1",
            ) from error
        if key in found:
            raise SettingsError(f"--diffusivity names the label {key} twice", hint="give each label one diffusivity")
        found[key] = number
    return found


def _check_outputs(options: Namespace) -> None:
    """Raise InputFileError or SettingsError, before anything is solved, where a result could not be written or would overwrite another file."""
    for option in ("output", "fields"):
        if (path := getattr(options, option)) is not None:
            check_output(path, f"--{option}")
            if os.path.realpath(path) == os.path.realpath(options.file):
                raise SettingsError(f"--{option} {path!r} is the volume itself", hint="name another file")
    if options.fields is not None and not options.fields.endswith(".zarr.zip"):
        raise SettingsError(
            f"--fields {options.fields!r} does not end with .zarr.zip", hint="it is a zipped zarr file: name it so"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, solve one file along one or all axes."""
    parser = program(__doc__ or "", "calandria tortuosity")
    parser.add_argument("file", help="labelled volume, integers from 0 to 255")
    parser.add_argument("--axis", choices=(*AXIS_NAMES, "all"), default="z", help="direction of transport")
    parser.add_argument(
        "--diffusivity",
        action="append",
        required=True,
        metavar="LABEL=VALUE",
        help="diffusivity of a label over D_0; repeat per label",
    )
    parser.add_argument("--sides", choices=SIDES, default="no-flux", help="sides of the lateral axes")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest estimated relative error of D_eff (no unit)")
    parser.add_argument(
        "--max-iterations",
        type=int,
        default=500,
        help="iterations after which a small volume is solved directly, and a larger one is an error",
    )
    parser.add_argument("--output", default=None, help="record (JSON); standard output if left out")
    parser.add_argument(
        "--fields", default=None, help="concentration, local flux and profile per axis (.zarr.zip), for napari and ParaView"
    )
    parser.add_argument("--dataset", default="", help="array inside an HDF5 or zarr file")
    parser.add_argument("--shape", default=None, help="extents of a raw file, slowest axis first, e.g. 251x301x301")
    parser.add_argument("--dtype", default="", help="type of a raw file, e.g. uint8, uint16, >u2; uint8 if left out")
    parser.add_argument("--axes", default="zyx", help="order of the file's axes, slowest first")
    parser.add_argument("--ranks", type=int, default=None, help="number of MPI ranks that the launcher promised; checked")
    options = parser.parse_args(arguments)
    communicator = world(options.ranks)
    diffusivities = parse_diffusivities(options.diffusivity)
    _check_outputs(options)
    with ExitStack() as opened:
        shape = parse_shape(options.shape) if options.shape else None
        stack = opened.enter_context(open_image(options.file, dataset=options.dataset, shape=shape, dtype=options.dtype))
        volume = _Slices(stack, parse_axes(options.axes))
        if volume.dtype.kind == "f":
            raise ContractError(
                f"{options.file} holds {volume.dtype} values; expected labels, integers from 0 to 255",
                hint="segment grey values into phases first; labels that were saved as floats: save them as uint8",
            )
        try:
            results = directions(
                volume,
                diffusivities,
                axes=AXIS_NAMES if options.axis == "all" else (options.axis,),
                sides=options.sides,
                tolerance=options.tolerance,
                max_iterations=options.max_iterations,
                communicator=communicator,
                fields=options.fields is not None,
                every_label=True,
            )
        except (ContractError, SettingsError) as error:
            raise type(error)(f"{options.file}: {error.message}", hint=error.hint) from error
    if options.fields is not None:
        write_fields(options.fields, results, communicator)
    if communicator is not None and communicator.rank:
        return
    records = [result.record() for result in results.values()]
    asked = {key: value for key, value in vars(options).items() if key not in ("output", "file", "fields", "ranks")}
    content = {
        **(records[0] if len(records) == 1 else {"axes": {record["axis"]: record for record in records}}),
        "file": str(options.file),
        "options": asked,
        "provenance": provenance("transport", settings=asked, inputs={"volume": options.file}),
    }
    if options.output is None:
        sys.stdout.write(canonical_json(content))
    else:
        write_json(options.output, content)


if __name__ == "__main__":
    sys.exit(run(main))
