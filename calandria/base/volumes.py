"""The data contract: labelled volumes (z, y, x) and labelled series (t, z, y, x) in one zipped zarr file each.

Axis z runs through the thickness, from the current collector (index 0) to the separator. Labels are the codes of
``base.phases`` as uint8. A file holds the array ``labels`` and, for a series, one 1-D array per quantity of a
frame; its attributes are those of :class:`Labelled`.
"""

import hashlib
import math
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
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
    import zarr.codecs
else:
    zarr = OptionalModule("zarr", "a file of labels (*.zarr.zip)")

AXES = {3: ("z", "y", "x"), 4: ("t", "z", "y", "x")}
CONTRACT = "calandria-labels-1"
CHUNK = 128
"""Edge of the chunks of a volume's file, voxels."""
SHARD = 8
"""Chunks along y and x of which a shard is made; along z it has one, since slabs are written one after another."""
MOST_CHUNKS = 64
"""Chunks of a frame above which they are gathered in shards."""
MOST_OF_FRAME = 64 << 20
"""Voxels of a frame of a series above which it is cut into chunks."""
FRAME_DIGESTS = "frame_sha1"
"""Attribute of a series with the column ``press_position_um``: one digest per frame, see :func:`frame_digest`."""


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
    _check_form(labels.shape, labels.dtype, where)
    check_codes(label_counts(labels), where)
    _check_facts(volume.voxel_edge_um, volume.periodic, where)
    _check_frames(volume.frames, labels.shape, where)
    return volume


def _check_form(shape: tuple[int, ...], dtype: Any, where: str) -> None:
    if len(shape) not in AXES:
        raise ContractError(
            f"{where}: labels have {len(shape)} axes; expected (z, y, x) or (t, z, y, x)",
            hint="stack 2-D slices into a volume first",
        )
    if dtype != np.uint8:
        raise ContractError(
            f"{where}: labels are {dtype}; expected uint8 phase codes",
            hint="segment grey values and map labels to codes first",
        )
    if 0 in shape:
        raise ContractError(f"{where}: shape {tuple(shape)} is empty", hint="check the crop and the source file")


def check_codes(counts: NDArray[np.int64], where: str) -> None:
    """Raise ContractError where labels occur that are no phase codes; ``counts`` are those of :func:`label_counts`."""
    unknown = sorted(set(np.flatnonzero(counts).tolist()) - set(CODES))
    if unknown:
        raise ContractError(
            f"{where}: found labels {unknown}; expected the phase codes {dict(PHASES)}",
            hint="name every label of the file in its label map",
        )


def _check_frames(frames: Mapping[str, Any], shape: tuple[int, ...], where: str) -> None:
    for name, column in frames.items():
        if len(shape) != 4 or np.shape(column) != (shape[0],):
            raise ContractError(
                f"{where}: frame quantity {name!r} has shape {np.shape(column)}; expected one number for each of the frames of {tuple(shape)}",
                hint="write one value per frame",
            )


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


def frame_digest(labels: NDArray[np.uint8], press_position_um: float) -> str:
    """Return the SHA-1 of a frame's labels (z, y, x) and of the press position in um, rounded to 1e-6 um."""
    press = np.round(np.float64(press_position_um) * 1e6).astype(np.int64)
    return hashlib.sha1(np.ascontiguousarray(labels).tobytes() + press.tobytes()).hexdigest()


def _frame_digests(volume: Labelled) -> dict[str, list[str]]:
    press = volume.frames.get("press_position_um") if volume.labels.ndim == 4 else None
    return (
        {}
        if press is None or len(press) != len(volume.labels)
        else {FRAME_DIGESTS: [frame_digest(*frame) for frame in zip(volume.labels, press, strict=True)]}
    )


def write_labelled(path: str | os.PathLike, volume: Labelled) -> None:
    """Write a volume or series as ``*.zarr.zip``, whole or not at all."""
    _check_form(volume.labels.shape, volume.labels.dtype, str(path))
    facts = (volume.voxel_edge_um, volume.periodic, volume.source)
    kept = {name: value for name, value in volume.attributes.items() if name != FRAME_DIGESTS}
    attributes = {**kept, **_frame_digests(volume)}
    with labelled_writer(path, volume.labels.shape, *facts, frames=volume.frames, attributes=attributes) as writer:
        for part in slabs(volume.labels, writer.depth):
            writer.write(part)


