"""A worker of a study: claims trials, takes over those of dead workers, runs and tells them, whoever started it."""

import errno
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DBAPIError

from ..base.errors import CalandriaError, DeviceError, InputFileError
from ..base.seeds import derived_seed
from ..learning.settings import SearchSettings
from .locks import OwnedLock
from .objective import Objective, StopRequested, TrialContext, load_objective
from .presence import Presence
from .sampling import grid_points, is_finite, make_sampler
from .study import DATABASE_ERRORS, JournalError, SearchDefinition, StudyFolder, written_together

EXIT_DONE, EXIT_NO_ANSWER, EXIT_FAILING, EXIT_STOPPED = 0, 1, 3, 75
IDLE_SECONDS = (0.1, 2.0)
LOOK_SECONDS = 5.0
"""While there are new trials, abandoned ones and a raised budget are looked for so often: each look asks for every running trial."""

MIN_FAILED = 3

NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
NO_ANSWER = {errno.EIO, errno.EROFS, errno.ESTALE, errno.ENOTCONN, errno.ESHUTDOWN, errno.EHOSTDOWN, errno.ETIMEDOUT}
"""What a disk gives that is full, and a file system that is away."""

log = logging.getLogger(__name__)


class StudyFailingError(CalandriaError):
    """Most trials of a study, or of one machine or worker, fail, so that more of them would tell nothing."""


@dataclass(frozen=True)
class Claim:
    """A trial that this worker holds the lease of."""

    trial: optuna.Trial
    number: int
    lease: OwnedLock


def grid_of(definition: SearchDefinition, objective: Objective | None = None) -> list[dict[str, Any]] | None:
    """Return the grid of a definition whose sampler is ``grid``, else None."""
    if definition.search.sampler != "grid":
        return None
    return grid_points((objective or load_objective(definition.objective)).suggest, definition.settings)


def budget_of(definition: SearchDefinition, grid: Sequence[Mapping[str, Any]] | None) -> int:
    """Return how many trials the study has at its end: the budget, or the whole grid if that is less."""
    return min(definition.search.n_trials, len(grid)) if grid is not None else definition.search.n_trials


def finished_numbers(study: optuna.Study) -> set[int]:
    """Return the numbers of the trials that have ended."""
    return {trial.number for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()}


def failing_reason(trials: Sequence[FrozenTrial], search: SearchSettings) -> str:
    """Return why a study should stop early, or an empty text; failures of one place alone tell of that place, not of the study."""
    reason = _failed_too_often(trials, search.max_failed_fraction)
    return "" if reason and suspected_place(trials, search) else reason


def places(trials: Sequence[FrozenTrial]) -> dict[int, str]:
    """Return where trials ran, by number: the machine, or the worker as long as only one machine has taken part."""
    work = {trial.number: trial.user_attrs["work"] for trial in trials if "work" in trial.user_attrs}
    key = "machine" if len({record["machine"] for record in work.values() if "machine" in record}) > 1 else "worker"
    return {number: str(record.get(key)) for number, record in work.items()}


def suspected_place(trials: Sequence[FrozenTrial], search: SearchSettings) -> str | None:
    """Return the only place at which trials failed, where the study has several workers; None otherwise."""
    numbers = [trial.number for trial in trials if trial.state == TrialState.FAIL] if search.workers > 1 else []
    found = places(trials) if numbers else {}
    failed = {found.get(number) for number in numbers}
    return failed.pop() if len(failed) == 1 else None


def _failed_too_often(trials: Sequence[FrozenTrial], max_failed_fraction: float) -> str:
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    n_finished = sum(trial.state.is_finished() for trial in trials)
    if len(failed) < MIN_FAILED or len(failed) <= max_failed_fraction * n_finished:
        return ""
    return (
        f"{len(failed)} of {n_finished} finished trials failed; the last one (trial {failed[-1].number}): "
        f"{failed[-1].user_attrs.get('reason', 'no reason recorded')}"
    )


