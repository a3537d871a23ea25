"""From an image in its file to a labelled volume, slab by slab, so that neither need fit into memory."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import ContractError
from ..base.files import check_output
from ..base.volumes import labelled_writer
from .labels import describe_values, label_slabs
from .notation import parse_classes, parse_crop, parse_labels, parse_shape
from .readers import View, open_image
from .segmentation import segmented
from .settings import SampleRow


def import_image(row: SampleRow, path: str | os.PathLike, made: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Write the labelled volume of a row of the sample sheet.

    Parameters
    ----------
    row
        The image, and what its labels or grey values mean.
    path
        Labelled volume (``*.zarr.zip``); a median-filtered image lies beside it for a while, in a file without a name.
    made
        Returns the record of ``base.provenance.provenance``; asked once the image is known to be one, since it reads the whole file.

    Returns
    -------
    dict
        That record.

    Raises
    ------
    ContractError
        If a label has no name, or neither labels nor a segmentation are given.
    InputFileError
        If the image cannot be read as a volume.
    """
    check_output(path)
    shape = parse_shape(row.shape) if row.shape else None
    crop = parse_crop(row.crop or ":,:,:")
    attributes: dict[str, Any] = {
        "sample": row.sample,
        "state": row.state,
        "axes_in_file": row.axes,
        "flip_z": row.flip_z,
        "crop": row.crop,
    }
    with ExitStack() as opened:
        stack = opened.enter_context(open_image(row.path, dataset=row.dataset, shape=shape, dtype=row.dtype))
        view = View(stack, row.axes, row.flip_z, crop)
        if min(view.shape) < 2:
            raise ContractError(
                f"{stack.name} has {view.shape} voxels in (z, y, x); expected at least 2 along each axis",
                hint="one slice is no volume: give a stack, or a wider crop",
            )
        slabs: Iterator[NDArray[np.uint8]]
        if row.labels:
            slabs = label_slabs(view, parse_labels(row.labels))
            attributes["label_map"] = row.labels
        elif row.segmentation != "none":
            folder = Path(path).absolute().parent
            folder.mkdir(parents=True, exist_ok=True)
            found, slabs = opened.enter_context(
                segmented(view, row.segmentation, parse_classes(row.classes), row.median_filter or 1, folder)
            )
            attributes["segmentation"] = found.report()
        else:
            raise ContractError(
                f"{stack.name} holds {describe_values(view)}; neither labels nor a segmentation say what they mean",
                hint='say labels (--labels "0=pore 1=am 2=cbd", or the column labels of the sheet), '
                'or segmentation and classes for grey values (--segmentation multi_otsu --classes "pore cbd am", or the columns)',
            )
        record = attributes["provenance"] = made()
        facts = (row.voxel_edge_um, (False, False, False), Path(row.path).name)
        with labelled_writer(path, view.shape, *facts, attributes=attributes) as writer:
            for slab in slabs:
                writer.write(slab)
    return record
