"""Labels of segmented images to the phase codes of the data contract."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from ..base.errors import ContractError
from ..base.phases import CODES, NAMES
from .readers import View


def map_labels(values: NDArray, codes: Mapping[int, int], where: str) -> NDArray[np.uint8]:
    """Return the phase codes of labels of any shape; booleans are the labels 0 and 1.

    Parameters
    ----------
    values
        Labels: whole numbers of any type, also floats that are whole.
    codes
        Phase code of every label that may occur; labels that do not occur may be named too.
    where
        Name of the image, for messages.

    Raises
    ------
    ContractError
        If the values are not whole numbers or a label has no name.

    Examples
    --------
    >>> map_labels(np.array([[0, 255]]), {0: 0, 255: 2}, "mask").tolist()
    [[0, 2]]
    """
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or (values != np.rint(values)).any():
            raise ContractError(
                f"{where} holds {values.dtype} values that are not whole, from {np.min(values):g} to {np.max(values):g}; expected labels",
                hint="grey values need a segmentation: otsu or multi_otsu",
            )
        values = values.astype(np.int64)
    elif values.dtype.kind == "b":
        values = values.view(np.uint8)
    lowest, highest = int(values.min()), int(values.max())
    if highest - lowest < 1 << 16:
        offsets = values.astype(np.int64 if values.dtype.itemsize > 2 else np.int32) - lowest
        found = np.flatnonzero(np.bincount(offsets.ravel())) + lowest
        _check_named(found, codes, values.dtype, where)
        table = np.zeros(highest - lowest + 1, np.uint8)
        table[found - lowest] = [codes[label] for label in found.tolist()]
        return table[offsets]
    found = np.unique(values)
    _check_named(found, codes, values.dtype, where)
    return np.array([codes[label] for label in found.tolist()], np.uint8)[np.searchsorted(found, values)]


def _check_named(found: NDArray, codes: Mapping[int, int], dtype: np.dtype, where: str) -> None:
    unnamed = [label for label in found.tolist() if label not in codes]
    if not unnamed:
        return
    shown = ", ".join(map(str, unnamed[:6])) + (f", ... ({len(unnamed)} in all)" if len(unnamed) > 6 else "")
    if len(unnamed) > 8:
        hint = "so many values look like a grey image: leave the labels empty and give a segmentation, otsu or multi_otsu"
    elif min(unnamed) < 0:
        hint = f"the file is signed ({dtype}); name the negative labels too (-1 may be 255 written as int8)"
    elif found.tolist() == [0, 255]:
        hint = "a mask of 0 and 255 needs a map such as 0=pore 255=am"
    else:
        hint = f"add them to the label map; phases are {', '.join(NAMES.values())}"
    raise ContractError(
        f"{where} holds labels without a name: {shown}; named are {', '.join(f'{label}={NAMES[code]}' for label, code in codes.items())}",
        hint=hint,
    )


def read_labels(view: View, codes: Mapping[int, int]) -> NDArray[np.uint8]:
    """Return the phase codes (z, y, x) of a labelled image, mapped block by block."""
    result = np.empty(view.shape, np.uint8)
    start = 0
    for slab in label_slabs(view, codes):
        result[start : start + len(slab)] = slab
        start += len(slab)
    return result


def label_slabs(view: View, codes: Mapping[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Yield the phase codes of a labelled image in slabs (n, y, x) along z, which need not fit into memory together."""
    return view.slabs("map labels", lambda values: map_labels(values, codes, view.stack.name), np.uint8)


def describe_values(view: View, limit: int = 8) -> str:
    """Return words for the values of an image's first block: the few labels, or the range of a grey image."""
    _, values, _ = next(iter(view.blocks("look at values")))
    found = np.unique(values)
    if len(found) > limit:
        return f"{len(found)} different values of type {values.dtype} from {found[0]:g} to {found[-1]:g}, a grey image"
    own = " (which look like phase codes)" if set(found.tolist()) <= set(CODES) else ""
    return f"the values {', '.join(f'{value:g}' for value in found)} of type {values.dtype}{own}"
