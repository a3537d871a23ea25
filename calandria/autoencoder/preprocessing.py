"""Labelled slices to the images that the network sees: three phases as -1, 0, +1, resized, read as they are needed."""

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..base.errors import ContractError
from ..base.phases import AM, CBD, CODES, PORE, VOID
from ..tomography.mini_volumes import MiniVolumes, Origin, open_mini_volumes
from .settings import AutoencoderSettings

BLOCK = 32
CACHE_MB = 2000
"""Memory for resized slices, MB."""
CODINGS: Mapping[str, Mapping[int, float]] = {
    "pore_am_cbd": {PORE: -1.0, VOID: -1.0, AM: 0.0, CBD: 1.0},
    "pore_cbd_am": {PORE: -1.0, VOID: -1.0, CBD: 0.0, AM: 1.0},
}


def code_labels(labels: NDArray[np.uint8], coding: str) -> NDArray[np.float32]:
    """Return labels of any shape as numbers from -1 to 1; void counts as pore, both hold no solid.

    Raises ContractError on labels that are no phase codes.

    >>> code_labels(np.array([0, 1, 2, 4], np.uint8), "pore_am_cbd").tolist()
    [-1.0, 1.0, 0.0, -1.0]
    """
    numbers = np.full(256, np.nan, np.float32)
    for code, value in CODINGS[coding].items():
        numbers[code] = value
    coded = numbers[labels]
    if np.isnan(coded).any():
        raise ContractError(
            f"found labels {sorted(set(np.unique(labels).tolist()) - set(CODES))} in slices; expected phase codes {list(CODES)}",
            hint="import the volume again by workflow_scripts.tomography.import_volume",
        )
    return coded


def resize_slices(images: Tensor, image_size: int, *, antialias: bool = True) -> Tensor:
    """Return images (n, y, x) resized to (n, image_size, image_size) by bilinear interpolation; other aspects are stretched."""
    return functional.interpolate(
        images.unsqueeze(1), size=(image_size, image_size), mode="bilinear", align_corners=False, antialias=antialias
    ).squeeze(1)


class ResizedSlices:
    """Mini-volumes as images, read lazily; blocks of resized slices are kept up to a bound.

    With a stride of 1 every slice is part of as many mini-volumes as a window has slices; it is resized once.

    Parameters
    ----------
    reader
        The mini-volumes of the table with the volumes that they are cut from.
    image_size, coding, antialias
        As in the settings.
    cache_mb
        Memory for resized slices, MB; the block in use is always kept.
    """

    def __init__(
        self,
        reader: MiniVolumes,
        image_size: int,
        *,
        coding: str = "pore_am_cbd",
        antialias: bool = True,
        cache_mb: int = 2000,
    ) -> None:
        self.reader, self.image_size, self.coding, self.antialias = reader, image_size, coding, antialias
        self._axis = reader.origins[0].slice_axis
        self._depths = {name: int(array.shape["zyx".index(self._axis)]) for name, array in reader.volumes.items()}
        self._bytes_allowed, self._bytes_kept = cache_mb * 10**6, 0
        self._blocks: OrderedDict[tuple[str, int], Tensor] = OrderedDict()

    def mini_volume(self, origin: Origin) -> Tensor:
        """Return one mini-volume (slice, image_size, image_size), float32."""
        return torch.cat([part for piece in self._pieces(origin) for part in self._parts(*piece)])

    def batch(self, origins: Sequence[Origin]) -> Tensor:
        """Return mini-volumes (batch, slice, image_size, image_size), float32."""
        return torch.stack([self.mini_volume(origin) for origin in origins])

    def _pieces(self, origin: Origin) -> list[tuple[str, int, int]]:
        """Return (sample, start, stop) of each sample that a mini-volume lies in."""
        names = list(self._depths)
        between = names[names.index(origin.sample) : names.index(origin.last_sample) + 1]
        return [
            (
                name,
                origin.z_start if name == origin.sample else 0,
                origin.z_stop if name == origin.last_sample else self._depths[name],
            )
            for name in between
        ]

    def _parts(self, sample: str, start: int, stop: int) -> list[Tensor]:
        blocks = range(start // BLOCK, (stop - 1) // BLOCK + 1)
        return [self._block(sample, block)[max(start - block * BLOCK, 0) : stop - block * BLOCK] for block in blocks]

    def _block(self, sample: str, block: int) -> Tensor:
        key = (sample, block)
        if key in self._blocks:
            self._blocks.move_to_end(key)
            return self._blocks[key]
        start, depth = block * BLOCK, self._depths[sample]
        stop = min(start + BLOCK, depth)
        whole = Origin(0, sample, start, stop - start, 1, sample, stop, start, depth, self._axis)
        images = torch.from_numpy(code_labels(MiniVolumes([whole], self.reader.volumes)[0], self.coding))
        resized = resize_slices(images, self.image_size, antialias=self.antialias)
        self._blocks[key] = resized
        self._bytes_kept += resized.nbytes
        while self._bytes_kept > self._bytes_allowed and len(self._blocks) > 1:
            self._bytes_kept -= self._blocks.popitem(last=False)[1].nbytes
        return resized


def mean_value(images: ResizedSlices, origins: Sequence[Origin]) -> float:
    """Return the mean over all voxels of some mini-volumes."""
    return float(np.mean([float(images.mini_volume(origin).double().mean()) for origin in origins]))


@contextmanager
def open_images(
    origins: Sequence[Origin], volumes: Mapping[str, str | os.PathLike], settings: AutoencoderSettings, cache_mb: int
) -> Iterator[ResizedSlices]:
    """Open the mini-volumes of labelled files as images of the size and coding of the settings; ``cache_mb`` MB of them are kept."""
    with open_mini_volumes(origins, volumes) as reader:
        yield ResizedSlices(
            reader,
            settings.image_size,
            coding=settings.coding,
            antialias=settings.antialias,
            cache_mb=cache_mb,
        )
