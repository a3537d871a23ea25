"""Readers: every format gives the same voxels; every bad file is told in two lines."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from calandria.base.errors import CalandriaError, InputFileError, SettingsError
from calandria.tomography import readers
from calandria.tomography.readers import View, open_image, read_image
from tests.helpers.images import label_image, write_image

KINDS = [
    "tiff",
    "tiff_deflate",
    "tiff_imagej",
    "tiff_big_endian",
    "tiff_pages",
    "tiff_lzw",
    "folder_png",
    "folder_tif",
    "hdf5",
    "zarr",
    "zarr_zip",
    "npy",
    "raw",
]


def options(kind, shape):
    return {"shape": shape} if kind == "raw" else {}


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_same_voxels(tmp_path, kind):
    image = label_image((12, 7, 5))
    path = write_image(tmp_path, kind, image)
    found = read_image(path, **options(kind, image.shape))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize("kind", ["tiff", "tiff_big_endian", "tiff_pages", "hdf5", "npy"])
@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32"])
def test_wider_types_survive(tmp_path, kind, dtype):
    image = (label_image().astype(dtype) * 1000 - 500).astype(dtype)
    found = read_image(write_image(tmp_path, kind, image))
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, image)


def test_one_bit_tiff_gives_booleans(tmp_path):
    image = label_image((6, 9, 11), (0, 1)) > 0
    tifffile.imwrite(tmp_path / "bits.tif", image, bitspersample=1, photometric="minisblack")
    np.testing.assert_array_equal(read_image(tmp_path / "bits.tif"), image)


def test_big_endian_raw(tmp_path):
    image = label_image().astype(">u2")
    image.tofile(tmp_path / "scan.raw")
    np.testing.assert_array_equal(read_image(tmp_path / "scan.raw", shape=image.shape, dtype=">u2"), image)


@pytest.mark.parametrize("axes", ["zyx", "zxy", "yzx", "yxz", "xyz", "xzy"])
@pytest.mark.parametrize("flip_z", [False, True])
@pytest.mark.parametrize("block_bytes", [1, 1 << 20])
def test_orientation_and_crop_agree_with_plain_indexing(tmp_path, monkeypatch, axes, flip_z, block_bytes):
    monkeypatch.setattr(readers, "BLOCK_BYTES", block_bytes)
    image = label_image((6, 7, 5))
    in_file = image[::-1] if flip_z else image
    np.save(tmp_path / "scan.npy", in_file.transpose(["zyx".index(name) for name in axes]))
    crop = (slice(1, 4), slice(None, 6), slice(2, None))
    np.testing.assert_array_equal(read_image(tmp_path / "scan.npy", axes=axes, flip_z=flip_z, crop=crop), image[crop])


@pytest.mark.parametrize("flip_z", [False, True])
@pytest.mark.parametrize("axes", ["zyx", "xyz"])
def test_blocks_with_halo_tile_the_image_once(tmp_path, monkeypatch, axes, flip_z):
    monkeypatch.setattr(readers, "BLOCK_BYTES", 1)
    image = label_image((23, 7, 19))
    np.save(tmp_path / "scan.npy", image)
    times = np.zeros((19, 7, 23) if axes == "xyz" else image.shape, int)
    with open_image(tmp_path / "scan.npy") as stack:
        view = View(stack, axes, flip_z)
        whole = view.values()
        for target, values, inner in view.blocks("test", halo=1):
            times[target] += 1
            np.testing.assert_array_equal(values[inner], whole[target])
    assert (times == 1).all()


def test_only_the_wanted_slices_of_a_folder_are_read(tmp_path):
    image = label_image((12, 7, 5))
    folder = write_image(tmp_path, "folder_png", image)
    (folder / "slice_12.png").write_bytes((folder / "slice_12.png").read_bytes()[:60])
    np.testing.assert_array_equal(read_image(folder, crop=(slice(0, 11), slice(None), slice(None))), image[:11])
    with pytest.raises(InputFileError, match=r"slice_12\.png cannot be read"):
        read_image(folder)


def test_grey_saved_with_equal_colours_and_alpha_is_grey(tmp_path):
    image = label_image((4, 7, 5), (0, 128, 255))
    folder = tmp_path / "slices"
    folder.mkdir()
    for number, plane in enumerate(image):
        Image.fromarray(np.stack([plane, plane, plane, np.full_like(plane, 255)], axis=-1)).save(folder / f"{number}.png")
    np.testing.assert_array_equal(read_image(folder), image)


def test_palette_pictures_give_their_indices(tmp_path):
    image = label_image()
    for number, plane in enumerate(image):
        picture = Image.fromarray(plane).convert("P")
        picture.putdata(plane.ravel().tolist())
        picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
        picture.save(tmp_path / f"{number}.png")
    np.testing.assert_array_equal(read_image(tmp_path), image)


def test_leading_axes_of_one_are_dropped(tmp_path):
    image = label_image()
    path = write_image(tmp_path, "hdf5", image[None, None])
    np.testing.assert_array_equal(read_image(path), image)


def told(error_type, match, *args, **kwargs):
    with pytest.raises(error_type, match=match) as caught:
        read_image(*args, **kwargs)
    assert isinstance(caught.value, CalandriaError)
    assert len(str(caught.value).splitlines()) == 2


def test_missing_file_is_told(tmp_path):
    told(InputFileError, "does not exist", tmp_path / "nothing.tif")


@pytest.mark.parametrize("kind", ["tiff", "tiff_deflate", "tiff_imagej", "tiff_pages", "tiff_lzw"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.98])
def test_truncated_tiff_is_told(tmp_path, kind, share):
    path = write_image(tmp_path, kind, label_image((12, 40, 30)))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    told(InputFileError, "cut short|cannot be read|two-dimensional", path)


@pytest.mark.parametrize("kind", ["hdf5", "zarr_zip", "npy"])
def test_truncated_containers_are_told(tmp_path, kind):
    path = write_image(tmp_path, kind, label_image((12, 40, 30)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    told(InputFileError, "cannot be read", path)


def test_file_that_is_not_what_its_name_says_is_told(tmp_path):
    for name in ("a.tif", "b.h5", "c.npy", "d.zarr.zip"):
        (tmp_path / name).write_text("not an image")
        told(InputFileError, f"{name} cannot be read", tmp_path / name)


def test_two_dimensional_images_are_told(tmp_path):
    tifffile.imwrite(tmp_path / "flat.tif", label_image()[0])
    told(InputFileError, "flat.tif is a two-dimensional image of 7 x 5", tmp_path / "flat.tif")
    tifffile.imwrite(tmp_path / "page.tif", label_image()[:1], photometric="minisblack")
    told(InputFileError, "page.tif is a two-dimensional image of 7 x 5", tmp_path / "page.tif")
    Image.fromarray(label_image()[0]).save(tmp_path / "flat.png")
    told(InputFileError, "flat.png is a two-dimensional image of 7 x 5", tmp_path / "flat.png")
    np.save(tmp_path / "flat.npy", label_image()[0])
    told(InputFileError, "two-dimensional", tmp_path / "flat.npy")


def test_series_of_volumes_is_told(tmp_path):
    tifffile.imwrite(tmp_path / "series.tif", np.zeros((2, 3, 8, 8), np.uint8), imagej=True)
    told(InputFileError, r"has 4 axes of extents \(2, 3, 8, 8\)", tmp_path / "series.tif")


def test_slices_of_different_sizes_are_told(tmp_path):
    folder = write_image(tmp_path, "folder_png", label_image())
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "slice_3.png")
    told(InputFileError, r"slice_1.png has \(7, 5\), slice_3.png has \(4, 4\)", folder)


def test_slices_of_different_types_are_told(tmp_path):
    folder = write_image(tmp_path, "folder_tif", label_image())
    tifffile.imwrite(folder / "slice_3.tif", label_image()[2].astype(np.uint16))
    told(InputFileError, "slice_1.tif has uint8, slice_3.tif has uint16", folder)


def test_missing_slices_are_told(tmp_path):
    folder = write_image(tmp_path, "folder_png", label_image((12, 7, 5)))
    (folder / "slice_4.png").unlink()
    told(InputFileError, "lacks 1 of its numbered slices: 4", folder)


def test_a_picture_beside_numbered_slices_is_no_slice(tmp_path):
    folder = write_image(tmp_path, "folder_png", label_image())
    for name in ("preview.png", "slice_1_old.png"):
        (folder / name).write_bytes((folder / "slice_1.png").read_bytes())
    told(InputFileError, "holds 6 slices named slice_NUMBER.png, and beside them preview.png, slice_1_old.png", folder)


def test_slices_without_numbers_are_taken_in_the_order_of_their_names(tmp_path):
    image = label_image((2, 7, 5))
    for name, plane in zip(("bottom", "top"), image, strict=True):
        Image.fromarray(plane).save(tmp_path / f"{name}.png")
    np.testing.assert_array_equal(read_image(tmp_path), image)


def test_a_raw_file_without_a_shape_is_told(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(27))
    told(InputFileError, r"a\.raw is a raw file, which says nothing about its shape; the shape is missing", tmp_path / "a.raw")


def test_pages_of_different_sizes_are_told(tmp_path):
    with tifffile.TiffWriter(tmp_path / "mixed.tif") as writer:
        for size in (8, 8, 6):
            writer.write(np.zeros((size, size), np.uint8), contiguous=False, metadata=None)
    told(InputFileError, "holds 2 images", tmp_path / "mixed.tif")


def test_stack_in_a_folder_of_slices_is_told(tmp_path):
    folder = write_image(tmp_path, "folder_tif", label_image())
    tifffile.imwrite(folder / "slice_2.tif", label_image(), photometric="minisblack", metadata=None)
    told(InputFileError, "slice_2.tif in a folder of slices holds 6 pages", folder)


def test_empty_folder_is_told(tmp_path):
    told(InputFileError, "holds 0 TIFF or PNG slices", tmp_path)


@pytest.mark.parametrize("kind", ["hdf5", "zarr_zip"])
def test_wrong_dataset_offers_the_nearest_and_lists_all(tmp_path, kind):
    path = write_image(tmp_path, kind, label_image())
    name = {"hdf5": "scan/labels", "zarr_zip": "scan"}[kind]
    with pytest.raises(SettingsError, match=rf"no dataset 'scam.*datasets there: .*{name} \(6, 7, 5\)") as caught:
        read_image(path, dataset=name.replace("n", "m", 1))
    assert caught.value.hint == f"did you mean '{name}'?"


def test_several_volumes_in_a_file_are_told(tmp_path):
    import h5py

    path = write_image(tmp_path, "hdf5", label_image())
    with h5py.File(path, "a") as file:
        file["grey"] = label_image()
    told(SettingsError, r"has 2 datasets with three axes; datasets there: grey \(6, 7, 5\), scan/labels", path)
    np.testing.assert_array_equal(read_image(path, dataset="/grey"), label_image())


def test_text_dataset_is_told(tmp_path):
    import h5py

    with h5py.File(tmp_path / "words.h5", "w") as file:
        file.create_dataset("words", (2, 2, 2), h5py.string_dtype())
    told(InputFileError, "words.h5 holds values of type object", tmp_path / "words.h5")


def test_dataset_in_a_tiff_is_told(tmp_path):
    told(SettingsError, "holds no datasets", write_image(tmp_path, "tiff", label_image()), dataset="scan")


def test_raw_that_does_not_fit_its_shape_is_told(tmp_path):
    path = write_image(tmp_path, "raw", label_image())
    told(InputFileError, "has 210 bytes; expected 252 for 6 x 7 x 6 voxels of uint8", path, shape=(6, 7, 6))
    told(InputFileError, "expected 420", path, shape=(6, 7, 5), dtype="uint16")
    told(SettingsError, "dtype 'unit8' is unknown", path, shape=(6, 7, 5), dtype="unit8")
    told(InputFileError, "unknown suffix", path.rename(tmp_path / "scan.xyz"))


def test_shape_for_a_tiff_is_told(tmp_path):
    told(SettingsError, "states its own shape", write_image(tmp_path, "tiff", label_image()), shape=(6, 7, 5))


def test_colour_image_is_told_with_its_channels(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (4, 7, 5, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "colour.tif", colours, photometric="rgb")
    told(InputFileError, "colour.tif is a colour image with 3 channels that differ", tmp_path / "colour.tif")


def test_crop_outside_is_told(tmp_path):
    path = write_image(tmp_path, "tiff", label_image())
    told(
        SettingsError,
        r"crop y 0:8 reaches outside; the image has \(6, 7, 5\)",
        path,
        crop=(slice(None), slice(0, 8), slice(None)),
    )
    told(SettingsError, "crop z 6:6 reaches outside", path, crop=(slice(6, None), slice(None), slice(None)))
