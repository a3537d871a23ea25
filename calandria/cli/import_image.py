"""``calandria import``: an image becomes a labelled volume."""

from collections.abc import Sequence

from pydantic import ValidationError

from ..base.errors import SettingsError
from ..base.provenance import provenance
from ..base.settings import mistakes
from ..tomography.imports import import_image
from ..tomography.settings import SampleRow
from .program import program

DESCRIPTION = (
    """Import an image: read it from its file, give its labels or grey values the phase codes, write a labelled volume."""
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, import one image."""
    parser = program(DESCRIPTION, "calandria import")
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
            f"options of calandria import: {mistakes(error, SampleRow)}",
            hint="see calandria import --help for what each option takes",
        ) from error
    settings = row.model_dump(exclude={"path"})
    import_image(row, output, lambda: provenance("tomography", settings=settings, inputs={"source": row.path}))
