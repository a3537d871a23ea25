"""Files that users bring: known by size and time without opening them, and by content where these changed.

A rule that reads such files depends on a token, not on their times: Snakemake runs a job again for a newer input only, and a file
that is replaced by an older one would go unnoticed. The token is made of sizes and times when the files are first read; it changes
only when the content does.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from .errors import InputFileError
from .records import content_digest, file_digest, read_json, write_json


def stamp(path: str | os.PathLike) -> list[int]:
    """Return size (bytes) and time of modification (ns) of a file; of a folder, the bytes of its files and a digest of their facts."""
    facts = os.stat(path)  # noqa: PTH116 a study has many thousands of files
    if not stat.S_ISDIR(facts.st_mode):
        return [facts.st_size, facts.st_mtime_ns]
    files = sorted((str(file.relative_to(path)), file.stat()) for file in Path(path).rglob("*") if file.is_file())
    digest = content_digest([[name, file.st_size, file.st_mtime_ns] for name, file in files])
    return [sum(file.st_size for _, file in files), int(digest[:12], 16)]


def write_inputs(
    path: str | os.PathLike, token: str | None, files: Mapping[str, str | os.PathLike], digests: Mapping[str, str]
) -> None:
    """Write which files a job read.

    Parameters
    ----------
    path
        JSON file.
    token
        Token that the job was planned with; None where nobody planned it.
    files, digests
        Path and SHA-256 of each file by its role; a file that was there and not read has no digest.
    """
    stamps = {os.fspath(file): stamp(file) for file in files.values()}
    read = {os.fspath(file): [*stamps[os.fspath(file)], digests.get(role)] for role, file in files.items()}
    write_json(path, {"token": token or _token(stamps), "files": read})


def _token(stamps: Mapping[str, list[int]]) -> str:
    """Return the token of files that were never read, made of their names, sizes and times."""
    return content_digest(dict(stamps))[:16]


def _stamps(files: Iterable[str | os.PathLike]) -> dict[str, list[int]]:
    """Return the stamps of the files that are there; each is looked at once."""
    found = {}
    for file in map(str, files):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found[file] = stamp(file)
    return found


def input_token(
    files: Iterable[str], record: str | os.PathLike, seen: Callable[[dict[str, Any]], object] = lambda content: None
) -> str:
    """Return the token of some files: that of the last job if their content is the same, else a new one.

    A file is opened only if its size or time differs from what the last job recorded.

    Parameters
    ----------
    files
        Paths; those that are missing are left out, and the program that reads them says so.
    record
        File of :func:`write_inputs`; it may be missing.
    seen
        Is given what the record should hold, where it is missing or only times differ from it; the caller may write it, so that
        files are not read again at the next planning.
    """
    there = _stamps(files)
    known = _recorded(record)
    if known is None:
        seen({"token": _token(there), "files": {name: [*found, None] for name, found in there.items()}})
        return _token(there)
    if known["files"].keys() != there.keys():
        return _token(there)
    for name, (size, time_ns, digest) in known["files"].items():
        found = there[name]
        if found != [size, time_ns] and (found[0] != size or digest is None or file_digest(name) != digest):
            return _token(there)
    fresh = {name: [*there[name], digest] for name, (_, _, digest) in known["files"].items()}
    if fresh != known["files"]:
        seen({"token": known["token"], "files": fresh})
    return str(known["token"])


def _recorded(record: str | os.PathLike) -> dict[str, Any] | None:
    if not Path(record).exists():
        return None
    try:
        content = read_json(record)
    except InputFileError:
        return None
    return content if isinstance(content, dict) and {"token", "files"} <= content.keys() else None
