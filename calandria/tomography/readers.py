"""Images as they lie in files: TIFF, folders of slices, HDF5, zarr, npy and raw, read piece by piece and turned to (z, y, x)."""

import itertools
import logging
import math
import mmap
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
import zarr
from numpy.typing import DTypeLike, NDArray
from PIL import Image
from zarr.storage import ZipStore

from ..base.errors import InputFileError, SettingsError, nearest_name
from ..base.files import existing_file, raise_machine_error
from ..base.progress import progress
from .notation import RAW_SUFFIXES, Crop, Shape

TIFF_SUFFIXES, HDF5_SUFFIXES = (".tif", ".tiff"), (".h5", ".hdf5", ".hdf", ".he5", ".nxs")
SLICE_SUFFIXES = (*TIFF_SUFFIXES, ".png")
KNOWN = "TIFF, a folder of TIFF or PNG slices, HDF5, zarr, zarr.zip, npy, or raw with its shape"
BLOCK_BYTES = 16 << 20
SLAB_BYTES = 64 << 20
"""Bytes of a slab of a volume; eight times as many where z is not the slowest axis, for then each slab reads through the whole file."""


@dataclass(frozen=True)
class Stack:
    """A three-dimensional image in its file's own axis order, of which any box can be read.

    Parameters
    ----------
    name
        The file's name, for messages.
    shape
        Extents in the file's order, slowest axis first.
    dtype
        Type of the voxels.
    read
        Returns the box of three slices (with bounds, without steps) as an array.
    grain
        Slices along its slowest axis that the file unpacks together.
    """

    name: str
    shape: Shape
    dtype: np.dtype
    read: Callable[[tuple[slice, ...]], NDArray] = field(repr=False)
    grain: int = 1

    def __getitem__(self, box: tuple[slice, ...]) -> NDArray:
        with _told(self.name):
            values = np.asarray(self.read(box))
        return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


