"""Grey values to phases by Otsu's thresholds.

N. Otsu, IEEE Trans. Syst. Man Cybern. 9 (1979) 62, doi 10.1109/TSMC.1979.4310076; several thresholds: P.-S. Liao,
T.-S. Chen, P.-C. Chung, J. Inf. Sci. Eng. 17 (2001) 713. The search for the thresholds is scikit-image's.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter as median
from skimage.filters import threshold_multiotsu, threshold_otsu

from ..base.errors import ContractError, SettingsError
from ..base.phases import NAMES
from .readers import Stack, View

N_BINS = 256
IN_MEMORY = 64 << 20
"""Bytes of a filtered image above which it is kept in a temporary file."""


@dataclass(frozen=True)
class Segmentation:
    """How phases are found in a grey image.

    Parameters
    ----------
    method
        ``"otsu"`` or ``"multi_otsu"``.
    thresholds
        Grey values; a voxel belongs to the class above each threshold that its value exceeds.
    classes
        Phase codes from dark to bright, one more than thresholds.
    shares
        Share of the voxels in each class.
    separability
        Variance between classes over the whole variance of the histogram, 0 to 1; low values mean that the grey values overlap.
    median_filter
        Edge of the median filter's cube in voxels, 1 for none.
    """

    method: str
    thresholds: tuple[float, ...]
    classes: tuple[int, ...]
    shares: tuple[float, ...]
    separability: float
    median_filter: int

    def report(self) -> dict:
        """Return it as plain values, for records."""
        return {
            "method": self.method,
            "thresholds": list(self.thresholds),
            "classes": [NAMES[code] for code in self.classes],
            "shares": list(self.shares),
            "separability": self.separability,
            "median_filter": self.median_filter,
        }


@dataclass(frozen=True)
class SegmentedImage(Segmentation):
    """A segmentation with its result.

    Parameters
    ----------
    labels
        uint8 phase codes (z, y, x).
    """

    labels: NDArray[np.uint8]


def histogram(view: View) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return counts and upper edges of at most 256 bins over an image's grey values.

    Whole numbers get bins of a whole width (8-bit images one bin per value), so that no value lies on an edge by rounding.

    Raises
    ------
    ContractError
        If a value is not finite.
    """
    ranges = []
    for _, values, _ in view.blocks("grey range"):
        _check_finite(values, view.stack.name)
        ranges.append((values.min().item(), values.max().item()))
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    if view.stack.dtype.kind == "f":
        edges = np.linspace(low, high, N_BINS + 1) if high > low else np.array([low, low])
        upper = edges[1:]
        inner = upper[:-1]
    else:
        low, high = int(low), int(high)
        width = -(-(high - low + 1) // N_BINS)
        upper = np.arange(low + width - 1, high + width, width, dtype=np.float64)
        inner = upper[:-1]
    counts = np.zeros(len(upper), np.int64)
    for _, values, _ in view.blocks("histogram"):
        counts += np.bincount(_class_of(values, inner).ravel(), minlength=len(upper))
    return counts, upper


def segment(view: View, method: str, classes: Sequence[int], median_filter: int = 1) -> SegmentedImage:
    """Return the labels of a whole image; parameters and errors are those of :func:`segmented`."""
    labels, start = np.empty(view.shape, np.uint8), 0
    with segmented(view, method, classes, median_filter) as (found, parts):
        for slab in parts:
            labels[start : start + len(slab)] = slab
            start += len(slab)
    return SegmentedImage(**vars(found), labels=labels)


@contextmanager
def segmented(
    view: View, method: str, classes: Sequence[int], median_filter: int = 1, scratch: str | os.PathLike | None = None
) -> Iterator[tuple[Segmentation, Iterator[NDArray[np.uint8]]]]:
    """Segment a grey image into phases, from dark to bright, by thresholds on its whole (cropped) histogram.

    The image is read three times, for the range of its grey values, their histogram and the labels, each time slab by slab.

    Parameters
    ----------
    view
        The grey image.
    method
        ``"otsu"`` for two classes, ``"multi_otsu"`` for two or more.
    classes
        Phase codes from dark to bright.
    median_filter
        Edge of the cube of a median filter before everything else, in voxels and odd; the image's border voxels are repeated outwards.
    scratch
        Folder for the filtered image, where it is larger than 64 MB; the system's for temporary files if None. It is filtered once,
        since that costs far more than all passes over it.

    Yields
    ------
    segmentation, slabs
        What was found in the histogram, and the labels in slabs (n, y, x) along z.

    Raises
    ------
    ContractError
        If the image has fewer different grey values than classes, or values that are not finite.
    SettingsError
        If the method is unknown or does not fit the number of classes.
    """
    if method not in ("otsu", "multi_otsu") or len(classes) < 2 or (method == "otsu" and len(classes) != 2):
        raise SettingsError(
            f"segmentation {method!r} with {len(classes)} classes is not possible",
            hint="otsu takes two classes, multi_otsu two or more",
        )
    if median_filter < 1 or median_filter % 2 == 0:
        raise SettingsError(f"median filter {median_filter} is not an odd number of voxels", hint="say 1 (none), 3, 5, ...")
    with ExitStack() as opened:
        if median_filter > 1:
            view = _filtered(
                view,
                median_filter,
                opened.enter_context(SpooledTemporaryFile(IN_MEMORY, dir=os.fspath(scratch) if scratch else None)),
            )
        counts, upper = histogram(view)
        if np.count_nonzero(counts) < len(classes):
            raise ContractError(
                f"{view.stack.name} has {np.count_nonzero(counts)} different grey values; expected more for {len(classes)} classes",
                hint="an image with so few values is already segmented: give its label map instead",
            )
        if method == "otsu":
            thresholds = np.atleast_1d(threshold_otsu(hist=(counts, upper)))
        else:
            thresholds = threshold_multiotsu(classes=len(classes), hist=(counts, upper))
        codes = np.array(classes, np.uint8)
        # thresholds are upper edges of bins, so that each bin belongs to one class
        totals = np.bincount(np.searchsorted(thresholds, upper, side="left"), counts, len(classes)).astype(np.int64)
        found = Segmentation(
            method,
            tuple(float(t) for t in thresholds),
            tuple(int(code) for code in classes),
            tuple((totals / totals.sum()).tolist()),
            _separability(counts, upper, thresholds),
            median_filter,
        )
        yield found, view.slabs("segment", lambda values: codes[_class_of(values, thresholds)], np.uint8)


def _class_of(values: NDArray, thresholds: NDArray) -> NDArray[np.integer]:
    """Return how many thresholds (at most 255) each value exceeds; a table serves 8-bit values."""
    if values.dtype == np.uint8:
        return np.searchsorted(thresholds, np.arange(256), side="left").astype(np.uint8)[values]
    return np.searchsorted(thresholds, values, side="left")


def _filtered(view: View, size: int, file: SpooledTemporaryFile) -> View:
    """Return the median-filtered image, which is written to a temporary file."""
    kind = view.stack.dtype.newbyteorder("=")
    dtype = np.dtype(np.float32 if kind == np.float16 else np.uint8 if kind == np.bool_ else kind)

    def filtered(values: NDArray) -> NDArray:
        _check_finite(values, view.stack.name)
        return median(values.astype(dtype, copy=False), size=size, mode="nearest")

    for slab in view.slabs("median filter", filtered, dtype, halo=size // 2):
        file.write(np.ascontiguousarray(slab).data)
    plane = view.shape[1:]

    def read(box: tuple[slice, ...]) -> NDArray:
        start, stop, _ = box[0].indices(view.shape[0])
        file.seek(start * math.prod(plane) * dtype.itemsize)
        raw = file.read((stop - start) * math.prod(plane) * dtype.itemsize)
        return np.frombuffer(raw, dtype).reshape(stop - start, *plane)[:, *box[1:]]

    return View(Stack(view.stack.name, view.shape, dtype, read))


def _check_finite(values: NDArray, where: str) -> None:
    if not np.isfinite(values).all():
        raise ContractError(f"{where} holds grey values that are not finite", hint="fill or crop them before importing")


def _separability(counts: NDArray, upper: NDArray, thresholds: NDArray) -> float:
    weights = counts / counts.sum()
    mean = float(weights @ upper)
    total = float(weights @ (upper - mean) ** 2)
    groups = np.searchsorted(thresholds, upper, side="left")
    between = 0.0
    for group in range(len(thresholds) + 1):
        share = float(weights[groups == group].sum())
        if share > 0:
            between += share * (float(weights[groups == group] @ upper[groups == group]) / share - mean) ** 2
    return between / total if total > 0 else 0.0