class LabelledWriter:
    """Takes the slabs of a volume one after another, along its first axis; made by :func:`labelled_writer`.

    Attributes
    ----------
    shape
        Extents of the whole volume (z, y, x) or series (t, z, y, x).
    depth
        Slices (or frames) that are written at a time; slabs of any depth are accepted and held until so many are there.
    written
        Slices (or frames) that were given so far.
    """

    def __init__(self, array: "zarr.Array", where: str) -> None:
        self.shape: tuple[int, ...] = array.shape
        self.depth: int = (array.shards or array.chunks)[0]
        self.written = 0
        self._array, self._where, self._begun = array, where, 0
        self._held = np.empty((min(self.depth, self.shape[0]), *self.shape[1:]), np.uint8)

    def write(self, slab: NDArray[np.uint8]) -> None:
        """Append uint8 phase codes (n, ...) of the next n slices; raises ContractError where they are none or do not fit."""
        if slab.shape[1:] != self.shape[1:] or slab.dtype != np.uint8 or self.written + len(slab) > self.shape[0]:
            raise ContractError(
                f"{self._where}: a slab has the shape {slab.shape} and type {slab.dtype} after {self.written} slices; "
                f"expected uint8 of {('n', *self.shape[1:])}, {self.shape[0]} slices in all",
                hint="write the slices one after another, each once",
            )
        check_codes(label_counts(slab), self._where)
        while len(slab):
            at = self.written - self._begun
            count = min(len(slab), len(self._held) - at)
            self._held[at : at + count] = slab[:count]
            self.written, slab = self.written + count, slab[count:]
            if at + count == len(self._held) or self.written == self.shape[0]:
                self._array[self._begun : self.written] = self._held[: at + count]
                self._begun = self.written


