"""What a study's folder holds that nothing needs any more, and how large its parts are."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import InputFileError
from ..base.records import content_digest
from .status import COMPLETE, FAILED, PRUNED, trials_of

IDLE_SECONDS = 3600.0
"""Time without a change after which a half-written file belongs to a process that is gone."""
UNFINISHED = ".unfinished-"
SETTINGS_NAME = re.compile(r"(?P<rule>[a-z_]+)-(?P<digest>[0-9a-f]{16})\.json")


@dataclass(frozen=True)
class Unneeded:
    """A file or folder that may go.

    Parameters
    ----------
    path
        Where it is.
    why
        What it is, and why nothing needs it.
    size
        Its bytes.
    """

    path: Path
    why: str
    size: int


@dataclass(frozen=True)
class Sizes:
    """Bytes of a study's files, by what they are for.

    Parameters
    ----------
    folder
        The study's folder of results.
    results
        Finished files, settings and benchmarks.
    scratch
        Checkpoints, journals and leases of trainings and searches.
    logs
        Logs of the study's programs.
    """

    folder: str
    results: int
    scratch: int
    logs: int


def study_folder(name: str | os.PathLike) -> Path:
    """Return the folder of results of a study that is named by it or by the study's name; raises InputFileError where none is."""
    for folder in (Path("results") / name, Path(name).resolve()):
        if is_study(folder):
            return folder
    raise InputFileError(
        f"{os.fspath(name)!r} is no folder of a study's results",
        hint="name the study or its folder, e.g. results/demo, from the folder in which Snakemake runs",
    )


def is_study(folder: Path) -> bool:
    """Say whether a folder holds a study's results: it lies in a folder ``results``, and Snakemake has run there."""
    marks = (".lock", "settings", "scratch", "benchmarks", "report")
    return folder.resolve().parent.name == "results" and any((folder / name).exists() for name in marks)


def sizes(folder: Path) -> Sizes:
    """Return how large the parts of a study are."""
    scratch = size_of(folder / "scratch")
    return Sizes(str(folder), size_of(folder) - scratch, scratch, size_of(logs_of(folder)))


def logs_of(folder: Path) -> Path:
    """Return the folder of a study's logs, which lies beside that of all results.

    >>> str(logs_of(Path("results/demo")))
    'logs/demo'
    """
    return folder.parent.parent / "logs" / folder.name


def size_of(path: Path) -> int:
    """Return the bytes of a file or of all files in a folder; of a link its own, and 0 where nothing is."""
    with contextlib.suppress(FileNotFoundError):
        found = path.lstat()
        if not path.is_dir() or path.is_symlink():
            return found.st_size
        with os.scandir(path) as entries:
            return sum(size_of(Path(entry.path)) for entry in entries)
    return 0


def unneeded(folder: Path, *, logs: bool = False, now: float | None = None) -> list[Unneeded]:
    """Return what nothing needs any more; results, journals and what can be resumed are never among it.

    Parameters
    ----------
    folder
        The study's folder of results.
    logs
        Whether logs count.
    now
        The present, s since 1970; the clock's if None.
    """
    found = [
        *_half_written(folder, time.time() if now is None else now),
        *_checkpoints_of_trials(folder / "scratch"),
        *_checkpoints_of_trainings(folder),
        *_settings(folder),
    ]
    if logs:
        found += _logs(folder)
    return found


def free(folder: Path, *, logs: bool = False) -> list[Unneeded]:
    """Delete what nothing needs any more and return it; no run can begin meanwhile, and deleting is not undone.

    Raises
    ------
    InputFileError
        A run is at work, or was killed and may have left jobs behind.
    """
    with locked(folder):
        items = unneeded(folder, logs=logs)
        _delete(items)
    return items


def discard_finished_trainings(folder: Path) -> None:
    """Delete the checkpoints of trainings whose model is there, at the end of the run that holds the study's lock.

    The programs leave them: until Snakemake has taken a model for complete, it may delete it and train again.
    """
    _delete(_checkpoints_of_trainings(folder))


