"""An image becomes a labelled volume: it is read from its file, and its labels or grey values get the phase codes."""

from pathlib import Path
from typing import Any

from ..base.errors import ContractError
from ..base.volumes import Labelled
from .labels import describe_values, read_labels
from .notation import parse_classes, parse_crop, parse_labels, parse_shape
from .readers import View, open_image
from .segmentation import segment
from .settings import SampleRow


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
    attributes: dict[str, Any] = {
        "sample": row.sample,
        "state": row.state,
        "axes_in_file": row.axes,
        "flip_z": row.flip_z,
        "crop": row.crop,
    }
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
    return Labelled(labels, row.voxel_edge_um, (False, False, False), Path(row.path).name, attributes=attributes)
