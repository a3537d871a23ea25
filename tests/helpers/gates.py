"""Programs of a study that wait at their start until a test lets them go, wherever they run, and write down when they worked.

``gated(folder, programs)`` returns the environment for Snakemake; Python reads ``sitecustomize`` from there in every process.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

HOOK = """
import atexit, os, sys, time
from pathlib import Path

words = sys.orig_argv
program = words[words.index("-m") + 1].rpartition(".")[2] if "-m" in words[:-1] else ""
if program in {programs!r}:
    folder = Path({folder!r})
    output = next((words[i + 1] for i, word in enumerate(words[:-1]) if word == "--output"), "?")

    def note(event):
        with open(folder / "notes", "a") as notes:
            notes.write(f"{{time.time()}} {{os.getpid()}} {{event}} {{program}} {{output}}\\n")

    def alive(pid):
        try:
            return Path(f"/proc/{{pid}}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            return False

    for line in (folder / "notes").read_text().splitlines():
        _, pid, event, *rest = line.split(maxsplit=4)
        if event == "begin" and rest == [program, output] and alive(pid):
            note("overlap")
    note("begin")
    atexit.register(note, "end")
    while not (folder / f"open_{{program}}").exists():
        time.sleep(0.1)
"""


def gated(folder: Path, programs: Sequence[str]) -> dict[str, str]:
    """Close gates before programs of a study, named as their rules; return the environment in which they are closed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "notes").touch()
    (folder / "sitecustomize.py").write_text(HOOK.format(programs=tuple(programs), folder=str(folder)))
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}


def open_gate(folder: Path, program: str) -> None:
    """Let a program go, now and from now on."""
    (folder / f"open_{program}").touch()


def notes(folder: Path, program: str) -> list[tuple[float, int, str, str]]:
    """Return time, process, event and output of a program: ``begin``, ``end``, or ``overlap`` where one begins beside another."""
    rows = [line.split(maxsplit=4) for line in (folder / "notes").read_text().splitlines()]
    return [(float(row[0]), int(row[1]), row[2], row[4]) for row in rows if row[3] == program]


def begun(folder: Path, program: str, count: int, patience_s: float = 300.0) -> list[int]:
    """Wait until a program has begun so many times; return its processes."""
    deadline = time.monotonic() + patience_s
    while len(found := [pid for _, pid, event, _ in notes(folder, program) if event == "begin"]) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{program} began {len(found)} times, expected {count}")
        time.sleep(0.1)
    return found
