"""How far searches are, from their files alone: nothing is written, no lock is taken, a torn journal is read as far as it is whole."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from ..base.errors import CalandriaError, InputFileError
from ..base.records import read_json
from .locks import Owner

RUNNING, COMPLETE, PRUNED, FAILED, WAITING = range(5)
CREATE_STUDY, DELETE_STUDY, SET_STUDY_ATTRIBUTE, CREATE_TRIAL, SET_STATE, SET_TRIAL_ATTRIBUTE = 0, 1, 2, 4, 6, 8
"""Operations and states of Optuna's journal; a test reads with them what Optuna wrote."""


@dataclass
class TrialRecord:
    """What a journal tells of a trial; times in s since 1970."""

    number: int
    state: int = RUNNING
    value: float | None = None
    started: float | None = None
    ended: float | None = None
    attributes: dict[str, Any] = field(default_factory=dict)

    def spent(self, now: float, owner: Owner | None) -> float:
        """Return the worker's time that went into the trial, s; of attempts that were killed only the last one is known."""
        told = float(self.attributes.get("spent_s", 0.0))
        if self.state in (RUNNING, WAITING) and owner is not None and owner.since:
            return told + max(0.0, now - owner.since)
        return told


@dataclass(frozen=True)
class StudyStatus:
    """How far a study is; ``stale`` trials have lost their worker and wait for another one."""

    folder: str
    study: str
    budget: int
    complete: int
    pruned: int
    running: int
    stale: int
    failed: int
    best_value: float | None
    best_trial: int | None
    worker_hours: float
    gpu_hours: float
    left_s: float | None
    workers: list[str]
    last_failure: str | None
    remark: str | None

    @property
    def is_finished(self) -> bool:
        """Whether no trial is left."""
        return self.complete + self.pruned + self.failed >= self.budget


def read_journal(path: Path, study_name: str) -> tuple[list[TrialRecord], dict[str, Any], int]:
    """Return the trials and attributes of a study in a journal, and the number of whole lines that cannot be read."""
    studies: dict[int, tuple[str, list[TrialRecord], dict[str, Any]]] = {}
    trials: list[TrialRecord] = []
    n_studies = n_unreadable = 0
    for line in _whole_lines(path):
        try:
            entry = json.loads(line)
            operation = entry["op_code"]
            if operation == CREATE_STUDY:
                if entry["study_name"] not in [name for name, _, _ in studies.values()]:
                    studies[n_studies] = (entry["study_name"], [], {})
                    n_studies += 1
            elif operation == DELETE_STUDY:
                studies.pop(entry["study_id"], None)
            elif operation == SET_STUDY_ATTRIBUTE:
                studies[entry["study_id"]][2].update(entry["user_attr"])
            elif operation == CREATE_TRIAL:
                if entry["study_id"] in studies:
                    members = studies[entry["study_id"]][1]
                    members.append(
                        TrialRecord(len(members), entry.get("state", RUNNING), started=_seconds(entry["datetime_start"]))
                    )
                    trials.append(members[-1])
            elif operation in (SET_STATE, SET_TRIAL_ATTRIBUTE):
                trial = trials[entry["trial_id"]]
                if trial.state in (RUNNING, WAITING):  # a finished trial cannot be changed
                    _apply(trial, entry)
        except (ValueError, KeyError, IndexError, TypeError):
            n_unreadable += 1
    for name, members, attributes in studies.values():
        if name == study_name:
            return members, attributes, n_unreadable
    return [], {}, n_unreadable


def _apply(trial: TrialRecord, entry: Mapping[str, Any]) -> None:
    if entry["op_code"] == SET_TRIAL_ATTRIBUTE:
        trial.attributes.update(entry["user_attr"])
        return
    trial.state = entry["state"]
    trial.value = (entry.get("values") or [None])[0]
    trial.ended = _seconds(entry.get("datetime_complete"))


