"""Loads the compiled kernels that the installation built."""

import ctypes
import importlib.util
from functools import cache

from .errors import DeviceError


@cache
def library(module: str) -> ctypes.CDLL:
    """Return the shared library of an extension module such as ``calandria.transport._solver``.

    Raises DeviceError when it was never built.
    """
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise DeviceError(
            f"the compiled kernels {module} are missing", hint="install the package with a C compiler at hand: pip install ."
        )
    return ctypes.CDLL(found.origin)
