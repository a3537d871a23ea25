"""How every program starts and ends: the same help, the same two error lines, the same exit codes."""

import argparse
import contextlib
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from ..base.errors import CalandriaError, SettingsError, report_error
from ..base.processes import MPI_RANKS, end_with_workflow
from ..cluster.images import check_code

RIGHTS = "check who may read or write there"
OSERROR_HINTS = {
    errno.ENOENT: "check the name, and that it is given relative to the folder in which the command runs",
    errno.ENOTDIR: "check the name: something on the way to it is no folder",
    errno.EISDIR: "a folder is there; name a file",
    errno.EBUSY: "a folder is there, or the file is in use; name another file",
    errno.EACCES: RIGHTS,
    errno.EPERM: RIGHTS,
    errno.EROFS: "the file system is read-only; name a place that can be written",
    errno.ENOSPC: "make room on that file system, then give the same command again; finished results are kept",
    errno.EEXIST: "check the name: something on the way to it is no folder",
    errno.ENAMETOOLONG: "a name has at most 255 bytes",
    errno.ELOOP: "a link leads back to itself; name what it should lead to",
    errno.EDQUOT: "your quota on that file system is used up; make room, then give the same command again",
    errno.EMFILE: "this process may open no more files: raise the limit (ulimit -n 4096), then give the same command again",
    errno.ENFILE: "the machine may open no more files: end other programs there, or ask its administrator to raise fs.file-max",
    errno.ENOMEM: "the machine has no memory left: run fewer jobs at once, or ask for more (mem_mb), then give the same command again",
    errno.EIO: "the disk or file server failed to read or write, and the file itself may be whole: look at the system's log (dmesg), then try again",
    **dict.fromkeys(
        (
            errno.ESTALE,
            errno.EREMOTEIO,
            errno.ETIMEDOUT,
            errno.ENOTCONN,
            errno.EHOSTDOWN,
            errno.EHOSTUNREACH,
            errno.ENETDOWN,
            errno.ENETUNREACH,
            errno.ECONNRESET,
        ),
        "the file server does not answer or has lost the file's handle: wait until it is back, then give the same command again",
    ),
    **dict.fromkeys((errno.ENODEV, errno.ENXIO), "the device is gone: check that its file system is mounted"),
    **dict.fromkeys(
        (errno.EAGAIN, errno.EINTR, errno.ETXTBSY, errno.ENOLCK),
        "another program or a limit of the machine is in the way for now: try again",
    ),
}
MEMORY_HINT = "run fewer jobs at once, ask for more memory (mem_mb, or --mem of a job), or give the solver more ranks on more machines; finished results are kept"


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the paragraphs of a description and shows the defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, "", False) else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Tells a wrong option in the two lines of every error, not below a page of usage."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2; of the ranks of an MPI launch, the first one speaks."""
        if any(os.environ.get(name, "0") != "0" for name in MPI_RANKS):
            self.exit(2)
        self.exit(2, f"error: {message}\nhint: all options: {self.prog} --help\n")


def program(description: str, name: str | None = None) -> argparse.ArgumentParser:
    """Return a parser whose help keeps the paragraphs of ``description`` and shows defaults."""
    return Parser(prog=name, description=description, formatter_class=HelpFormatter, allow_abbrev=False)


def run(main: Callable[[Sequence[str] | None], None], arguments: Sequence[str] | None = None) -> int:
    """Run ``main``; a mistake of the user ends in two lines on stderr and exit code 2, a stop by a signal in 75.

    A program ends with ``if __name__ == "__main__": sys.exit(run(main))``; tests call ``main([...])`` and see the exception.
    """
    end_with_workflow()
    try:
        check_code()
        main(arguments)
        sys.stdout.flush()
    except CalandriaError as error:
        report_error(f"error: {error.message}\nhint: {error.hint}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; finished results are kept\n")
        return 130
    except BrokenPipeError:  # the reader has seen enough, as `head` does; Python still flushes at its end
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in OSERROR_HINTS:
            raise
        where = f" ({error.filename!r})" if error.filename else ""
        report_error(f"error: {error.strerror}{where}\nhint: {OSERROR_HINTS[error.errno]}\n")
        return 2
    except MemoryError as error:
        words = " ".join(str(error).split())
        report_error(f"error: out of memory{': ' if words else ''}{words}\nhint: {MEMORY_HINT}\n")
        return 2
    return 0


def failures(folder: str | os.PathLike, since: float) -> list[str]:
    """Return what the programs whose logs lie in ``folder`` said of their failures after a time, each with its log's path."""
    told = []
    for path in sorted(Path(folder).rglob("*.log")):
        if path.stat().st_mtime < since:
            continue
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        where = next((number for number, line in enumerate(lines) if line.startswith("error: ")), None)
        if where is not None:
            told.append("\n".join([f"in {path}:", *lines[where : where + 2]]))
        elif any(line.startswith("Traceback ") for line in lines):
            told.append(f"in {path}:\n{lines[-1]}")
    return told


def prefer_own_programs() -> None:
    """Put the folder of the running Python first on PATH, so that children find its python and mpiexec without an activated environment."""
    own = str(Path(sys.executable).parent)
    found = os.environ.get("PATH", "")
    if found.split(os.pathsep)[0] != own:
        os.environ["PATH"] = f"{own}{os.pathsep}{found}"


def named_files(words: Sequence[str], what: str = "file") -> dict[str, Path]:
    """Return the paths of ``NAME=FILE`` words by name, in their order.

    >>> named_files(["film_1=a.zarr.zip"])["film_1"].name
    'a.zarr.zip'
    """
    found: dict[str, Path] = {}
    for word in words:
        name, sign, path = word.partition("=")
        if not (name and sign and path):
            raise SettingsError(f"{word!r} does not name a {what}", hint="write NAME=FILE, e.g. film_1=film_1.zarr.zip")
        if name in found:
            raise SettingsError(f"the {what} {name!r} is named twice", hint=f"give each {what} a name of its own")
        found[name] = Path(path)
    return found
