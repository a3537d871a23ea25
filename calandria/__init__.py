"""Calandria: from particle dumps, tomography and micrographs of battery electrodes to trained models and transport properties.

The names below are the public functions (:mod:`calandria.api`). ``import calandria`` itself imports nothing but this file; each
name is imported when it is first used, and needs numpy only until it is called.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import (
        contact_areas,
        phase_fractions,
        read_dumps,
        read_volume,
        to_xarray,
        tortuosity,
        voxelize,
    )
    from .base.errors import CalandriaError
    from .base.volumes import Labelled

    __version__: str

_HOMES = {
    "CalandriaError": "base.errors",
    "Labelled": "base.volumes",
    "contact_areas": "api",
    "phase_fractions": "api",
    "read_dumps": "api",
    "read_volume": "api",
    "to_xarray": "api",
    "tortuosity": "api",
    "voxelize": "api",
}

__all__ = [
    "CalandriaError",
    "Labelled",
    "__version__",
    "contact_areas",
    "phase_fractions",
    "read_dumps",
    "read_volume",
    "to_xarray",
    "tortuosity",
    "voxelize",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            found: Any = version("calandria")
        except PackageNotFoundError:  # a checkout that was never installed
            found = "0+unknown"
    elif name in _HOMES:
        found = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