class Worker:
    """Works on a study until its budget is met.

    Trials are counted, made and taken over under one lock of the study, so the budget is exact with any number of workers. A
    trial belongs to whoever holds its lease; a running trial without a lease was released, or its worker died before it could take one.

    Parameters
    ----------
    folder
        The study's folder with its definition.
    presence
        Keeps leases fresh and hears stop signals; already entered.
    name
        Name of this worker in records and locks.
    device
        Device that replaces the definition's, None to keep it.
    wait_for_others
        Stay while trials of others run, to take them over if those die; else leave when nothing is left to claim and the workers of all
        running trials have given a sign of life.
    """

    def __init__(
        self, folder: StudyFolder, presence: Presence, *, name: str, device: str | None = None, wait_for_others: bool = True
    ) -> None:
        self.folder, self.presence, self.name, self.wait_for_others = folder, presence, name, wait_for_others
        self.definition = folder.read_definition()
        self.search = self.definition.search
        self.device = device or self.definition.device
        self.machine = os.uname().nodename
        self._check_machine()
        self.objective = load_objective(self.definition.objective)
        self.grid = grid_of(self.definition, self.objective)
        self.study = folder.open_study(self.definition)
        self._claim_lock = folder.claim_lock(self.definition.study_name, max(30.0, self.search.lease_seconds))
        self._leases: dict[int, OwnedLock] = {}
        self._budget, self._look_again, self._others_live = 0, 0.0, False

    def work(self) -> None:
        """Run trials until the study is done.

        Raises StopRequested, StudyFailingError, JournalError, or what this machine lacks: DeviceError, InputFileError.
        """
        self.folder.discard_finished(self.definition.study_name, finished_numbers(self.study))
        pause = IDLE_SECONDS[0]
        while True:
            self._check_stop()
            claim, is_done = self.claim()
            if claim is not None:
                self.run_trial(claim)
                pause = IDLE_SECONDS[0]
            elif is_done or (not self.wait_for_others and self._others_live):
                return
            else:
                self.presence.stop.wait(pause)
                pause = min(1.5 * pause, IDLE_SECONDS[1])

    def release_all(self) -> None:
        """Give back every lock at hand, so that others need not wait until it is stale; the process ends now."""
        for lock in [*self._leases.values(), self._claim_lock]:
            lock.release()

    def _check_stop(self) -> None:
        if self.presence.stop.is_set():
            raise StopRequested(self.presence.reason)

    def _check_machine(self) -> None:
        """Raise DeviceError or InputFileError if no trial can succeed here: the device does not compute, or the data are not seen."""
        if self.device != "cpu":
            from ..learning.devices import working_device  # imports torch, which a search itself does not need

            working_device(self.device)
        for path in [path for paths in self.definition.data.values() for path in paths]:
            try:
                if Path(path).is_dir():
                    list(Path(path).iterdir())
                else:
                    with open(path, "rb") as stream:
                        stream.read(1)
            except OSError as error:
                raise InputFileError(
                    f"input file {path!r} of the search cannot be read on {self.machine}: {error.strerror}",
                    hint="check that the file is there, and that this machine sees its file system",
                ) from error

    def _leave_if_suspected(self, trials: Sequence[FrozenTrial]) -> None:
        """Raise StudyFailingError if trials fail nowhere but here, and here most of them do."""
        place = suspected_place(trials, self.search)
        if place not in (self.name, self.machine):
            return
        found = places(trials)
        here = [trial for trial in trials if found.get(trial.number) == place]
        if reason := _failed_too_often(here, self.search.max_failed_fraction):
            raise StudyFailingError(
                f"worker {self.name} leaves {self.machine}: trials fail nowhere else, and here {reason}",
                hint="look for what this machine or its GPU lacks; the study goes on without it",
            )

    def _lease(self, number: int) -> OwnedLock:
        # Kept, for a lease of another machine is stale only after we ourselves have watched it for a while.
        if number not in self._leases:
            self._leases[number] = self.folder.lease(self.definition.study_name, number, self.search.lease_seconds, self.name)
        return self._leases[number]

    def _read_budget(self) -> int:
        """Return the present budget, which a later call may have raised; 0 if another study or storage has taken this one's place."""
        try:
            current = self.folder.read_definition()
        except CalandriaError:
            current = self.definition
        if (current.study_name, current.search.storage) != (self.definition.study_name, self.search.storage):
            log.info("%s: the folder holds another study by now, or its trials are recorded elsewhere", self.name)
            return 0
        return budget_of(current, self.grid)

    def _catch_up(self) -> None:
        """Read what others wrote to the journal, so that little is left to read while we hold the study's lock."""
        if self.search.storage is None:
            self.study.get_trials(deepcopy=False, states=())

    @contextmanager
    def _claiming(self) -> Iterator[None]:
        with self._claim_lock.held(self._catch_up):
            self.presence.keep(self._claim_lock)
            try:
                yield
            finally:
                self.presence.drop(self._claim_lock)

    def claim(self) -> tuple[Claim | None, bool]:
        """Return an abandoned or a new trial with its lease, or None and whether the study is done."""
        with self._claiming():
            self._check_stop()  # the lock may have been long in coming
            trials = self.study.get_trials(deepcopy=False)
            if reason := failing_reason(trials, self.search):
                raise StudyFailingError(
                    f"study {self.definition.study_name!r} stops early: {reason}",
                    hint=f"correct the cause (see {self.folder.log_folder}), move {self.folder.directory} away, and start it again",
                )
            self._leave_if_suspected(trials)
            has_room = len(trials) < self._budget
            if not has_room or time.monotonic() >= self._look_again:
                self._look_again = time.monotonic() + min(LOOK_SECONDS, self.search.lease_seconds / 6)
                self._budget = self._read_budget()
                has_room = len(trials) < self._budget
                running = [] if self._budget == 0 else [trial for trial in trials if not trial.state.is_finished()]
                self._others_live = True
                for frozen in running:
                    lease = self._lease(frozen.number)
                    if lease.try_acquire():
                        claim = self._adopt(frozen, lease)
                        if claim is not None:
                            return claim, False
                    elif not lease.shows_life():
                        self._others_live = False
                if not has_room:
                    return None, not running
            if not self._claim_lock.is_mine():  # a file server was away for long: another may have counted the trials meanwhile
                self._others_live = False
                return None, False
            trial = self.study.ask()
            lease = self._lease(trial.number)
            if lease.try_acquire():
                self.presence.keep(lease)
                return Claim(trial, trial.number, lease), False
            return None, False

    def _adopt(self, frozen: FrozenTrial, lease: OwnedLock) -> Claim | None:
        frozen = self.study._storage.get_trial(frozen._trial_id)
        if frozen.state.is_finished():  # told and released since the trials were read
            lease.release()
            return None
        trial = optuna.Trial(self.study, frozen._trial_id)
        if lease.broke_owner:
            log.info("trial %d: its worker died; taken over by %s", frozen.number, self.name)
            if self._is_given_up(trial, frozen, "out of memory?"):
                lease.release()
                return None
        self.presence.keep(lease)
        return Claim(trial, frozen.number, lease)

    def _is_given_up(self, trial: optuna.Trial, frozen: FrozenTrial, why: str) -> bool:
        """Count one more worker that a trial was the end of, and record the trial as failed if those were too many at the same step."""
        step = -1 if frozen.last_step is None else frozen.last_step
        before = frozen.user_attrs.get("deaths", {"step": None, "count": 0})
        count = before["count"] + 1 if before["step"] == step else 1
        trial.set_user_attr("deaths", {"step": step, "count": count})
        if count < self.search.max_attempts:
            return False
        trial.set_user_attr("reason", f"{count} workers died in it after step {step} ({why})")
        self.study.tell(trial, state=TrialState.FAIL)
        return True

    def _reporter(self, claim: Claim) -> Any:
        last = claim.trial._cached_frozen_trial.last_step
        reported = -1 if last is None else last

        def report(step: int, value: float) -> None:
            nonlocal reported
            if not claim.lease.refresh():
                raise StopRequested(f"lease of trial {claim.number} was lost")
            if step > reported:
                claim.trial.report(value, step)
                reported = step
                if claim.trial.should_prune():
                    raise optuna.TrialPruned(f"pruned at step {step}")
            self._check_stop()

        return report

    def run_trial(self, claim: Claim) -> None:
        """Run a claimed trial and tell the study its value, that it was pruned, or why it failed."""
        trial, number = claim.trial, claim.number
        seed = derived_seed(self.search.seed, "trial", number)
        checkpoint = self.folder.checkpoint_path(self.definition.study_name, number)
        begin, spent_before = time.monotonic(), float(trial.user_attrs.get("spent_s", 0.0))
        try:
            self._check_stop()
            self.study.sampler = make_sampler(self.search, number, self.grid)
            try:
                with written_together(self.study):
                    parameters = self.objective.suggest(trial, self.definition.settings)
                    record = {"worker": self.name, "machine": self.machine, "seed": seed, "parameters": parameters}
                    if trial.user_attrs.get("work") != record:
                        trial.set_user_attr("work", record)
                context = TrialContext(
                    settings=self.definition.settings,
                    data=self.definition.data,
                    seed=seed,
                    device=self.device,
                    checkpoint_path=checkpoint,
                    report=self._reporter(claim),
                    number=number,
                    data_sha256=self.definition.data_sha256,
                    control=self.definition.control,
                )
                value = self.objective.run(dict(parameters), context)
                outcome = {"values": float(value)} if is_finite(value) else {"state": TrialState.FAIL}
                reason = "" if is_finite(value) else f"its value is {value!r}, not a finite number"
            except optuna.TrialPruned as pruned:
                outcome, reason = {"state": TrialState.PRUNED}, str(pruned)
            except (DeviceError, JournalError, *DATABASE_ERRORS):
                raise  # the worker's trouble, not the trial's: another worker may run it
            except Exception as error:
                if may_pass(error):
                    if is_of_files(error) and claim.lease.is_mine():  # it may be the trial's own doing
                        self._is_given_up(trial, self.study._storage.get_trial(trial._trial_id), str(error))
                    raise JournalError(
                        f"trial {number} met a file system that does not answer on {self.machine}: {error}",
                        hint="give the same command again when it does; the trial goes on",
                    ) from error
                if is_for_want_of_room(error):
                    raise JournalError(
                        f"trial {number} cannot write to {str(self.folder.directory)!r}: {error}",
                        hint="make room there or raise the quota, then give the same command again; the trial goes on",
                    ) from error
                log.exception("trial %d failed", number)
                self._blame_machine(claim)
                text = " ".join(str(error).split())
                outcome, reason = {"state": TrialState.FAIL}, f"{type(error).__name__}: {text}"[:500]
            self._tell(claim, outcome, reason, spent_before + time.monotonic() - begin)
            self.folder.discard_checkpoint(self.definition.study_name, number)
        except StopRequested as stop:
            if claim.lease.is_mine():
                trial.set_user_attr("spent_s", round(spent_before + time.monotonic() - begin, 3))
            if self.presence.stop.is_set():
                raise
            log.warning("trial %d left to another worker: %s", number, stop)
        finally:
            self.presence.drop(claim.lease)
            claim.lease.release()

    def _blame_machine(self, claim: Claim) -> None:
        """Raise what this machine lacks, if that can be why a trial failed: it is left to another worker.

        A GPU that stopped computing may be the trial's own doing, so that counts like the death of a worker.
        """
        try:
            self._check_machine()
        except DeviceError as error:
            if claim.lease.is_mine():
                self._is_given_up(claim.trial, self.study._storage.get_trial(claim.trial._trial_id), error.message)
            raise

    def _tell(self, claim: Claim, outcome: Mapping[str, Any], reason: str, spent_s: float) -> None:
        told = self.study._storage.get_trial(claim.trial._trial_id).state.is_finished()
        if told or not claim.lease.is_mine():
            raise StopRequested(f"lease of trial {claim.number} was lost")
        with written_together(self.study):
            claim.trial.set_user_attr("spent_s", round(spent_s, 3))
            if reason:
                claim.trial.set_user_attr("reason", reason)
            self.study.tell(claim.trial, **outcome)
        log.info("trial %d: %s %s", claim.number, outcome, reason)


def _origins(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def is_for_want_of_room(error: BaseException) -> bool:
    """Say whether an error, or one that it came from, means a full disk or a used-up quota."""
    return any(
        (isinstance(origin, OSError) and origin.errno in NO_ROOM)
        or (isinstance(origin, RuntimeError) and "PytorchStreamWriter failed writing" in str(origin))
        for origin in _origins(error)
    )


def is_of_files(error: BaseException) -> bool:
    """Say whether an error, or one that it came from, means a file system that is away."""
    return any(isinstance(origin, OSError) and origin.errno in NO_ANSWER for origin in _origins(error))


def may_pass(error: BaseException) -> bool:
    """Say whether an error, or one that it came from, means a file system or a database that is away."""
    return is_of_files(error) or any(isinstance(origin, DBAPIError) for origin in _origins(error))


def set_threads(count: int) -> None:
    """Limit the threads of numerical libraries that are loaded from now on."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ[name] = str(count)


def default_name() -> str:
    """Return a name for a worker that was given none."""
    return f"{os.uname().nodename.split('.')[0]}_{os.getpid()}_{time.strftime('%H%M%S')}"
