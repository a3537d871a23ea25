"""Volumes of files as objects: labelled ones by the data contract, others as the values of the file."""

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import NDArray

from ..base.errors import SettingsError
from ..base.files import raise_machine_error
from ..base.phases import phase_code
from ..base.volumes import CONTRACT, Labelled, check, read_labelled
from .labels import read_labels
from .notation import Shape, parse_axes, parse_crop
from .readers import View, open_image


@dataclass(frozen=True)
class GreyVolume:
    """Voxels (z, y, x) as a file has them: grey values, or labels whose meaning is not known.

    Parameters
    ----------
    values
        (z, y, x) in the file's own type, z from the current collector.
    voxel_edge_um
        Edge of the cubic voxels in um, None where it was not given.
    source
        Name of the file.
    """

    values: NDArray
    voxel_edge_um: float | None
    source: str


def read_volume(
    path: str | os.PathLike,
    *,
    voxel_edge_um: float | None = None,
    labels: Mapping[int, str] | None = None,
    dataset: str = "",
    shape: Shape | None = None,
    dtype: str = "",
    axes: str = "zyx",
    flip_z: bool = False,
    crop: str = ":,:,:",
) -> Labelled | GreyVolume:
    """Read a volume; parameters, result and errors are those of :func:`calandria.read_volume`."""
    if is_labelled(path):
        given = {"voxel_edge_um": voxel_edge_um, "labels": labels, "dataset": dataset, "shape": shape, "dtype": dtype}
        given |= {"axes": axes if axes != "zyx" else "", "flip_z": flip_z, "crop": crop if crop != ":,:,:" else ""}
        if named := [name for name, value in given.items() if value not in (None, "", False)]:
            raise SettingsError(
                f"{Path(path).name} is a labelled volume of Calandria and states its own facts; found {', '.join(named)}",
                hint="leave these arguments out; slice the labels of the result for a crop",
            )
        return read_labelled(path)
    if labels is not None and voxel_edge_um is None:
        raise SettingsError(
            f"{Path(path).name} is read as labels, and voxel_edge_um is missing", hint="give the edge of the voxels in um"
        )
    with open_image(os.fspath(path), dataset=dataset, shape=shape, dtype=dtype) as stack:
        view = View(stack, parse_axes(axes), flip_z, parse_crop(crop))
        if labels is None or voxel_edge_um is None:
            return GreyVolume(view.values(), voxel_edge_um, stack.name)
        codes = read_labels(view, {int(label): phase_code(phase) for label, phase in labels.items()})
        return check(Labelled(codes, voxel_edge_um, (False, False, False), stack.name), stack.name)


def is_labelled(path: str | os.PathLike) -> bool:
    """Say whether a file is a labelled volume or series by Calandria's contract, from its attributes alone."""
    try:
        with zipfile.ZipFile(path) as members:
            facts = json.loads(members.read("zarr.json"))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise_machine_error(error, path)
        return False
    return isinstance(facts, dict) and facts.get("attributes", {}).get("contract") == CONTRACT
