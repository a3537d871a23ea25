"""Container images: where a software set's image is, and what a program that runs in one knows of it."""

import hashlib
import os
import shlex
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from .. import __version__
from ..base.errors import DeviceError, InputFileError
from ..base.provenance import image_record

CODE = "CALANDRIA_CODE"
PACKAGES = ("calandria", "workflow_scripts")
_SUFFIXES = (".py", ".c", ".h", ".lmp", ".html")


@cache
def code_digest(top: Path = Path(__file__).parents[2]) -> str:
    """Return the SHA-256 of the source files of the library and its programs, equal in a checkout and where they are installed.

    Hidden files and folders, which editors and notebooks leave, are not installed and do not count.
    """
    digest = hashlib.sha256()
    found = [path for package in PACKAGES for path in (top / package).rglob("*") if path.suffix in _SUFFIXES]
    for path in sorted(found):
        name = path.relative_to(top)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            content = path.read_bytes()
            digest.update(f"{name.as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def name_code(locks: Path) -> None:
    """Make this process's code, and the locks in a folder, those that programs in containers must have; they take their image's own."""
    digests = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(locks.glob("*.lock"))}
    os.environ[CODE] = " ".join([code_digest(), *(f"{software}={digest}" for software, digest in digests.items())])
    for name in ("PYTHONPATH", "PYTHONHOME"):  # a path of the host would come before the image's own packages
        os.environ[f"APPTAINERENV_{name}"] = ""


def check_code() -> None:
    """Raise DeviceError where this program runs in an image whose code or lock is not that of the workflow that started it."""
    wanted, record = os.environ.get(CODE), image_record()
    if not (record and wanted):
        return
    code, *locks = wanted.split()
    software = record["title"].removeprefix("calandria-")
    differs = "other code than this checkout" if code != code_digest() else ""
    if not differs and f"{software}={record.get('lock_sha256')}" not in locks:
        differs = f"other packages than envs/{software}.lock of this checkout"
    if differs:
        raise DeviceError(
            f"the image {record['title']} (version {record['version']}, commit {record['revision']}) holds {differs}",
            hint="build the images of this checkout: containers/build.py --tool apptainer; behind a registry, push them and remove"
            " .snakemake/singularity, which keeps what was fetched before",
        )


def image_address(software: str, images: str) -> str:
    """Return the image of a software set, in a folder of SIF files or behind a registry's address.

    >>> image_address("torch", "/shared/images")
    '/shared/images/torch.sif'
    >>> image_address("torch", "docker://registry.example/calandria").rpartition(":")[0]
    'docker://registry.example/calandria/torch'
    """
    return f"{images}/{software}:{__version__}" if "://" in images else str(Path(images) / f"{software}.sif")


def check_images(software: Iterable[str], images: str) -> None:
    """Raise InputFileError where images of a folder are missing; a registry is asked when an image is fetched."""
    addresses = {name: image_address(name, images) for name in sorted(software)}
    missing = [name for name, address in addresses.items() if "://" not in address and not Path(address).exists()]
    if missing:
        raise InputFileError(
            f"the images {', '.join(addresses[name] for name in missing)} are missing",
            hint=f"build them: containers/build.py --tool apptainer {' '.join(missing)}; if they are elsewhere: --config images=FOLDER",
        )


def exec_command(software: str, images: str, arguments: str = "") -> str:
    """Return the words before a command that run it in an image, for launchers that stay outside of containers (mpiexec, srun, sbatch).

    Parameters
    ----------
    software
        Name of the software set.
    images
        Folder or registry's address, as for `image_address`.
    arguments
        Further options of ``apptainer exec``, as Snakemake's ``--apptainer-args``; a text as in a shell.
    """
    home = shlex.quote(str(Path.cwd()))
    return " ".join(
        ["apptainer", "exec", "--home", home, *filter(None, [arguments]), shlex.quote(image_address(software, images))]
    )
