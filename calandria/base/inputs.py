"""Files that users bring: known by size and time without opening them, and by content where these changed.

A rule that reads such files depends on a token, not on their times: Snakemake runs a job again for a newer input only, and a file
that is replaced by an older one would go unnoticed. The token is made of sizes and times when the files are first read; it changes
only when the content does.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .errors import InputFileError
from .records import content_digest, file_digest, read_json, write_json


def stamp(path: str | os.PathLike) -> list[int]:
    """Return size (bytes) and time of modification (ns) of a file; of a folder, the number of its files and the latest time."""
    facts = Path(path).stat()
    if not Path(path).is_dir():
        return [facts.st_size, facts.st_mtime_ns]
    files = [file.stat() for file in Path(path).rglob("*") if file.is_file()]
    return [sum(file.st_size for file in files), max((file.st_mtime_ns for file in files), default=facts.st_mtime_ns)]


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
    stamps = {os.fspath(file): [*stamp(file), digests.get(role)] for role, file in files.items()}
    write_json(path, {"token": token or new_token(stamps), "files": stamps})


def new_token(files: Iterable[str]) -> str:
    """Return the token of files that were never read, made of their names, sizes and times."""
    return content_digest({name: stamp(name) for name in files})[:16]


def input_token(files: Iterable[str], record: str | os.PathLike) -> str:
    """Return the token of some files: that of the last job if their content is the same, else a new one.

    A file is opened only if its size or time differs from what the last job recorded.

    Parameters
    ----------
    files
        Paths; those that are missing are left out, and the program that reads them says so.
    record
        File of :func:`write_inputs`; it may be missing.
    """
    there = sorted({os.fspath(file) for file in files if Path(file).exists()})
    known = _recorded(record)
    if known is None or sorted(known["files"]) != there:
        return new_token(there)
    for name, (size, time_ns, digest) in known["files"].items():
        found = stamp(name)
        if found != [size, time_ns] and (found[0] != size or digest is None or file_digest(name) != digest):
            return new_token(there)
    return str(known["token"])


def _recorded(record: str | os.PathLike) -> dict[str, Any] | None:
    if not Path(record).exists():
        return None
    try:
        content = read_json(record)
    except InputFileError:
        return None
    return content if isinstance(content, dict) and {"token", "files"} <= content.keys() else None
