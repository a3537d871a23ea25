"""The controller of a search: defines the study, keeps its workers alive, shows progress, and sums up."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

import optuna
from optuna.trial import FrozenTrial, TrialState

from ..base.errors import CalandriaError, SettingsError
from ..base.processes import workflow_has_ended
from ..base.progress import progress
from .launch import Launch, Launcher, local_processes
from .locks import OwnedLock
from .presence import STOP_SECONDS
from .study import DATABASE_ERRORS, SearchDefinition, StudyFolder
from .summary import write_summary
from .worker import EXIT_DONE, EXIT_STOPPED, StudyFailingError, budget_of, failing_reason, finished_numbers, grid_of

__all__ = ["SearchDefinition", "run_search"]

WATCH_SECONDS = 0.3
DEATHS_PER_WORKER = 6
MANY_ROUNDS = 3
MOST_WORKERS = 1024  # of the setting
MAX_PAUSE_SECONDS = 600.0
CONTROLLER_STALE_SECONDS = 60.0
CONTROLLER_BEAT_SECONDS = 5.0
CONTROLLER_PATIENCE_SECONDS = STOP_SECONDS + 8.0  # a controller that was told to stop needs so long for its workers
DATABASE_PATIENCE_SECONDS = 300.0
ROOM_BYTES = 65_536
WRONG_INPUT = 2
WRONG_INPUT_SECONDS = 30.0
"""Pause after a worker gave up: longer than its companions take to give up as well, if what is wrong is wrong for all."""

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
    """Run a study until its budget is met, or resume it, and write its summary.

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
    SettingsError
        If the study's trials are recorded elsewhere than the settings say now.
    StudyFailingError
        If most trials fail.
    """
    folder = StudyFolder(directory)
    asked = definition.identified()
    present = min(workers, asked.search.n_trials, MOST_WORKERS)  # as workers read it; results tell what was asked for
    definition = replace(asked, search=asked.search.model_copy(update={"workers": present}))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.directory.mkdir(parents=True, exist_ok=True)
    lock = folder.controller_lock(CONTROLLER_STALE_SECONDS)
    _acquire(lock, folder)
    try:
        with _kept(lock) as is_lost:
            _check_storage(folder, definition)
            folder.make_folders(definition)
            study = folder.open_study(definition)  # first, for a storage that cannot be opened is nothing to remember
            folder.write_definition(definition)
            budget = budget_of(definition, grid_of(definition))
            if study.user_attrs.get("budget") != budget:
                study.set_user_attr("budget", budget)  # a grid's size is known to whoever can import the objective only
            with _stop_signals() as stop:  # before the launcher finds an array that is at work
                launcher = launch(folder, definition)
                if _is_done(study.get_trials(deepcopy=False), budget):
                    launcher.stop(done=True)
                else:
                    _watch(folder, study, definition, budget, launcher, min(workers, budget), is_lost, stop)
        folder.discard_finished(definition.study_name, finished_numbers(study))
        _check_failures(study.get_trials(deepcopy=False), definition)
        if not any(trial.state == TrialState.COMPLETE for trial in study.get_trials(deepcopy=False)):
            raise SearchError(
                f"no trial of study {definition.study_name!r} completed",
                hint="raise n_trials or n_warmup_steps, or look into trial reasons in the study's logs",
            )
        write_summary(study, asked, trials_path=trials_path, best_path=best_path, importance_path=importance_path)
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


def _check_storage(folder: StudyFolder, definition: SearchDefinition) -> None:
    """Raise SettingsError where a changed storage would begin the same study anew, beside its leases and checkpoints."""
    try:
        former = folder.read_definition()
    except CalandriaError:
        return
    places = [storage or str(folder.journal_path) for storage in (former.search.storage, definition.search.storage)]
    if former.study_name == definition.study_name and places[0] != places[1]:
        raise SettingsError(
            f"trials of study {definition.study_name!r} are recorded in {places[0]!r}, and `storage` now means {places[1]!r}",
            hint=f"restore `storage`; or, if the trials are there as well (optuna.copy_study), move {folder.definition_path} away",
        )


def _is_done(trials: Sequence[FrozenTrial], budget: int) -> bool:
    return len(trials) >= budget and all(trial.state.is_finished() for trial in trials)


def _check_failures(trials: Sequence[FrozenTrial], definition: SearchDefinition) -> None:
    if reason := failing_reason(trials, definition.search):
        raise StudyFailingError(
            f"study {definition.study_name!r} stops early: {reason}",
            hint="correct the cause (the workers' logs hold the traceback), move the study's folder away, and start it again",
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
    seen, is_done, silent_since = -1, False, None
    line = progress(iter(()), f"search {definition.name}", total=budget, unit="trial")
    crew = _Crew(folder, definition, launcher, workers)
    try:
        while True:
            try:
                trials, silent_since = study.get_trials(deepcopy=False), None
            except DATABASE_ERRORS:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > DATABASE_PATIENCE_SECONDS:
                    raise
            if silent_since is None:
                done = sum(trial.state.is_finished() for trial in trials)
                advance = done + sum(len(trial.intermediate_values) for trial in trials)
                if seen < 0:
                    line.initial = done
                if advance > seen:
                    seen = advance
                    crew.note_progress()
                line.n = done
                line.set_postfix_str(_told(trials, definition.direction), refresh=True)
                if is_done := _is_done(trials, budget):
                    return
                _check_failures(trials, definition)
            if stop:
                raise KeyboardInterrupt if stop[0].number == signal.SIGINT else SystemExit(128 + stop[0].number)
            if is_lost.is_set():
                raise SearchError(
                    f"another controller has taken over the search in {str(folder.directory)!r}",
                    hint="this one was suspended for too long; leave the search to the other one",
                )
            if silent_since is None:  # who ended meanwhile may have ended for want of the database, and others would as well
                crew.tend(trials, budget)
            time.sleep(WATCH_SECONDS)
    finally:
        if is_lost.is_set() or (stop and stop[0].is_orphan and not is_done):
            launcher.leave()
        else:
            launcher.stop(done=is_done)
        line.close()


class _Crew:
    """The workers of a search: those that end too early are replaced, until that has proved useless.

    Parameters
    ----------
    folder, definition
        The study.
    launcher
        Starts workers.
    workers
        How many there shall be.
    """

    def __init__(self, folder: StudyFolder, definition: SearchDefinition, launcher: Launcher, workers: int) -> None:
        self._folder, self._definition, self._launcher, self._workers = folder, definition, launcher, workers
        self._most_deaths = max(DEATHS_PER_WORKER * workers, definition.search.max_attempts + 1)
        self._leases: dict[int, OwnedLock] = {}
        self._resume = 0.0
        self.note_progress()

    def note_progress(self) -> None:
        """Forget deaths: trials advance all the same."""
        self._deaths = self._wrong = self._rounds = 0

    def tend(self, trials: Sequence[FrozenTrial], budget: int) -> None:
        """Look after the workers; raises SearchError where they end again and again."""
        states = self._launcher.states()
        alive = sum(status is None for status in states.values())
        died = {name: status for name, status in states.items() if status not in (None, EXIT_DONE, EXIT_STOPPED)}
        wrong = sum(status == WRONG_INPUT for status in died.values())
        self._deaths += len(died)
        self._wrong += wrong
        for name, status in died.items():
            _check_room(self._folder)
            words = self._launcher.last_words(name)
            # a bad node alone is no reason while others are at work or about to begin
            is_wrong_for_all = wrong and self._wrong == self._deaths and (not alive or self._rounds + 1 >= MANY_ROUNDS)
            if is_wrong_for_all and not self._held(trials):
                raise SearchError(f"worker {name} gave up: {words}", hint="correct that and start the same command again")
            if self._deaths > self._most_deaths:
                raise SearchError(
                    f"workers died {self._deaths} times without any progress, the last one ({name}) with status {status}: {words}",
                    hint="look into the workers' logs in the study's folder; memory may be short",
                )
            log.warning("search: worker %s ended with status %s: %s", name, status, words)
        if died:
            pause = max(self._launcher.retry_seconds, WRONG_INPUT_SECONDS if wrong else 0.0)
            self._resume = time.monotonic() + min(pause * 2**self._rounds, MAX_PAUSE_SECONDS)
            self._rounds += 1
        for name in [name for name, status in states.items() if status is not None]:
            self._launcher.forget(name)
        missing = min(self._workers, budget - sum(trial.state.is_finished() for trial in trials)) - alive
        if missing > 0 and time.monotonic() >= self._resume:
            free = budget - len(trials)
            if free < missing:  # what others hold, perhaps workers that joined by hand, gives ours nothing to do
                free += sum(not trial.state.is_finished() for trial in trials) - self._at_work(trials)
                self._resume = time.monotonic() + self._launcher.retry_seconds
            if free > 0:
                self._launcher.start(min(missing, free))

    def _held(self, trials: Sequence[FrozenTrial]) -> bool:
        """Say whether somebody holds a trial, and is not known to be dead."""
        return any(_asked(lease.is_held) for lease in self._leases_of(trials))

    def _at_work(self, trials: Sequence[FrozenTrial]) -> int:
        """Return how many trials have a worker that certainly lives."""
        return sum(_asked(lease.is_held) and _asked(lease.shows_life) for lease in self._leases_of(trials))

    def _leases_of(self, trials: Sequence[FrozenTrial]) -> Collection[OwnedLock]:
        running = {trial.number for trial in trials if not trial.state.is_finished()}
        for number in running - set(self._leases):
            self._leases[number] = self._folder.lease(self._definition.study_name, number, self._definition.search.lease_seconds)
        self._leases = {number: self._leases[number] for number in running}
        return self._leases.values()


def _asked(question: Callable[[], bool]) -> bool:
    """Return what a lease answers; one that a file server does not show just now counts as held."""
    try:
        return question()
    except OSError:
        return True


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
