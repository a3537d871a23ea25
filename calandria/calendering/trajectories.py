"""Joins the texts that load_film and release_film leave: frames and press tables of one run."""

import gzip
import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from typing import IO, cast

from ..base.errors import InputFileError

HEAD = re.compile(rb"^(?:ITEM: UNITS\n[^\n]*\n)?(?:ITEM: TIME\n[^\n]*\n)?ITEM: TIMESTEP\n(\d+)\n", re.MULTILINE)
TABLE_OF_TURNS = "turns.json"
FILM = "film.data"
"""The dried film beside the restarts: a run to a degree below all of them is loaded from it."""


def packed(content: bytes) -> bytes:
    """Return gzip of ``content`` without a clock time, so that equal work gives equal files."""
    return gzip.compress(content, compresslevel=6, mtime=0)


def frame_texts(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield step and text of each frame of a dump of ours."""
    heads = list(HEAD.finditer(content))
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        yield int(head[1]), content[head.start() : following.start() if following else None]


def joined_frames(loading: bytes, release: bytes, turn_step: int) -> bytes:
    """Return the loading frames up to the turn and the release frames after it."""
    return b"".join(
        [text for step, text in frame_texts(loading) if step <= turn_step]
        + [text for step, text in frame_texts(release) if step > turn_step]
    )


def joined_tables(loading: str, release: str, turn_step: int) -> str:
    """Return the press table of a run: the rows of loading up to the turn, then those of the release; each step once.

    >>> joined_tables("step,z\\n0,5\\n1,4\\n2,3\\n", "step,z\\n1,4\\n2,5\\n", 1)
    'step,z\\n0,5\\n1,4\\n2,5\\n'
    """
    title, *rows = loading.splitlines()
    before = {int(row.split(",")[0]): row for row in rows}
    after = {int(row.split(",")[0]): row for row in release.splitlines()[1:]}
    kept = [row for step, row in before.items() if step <= turn_step] + [row for step, row in after.items() if step > turn_step]
    return "\n".join([title, *kept, ""])


def tar_of(members: Mapping[str, bytes]) -> bytes:
    """Return a tar file without owners and clock times."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(members.items()):
            facts = tarfile.TarInfo(name)
            facts.size = len(content)
            tar.addfile(facts, io.BytesIO(content))
    return stream.getvalue()


def read_turns(content: bytes, where: str) -> tuple[dict, dict[str, bytes]]:
    """Return the table of turns and all members of a tar file of load_film."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            members = {member.name: cast(IO[bytes], tar.extractfile(member)).read() for member in tar if member.isfile()}
        return json.loads(members[TABLE_OF_TURNS]), members
    except (tarfile.TarError, KeyError, ValueError) as error:
        raise InputFileError(
            f"{where} holds no restarts ({type(error).__name__}: {error})", hint="make it by calendering.load_film"
        ) from error
