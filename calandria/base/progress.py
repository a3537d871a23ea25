"""One progress line with rate and time left; silent where nobody watches."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], what: str, *, total: int | None = None, unit: str = "it") -> "tqdm[Item]":
    """Wrap ``items`` in a progress line on stderr; quiet when stderr is not a terminal."""
    return tqdm(items, desc=what, total=total, unit=unit, disable=not sys.stderr.isatty(), leave=False, dynamic_ncols=True)