def _whole_lines(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb") as stream:
            for line in stream:
                if line.endswith(b"\n"):
                    yield line
    except FileNotFoundError:
        return


def _seconds(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()


def _read_database(definition: Mapping[str, Any]) -> tuple[list[TrialRecord], dict[str, Any], str | None]:
    try:
        import optuna

        from .study import open_database
    except ImportError:
        return [], {}, "trials are in a database, and Optuna, which reads it, is not installed here"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        storage = open_database(definition["search"]["storage"], read_only=True)
        study_id = storage.get_study_id_from_name(definition["study_name"])
        found = storage.get_all_trials(study_id, deepcopy=False)
        attributes = storage.get_study_user_attrs(study_id)
    except KeyError:
        return [], {}, None
    except CalandriaError as error:
        return [], {}, error.message
    except Exception as error:  # drivers raise errors of their own kinds
        return [], {}, f"the database cannot be read: {type(error).__name__}"
    states = {"RUNNING": RUNNING, "COMPLETE": COMPLETE, "PRUNED": PRUNED, "FAIL": FAILED, "WAITING": WAITING}
    trials = [
        TrialRecord(
            trial.number,
            states[trial.state.name],
            trial.values[0] if trial.values else None,
            trial.datetime_start.timestamp() if trial.datetime_start else None,
            trial.datetime_complete.timestamp() if trial.datetime_complete else None,
            dict(trial.user_attrs),
        )
        for trial in found
    ]
    return trials, attributes, None


def _living_owner(lease: Path, stale_seconds: float, now: float) -> Owner | None:
    """Return who holds a lease, None if nobody does or the holder gave no sign of life for too long."""
    try:
        with open(lease, encoding="utf-8", errors="replace") as stream:
            owner, touched = Owner.parsed(stream.read()), os.fstat(stream.fileno()).st_mtime
    except OSError:
        return None
    if owner is None or owner.is_dead() or now - touched > stale_seconds:
        return None
    return owner


def study_status(folder: Path, now: float | None = None) -> StudyStatus:
    """Return how far the study of a folder is.

    Parameters
    ----------
    folder
        The study's folder, which holds ``search.json``.
    now
        The present, s since 1970; the clock's if None.

    Raises
    ------
    InputFileError
        If there is no readable definition of a search.
    """
    now = time.time() if now is None else now
    definition = read_json(folder / "search.json")
    try:
        search, name, lease_seconds = definition["search"], definition["study_name"], float(definition["search"]["lease_seconds"])
        budget, is_database, maximize = (
            int(search["n_trials"]),
            search.get("storage") is not None,
            definition["direction"] == "maximize",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputFileError(
            f"{str(folder / 'search.json')!r} is not the definition of a search ({error})", hint="name the folder of a search"
        ) from error
    remark: str | None
    if is_database:
        trials, attributes, remark = _read_database(definition)
    else:
        trials, attributes, n_unreadable = read_journal(folder / "journal.log", name)
        remark = f"{n_unreadable} lines of the journal cannot be read" if n_unreadable else None
    if search.get("sampler") == "grid":
        budget = min(budget, int(attributes.get("budget", budget)))
    leases = {
        trial.number: _living_owner(folder / "leases" / name / f"trial_{trial.number}.lease", lease_seconds, now)
        for trial in trials
        if trial.state in (RUNNING, WAITING)
    }
    count = [sum(trial.state == state for trial in trials) for state in range(5)]
    complete = [trial for trial in trials if trial.state == COMPLETE and trial.value is not None]
    best = (max if maximize else min)(complete, key=lambda trial: cast(float, trial.value), default=None)
    failed = [trial for trial in trials if trial.state == FAILED]
    seconds = {trial.number: trial.spent(now, leases.get(trial.number)) for trial in trials}
    working = [owner for owner in leases.values() if owner is not None]
    gpus = _gpus_per_worker(folder, definition.get("device", "cpu"))
    return StudyStatus(
        folder=str(folder),
        study=name,
        budget=budget,
        complete=count[COMPLETE],
        pruned=count[PRUNED],
        running=len(working),
        stale=len(leases) - len(working),
        failed=count[FAILED],
        best_value=best.value if best else None,
        best_trial=best.number if best else None,
        worker_hours=round(sum(seconds.values()) / 3600, 4),
        gpu_hours=round(gpus * sum(seconds.values()) / 3600, 4),
        left_s=_left(trials, seconds, len(working), budget),
        workers=sorted({owner.name for owner in working}),
        last_failure=f"trial {failed[-1].number}: {failed[-1].attributes.get('reason', 'no reason recorded')}"
        if failed
        else None,
        remark=remark,
    )


def trials_of(folder: Path, study_name: str) -> list[TrialRecord]:
    """Return the recorded trials of one of the studies that a search's folder has had, none where its records cannot be read as a whole."""
    definition = read_json(folder / "search.json")
    try:
        is_database = definition["search"].get("storage") is not None
    except (KeyError, TypeError, AttributeError) as error:
        raise InputFileError(
            f"{str(folder / 'search.json')!r} is not the definition of a search", hint="name the folder of a search"
        ) from error
    if is_database:
        trials, _, remark = _read_database({**definition, "study_name": study_name})
        return [] if remark else trials
    trials, _, n_unreadable = read_journal(folder / "journal.log", study_name)
    return [] if n_unreadable else trials


def _gpus_per_worker(folder: Path, device: str) -> int:
    """Return the GPUs that each worker holds: as the array asked for them, else one if the device is none of CPU."""
    try:
        return int(json.loads((folder / "cluster" / "array.json").read_text(encoding="utf-8"))["gpus_per_worker"])
    except (OSError, ValueError, KeyError, TypeError):
        return int(device != "cpu")


def _left(trials: Sequence[TrialRecord], seconds: Mapping[int, float], n_working: int, budget: int) -> float | None:
    """Return the time that the remaining trials take at the mean of the finished ones, s; None where nothing tells."""
    finished = [trial for trial in trials if trial.state in (COMPLETE, PRUNED, FAILED)]
    ended = [seconds[trial.number] for trial in finished if "spent_s" in trial.attributes]
    n_left = budget - len(finished)
    if n_left <= 0:
        return 0.0
    if not ended or not n_working:
        return None
    each = sum(ended) / len(ended)
    begun = sum(min(each, seconds[trial.number]) for trial in trials if trial.state == RUNNING)
    return round(max(0.0, n_left * each - begun) / min(n_working, n_left), 1)


def find_studies(places: Sequence[Path]) -> list[Path]:
    """Return the folders of searches at or below some places; raises InputFileError for a place without any."""
    found: list[Path] = []
    for place in places:
        if (place / "search.json").is_file():
            found.append(place)
            continue
        top = place / "scratch" if (place / "scratch").is_dir() else place
        below = sorted(path.parent for path in top.glob("**/search.json"))
        if not below:
            raise InputFileError(
                f"{str(place)!r} holds no search",
                hint="name the folder of a search or of a study, e.g. results/demo/scratch/search_surrogate",
            )
        found += below
    return found


def table(rows: Sequence[StudyStatus]) -> str:
    """Return the table for people, and below it what failed last."""
    header = ["search", "done", "pruned", "running", "stale", "failed", "of", "best", "GPU h", "worker h", "left"]
    lines = [header]
    for row in rows:
        best = f"{row.best_value:.6g} (trial {row.best_trial})" if row.best_value is not None else "-"
        counts = [row.complete, row.pruned, row.running, row.stale, row.failed, row.budget]
        hours = [f"{row.gpu_hours:.2f}", f"{row.worker_hours:.2f}"]
        lines.append([row.folder, *map(str, counts), best, *hours, "finished" if row.is_finished else _duration(row.left_s)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    text = ["  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:]))]) for line in lines]
    for row in rows:
        text += [f"{row.folder}: last failure: {row.last_failure}"] if row.last_failure else []
        text += [f"{row.folder}: {row.remark}"] if row.remark else []
    return "\n".join(text) + "\n"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    days, rest = divmod(round(seconds), 86_400)
    hours, rest = divmod(rest, 3600)
    return f"{f'{days} d ' if days else ''}{hours}:{rest // 60:02d}:{rest % 60:02d}"
