"""The data contract: labelled volumes (z, y, x) and labelled series (t, z, y, x) in one zipped zarr file each.

Axis z runs through the thickness, from the current collector (index 0) to the separator. Labels are the codes of
``base.phases`` as uint8. A file holds the array ``labels`` and, for a series, one 1-D array per quantity of a
frame; its attributes are those of :class:`Labelled`.
"""

import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import ContractError, InputFileError
from .files import existing_file, raise_machine_error, replacing
from .optional import OptionalModule, needed_by
from .phases import CODES, NAMES, PHASES

if TYPE_CHECKING:
    import xarray
    import zarr
else:
    zarr = OptionalModule("zarr", "a file of labels (*.zarr.zip)")

AXES = {3: ("z", "y", "x"), 4: ("t", "z", "y", "x")}
CONTRACT = "calandria-labels-1"


@dataclass(frozen=True)
class Labelled:
    """Labels of one volume (z, y, x) or of a series (t, z, y, x), with what makes them usable.

    Parameters
    ----------
    labels
        uint8 phase codes: 0 pore, 1 CBD, 2 AM, 4 void above the electrode.
    voxel_edge_um
        Edge of the cubic voxels.
    periodic
        Whether the sides (z, y, x) wrap around.
    source
        Where the labels come from, for humans.
    frames
        For a series: name (unit as suffix) to one number per frame, e.g. ``press_position_um``, ``thickness_um``,
        ``compression_degree``, ``time_us``.
    attributes
        Further facts, JSON values (``provenance`` among them).
    """

    labels: NDArray[np.uint8]
    voxel_edge_um: float
    periodic: tuple[bool, bool, bool]
    source: str
    frames: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes of ``labels``."""
        return AXES[self.labels.ndim]

    def frame(self, index: int) -> "Labelled":
        """Return one frame of a series as a volume; its frame quantities become attributes."""
        values = {name: float(column[index]) for name, column in self.frames.items()}
        return replace(self, labels=self.labels[index], frames={}, attributes={**self.attributes, **values})

    def to_xarray(self) -> "xarray.DataArray":
        """Return the labels as an ``xarray.DataArray``; see :func:`calandria.to_xarray`."""
        with needed_by("to_xarray"):
            import xarray
        voxels = dict(zip(self.axes[-3:], self.labels.shape[-3:], strict=True))
        middles = {axis: (np.arange(count) + 0.5) * self.voxel_edge_um for axis, count in voxels.items()}
        coords: dict[str, Any] = {axis: (axis, along, {"units": "um"}) for axis, along in middles.items()}
        coords |= {name: ("t", np.asarray(column)) for name, column in self.frames.items()}
        facts = {
            "voxel_edge_um": self.voxel_edge_um,
            "periodic": list(self.periodic),
            "source": self.source,
            "phases": dict(PHASES),
        }
        return xarray.DataArray(self.labels, coords, self.axes, "labels", {**self.attributes, **facts})


def check(volume: Labelled, where: str = "volume") -> Labelled:
    """Return ``volume`` if it keeps the contract, else raise ContractError naming what was found and expected."""
    labels = volume.labels
    if labels.ndim not in AXES:
        raise ContractError(
            f"{where}: labels have {labels.ndim} axes; expected (z, y, x) or (t, z, y, x)",
            hint="stack 2-D slices into a volume first",
        )
    if labels.dtype != np.uint8:
        raise ContractError(
            f"{where}: labels are {labels.dtype}; expected uint8 phase codes",
            hint="segment grey values and map labels to codes first",
        )
    if 0 in labels.shape:
        raise ContractError(f"{where}: shape {labels.shape} is empty", hint="check the crop and the source file")
    found = np.flatnonzero(label_counts(labels))
    unknown = sorted(set(found.tolist()) - set(CODES))
    if unknown:
        raise ContractError(
            f"{where}: found labels {unknown}; expected the phase codes {dict(PHASES)}",
            hint="name every label of the file in its label map",
        )
    _check_facts(volume.voxel_edge_um, volume.periodic, where)
    for name, column in volume.frames.items():
        if labels.ndim != 4 or np.shape(column) != (labels.shape[0],):
            raise ContractError(
                f"{where}: frame quantity {name!r} has shape {np.shape(column)}; expected one number for each of the frames of {labels.shape}",
                hint="write one value per frame",
            )
    return volume


def _check_facts(voxel_edge_um: Any, periodic: Any, where: str) -> None:
    if not (isinstance(voxel_edge_um, int | float) and np.isfinite(voxel_edge_um) and voxel_edge_um > 0):
        raise ContractError(
            f"{where}: voxel_edge_um is {voxel_edge_um!r}; expected a length above 0 in um",
            hint="state the voxel edge of the source",
        )
    if len(periodic) != 3 or not all(isinstance(side, bool | np.bool_) for side in periodic):
        raise ContractError(
            f"{where}: periodic is {periodic!r}; expected three booleans for z, y, x",
            hint="say for each axis whether its sides wrap",
        )


def write_labelled(path: str | os.PathLike, volume: Labelled) -> None:
    """Write a volume or series as ``*.zarr.zip``, whole or not at all."""
    check(volume, str(path))
    labels = volume.labels
    chunks = (1, *labels.shape[1:]) if labels.ndim == 4 else (min(32, labels.shape[0]), *labels.shape[1:])
    attributes = {
        **volume.attributes,
        "contract": CONTRACT,
        "axes": list(volume.axes),
        "voxel_edge_um": float(volume.voxel_edge_um),
        "phases": dict(PHASES),
        "periodic": [bool(side) for side in volume.periodic],
        "source": volume.source,
    }
    with replacing(path) as unfinished:
        unfinished.unlink()
        with zarr.storage.ZipStore(unfinished, mode="w", compression=zipfile.ZIP_STORED) as store:
            group = zarr.create_group(store, attributes=attributes)
            array = group.create_array(
                "labels", shape=labels.shape, dtype=labels.dtype, chunks=chunks, dimension_names=volume.axes
            )
            array[...] = labels
            for name, column in volume.frames.items():
                series = group.create_array(name, shape=(labels.shape[0],), dtype="float64", dimension_names=("t",))
                series[...] = np.asarray(column, dtype=np.float64)


@contextmanager
def open_labelled(path: str | os.PathLike) -> "Iterator[tuple[zarr.Array, Labelled]]":
    """Open a file lazily: yields the zarr array of labels and a :class:`Labelled` whose ``labels`` are an empty stand-in of the same rank.

    Use it for files that are larger than what one wants to hold; slices of the array are not checked for unknown codes.
    """
    found = existing_file(path, "labelled volume")
    opened = ExitStack()
    try:
        zipfile.ZipFile(found).close()  # a ZipStore that fails to open cannot be closed
        store = opened.enter_context(zarr.storage.ZipStore(found, mode="r"))
        group = zarr.open_group(store, mode="r")
        array = group["labels"]
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        opened.close()
        raise_machine_error(error, path)
        raise InputFileError(
            f"{str(path)!r} is not a labelled volume ({type(error).__name__}: {error}); expected a .zarr.zip with the array 'labels'",
            hint="name a labelled volume; an image becomes one by the tomography stage, and a file that was cut short must be copied again",
        ) from error
    with opened:
        facts: dict[str, Any] = dict(group.attrs)
        missing = [key for key in ("voxel_edge_um", "periodic", "axes") if key not in facts]
        if missing or not isinstance(array, zarr.Array) or array.dtype != np.uint8 or array.ndim not in AXES:
            raise ContractError(
                f"{str(path)!r}: found attributes {sorted(facts)}, expected axes, voxel_edge_um and periodic beside uint8 labels",
                hint="write labelled volumes with calandria.base.volumes.write_labelled",
            )
        if tuple(facts["axes"]) != AXES[array.ndim]:
            raise ContractError(
                f"{str(path)!r}: axes are {facts['axes']}; expected {list(AXES[array.ndim])}",
                hint="transpose the array when importing it",
            )
        _check_facts(facts["voxel_edge_um"], facts["periodic"], str(path))
        known = {"contract", "axes", "voxel_edge_um", "phases", "periodic", "source"}
        z, y, x = (bool(side) for side in facts["periodic"])
        empty = np.empty((0,) * array.ndim, np.uint8)
        frames = {name: np.asarray(member[...]) for name, member in group.arrays() if name != "labels"}
        yield (
            array,
            Labelled(
                empty,
                float(facts["voxel_edge_um"]),
                (z, y, x),
                str(facts.get("source", "")),
                frames,
                {key: value for key, value in facts.items() if key not in known},
            ),
        )


def read_labelled(path: str | os.PathLike) -> Labelled:
    """Read a whole volume or series and check it against the contract."""
    with open_labelled(path) as (array, facts):
        return check(replace(facts, labels=np.asarray(array[...])), str(path))


def label_counts(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return how often each of the 256 labels occurs in an array of any shape.

    >>> label_counts(np.array([[[0, 0, 2, 4]]], np.uint8))[:5].tolist()
    [2, 0, 1, 0, 1]
    """
    counts = np.zeros(256, np.int64)
    for part in labels if labels.ndim > 1 else labels[np.newaxis]:  # bincount makes 8 bytes of each voxel, so part by part
        counts += np.bincount(part.ravel(), minlength=256)
    return counts


def volume_fractions(labels: NDArray[np.uint8]) -> dict[str, float]:
    """Return each phase's share of the electrode (void above it left out) in labels of any shape.

    >>> volume_fractions(np.array([[[0, 0, 2, 4]]], np.uint8))["pore"]
    0.6666666666666666
    """
    counts = label_counts(labels)
    solid_and_pore = int(counts[:4].sum())
    return {NAMES[code]: float(counts[code] / solid_and_pore) if solid_and_pore else 0.0 for code in (0, 1, 2)}


def occupied_slices(labels: NDArray[np.uint8]) -> slice:
    """Return the slices of a volume (z, y, x) that the electrode fills: those of which less than half is void.

    Effective properties of an electrode are taken between the current collector and this surface.
    """
    filled = np.flatnonzero((labels != PHASES["void"]).reshape(labels.shape[0], -1).mean(axis=1) > 0.5)
    return slice(0, int(filled[-1]) + 1 if filled.size else 0)
