"""What the machine, or the part of it that a job was given, has left."""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path


def available_memory(root: str | os.PathLike = "/", *, own: bool = True) -> int | None:
    """Return how much memory this process may still take, in bytes; None where nothing tells.

    It is the least of what the machine has available, what the control groups of this process (of SLURM, of a container) leave, and
    the process's own limit of addresses (``ulimit -v``), unless ``own`` is false: all processes here share the others.

    Parameters
    ----------
    root
        Folder in which ``proc`` and ``sys`` lie.
    """
    top = Path(root)
    found = [*_machine(top), *_groups(top), *(_limit(top) if own else ())]
    return max(0, min(found)) if found else None


def _machine(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _groups(root: Path) -> Iterator[int]:
    """Yield what each control group of this process, and each above it, leaves; pages of files that can be dropped are free."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, limit, used, dropped = root / "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            limit, used, dropped = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            folder = top.joinpath(*parts[:depth])
            most, now = _number(folder / limit), _number(folder / used)
            if most is None or now is None:
                continue
            statistics = dict(line.split(" ", 1) for line in _lines(folder / "memory.stat") if " " in line)
            yield most - now + int(statistics.get(dropped, 0))


def _limit(root: Path) -> Iterator[int]:
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = next(iter(_lines(root / "proc/self/statm")), "").split()
    if most != resource.RLIM_INFINITY and pages:
        yield most - int(pages[0]) * resource.getpagesize()


def _lines(path: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    return []


def _number(path: Path) -> int | None:
    """Return the number in a file; None where it is missing or says ``max``."""
    words = next(iter(_lines(path)), "")
    return int(words) if words.isdigit() else None
