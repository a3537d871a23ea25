"""Import an image: read it from its file, give its labels or grey values the phase codes, write a labelled volume."""

import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from calandria.base.errors import ContractError, SettingsError
from calandria.base.provenance import provenance
from calandria.base.settings import mistakes
from calandria.base.volumes import Labelled, write_labelled
from calandria.cli.program import program, run
from calandria.tomography.labels import describe_values, read_labels
from calandria.tomography.notation import parse_classes, parse_crop, parse_labels, parse_shape
from calandria.tomography.readers import View, open_image
from calandria.tomography.segmentation import segment
from calandria.tomography.settings import SampleRow


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, import one image."""
    parser = program(__doc__ or "", "import_volume")
    parser.add_argument("--sample", required=True, help="name of the sample: lower-case letters, digits, underscores")
    parser.add_argument(
        "--source",
        required=True,
        help="TIFF stack, folder of TIFF or PNG slices, HDF5, zarr, zarr.zip, npy, or raw (.raw .bin .dat .img .vol)",
    )
    parser.add_argument("--voxel-edge-um", required=True, help="edge of the cubic voxels in um")
    parser.add_argument("--dataset", help="array inside an HDF5 or zarr file; not needed if there is one volume in it")
    parser.add_argument("--shape", help="extents of a raw file in voxels, slowest axis first, e.g. 251x301x301")
    parser.add_argument("--dtype", help="NumPy type of a raw file, e.g. uint8, uint16, >u2; uint8 if left out")
    parser.add_argument("--axes", default="zyx", help="order of the file's axes, slowest first; z is the thickness")
    parser.add_argument("--flip-z", action="store_true", help="the current collector is at the last index of z in the file")
    parser.add_argument("--labels", help='phase of every label of a segmented image, e.g. "0=pore 1=am 2=cbd"')
    parser.add_argument(
        "--segmentation", default="none", help="otsu (two classes) or multi_otsu for grey images, none for labelled ones"
    )
    parser.add_argument("--classes", help='phases of the segmentation from dark to bright, e.g. "pore cbd am"')
    parser.add_argument(
        "--crop", help="voxels to keep, z0:z1,y0:y1,x0:x1, counted after --axes and --flip-z; empty bounds reach to the end"
    )
    parser.add_argument(
        "--median-filter", default=1, help="edge of the median filter before segmentation in voxels, odd; 1 is none"
    )
    parser.add_argument("--state", help="state of the electrode for tables: a word such as calendered")
    parser.add_argument("--output", required=True, help="labelled volume (.zarr.zip)")
    options = vars(parser.parse_args(arguments))
    output = options.pop("output")
    options["path"] = options.pop("source")
    try:
        row = SampleRow.model_validate({key: value for key, value in options.items() if value not in (None, "")})
    except ValidationError as error:
        raise SettingsError(
            f"options of import_volume: {mistakes(error, SampleRow)}", hint="see import_volume --help for what each option takes"
        ) from error
    write_labelled(output, import_image(row))


def import_image(row: SampleRow) -> Labelled:
    """Return the labelled volume of a row of the sample sheet.

    Raises
    ------
    ContractError
        If a label has no name, or neither labels nor a segmentation are given.
    InputFileError
        If the image cannot be read as a volume.
    """
    shape = parse_shape(row.shape) if row.shape else None
    crop = parse_crop(row.crop or ":,:,:")
    attributes = {"sample": row.sample, "state": row.state, "axes_in_file": row.axes, "flip_z": row.flip_z, "crop": row.crop}
    with open_image(row.path, dataset=row.dataset, shape=shape, dtype=row.dtype) as stack:
        view = View(stack, row.axes, row.flip_z, crop)
        if min(view.shape) < 2:
            raise ContractError(
                f"{stack.name} has {view.shape} voxels in (z, y, x); expected at least 2 along each axis",
                hint="one slice is no volume: give a stack, or a wider crop",
            )
        if row.labels:
            labels = read_labels(view, parse_labels(row.labels))
            attributes["label_map"] = row.labels
        elif row.segmentation != "none":
            found = segment(view, row.segmentation, parse_classes(row.classes), row.median_filter or 1)
            labels = found.labels
            attributes["segmentation"] = found.report()
        else:
            raise ContractError(
                f"{stack.name} holds {describe_values(view)}; neither labels nor a segmentation say what they mean",
                hint='say labels (--labels "0=pore 1=am 2=cbd", or the column labels of the sheet), '
                'or segmentation and classes for grey values (--segmentation multi_otsu --classes "pore cbd am", or the columns)',
            )
    settings = row.model_dump(exclude={"path"})
    attributes["provenance"] = provenance("tomography", settings=settings, inputs={"source": row.path})
    return Labelled(labels, row.voxel_edge_um, (False, False, False), Path(row.path).name, attributes=attributes)


if __name__ == "__main__":
    sys.exit(run(main))
