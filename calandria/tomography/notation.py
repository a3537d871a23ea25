"""How shapes, crops, axis orders and label maps are written in sample sheets and on command lines."""

import re
from collections.abc import Mapping

from ..base.errors import SettingsError
from ..base.phases import phase_code

RAW_SUFFIXES = (".raw", ".bin", ".dat", ".img", ".vol")
Shape = tuple[int, int, int]
Crop = tuple[slice, slice, slice]


def parse_shape(text: str) -> Shape:
    """Return the extents of a volume in the order of its file, slowest axis first.

    >>> parse_shape("251x301x301")
    (251, 301, 301)
    """
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){2}", text):
        raise SettingsError(
            f"shape {text!r} is not three extents above 0", hint="write it in the order of the file, e.g. 251x301x301"
        )
    first, second, third = (int(part) for part in text.split("x"))
    return first, second, third


def parse_axes(text: str) -> str:
    """Return the order of a file's axes, slowest first, after checking that each of z, y and x is there once.

    >>> parse_axes("yxz")
    'yxz'
    """
    if sorted(text) != ["x", "y", "z"]:
        raise SettingsError(
            f"axes {text!r} do not name z, y and x once each", hint="write the file's order, slowest first: zyx, xyz, yxz, ..."
        )
    return text


def parse_crop(text: str) -> Crop:
    """Return a crop in (z, y, x) order; an empty bound reaches to the end of the volume.

    >>> parse_crop("10:20,:,5:")
    (slice(10, 20, None), slice(None, None, None), slice(5, None, None))
    """
    parts = text.replace(" ", "").split(",")
    if len(parts) != 3 or not all(re.fullmatch(r"\d*:\d*", part) for part in parts):
        raise SettingsError(f"crop {text!r} is not three ranges of voxels", hint="write z0:z1,y0:y1,x0:x1, e.g. 0:250,:,20:")
    z, y, x = (slice(*(int(bound) if bound else None for bound in part.split(":"))) for part in parts)
    for name, bounds in zip("zyx", (z, y, x)):
        if bounds.stop is not None and bounds.stop <= (bounds.start or 0):
            raise SettingsError(
                f"crop {text!r} is empty along {name}", hint="the second number is the first voxel that is left out"
            )
    return z, y, x


def parse_labels(text: str) -> Mapping[int, int]:
    """Return which phase code each label of a file stands for.

    >>> parse_labels("0=pore 1=am 2=cbd")
    {0: 0, 1: 2, 2: 1}
    """
    codes: dict[int, int] = {}
    for entry in text.replace(",", " ").split():
        match = re.fullmatch(r"([+-]?\d+)=(\w+)", entry)
        if not match:
            raise SettingsError(f"label map entry {entry!r} is not label=phase", hint='write e.g. "0=pore 1=am 2=cbd"')
        label = int(match[1])
        if label in codes:
            raise SettingsError(f"label map {text!r} names the label {label} twice", hint="give each label one phase")
        codes[label] = phase_code(match[2])
    if not codes:
        raise SettingsError("the label map is empty", hint='write e.g. "0=pore 1=am 2=cbd"')
    return codes


def parse_classes(text: str) -> tuple[int, ...]:
    """Return the phase codes of the classes of a segmentation, from dark to bright.

    >>> parse_classes("pore cbd am")
    (0, 1, 2)
    """
    return tuple(phase_code(name) for name in text.replace(",", " ").split())
