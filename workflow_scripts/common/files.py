"""Files appear whole or not at all: write beside the target, flush to disk, rename into place."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import InputFileError


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; on a clean exit it becomes ``path``, on an error it vanishes.

    The temporary name keeps the suffixes of ``path``, so that writers that look at them behave.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".unfinished-", suffix="-" + target.name, dir=target.parent)
    os.close(handle)
    unfinished = Path(name)
    try:
        yield unfinished
        umask = os.umask(0)
        os.umask(umask)
        unfinished.chmod(0o666 & ~umask)  # mkstemp makes files that no colleague may read
        with open(unfinished, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def existing_file(path: str | os.PathLike, what: str = "file") -> Path:
    """Return ``path`` if a file or folder is there, else raise InputFileError."""
    found = Path(path)
    if not found.exists():
        raise InputFileError(
            f"{what} {str(path)!r} does not exist",
            hint="check the name, and that it is given relative to the folder in which the command runs",
        )
    return found