def _delete(items: Iterable[Unneeded]) -> None:
    for item in items:
        if item.path.is_dir() and not item.path.is_symlink():
            shutil.rmtree(item.path)
        else:
            item.path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep runs of a study out; raises InputFileError where one is at work or was killed (calandria.cluster.runs)."""
    with open(folder / ".lock", "a+", encoding="utf-8") as lock:
        busy = False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy = True
        except OSError:  # the file system knows no locks; the file's content tells
            pass
        lock.seek(0)
        holder = lock.readline().strip()
        if holder:
            raise InputFileError(
                f"study {str(folder)!r} is being worked on by {holder or 'another process'}, or that run was killed and its jobs may "
                "still be at work",
                hint="wait until the run ends; after a kill give the study's snakemake command again, which ends what is left",
            )
        if busy:
            raise InputFileError(f"study {str(folder)!r} is being worked on by another process", hint="wait until it ends")
        yield


def _half_written(folder: Path, now: float) -> Iterator[Unneeded]:
    for place, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(place) / name
            if name.startswith(UNFINISHED) and now - _last_change(path) > IDLE_SECONDS:
                yield Unneeded(path, "half written by a process that is gone", size_of(path))
        folders[:] = [name for name in folders if not name.startswith(UNFINISHED)]


def _last_change(path: Path) -> float:
    times = [path.lstat().st_mtime]
    if path.is_dir() and not path.is_symlink():
        times += [inner.lstat().st_mtime for inner in path.rglob("*")]
    return max(times)


def _checkpoints_of_trials(scratch: Path) -> Iterator[Unneeded]:
    """Yield checkpoints of trials that the journal (or database) says are finished; a trial that is not recorded keeps its own."""
    for definition in sorted(scratch.glob("**/search.json")):
        for place in sorted((definition.parent / "checkpoints").glob("*")):
            try:
                trials = trials_of(definition.parent, place.name)
            except InputFileError:  # an unreadable definition or journal proves nothing
                continue
            finished = {trial.number for trial in trials if trial.state in (COMPLETE, PRUNED, FAILED)}
            for path in sorted(place.glob("trial_*.pt")):
                number = path.stem.removeprefix("trial_")
                if number.isdigit() and int(number) in finished:
                    yield Unneeded(path, "checkpoint of a finished trial", path.stat().st_size)


def _checkpoints_of_trainings(folder: Path) -> Iterator[Unneeded]:
    """Yield scratch folders of trainings whose model is there and younger than all in them."""
    for place in sorted((folder / "scratch").glob("train_*")):
        model, size = model_of(folder, place.name), size_of(place)
        if size and model is not None and model.is_file() and _last_change(place) <= model.stat().st_mtime:
            yield Unneeded(place, f"checkpoint of the finished training of {model.relative_to(folder)}", size)


def model_of(folder: Path, scratch: str) -> Path | None:
    """Return the model that the training with this scratch folder writes (rules/surrogate.smk, rules/autoencoder.smk).

    >>> str(model_of(Path("r"), "train_surrogate_conv1d_lags")), str(model_of(Path("r"), "train_autoencoder_a_b_w4_s2"))
    ('r/surrogate/conv1d_lags.pt', 'r/autoencoder/a_b/w4_s2/model.pt')
    """
    if match := re.fullmatch(r"train_surrogate_(\w+)", scratch):
        return folder / "surrogate" / f"{match[1]}.pt"
    if match := re.fullmatch(r"train_autoencoder_(\w+)_(w\d+_s\d+)", scratch):
        return folder / "autoencoder" / match[1] / match[2] / "model.pt"
    return None


def _settings(folder: Path) -> Iterator[Unneeded]:
    """Yield files of rules' settings that the records of no result name; of rules without records, and where one is unreadable, none."""
    named: dict[str, set[str]] = {}
    try:
        for made in _records(folder):
            content = {**(made.get("settings") or {}), **{key: made.get(key) for key in ("stage", "rule", "version")}}
            named.setdefault(str(made.get("rule")), set()).add(content_digest(content)[:16])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return
    for path in sorted((folder / "settings").glob("*.json")):
        match = SETTINGS_NAME.fullmatch(path.name)
        if match and match["rule"] in named and match["digest"] not in named[match["rule"]]:
            yield Unneeded(path, "settings of a rule that no result was made with", path.stat().st_size)


def _records(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield how each result says it was made: records beside tables, in JSON, labelled volumes and particle files."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if parts[0] in ("settings", "scratch", "benchmarks") or any(part.startswith(UNFINISHED) for part in parts):
            continue
        if not path.is_file():
            continue
        facts: Any = None
        if path.suffix == ".json":
            facts = json.loads(path.read_text(encoding="utf-8"))
        elif path.name.endswith(".zarr.zip"):
            with zipfile.ZipFile(path) as members:
                facts = json.loads(members.read("zarr.json")).get("attributes")
        elif path.suffix == ".h5":
            import h5py

            with h5py.File(path, "r") as file:
                text = file.attrs.get("provenance")
                facts = {"provenance": json.loads(text)} if isinstance(text, str) else None
        if isinstance(facts, dict):
            for made in (facts.get("provenance"), facts):
                if isinstance(made, dict) and {"stage", "rule", "version", "settings"} <= made.keys():
                    yield made


def _logs(folder: Path) -> Iterator[Unneeded]:
    places = [logs_of(folder), *(path.parent / "logs" for path in (folder / "scratch").glob("**/search.json"))]
    for place in places:
        for path in sorted(place.rglob("*")):
            if path.is_file():
                yield Unneeded(path, "log", path.stat().st_size)
