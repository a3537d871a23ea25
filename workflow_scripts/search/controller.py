"""The controller of a search: defines the study, keeps its workers alive, shows progress, and sums up."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import optuna
from optuna.trial import FrozenTrial, TrialState

from ..common.errors import CalandriaError
from ..common.processes import workflow_has_ended
from ..common.progress import progress
from .launch import Launch, Launcher, local_processes
from .locks import OwnedLock
from .presence import STOP_SECONDS
from .study import DATABASE_ERRORS, SearchDefinition, StudyFolder
from .summary import write_summary
from .worker import EXIT_DONE, EXIT_STOPPED, StudyFailingError, budget_of, failing_reason, grid_of

__all__ = ["SearchDefinition", "run_search"]

WATCH_SECONDS = 0.3
DEATHS_PER_WORKER = 6
MAX_PAUSE_SECONDS = 600.0
CONTROLLER_STALE_SECONDS = 60.0
CONTROLLER_BEAT_SECONDS = 5.0
CONTROLLER_PATIENCE_SECONDS = STOP_SECONDS + 8.0  # a controller that was told to stop needs so long for its workers
DATABASE_PATIENCE_SECONDS = 300.0
ROOM_BYTES = 65_536
WRONG_INPUT = 2

log = logging.getLogger(__name__)


class SearchError(CalandriaError):
    """A search cannot go on."""


def run_search(
    directory: Path,
    definition: SearchDefinition,
    *,
    workers: int,
    trials_path: Path,
    best_path: Path,
    importance_path: Path,
    launch: Launch = local_processes,
) -> None:
    """Run a study until its budget is met, or go on with it, and write its summary.

    The same call continues a study that was interrupted in whatever way; with a larger budget it adds trials; with anything else
    changed that a trial's value depends on, it begins a new study in the same folder. With one worker the trials repeat exactly.

    Parameters
    ----------
    directory
        Scratch folder of the study (journal, leases, checkpoints, logs); keep it to be able to go on.
    definition
        What is searched.
    workers
        Number of workers.
    trials_path, best_path, importance_path
        Results: CSV of all trials, JSON of the best one, figure.
    launch
        How workers are started: local processes, or ``slurm.slurm_array(settings)``.

    Raises
    ------
    SearchError
        If another controller is at work there, if workers die again and again, or if no trial completed.
    StudyFailingError
        If most trials fail.
    """
    folder = StudyFolder(directory)
    definition = definition.identified()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.directory.mkdir(parents=True, exist_ok=True)
    lock = folder.controller_lock(CONTROLLER_STALE_SECONDS)
    _acquire(lock, folder)
    try:
        with _kept(lock) as is_lost:
            folder.write_definition(definition)
            study = folder.open_study(definition)
            budget = budget_of(definition, grid_of(definition))
            if study.user_attrs.get("budget") != budget:
                study.set_user_attr("budget", budget)  # a grid's size is known to whoever can import the objective only
            launcher = launch(folder, definition)
            if _is_done(study.get_trials(deepcopy=False), budget):
                launcher.stop(done=True)
            else:
                with _stop_signals() as stop:
                    _watch(folder, study, definition, budget, launcher, min(workers, budget), is_lost, stop)
        _check_failures(study.get_trials(deepcopy=False), definition)
        if not any(trial.state == TrialState.COMPLETE for trial in study.get_trials(deepcopy=False)):
            raise SearchError(
                f"no trial of study {definition.study_name!r} completed",
                hint="raise n_trials or n_warmup_steps, or look into trial reasons in the study's logs",
            )
        write_summary(study, definition, trials_path=trials_path, best_path=best_path, importance_path=importance_path)
    except DATABASE_ERRORS as error:
        raise SearchError(
            f"the database of trials fails: {str(error)[:300]}",
            hint="give the same command again when it answers; the trials that were begun go on then",
        ) from error
    finally:
        lock.release()


def _acquire(lock: OwnedLock, folder: StudyFolder) -> None:
    """Wait for a controller that is about to stop, or for the lock of a killed one; one that goes on working is told to the user."""
    begin = time.monotonic()
    while not lock.try_acquire():
        lives = lock.shows_life()
        patience = CONTROLLER_PATIENCE_SECONDS if lives else CONTROLLER_STALE_SECONDS + CONTROLLER_PATIENCE_SECONDS
        if time.monotonic() - begin > patience:
            owner = lock.owner()
            whom = f"process {owner.pid} on {owner.machine.split()[0]}" if owner else "an unknown process"
            raise SearchError(
                f"{whom} already runs the search in {str(folder.directory)!r}",
                hint=f"wait for it; to help, run: python -m workflow_scripts.search.run_worker --directory {folder.directory}",
            )
        time.sleep(WATCH_SECONDS)


@contextmanager
def _kept(lock: OwnedLock) -> Iterator[threading.Event]:
    """Refresh a lock in the background, whatever takes long; the event tells that it was lost (after a suspension, say)."""
    lost, ended = threading.Event(), threading.Event()

    def keep() -> None:
        while not ended.wait(CONTROLLER_BEAT_SECONDS):
            try:
                if not lock.refresh():
                    lost.set()
            except OSError:  # a file server that does not answer for a while
                continue

    thread = threading.Thread(target=keep, name="controller", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        ended.set()
        thread.join()


def _is_done(trials: Sequence[FrozenTrial], budget: int) -> bool:
    return len(trials) >= budget and all(trial.state.is_finished() for trial in trials)


def _check_failures(trials: Sequence[FrozenTrial], definition: SearchDefinition) -> None:
    if reason := failing_reason(trials, definition.search.max_failed_fraction):
        raise StudyFailingError(
            f"study {definition.study_name!r} stops early: {reason}",
            hint="mend the cause (the workers' logs hold the traceback), delete the study's folder, and start it again",
        )


@dataclass(frozen=True)
class _Signal:
    number: int
    is_orphan: bool


@contextmanager
def _stop_signals() -> Iterator[list[_Signal]]:
    """Collect SIGINT and SIGTERM in a list, so that workers are stopped in order before we end."""
    received: list[_Signal] = []

    def hear(number: int, frame: FrameType | None) -> None:
        received.append(_Signal(number, workflow_has_ended()))

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    old = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _watch(
    folder: StudyFolder,
    study: optuna.Study,
    definition: SearchDefinition,
    budget: int,
    launcher: Launcher,
    workers: int,
    is_lost: threading.Event,
    stop: list[_Signal],
) -> None:
    """Start workers, replace those that die, and return when the study is done.

    No worker is left then, except those of a cluster when our workflow was killed or another controller has taken over.
    """
    deaths, rounds, resume, first, seen = 0, 0, 0.0, None, -1
    line = progress(iter(()), f"search {definition.name}", total=budget, unit="trial")
    is_done, trials, silent_since = False, [], None
    try:
        while True:
            try:
                trials, silent_since = study.get_trials(deepcopy=False), None
            except DATABASE_ERRORS:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > DATABASE_PATIENCE_SECONDS:
                    raise
            done = sum(trial.state.is_finished() for trial in trials)
            advance = done + sum(len(trial.intermediate_values) for trial in trials)
            if first is None:
                line.initial = line.n = done
                first = advance
            if advance > seen:
                seen, deaths, rounds = advance, 0, 0
            line.n = done
            line.set_postfix_str(_told(trials, definition.direction), refresh=True)
            if is_done := _is_done(trials, budget):
                return
            _check_failures(trials, definition)
            states = launcher.states()
            alive = sum(status is None for status in states.values())
            died = {name: status for name, status in states.items() if status not in (None, EXIT_DONE, EXIT_STOPPED)}
            deaths += len(died)
            for name, status in died.items():
                _check_room(folder)
                if status == WRONG_INPUT and (advance == first or not alive):
                    raise SearchError(
                        f"worker {name} gave up: {launcher.last_words(name)}", hint="mend that and start the same command again"
                    )
                if deaths > DEATHS_PER_WORKER * workers:
                    raise SearchError(
                        f"workers died {deaths} times without any progress, the last one ({name}) with status {status}: "
                        f"{launcher.last_words(name)}",
                        hint="look into the workers' logs in the study's folder; memory may be short",
                    )
                log.warning("search: worker %s ended with status %s: %s", name, status, launcher.last_words(name))
            if died:
                resume = time.monotonic() + min(launcher.retry_seconds * 2**rounds, MAX_PAUSE_SECONDS)
                rounds += 1
            for name in [name for name, status in states.items() if status is not None]:
                launcher.forget(name)
            missing = min(workers, budget - done) - alive
            if missing > 0 and time.monotonic() >= resume:
                launcher.start(missing)
            if stop:
                raise KeyboardInterrupt if stop[0].number == signal.SIGINT else SystemExit(128 + stop[0].number)
            if is_lost.is_set():
                raise SearchError(
                    f"another controller has taken over the search in {str(folder.directory)!r}",
                    hint="this one was suspended for too long; leave the search to the other one",
                )
            time.sleep(WATCH_SECONDS)
    finally:
        if is_lost.is_set() or (stop and stop[0].is_orphan and not is_done):
            launcher.leave()
        else:
            launcher.stop(done=is_done)
        line.close()


def _check_room(folder: StudyFolder) -> None:
    """Raise SearchError if nothing can be written to the study's folder any more, which kills one worker after another."""
    probe = folder.directory / f"room-{os.getpid()}"
    try:
        with open(probe, "wb") as stream:
            stream.write(bytes(ROOM_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise SearchError(
            f"the study's folder {str(folder.directory)!r} cannot be written: {error.strerror}",
            hint="make room there or raise the quota, then give the same command again; nothing is lost",
        ) from error
    finally:
        probe.unlink(missing_ok=True)


def _told(trials: Sequence[FrozenTrial], direction: str) -> str:
    count = {state: sum(trial.state == state for trial in trials) for state in TrialState}
    values = [trial.value for trial in trials if trial.state == TrialState.COMPLETE and trial.value is not None]
    best = f", best {min(values) if direction == 'minimize' else max(values):.4g}" if values else ""
    return (
        f"{count[TrialState.COMPLETE]} complete, {count[TrialState.PRUNED]} pruned, {count[TrialState.FAIL]} failed, "
        f"{count[TrialState.RUNNING]} running{best}"
    )
