"""The controller of a search: defines the study, keeps its workers alive, shows progress, and sums up."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import optuna
from optuna.trial import FrozenTrial, TrialState

from ..common.errors import CalandriaError
from ..common.progress import progress
from .launch import Launcher, LocalProcesses
from .presence import STOP_SECONDS
from .study import SearchDefinition, StudyFolder
from .summary import write_summary
from .worker import EXIT_DONE, StudyFailingError, budget_of, failing_reason, grid_of

__all__ = ["SearchDefinition", "run_search"]

WATCH_SECONDS = 0.3
DEATHS_PER_WORKER = 6
CONTROLLER_STALE_SECONDS = 60.0
CONTROLLER_PATIENCE_SECONDS = STOP_SECONDS + 8.0  # a controller that was told to stop needs so long for its workers
WRONG_INPUT = 2


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
    launcher: Launcher | None = None,
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
    launcher
        How workers are started; local processes if None.

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
    deadline = time.monotonic() + CONTROLLER_PATIENCE_SECONDS
    while not (acquired := lock.try_acquire()) and time.monotonic() < deadline:
        time.sleep(WATCH_SECONDS)
    if not acquired:
        owner = lock.owner()
        whom = f"process {owner.pid} on {owner.machine.split()[0]}" if owner else "an unknown process"
        raise SearchError(
            f"{whom} already runs the search in {str(directory)!r}",
            hint=f"wait for it; to help, run: python -m workflow_scripts.search.run_worker --directory {directory}",
        )
    try:
        folder.write_definition(definition)
        study = folder.open_study(definition)
        budget = budget_of(definition, grid_of(definition))
        if not _is_done(study.get_trials(deepcopy=False), budget):
            launcher = launcher or LocalProcesses(
                folder.directory, folder.log_folder, definition.device, definition.search.threads_per_worker
            )
            with _stop_signals() as stop:
                _watch(study, definition, budget, launcher, min(workers, budget), lock.refresh, stop)
        _check_failures(study.get_trials(deepcopy=False), definition)
        if not any(trial.state == TrialState.COMPLETE for trial in study.get_trials(deepcopy=False)):
            raise SearchError(
                f"no trial of study {definition.study_name!r} completed",
                hint="raise n_trials or n_warmup_steps, or look into trial reasons in the study's logs",
            )
        write_summary(study, definition, trials_path=trials_path, best_path=best_path, importance_path=importance_path)
    finally:
        lock.release()


def _is_done(trials: Sequence[FrozenTrial], budget: int) -> bool:
    return len(trials) >= budget and all(trial.state.is_finished() for trial in trials)


def _check_failures(trials: Sequence[FrozenTrial], definition: SearchDefinition) -> None:
    if reason := failing_reason(trials, definition.search.max_failed_fraction):
        raise StudyFailingError(
            f"study {definition.study_name!r} stops early: {reason}",
            hint="mend the cause (the workers' logs hold the traceback), delete the study's folder, and start it again",
        )


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list, so that workers are stopped in order before we end."""
    received: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        received.append(number)

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
    study: optuna.Study,
    definition: SearchDefinition,
    budget: int,
    launcher: Launcher,
    workers: int,
    refresh: Callable[[], bool],
    stop: list[int],
) -> None:
    """Start workers, replace those that die, and return when the study is done; no worker is left in any case."""
    started, deaths, seen = 0, 0, -1
    line = progress(iter(()), f"search {definition.name}", total=budget, unit="trial")
    try:
        while True:
            trials = study.get_trials(deepcopy=False)
            done = sum(trial.state.is_finished() for trial in trials)
            advance = done + sum(len(trial.intermediate_values) for trial in trials)
            if seen < 0:
                line.initial = line.n = done
            if advance > seen:
                seen, deaths = advance, 0
            line.n = done
            line.set_postfix_str(_told(trials, definition.direction), refresh=True)
            if _is_done(trials, budget):
                return
            _check_failures(trials, definition)
            for name, status in launcher.states().items():
                if status is None:
                    continue
                if status == WRONG_INPUT:
                    raise SearchError(
                        f"worker {name} gave up: {launcher.last_words(name)}", hint="mend that and start the same command again"
                    )
                if status != EXIT_DONE:
                    deaths += 1
                    if deaths > DEATHS_PER_WORKER * workers:
                        raise SearchError(
                            f"workers died {deaths} times without any progress, the last one ({name}) with status {status}: "
                            f"{launcher.last_words(name)}",
                            hint="look into the workers' logs in the study's folder; memory may be short",
                        )
                launcher.forget(name)
            alive = sum(status is None for status in launcher.states().values())
            for _ in range(min(workers - alive, budget - done)):
                launcher.start(f"worker_{started + 1}")
                started += 1
            if stop:
                raise KeyboardInterrupt if stop[0] == signal.SIGINT else SystemExit(128 + stop[0])
            refresh()
            time.sleep(WATCH_SECONDS)
    finally:
        launcher.stop()
        line.close()


def _told(trials: Sequence[FrozenTrial], direction: str) -> str:
    count = {state: sum(trial.state == state for trial in trials) for state in TrialState}
    values = [trial.value for trial in trials if trial.state == TrialState.COMPLETE and trial.value is not None]
    best = f", best {min(values) if direction == 'minimize' else max(values):.4g}" if values else ""
    return (
        f"{count[TrialState.COMPLETE]} complete, {count[TrialState.PRUNED]} pruned, {count[TrialState.FAIL]} failed, "
        f"{count[TrialState.RUNNING]} running{best}"
    )