@contextmanager
def labelled_writer(
    path: str | os.PathLike,
    shape: tuple[int, ...],
    voxel_edge_um: float,
    periodic: tuple[bool, bool, bool],
    source: str,
    *,
    frames: Mapping[str, NDArray[np.float64]] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Iterator[LabelledWriter]:
    """Write a volume or series slab by slab, so that it need not fit into memory; the file appears whole or not at all.

    Parameters
    ----------
    path
        File (``*.zarr.zip``).
    shape
        Extents (z, y, x) or (t, z, y, x).
    voxel_edge_um, periodic, source, frames, attributes
        As of :class:`Labelled`.

    Yields
    ------
    LabelledWriter
        Its :meth:`~LabelledWriter.write` takes the slabs.

    Raises
    ------
    ContractError
        The facts or a slab break the contract, or slices are missing at the end.
    """
    where, shape = str(path), tuple(int(extent) for extent in shape)
    _check_form(shape, np.uint8, where)
    _check_facts(voxel_edge_um, periodic, where)
    _check_frames(frames or {}, shape, where)
    facts = {
        **(attributes or {}),
        "contract": CONTRACT,
        "axes": list(AXES[len(shape)]),
        "voxel_edge_um": float(voxel_edge_um),
        "phases": dict(PHASES),
        "periodic": [bool(side) for side in periodic],
        "source": source,
    }
    chunks, shards = layout(shape)
    with replacing(path) as unfinished, tempfile.TemporaryDirectory(prefix=".unfinished-", dir=unfinished.parent) as folder:
        packed = Path(folder) / "packed.zip"
        with zarr.storage.ZipStore(packed, mode="w", compression=zipfile.ZIP_STORED) as store:
            group = zarr.create_group(store, attributes=facts)
            array = group.create_array(
                "labels",
                shape=shape,
                dtype="uint8",
                chunks=chunks,
                shards=shards,
                compressors=zarr.codecs.ZstdCodec(level=0, checksum=True),
                dimension_names=AXES[len(shape)],
            )
            writer = LabelledWriter(array, where)
            yield writer
            if writer.written != shape[0]:
                raise ContractError(
                    f"{where}: {writer.written} slices were written; expected {shape[0]}", hint="write all slices of the volume"
                )
            for name, column in (frames or {}).items():
                series = group.create_array(name, shape=(shape[0],), dtype="float64", dimension_names=("t",))
                series[...] = np.asarray(column, dtype=np.float64)
        _repack(packed, unfinished)


def _repack(source: Path, target: Path) -> None:
    """Copy a zip file with its entries in order and without their times, so that equal volumes are equal files."""
    with zipfile.ZipFile(source) as made, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as packed:
        for entry in sorted(made.infolist(), key=lambda entry: entry.filename):
            kept = zipfile.ZipInfo(entry.filename)
            kept.file_size, kept.external_attr = entry.file_size, entry.external_attr
            with made.open(entry) as content, packed.open(kept, "w") as stream:
                shutil.copyfileobj(content, stream, 1 << 20)


def layout(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Return the chunks of a file of this shape, and the shards that hold them where there are many.

    Chunks are cubes of 128 voxels, so that a block of a volume is read without what lies around it. A series has a chunk per frame as
    long as a frame is small.

    >>> layout((125, 76, 76)), layout((35, 125, 76, 76))
    (((125, 76, 76), None), ((1, 125, 76, 76), None))
    >>> layout((2000, 2000, 2000))
    ((128, 128, 128), (128, 1024, 1024))
    """
    if len(shape) == 4 and math.prod(shape[1:]) <= MOST_OF_FRAME:
        return (1, *shape[1:]), None
    frame = shape[-3:]
    front = (1,) * (len(shape) - 3)
    chunks = tuple(min(CHUNK, extent) for extent in frame)
    counts = [-(-extent // chunk) for extent, chunk in zip(frame, chunks, strict=True)]
    if math.prod(counts) <= MOST_CHUNKS:
        return (*front, *chunks), None
    shards = (chunks[0], *(chunk * min(SHARD, count) for chunk, count in zip(chunks[1:], counts[1:], strict=True)))
    return (*front, *chunks), (*front, *shards)


def slabs(labels: Any, depth: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """Yield a volume or series in slabs along its first axis: of an array in memory views, of one in a file what is read.

    Parameters
    ----------
    labels
        uint8 codes (z, y, x) or (t, z, y, x), a NumPy or zarr array.
    depth
        Slices (or frames) of a slab; as many as the file's chunks have, if None.
    """
    if depth is None:
        depth = labels.chunks[0] if hasattr(labels, "chunks") else 1
    for start in range(0, labels.shape[0], depth):
        yield np.asarray(labels[start : start + depth])


def _opened(path: str | os.PathLike, opened: ExitStack) -> "tuple[zarr.Group, Any]":
    """Open a file and return its group and its member ``labels``; ``opened`` closes it."""
    found = existing_file(path, "labelled volume")
    try:
        zipfile.ZipFile(found).close()  # a ZipStore that fails to open cannot be closed
        store = opened.enter_context(zarr.storage.ZipStore(found, mode="r"))
        group = zarr.open_group(store, mode="r")
        return group, group["labels"]
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        opened.close()
        raise_machine_error(error, path)
        raise InputFileError(
            f"{str(path)!r} is not a labelled volume ({type(error).__name__}: {error}); expected a .zarr.zip with the array 'labels'",
            hint="name a labelled volume; an image becomes one by the tomography stage, and a file that was cut short must be copied again",
        ) from error


@contextmanager
def open_labels(path: str | os.PathLike) -> "Iterator[zarr.Array]":
    """Open the labels of a file and read none of its facts: several times faster for a file that :func:`open_labelled` checked before."""
    with ExitStack() as opened:
        yield _opened(path, opened)[1]


@contextmanager
def open_labelled(path: str | os.PathLike) -> "Iterator[tuple[zarr.Array, Labelled]]":
    """Open a file lazily: yields the zarr array of labels and a :class:`Labelled` whose ``labels`` are an empty stand-in of the same rank.

    Use it for files that are larger than what one wants to hold; slices of the array are not checked for unknown codes.
    """
    opened = ExitStack()
    group, array = _opened(path, opened)
    with opened, damage_named(path):
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


@contextmanager
def damage_named(path: str | os.PathLike) -> Iterator[None]:
    """Turn what zarr and zip raise on a wrong checksum, while voxels are read, into an error that names the file."""
    try:
        yield
    except (zipfile.BadZipFile, RuntimeError, ValueError) as error:
        damaged = isinstance(error, zipfile.BadZipFile) or re.search(r"zstd|decompress|checksum|crc32", str(error), re.IGNORECASE)
        if not damaged:
            raise
        raise_machine_error(error, path)
        raise InputFileError(
            f"{str(path)!r} is damaged: a checksum of its voxels is wrong ({error})",
            hint="copy it again from where it is whole, or delete it: the rule that makes it then runs again",
        ) from error


def read_labelled(path: str | os.PathLike) -> Labelled:
    """Read a whole volume or series and check it against the contract."""
    with open_labelled(path) as (array, facts):
        return check(replace(facts, labels=np.asarray(array[...])), str(path))


def checked_slabs(array: "zarr.Array", where: str) -> Iterator[NDArray[np.uint8]]:
    """Yield the slabs of an array of :func:`open_labelled`, each checked for labels that are no phase codes."""
    for slab in slabs(array):
        check_codes(label_counts(slab), where)
        yield slab


def label_counts(labels: Any) -> NDArray[np.int64]:
    """Return how often each of the 256 labels occurs in an array of any shape, read slab by slab where it lies in a file.

    >>> label_counts(np.array([[[0, 0, 2, 4]]], np.uint8))[:5].tolist()
    [2, 0, 1, 0, 1]
    """
    counts = np.zeros(256, np.int64)
    for slab in slabs(labels) if labels.ndim > 1 else [labels[np.newaxis]]:
        for part in slab:  # bincount makes 8 bytes of each voxel, so part by part
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


def r2(true: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    """Return 1 - residual / total sum of squares about the mean of ``true``; NaN without variance."""
    total = float(((true - true.mean()) ** 2).sum()) if true.size else 0.0
    return 1 - float(((true - predicted) ** 2).sum()) / total if total else float("nan")


def occupied_slices(labels: NDArray[np.uint8]) -> slice:
    """Return the slices of a volume (z, y, x) that the electrode fills: those of which less than half is void.

    Effective properties of an electrode are taken between the current collector and this surface.
    """
    return filled_slices(np.concatenate([filled_shares(slab) for slab in slabs(labels)]))


def filled_shares(slab: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return which share of each slice of a slab (n, y, x) is not void."""
    return np.array([np.count_nonzero(plane != PHASES["void"]) / plane.size for plane in slab])


def filled_slices(shares: NDArray[np.float64]) -> slice:
    """Return the slices up to the last of which less than half is void; ``shares`` are those of :func:`filled_shares`."""
    filled = np.flatnonzero(shares > 0.5)
    return slice(0, int(filled[-1]) + 1 if filled.size else 0)
