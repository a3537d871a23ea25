"""Settings and sample sheets of the tomography stage."""

import pytest

from calandria.base.errors import SettingsError
from calandria.base.settings import read_sheet
from calandria.tomography import notation
from calandria.tomography.settings import SampleRow, TomographySettings

GREY = {"sample": "a", "path": "a.tif", "voxel_edge_um": 0.4, "segmentation": "multi_otsu", "classes": "pore cbd am"}


def row(**changes):
    return SampleRow.from_mapping({"sample": "a", "path": "a.tif", "voxel_edge_um": 0.398, **changes}, "sheet")


def test_rows_of_a_sheet_are_read(tmp_path):
    sheet = tmp_path / "samples.tsv"
    sheet.write_text(
        "# images\nsample\tpath\tvoxel_edge_um\tlabels\tflip_z\n"
        "cathode\tscan.tif\t0.398\t0=pore 1=am 2=cbd\ttrue\nother\tslices\t0.4\t\t\n"
    )
    first, second = read_sheet(sheet, SampleRow)
    assert (first.sample, first.flip_z, first.axes) == ("cathode", True, "zyx")
    assert (second.labels, second.flip_z) == ("", False)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"sample": "Cathode 1"}, "sample"),
        ({"voxel_edge_um": 0}, "voxel_edge_um"),
        ({"axes": "zyy"}, "axes 'zyy' do not name"),
        ({"crop": "0:5,0:5"}, "not three ranges"),
        ({"crop": "5:5,:,:"}, "empty along z"),
        ({"labels": "0=pore 1=metal"}, "phase 'metal' is unknown"),
        ({"labels": "0=pore 0=am"}, "names the label 0 twice"),
        ({"labels": "pore"}, "is not label=phase"),
        ({"labels": "0=pore", "segmentation": "otsu", "classes": "pore am"}, "leave either labels or segmentation empty"),
        ({"segmentation": "otsu", "classes": "pore cbd am"}, "otsu makes 2 classes, found 3"),
        ({"segmentation": "multi_otsu"}, "2 to 5 classes, found 0"),
        ({"classes": "pore am"}, "classes are given without a segmentation"),
        ({"segmentation": "kmeans"}, "segmentation"),
        ({"median_filter": 4}, "must be odd"),
        ({"path": "a.raw"}, "says nothing about its shape"),
        ({"shape": "5x5x5"}, "shape and dtype are for raw files"),
        ({"path": "a.raw", "shape": "5x5"}, "not three extents"),
        ({"voxel_size": 0.4}, "voxel_size is unknown"),
        ({"published": "1 CAL"}, "published is unknown"),
    ],
)
def test_mistakes_in_a_row_are_told(changes, match):
    with pytest.raises(SettingsError, match=match):
        row(**changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"voxel_edge_um": "0,398"}, "voxel_edge_um: expected a number with a decimal point (0.398), found '0,398'"),
        ({"voxel_edge_um": "0.4 um"}, "voxel_edge_um: expected a number, found '0.4 um'"),
        (
            {"sample": "Cathode 1"},
            "sample: expected lower-case letters, digits and underscores, a letter first, found 'Cathode 1'",
        ),
        ({"segmentation": "otso"}, "segmentation: expected 'none', 'otsu' or 'multi_otsu' (did you mean 'otsu'?), found 'otso'"),
        ({"flip_z": "up"}, "flip_z: expected true or false, found 'up'"),
        ({"median_filter": "2.5"}, "median_filter: expected a whole number, found '2.5'"),
        ({"path": ""}, "path: is empty, found ''"),
        ({"path": "a.raw"}, "sheet: a raw file says nothing about its shape; give shape (and dtype)"),
    ],
)
def test_mistakes_are_told_in_words(changes, told):
    with pytest.raises(SettingsError) as caught:
        row(**changes)
    assert caught.value.message == (told if told.startswith("sheet: ") else f"sheet: {told}")


@pytest.mark.parametrize("changes", [{"median_filter": 2}, {"median_filter": 0}, {"slice_axis": "t"}])
def test_mistakes_in_the_section_are_told(changes):
    with pytest.raises(SettingsError):
        TomographySettings.from_mapping(changes, "settings")


def test_every_field_is_described():
    for model in (SampleRow, TomographySettings):
        assert all(field.description for field in model.model_fields.values())


@pytest.mark.parametrize("text", ["0x5x5", "5x5", "5x5x5x5", "5,5,5", "axbxc"])
def test_bad_shapes_are_told(text):
    with pytest.raises(SettingsError, match="three extents"):
        notation.parse_shape(text)


def test_an_empty_label_map_is_told():
    with pytest.raises(SettingsError, match="label map is empty"):
        notation.parse_labels(" ")
