"""Makers of small images in every format that the tomography stage reads; made from a seed, nothing is stored."""

from pathlib import Path

import h5py
import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray
from PIL import Image


def label_image(shape: tuple[int, int, int] = (6, 7, 5), labels: tuple[int, ...] = (0, 1, 2), seed: int = 3) -> NDArray[np.uint8]:
    """Return random labels in which every label occurs and no two axes are alike."""
    values = np.random.default_rng(seed).choice(np.array(labels, np.uint8), size=shape)
    values.ravel()[: len(labels)] = labels
    return values


def grey_image(phases: NDArray, greys: dict[int, float], spread: float, seed: int = 4) -> NDArray[np.float64]:
    """Return grey values scattered about the mean of each phase (normal, standard deviation ``spread``)."""
    noise = np.random.default_rng(seed).normal(0, spread, phases.shape)
    return np.vectorize(greys.get, otypes=[np.float64])(phases) + noise


def write_image(folder: Path, kind: str, values: NDArray) -> Path:
    """Write a volume in a format named by ``kind`` and return its path."""
    path = folder / f"image_{kind}"
    if kind in ("tiff", "tiff_deflate", "tiff_imagej", "tiff_big_endian", "tiff_pages"):
        path = path.with_suffix(".tif")
        if kind == "tiff_pages":
            with tifffile.TiffWriter(path) as writer:
                for plane in values:
                    writer.write(plane, contiguous=False, metadata=None)
        else:
            options = {
                "tiff": {},
                "tiff_deflate": {"compression": "zlib", "metadata": None},
                "tiff_imagej": {"imagej": True},
                "tiff_big_endian": {"byteorder": ">"},
            }[kind]
            tifffile.imwrite(path, values, photometric="minisblack", **options)
    elif kind == "tiff_lzw":
        path = path.with_suffix(".tif")
        pages = [Image.fromarray(plane) for plane in values]
        pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_lzw")
    elif kind in ("folder_png", "folder_tif"):
        path.mkdir()
        for number, plane in enumerate(values, 1):
            Image.fromarray(plane).save(path / f"slice_{number}.{kind[-3:]}")
    elif kind == "hdf5":
        path = path.with_suffix(".h5")
        with h5py.File(path, "w") as file:
            file["scan/labels"] = values
            file["scan/positions"] = np.arange(4)
    elif kind == "zarr":
        path = path.with_suffix(".zarr")
        zarr.create_array(str(path), data=values)
    elif kind == "zarr_zip":
        path = path.with_suffix(".zarr.zip")
        with zarr.storage.ZipStore(path, mode="w") as store:
            zarr.create_group(store).create_array("scan", data=values)
    elif kind == "npy":
        path = path.with_suffix(".npy")
        np.save(path, values)
    elif kind == "raw":
        path = path.with_suffix(".raw")
        values.tofile(path)
    else:
        raise ValueError(kind)
    return path
