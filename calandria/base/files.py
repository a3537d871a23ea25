"""Files appear whole or not at all: write beside the target, flush to disk, rename into place."""

import contextlib
import errno
import fcntl
import os
import re
import socket
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .errors import InputFileError

MOST_BYTES_OF_NAME = 255
MACHINE_ERRORS = frozenset(
    {
        errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.EREMOTEIO, errno.ETIMEDOUT, errno.ENOTCONN,
        errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ECONNRESET, errno.ENODEV, errno.ENXIO,
        errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ETXTBSY, errno.ENOLCK, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES,
        errno.EPERM,
    }
)  # fmt: skip
"""Errors of the machine, its limits and its file systems; they say nothing about the content of a file."""


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``, which is made; on a clean exit it becomes ``path``, on an error it vanishes.

    The temporary name keeps the suffixes of ``path``, so that writers that look at them behave. A link stays, and what it leads to is
    replaced. Raises InputFileError where no file can be.
    """
    check_output(path)
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".unfinished-", suffix="-" + target.name[-100:], dir=target.parent)
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


def check_output(path: str | os.PathLike, what: str = "output") -> None:
    """Raise InputFileError where a file cannot be written: before long work, so that it is not lost.

    Folders that are missing may be made; whether the disk has room is not known before.
    """
    target = Path(path)
    told, hint = "", "name a file in a folder that you may write"
    try:
        if not os.fspath(path):
            told = "has an empty name"
        elif len(os.fsencode(target.name)) > MOST_BYTES_OF_NAME:
            told = f"has a name of {len(os.fsencode(target.name))} bytes; expected at most {MOST_BYTES_OF_NAME}"
        elif target.is_dir() or os.fspath(path).endswith(os.sep):
            told, hint = "is a folder; expected a file", "name a file in it"
        elif target.exists() and not target.is_file():
            told = "is a device or a pipe; expected a file"
        else:
            place = Path(os.path.realpath(target) if target.is_symlink() else Path.cwd() / target)
            there = next(folder for folder in place.parents if os.path.lexists(folder))
            if not there.is_dir():
                told = f"would lie in {str(there)!r}, which is no folder"
            elif not os.access(there, os.W_OK | os.X_OK):
                told = f"would lie in {str(there)!r}, where you may not write"
    except OSError as error:
        told = f"cannot be written: {error.strerror}"
    if told:
        raise InputFileError(f"{what} {os.fspath(path)!r} {told}", hint=hint)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def existing_file(path: str | os.PathLike, what: str = "file") -> Path:
    """Return ``path`` if a file or folder is there, else raise InputFileError; a file system that fails raises its own OSError."""
    found = Path(path)
    try:
        found.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise InputFileError(
            f"{what} {str(path)!r} does not exist",
            hint="check the name, and that it is given relative to the folder in which the command runs",
        ) from error
    return found


def raise_machine_error(error: BaseException, path: str | os.PathLike) -> None:
    """Raise the machine's own error again, where it is behind an error of reading a file; return where the file itself is at fault.

    Libraries wrap "too many open files" or "out of memory" in errors that look like those of a damaged file. Call this first in the
    handler of such errors.

    Parameters
    ----------
    error
        What the library raised.
    path
        The file that was read.

    Raises
    ------
    MemoryError
        No memory was left.
    OSError
        One of ``MACHINE_ERRORS``, with ``path`` as its file name.
    """
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, MemoryError):
            raise MemoryError(f"while reading {os.fspath(path)!r}" + (f": {behind}" if str(behind) else "")) from error
        if isinstance(behind, OSError):
            wrapped = re.search(r"\berrno = (\d+)", str(behind))  # HDF5 has the number in its text only
            number = behind.errno if behind.errno in MACHINE_ERRORS else int(wrapped[1]) if wrapped else None
            if number in MACHINE_ERRORS:
                raise OSError(number, os.strerror(number), os.fspath(path)) from error
        elif isinstance(behind, RuntimeError) and re.search(
            r"allocate memory|out of memory|bad_alloc", str(behind), re.IGNORECASE
        ):
            raise MemoryError(f"while reading {os.fspath(path)!r}: {str(behind).splitlines()[0]}") from error
        behind = behind.__cause__ or behind.__context__


def read_text(path: str | os.PathLike, what: str = "file") -> str:
    """Return the text of a UTF-8 file, without a byte order mark; raises InputFileError where there is none."""
    found = existing_file(path, what)
    try:
        return found.read_text(encoding="utf-8-sig")
    except IsADirectoryError as error:
        raise InputFileError(f"{what} {str(path)!r} is a folder; expected a file", hint="name the file in it") from error
    except UnicodeDecodeError as error:
        raise InputFileError(
            f"{what} {str(path)!r} is not UTF-8 text (byte {error.object[error.start]:#04x} at position {error.start})",
            hint="save it as plain text in UTF-8; spreadsheet programs ask for the encoding when they export",
        ) from error


def knows_locks(path: Path) -> bool:
    """Say whether the file system of a file knows flock."""
    with open(path, encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


def lock_folder(folder: str | os.PathLike, token: str = "") -> IO[str]:
    """Lock a folder against other processes; the lock ends when the returned file is closed or the process ends, however it ends.

    The file tells the holder in its first line and ``token`` in its second one; tokens of killed holders are kept below.

    Raises InputFileError when another process holds the lock; warns where the file system knows no locks.
    """
    path = Path(folder) / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    held = open(path, "a+", encoding="utf-8")  # noqa: SIM115
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        held.seek(0)
        holder = held.readline().strip() or "another process"
        held.close()
        raise InputFileError(
            f"folder {str(folder)!r} is being worked on by {holder}",
            hint="wait until that run ends, or stop it; then start again",
        ) from error
    except OSError as error:
        warnings.warn(f"{str(folder)!r} cannot be locked ({error.strerror}); start no second run in it", stacklevel=2)
    held.seek(0)
    tokens = [token, *filter(None, held.read().splitlines()[1:])]
    held.truncate(0)
    held.write("\n".join([f"process {os.getpid()} on {socket.gethostname()}", *tokens, ""]))
    held.flush()
    return held
