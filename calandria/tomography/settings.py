"""Settings of the tomography stage and the rows of its sample sheet."""

from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from ..base.errors import SettingsError
from ..base.settings import Section, read_sheet
from ..base.stage import Rule
from .notation import RAW_SUFFIXES, parse_axes, parse_classes, parse_crop, parse_labels, parse_shape

if TYPE_CHECKING:
    from ..study.study import Study


def _checked(parse: Callable[[str], Any], text: str) -> str:
    try:
        parse(text)
    except SettingsError as error:
        raise ValueError(f"{error.message}; {error.hint}") from error
    return text


class SampleRow(Section):
    """One image of the sample sheet and how it is to be read."""

    sample: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Name of the sample in file names and tables: a letter, then letters, digits and underscores, all lower case."""
    path: str = Field(min_length=1)
    """File (TIFF, HDF5, zarr, npy, raw) or folder of TIFF or PNG slices, relative to the working directory."""
    voxel_edge_um: float = Field(gt=0, le=1000)
    """Edge of the cubic voxels in um."""
    dataset: str = ""
    """Array inside an HDF5 or zarr file; may stay empty if there is one three-dimensional array only."""
    shape: str = ""
    """Extents of a raw file in its own order, slowest axis first, e.g. 251x301x301."""
    dtype: str = ""
    """Type of a raw file's voxels by its NumPy name, e.g. uint8, uint16, >u2; empty means uint8."""
    axes: str = "zyx"
    """Order of the file's axes, slowest first; z runs through the thickness."""
    flip_z: bool = False
    """Whether the current collector is at the last index along z in the file; ours is at the first."""
    labels: str = ""
    """Phase of every label of a segmented image, e.g. `0=pore 1=am 2=cbd`; empty for grey images."""
    segmentation: Literal["none", "otsu", "multi_otsu"] = "none"
    """How grey values become phases: not at all, by Otsu's threshold (two classes), by several thresholds."""
    classes: str = ""
    """Phases of the segmentation's classes from dark to bright, e.g. `pore cbd am`."""
    crop: str = ""
    """Voxels to keep, `z0:z1,y0:y1,x0:x1` in our axes (after reordering and flipping); empty for all."""
    median_filter: int | None = Field(None, ge=1, le=15)
    """Edge of the cube of the median filter before segmentation in voxels, odd; 1 is none; empty: the stage's."""
    state: str = Field("", pattern=r"^[A-Za-z0-9_.-]*$")
    """State of the electrode, a free word such as calendered or uncalendered, for tables."""

    @field_validator("shape", "axes", "labels", "classes", "crop")
    @classmethod
    def _notation(cls, text: str, info: Any) -> str:
        parsers = {"shape": parse_shape, "axes": parse_axes, "labels": parse_labels, "classes": parse_classes, "crop": parse_crop}
        return _checked(parsers[info.field_name], text) if text else text

    @field_validator("axes")
    @classmethod
    def _axes_are_named(cls, text: str) -> str:
        return text or "zyx"

    @field_validator("median_filter")
    @classmethod
    def _odd(cls, size: int | None) -> int | None:
        return _odd_size(size)

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        n_classes = len(parse_classes(self.classes))
        if self.labels and self.segmentation != "none":
            raise ValueError("labels are for images that are already segmented; leave either labels or segmentation empty")
        if self.segmentation == "none" and self.classes:
            raise ValueError("classes are given without a segmentation; say otsu or multi_otsu")
        if self.segmentation == "otsu" and n_classes != 2:
            raise ValueError(f"otsu makes 2 classes, found {n_classes}; name two phases from dark to bright or say multi_otsu")
        if self.segmentation == "multi_otsu" and not 2 <= n_classes <= 5:
            raise ValueError(f"multi_otsu makes 2 to 5 classes, found {n_classes}; name their phases from dark to bright")
        raw = PurePath(self.path).suffix.lower() in RAW_SUFFIXES
        if raw and not self.shape:
            raise ValueError("a raw file says nothing about its shape; give shape (and dtype)")
        if (self.shape or self.dtype) and not raw:
            raise ValueError(f"shape and dtype are for raw files ({', '.join(RAW_SUFFIXES)}); other files state their own")
        return self


def _odd_size(size: int | None) -> int | None:
    if size is not None and size % 2 == 0:
        raise ValueError("the median filter's edge must be odd")
    return size


class TomographySettings(Section):
    """Images to import; the windows and strides of mini-volumes are those of the auto-encoder's cases."""

    samples_sheet: str | None = None
    """Path of the sample sheet (tab-separated, a header line) relative to the working directory; null for no images."""
    median_filter: int = Field(1, ge=1, le=15)
    """Edge of the cube of the median filter before segmentation in voxels, odd; 1 is none. A row may say otherwise."""
    slice_axis: Literal["z", "y", "x"] = "z"
    """Axis along which mini-volumes take consecutive slices; z is the thickness."""

    @field_validator("median_filter")
    @classmethod
    def _odd(cls, size: int) -> int | None:
        return _odd_size(size)

    def sample_rows(self) -> list[SampleRow]:
        """Read the sample sheet."""
        return read_sheet(self.samples_sheet, SampleRow) if self.samples_sheet else []


def _row(study: "Study", wildcards: Mapping[str, str]) -> dict[str, Any]:
    sample = wildcards["sample"]
    return {
        "row": study.samples[sample].model_dump(mode="json", exclude_defaults=True),
        "inputs": study.inputs_of_sample(sample),
    }


RULES: dict[str, Rule] = {
    "import_volume": Rule(("median_filter",), version=3, given=_row),
    "measure_phases": Rule(version=3),
}
"""What the programs of the stage's rules read."""