@dataclass(frozen=True)
class View:
    """A stack seen in (z, y, x) order, z from the current collector, and cropped.

    Parameters
    ----------
    stack
        The image in its file's order.
    axes
        That order, slowest axis first, e.g. ``"zyx"``.
    flip_z
        Whether the collector is at the last index along z in the file.
    crop
        Voxels to keep in (z, y, x), counted after reordering and flipping.

    Raises
    ------
    SettingsError
        If the crop reaches outside the image.
    """

    stack: Stack
    axes: str = "zyx"
    flip_z: bool = False
    crop: Crop = (slice(None), slice(None), slice(None))

    def __post_init__(self) -> None:
        full = self.full_shape
        for name, extent, bounds in zip("zyx", full, self.crop):
            if (bounds.start or 0) >= extent or (bounds.stop or 0) > extent:
                raise SettingsError(
                    f"{self.stack.name}: crop {name} {bounds.start or 0}:{extent if bounds.stop is None else bounds.stop} reaches outside; "
                    f"the image has {full} voxels in (z, y, x)",
                    hint="correct the crop, or the order of the axes if these extents look wrong",
                )

    @property
    def full_shape(self) -> Shape:
        """Extents in (z, y, x) before cropping."""
        z, y, x = (self.stack.shape[self.axes.index(name)] for name in "zyx")
        return z, y, x

    @property
    def bounds(self) -> tuple[tuple[int, int], ...]:
        """First and last + 1 voxel that is kept along z, y and x."""
        return tuple(bounds.indices(extent)[:2] for bounds, extent in zip(self.crop, self.full_shape))

    @property
    def shape(self) -> Shape:
        """Extents in (z, y, x) after cropping."""
        z, y, x = (stop - start for start, stop in self.bounds)
        return z, y, x

    def blocks(self, what: str, halo: int = 0) -> Iterator[tuple[tuple[slice, ...], NDArray, tuple[slice, ...]]]:
        """Yield the cropped image in blocks along the file's slowest axis, so that each part of the file is read once.

        Parameters
        ----------
        what
            Words for the progress line.
        halo
            Further voxels on both sides of a block, as far as the crop has them, for filters.

        Yields
        ------
        target, values, inner
            Where the block lies in the cropped image; the block (z, y, x) with its halo; the block without it.
        """
        slowest, order = self.axes[0], [self.axes.index(name) for name in "zyx"]
        position = "zyx".index(slowest)
        along_file = dict(zip("zyx", self.bounds))
        if self.flip_z:
            extent, (start, stop) = self.full_shape[0], along_file["z"]
            along_file["z"] = (extent - stop, extent - start)
        first, last = along_file[slowest]
        slice_bytes = self.stack.dtype.itemsize * int(np.prod(self.shape)) // (last - first)
        step = max(1, BLOCK_BYTES // slice_bytes, 4 * halo)
        if self.stack.grain * slice_bytes <= SLAB_BYTES:
            step = -(-step // self.stack.grain) * self.stack.grain
        reverse = self.flip_z and slowest == "z"
        starts = [first, *range((first // step + 1) * step, last, step)]  # in step with the grains of the file
        for start, stop in progress(list(zip(starts, [*starts[1:], last], strict=True)), what, unit="block"):
            low, high = max(first, start - halo), min(last, stop + halo)
            values = self.stack[slice(low, high), *(slice(*along_file[name]) for name in self.axes[1:])].transpose(order)
            target, inner = [slice(0, extent) for extent in self.shape], [slice(None)] * 3
            target[position] = slice(last - stop, last - start) if reverse else slice(start - first, stop - first)
            inner[position] = slice(high - stop, high - start) if reverse else slice(start - low, stop - low)
            yield tuple(target), values[::-1] if self.flip_z else values, tuple(inner)

    def part(self, start: int, stop: int) -> "View":
        """Return the slices [start, stop) along z of this view."""
        (first, _), *_ = self.bounds
        return replace(self, crop=(slice(first + start, first + stop), *self.crop[1:]))

    def slabs(self, what: str, found: Callable[[NDArray], NDArray], dtype: DTypeLike, halo: int = 0) -> Iterator[NDArray]:
        """Yield what a function makes of the cropped image, in slabs along z from the collector on, so that it need not fit into memory.

        Where z is not the file's slowest axis, each slab reads through the whole file; slabs are then as deep as memory well allows.

        Parameters
        ----------
        what
            Words for the progress line.
        found
            Takes a block (z, y, x) of values with its halo, and returns an array of the same shape.
        dtype
            Type of what it returns.
        halo
            Further voxels on both sides of a block, as far as the crop has them, for filters.

        Yields
        ------
        slab
            (n, y, x), one after another.
        """
        height, kind = self.shape[0], np.dtype(dtype)
        plane = max(kind.itemsize, self.stack.dtype.itemsize) * math.prod(self.shape[1:])
        in_order = self.axes[0] == "z"
        depth = max(1, 8 * halo, (SLAB_BYTES if in_order else 8 * SLAB_BYTES) // plane)
        if in_order and self.stack.grain * plane <= 8 * SLAB_BYTES:
            depth = -(-depth // self.stack.grain) * self.stack.grain
        for start in progress(range(0, height, depth), what, unit="slab"):
            stop = min(start + depth, height)
            low, high = max(0, start - halo), min(height, stop + halo)
            part = self.part(low, high)
            slab = np.empty(part.shape, kind)
            for target, values, inner in part.blocks(what, halo):
                slab[target] = found(values)[inner]
            yield slab[start - low : stop - low]

    def values(self) -> NDArray:
        """Return the cropped image (z, y, x) in the file's own type."""
        whole = np.empty(self.shape, self.stack.dtype.newbyteorder("="))
        for target, block, _ in self.blocks("read"):
            whole[target] = block
        return whole


@contextmanager
def open_image(path: str | Path, *, dataset: str = "", shape: Shape | None = None, dtype: str = "") -> Iterator[Stack]:
    """Open a three-dimensional image without reading its voxels, as far as its format allows.

    A picture with colour channels that are all equal is a grey picture; its alpha channel is left out. Palette pictures give their
    indices, 1-bit pictures booleans. Slices of a folder are taken in natural order (``s2`` before ``s10``).

    Parameters
    ----------
    path
        TIFF, folder of TIFF or PNG slices, HDF5, zarr (folder or zip), npy, or raw.
    dataset
        Array inside an HDF5 or zarr file; may be empty if there is one array with three or more axes.
    shape
        Extents of a raw file in its own order, slowest axis first; with it any file is read as raw.
    dtype
        NumPy name of a raw file's type; empty means uint8.

    Raises
    ------
    InputFileError
        If there is no such file, or it is not a whole three-dimensional image.
    SettingsError
        If the dataset is not in the file, or raw options do not fit.
    """
    if not str(path):
        raise InputFileError("the image has an empty name", hint="name a file or a folder of slices")
    found = existing_file(path, "image")
    suffix = found.suffix.lower()
    if found.is_file() and not found.stat().st_size:
        raise InputFileError(f"{found.name} is empty; expected {KNOWN}", hint="copy or export the image again")
    if shape is None and dtype:
        raise SettingsError(
            f"{found.name} is read with dtype {dtype!r} but without a shape",
            hint="give both for raw files, none of them for others",
        )
    with ExitStack() as opened:
        if shape is not None:
            stack = _raw(found, shape, dtype)
        elif suffix == ".zarr" or found.name.lower().endswith(".zarr.zip") or (found / "zarr.json").exists():
            stack = _zarr(found, dataset, opened)
        elif found.is_dir():
            stack = _folder(found)
        elif suffix in TIFF_SUFFIXES:
            stack = _tiff(found, opened)
        elif suffix in HDF5_SUFFIXES:
            stack = _hdf5(found, dataset, opened)
        elif suffix == ".npy":
            stack = _npy(found)
        elif suffix in RAW_SUFFIXES:
            raise InputFileError(
                f"{found.name} is a raw file, which says nothing about its shape; the shape is missing",
                hint="give shape (--shape) and dtype (--dtype): extents, slowest axis first (251x301x301), and a NumPy type (uint8)",
            )
        elif suffix == ".png":
            raise _flat(found, _picture_shape(found))
        else:
            raise InputFileError(
                f"{str(path)!r} has the unknown suffix {suffix!r}; known: {KNOWN}",
                hint="convert the image, or give the shape and type of a raw file",
            )
        if dataset and not isinstance(stack, _InFile):
            raise SettingsError(f"{found.name} holds no datasets, found the dataset {dataset!r}", hint="leave the dataset empty")
        if stack.dtype.kind not in "buif":
            raise InputFileError(
                f"{found.name} holds values of type {stack.dtype}; expected whole or real numbers",
                hint="export grey values or labels",
            )
        yield stack


def read_image(
    path: str | Path,
    *,
    dataset: str = "",
    shape: Shape | None = None,
    dtype: str = "",
    axes: str = "zyx",
    flip_z: bool = False,
    crop: Crop = (slice(None), slice(None), slice(None)),
) -> NDArray:
    """Return a whole image (z, y, x) in its file's own type; parameters are those of :func:`open_image` and :class:`View`."""
    with open_image(path, dataset=dataset, shape=shape, dtype=dtype) as stack:
        return View(stack, axes, flip_z, crop).values()


class _InFile(Stack):
    """A stack that is one of the datasets of a file."""


READING_ERRORS = (OSError, ValueError, KeyError, EOFError, TypeError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile)
"""What libraries raise on damaged files; RuntimeError is of zarr's codecs."""


@contextmanager
def _told(name: str) -> Iterator[None]:
    try:
        yield
    except READING_ERRORS as error:
        raise_machine_error(error, name)
        raise InputFileError(
            f"{name} cannot be read ({type(error).__name__}: {error}); expected {KNOWN}",
            hint="copy or export the image again; it may be cut short, damaged or of another format than its name says",
        ) from error


def _flat(path: Path, shape: tuple[int, ...]) -> InputFileError:
    return InputFileError(
        f"{path.name} is a two-dimensional image of {' x '.join(map(str, shape))}; expected a volume with three axes",
        hint="put the slices of a volume into one folder and name the folder, or export a stack",
    )


def _not_volume(path: Path, shape: tuple[int, ...], axes: str = "") -> InputFileError:
    if len(shape) <= 2:
        return _flat(path, shape)
    named = f" ({', '.join(axes)})" if axes else ""
    return InputFileError(
        f"{path.name} has {len(shape)} axes of extents {shape}{named}; expected three",
        hint="export one channel of one time as a volume",
    )


def _grey(values: NDArray, name: str) -> NDArray:
    """Return the one grey channel of pictures (..., channel) whose colour channels are equal."""
    colours = values[..., : values.shape[-1] - (values.shape[-1] in (2, 4))]
    if not (colours == colours[..., :1]).all():
        raise InputFileError(
            f"{name} is a colour image with {values.shape[-1]} channels that differ; expected one channel of grey values or labels",
            hint="export one channel (or the label image behind the colours) as 8- or 16-bit grey",
        )
    return colours[..., 0]


def _raw(path: Path, shape: Shape, dtype: str) -> Stack:
    if path.is_dir() or path.suffix.lower() in (*SLICE_SUFFIXES, *HDF5_SUFFIXES, ".npy", ".zarr", ".zip"):
        raise SettingsError(
            f"{path.name} states its own shape, found the shape {shape} for it", hint="give shape and dtype for raw files only"
        )
    try:
        kind = np.dtype(dtype or "uint8")
        if kind.kind not in "biuf":
            raise TypeError
    except (TypeError, ValueError, SyntaxError):
        raise SettingsError(
            f"dtype {dtype!r} is unknown",
            hint=nearest_name(dtype, ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]),
        ) from None
    n_voxels, n_bytes = math.prod(shape), path.stat().st_size
    if n_bytes != n_voxels * kind.itemsize:
        per_voxel = n_bytes / n_voxels
        raise InputFileError(
            f"{path.name} has {n_bytes} bytes; expected {n_voxels * kind.itemsize} for {' x '.join(map(str, shape))} voxels of {kind}",
            hint=f"it holds {int(per_voxel)} bytes per voxel of this shape: state the dtype"
            if per_voxel in (1, 2, 4, 8)
            else "correct the shape or the dtype, or cut off a header",
        )
    return Stack(path.name, shape, kind, _copied(np.memmap(path, kind, "r", shape=shape)))


def _copied(array: np.memmap) -> Callable[[tuple[slice, ...]], NDArray]:
    """Return a function that reads boxes of a mapped file and gives its pages back, which else count as this process's memory."""
    mapped: NDArray = array
    while isinstance(mapped.base, np.ndarray):
        mapped = mapped.base
    pages = mapped.base

    def read(box: tuple[slice, ...]) -> NDArray:
        values = np.array(array[box])
        if isinstance(pages, mmap.mmap):
            pages.madvise(mmap.MADV_DONTNEED)
        return values

    return read


def _npy(path: Path) -> Stack:
    with _told(path.name):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim != 3:
        raise _not_volume(path, array.shape)
    return Stack(path.name, array.shape, array.dtype, _copied(array))


def _choose(path: Path, dataset: str, arrays: Mapping[str, Any]) -> Any:
    listed = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "none"
    if dataset:
        if dataset.strip("/") not in arrays:
            raise SettingsError(
                f"{path.name} has no dataset {dataset!r}; datasets there: {listed}", hint=nearest_name(dataset.strip("/"), arrays)
            )
        return arrays[dataset.strip("/")]
    volumes = [array for array in arrays.values() if len(array.shape) >= 3]
    if len(volumes) != 1:
        raise SettingsError(
            f"{path.name} has {len(volumes)} datasets with three axes; datasets there: {listed}",
            hint="say which by --dataset, or by the column dataset of the sheet",
        )
    return volumes[0]


def _in_file(path: Path, array: Any) -> Stack:
    """Return an array of a file as a stack; further axes of extent 1 in front are dropped."""
    extra = max(0, len(array.shape) - 3)
    if len(array.shape) < 3 or any(extent != 1 for extent in array.shape[:extra]):
        raise _not_volume(path, tuple(array.shape))
    grain = (getattr(array, "chunks", None) or (1,) * len(array.shape))[extra]
    return _InFile(path.name, tuple(array.shape[extra:]), np.dtype(array.dtype), lambda box: array[(*(0,) * extra, *box)], grain)


def _hdf5(path: Path, dataset: str, opened: ExitStack) -> Stack:
    with _told(path.name):
        file = opened.enter_context(h5py.File(path, "r"))
        arrays: dict[str, h5py.Dataset] = {}
        file.visititems(lambda name, item: arrays.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    return _in_file(path, _choose(path, dataset, arrays))


def _zarr(path: Path, dataset: str, opened: ExitStack) -> Stack:
    with _told(path.name):
        if path.is_file():
            zipfile.ZipFile(path).close()  # a ZipStore that fails to open cannot be closed
        store = opened.enter_context(ZipStore(path, mode="r")) if path.is_file() else str(path)
        top = zarr.open(store, mode="r")
        if isinstance(top, zarr.Array):
            if dataset:
                raise SettingsError(f"{path.name} is one array, found the dataset {dataset!r}", hint="leave the dataset empty")
            return _in_file(path, top)
        arrays = {name: item for name, item in top.members(max_depth=None) if isinstance(item, zarr.Array)}
    return _in_file(path, _choose(path, dataset, arrays))


class _Complaints(logging.Handler):
    """Collects what tifffile only logs: page chains that lead out of the file."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def _tiff(path: Path, opened: ExitStack) -> Stack:
    logger, complaints = logging.getLogger("tifffile"), _Complaints()
    logger.addHandler(complaints)
    try:
        with _told(path.name):
            file = opened.enter_context(tifffile.TiffFile(path))
            n_pages, all_series = len(file.pages), file.series
    finally:
        logger.removeHandler(complaints)
    broken = [message for message in complaints.messages if re.search("invalid (page )?offset|corrupt|truncat", message)]
    if broken:
        raise InputFileError(
            f"{path.name} is cut short or damaged after {n_pages} readable pages ({broken[0]})",
            hint="copy or export the file again",
        )
    if len(all_series) != 1:
        raise InputFileError(
            f"{path.name} holds {len(all_series)} images of the extents {sorted({tuple(s.shape) for s in all_series})}; expected one stack of equal slices",
            hint="export the slices of one volume, all of one size and type",
        )
    series = all_series[0]
    channels = series.axes.endswith("S")
    shape = tuple(series.shape[:-1] if channels else series.shape)
    if len(shape) != 3 or (n_pages == 1 and shape[0] == 1):
        raise _not_volume(path, shape[-2:] if len(shape) == 3 else shape, series.axes)
    pages = _pages(path, series, opened)

    def read(box: tuple[slice, ...]) -> NDArray:
        values = pages(box)
        return _grey(values, path.name) if channels else values

    return Stack(path.name, shape, np.dtype(series.dtype), read)


def _pages(path: Path, series: tifffile.TiffPageSeries, opened: ExitStack) -> Callable[[tuple[slice, ...]], NDArray]:
    """Return a function that reads a box of a series: mapped where its voxels lie in one piece, else page by page."""
    if series.dataoffset is not None:
        with _told(path.name):
            byteorder = series.keyframe.parent.byteorder
            return _copied(np.memmap(path, series.dtype.newbyteorder(byteorder), "r", series.dataoffset, tuple(series.shape)))
    if len(series.pages) != series.shape[0]:
        return lambda box: series.asarray()[box]
    try:
        with _told(path.name):
            _page(series, 0)
    except InputFileError as error:
        if "imagecodecs" not in str(error):
            raise
        # Pillow's libtiff decodes what tifffile leaves to an optional package, LZW above all
        picture = opened.enter_context(Image.open(path))
        return lambda box: np.stack(
            [_frame(picture, index, series)[box[1:]] for index in range(*box[0].indices(series.shape[0]))]
        )
    return lambda box: np.stack([_page(series, index)[box[1:]] for index in range(*box[0].indices(series.shape[0]))])


def _page(series: tifffile.TiffPageSeries, index: int) -> NDArray:
    page = series.pages[index]
    if page is None:
        raise ValueError(f"page {index} is missing")
    return page.asarray()


def _frame(picture: Image.Image, index: int, series: tifffile.TiffPageSeries) -> NDArray:
    picture.seek(index)
    values = np.asarray(picture)
    if values.shape != tuple(series.shape[1:]) or values.dtype != series.dtype:
        raise ValueError(
            f"compression {tifffile.COMPRESSION(series.keyframe.compression).name} of {series.dtype}; save without compression or with deflate"
        )
    return values


def _natural(path: Path) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", path.name.lower())]


def _folder(folder: Path) -> Stack:
    files = sorted(
        (f for f in folder.iterdir() if f.suffix.lower() in SLICE_SUFFIXES and not f.name.startswith(".")), key=_natural
    )
    if len(files) < 2:
        raise InputFileError(
            f"folder {folder.name} holds {len(files)} TIFF or PNG slices; expected at least 2", hint=f"known: {KNOWN}"
        )
    _check_names(folder, files)
    shape, dtype = _picture_shape(files[0]), _picture(files[0]).dtype
    for file in files[1:]:
        if (other := _picture_shape(file)) != shape:
            raise InputFileError(
                f"slices of folder {folder.name} differ in size: {files[0].name} has {shape}, {file.name} has {other}",
                hint="keep the slices of one volume in the folder, all of one size",
            )

    def read(box: tuple[slice, ...]) -> NDArray:
        return np.stack([_slice(file)[box[1:]] for file in files[box[0]]])

    def _slice(file: Path) -> NDArray:
        values = _picture(file)
        if values.dtype != dtype:
            raise InputFileError(
                f"slices of folder {folder.name} differ in type: {files[0].name} has {dtype}, {file.name} has {values.dtype}",
                hint="export all slices with one number of bits",
            )
        return values

    return Stack(folder.name, (len(files), *shape), dtype, read)


def _check_names(folder: Path, files: list[Path]) -> None:
    """Refuse a folder of numbered slices that holds another picture, or in which some of otherwise evenly numbered slices are missing."""
    stems = [re.fullmatch(r"(.*?)(\d+)(\D*)", file.name) for file in files]
    patterns = [(match[1], match[3]) if match else None for match in stems]
    common, count = Counter(patterns).most_common(1)[0]
    if common is None or count < 2:
        return
    if strays := [file.name for file, pattern in zip(files, patterns, strict=True) if pattern != common]:
        shown = ", ".join(strays[:5]) + (f", ... ({len(strays)} in all)" if len(strays) > 5 else "")
        raise InputFileError(
            f"folder {folder.name} holds {count} slices named {common[0]}NUMBER{common[1]}, and beside them {shown}",
            hint="move pictures that are no slices out of the folder, or name all slices alike",
        )
    numbers = [int(match[2]) for match in stems if match]
    step = min(b - a for a, b in itertools.pairwise(numbers))
    missing = sorted(set(range(numbers[0], numbers[-1], max(step, 1))) - set(numbers))
    if missing:
        shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise InputFileError(
            f"folder {folder.name} lacks {len(missing)} of its numbered slices: {shown}",
            hint="add them, or number the slices anew",
        )


def _picture_shape(path: Path) -> tuple[int, int]:
    """Return rows and columns of a picture from its header; a file of several pictures is an error."""
    with _told(path.name):
        if path.suffix.lower() in TIFF_SUFFIXES:
            with tifffile.TiffFile(path) as file:
                n_pictures, page = len(file.pages), file.pages.first
                height, width = page.imagelength, page.imagewidth
        else:
            with Image.open(path) as picture:
                n_pictures, (width, height) = getattr(picture, "n_frames", 1), picture.size
    if n_pictures != 1:
        raise InputFileError(
            f"{path.name} in a folder of slices holds {n_pictures} pages; expected one slice per file",
            hint="name the stack itself instead of its folder",
        )
    return height, width


def _picture(path: Path) -> NDArray:
    """Return one slice (y, x) of a folder."""
    with _told(path.name):
        if path.suffix.lower() in TIFF_SUFFIXES:
            try:
                values = tifffile.imread(path)
            except ValueError as error:
                if "imagecodecs" not in str(error):
                    raise
                with Image.open(path) as picture:
                    values = np.asarray(picture)
        else:
            with Image.open(path) as picture:
                values = np.asarray(picture)
    return _grey(values, path.name) if values.ndim == 3 else values
