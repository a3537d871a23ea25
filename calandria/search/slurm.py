"""Workers as tasks of SLURM arrays: submitted, found again after a kill, watched, replaced and cancelled by the controller."""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..base.errors import CalandriaError, DeviceError
from ..base.files import write_text
from ..base.processes import WORKFLOW
from ..base.records import write_json
from .launch import Launch, last_lines, worker_options
from .settings import ArraySettings
from .study import SearchDefinition, StudyFolder

COMMAND_SECONDS = 30.0
"""A command of the cluster that has not answered by then has failed; shorter than the controller's lock lives without a sign."""
STOP_SECONDS = 90.0
LEAVE_SECONDS = 10.0
REFUSALS = 3
FAILURES = 60
"""After so many failures of sbatch in a row, while squeue answers and no task is left, what was taken for a passing trouble is none."""

TASKS_PER_ARRAY = 1000  # MaxArraySize is 1001 unless a site changed it
TOLD_AGAIN_SECONDS = 600.0
DIED = -1
"""Exit status of a task that left none: killed with its node, by the kernel, or for its time limit."""

ENDED = {
    "COMPLETED",
    "CANCELLED",
    "FAILED",
    "TIMEOUT",
    "NODE_FAIL",
    "PREEMPTED",
    "BOOT_FAIL",
    "DEADLINE",
    "OUT_OF_MEMORY",
    "REVOKED",
}
NEVER_STARTS = "launch failed requeued held"
PASSING = re.compile(
    r"unable to contact|time[d-]? ?out|temporarily|try again|connection|zero bytes|communication|(send|receive) failure|not respond|"
    r"standby mode|resource busy|munge|authentication",
    re.IGNORECASE,
)

log = logging.getLogger(__name__)

# USR1 comes from --signal, so the task asks for its requeueing; TERM comes from scancel or pre-emption, which decide themselves.
SCRIPT = """#!/bin/bash
# A worker of the search in {directory}, as a task of an array. Written by the workflow at each submission.
task="${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
ending={ends}/"$task"
rm -f "$ending"
asked=
again=
worker=
trap 'asked=yes; [ -z "$worker" ] || kill -TERM "$worker" 2>/dev/null' TERM INT
trap 'asked=yes; again=yes; [ -z "$worker" ] || kill -TERM "$worker" 2>/dev/null' USR1
{setup}
status=75
if [ -z "$asked" ]; then
    {command} --worker-name "slurm_$task" &
    worker=$!
    [ -z "$asked" ] || kill -TERM "$worker"
    wait "$worker"
    status=$?
    while [ "$status" -gt 128 ] && kill -0 "$worker" 2>/dev/null; do
        wait "$worker"
        status=$?
    done
    if [ -n "$asked" ]; then # then a wait may have ended with the number of our own signal
        wait "$worker" 2>/dev/null
        last=$?
        [ "$last" -eq 127 ] || status=$last
        [ "$status" -ne 143 ] || status=75 # it had not begun to listen
    fi
fi
if [ -n "$again" ] && [ "$status" -eq 75 ] && scontrol requeue "$task"; then
    exit 75
fi
echo "$status" > "$ending.unfinished" && mv "$ending.unfinished" "$ending"
exit "$status"
"""


class ClusterError(CalandriaError):
    """The cluster does not do what a search needs."""


class NoAnswerError(Exception):
    """A command of the cluster failed in a way that may pass."""


def slurm_array(settings: ArraySettings) -> Launch:
    """Return what makes the launcher of workers as tasks of SLURM arrays."""
    return lambda folder, definition: SlurmArray(folder, definition, settings)


def cluster_environment() -> dict[str, str]:
    """Return the environment of sbatch, which the tasks inherit: nothing of a job that we may be in, nor of our Snakemake."""
    kept = {"SLURM_CONF", "SLURM_CLUSTERS"}
    return {
        name: text for name, text in os.environ.items() if name != WORKFLOW and (not name.startswith("SLURM_") or name in kept)
    }


class SlurmArray:
    """Tasks of arrays that share a job name made from the study and its folder, by which they are found whoever submitted them.

    Parameters
    ----------
    folder
        The study's folder, on a file system that the nodes share.
    definition
        The identified study.
    settings
        What is asked of the cluster.
    """

    def __init__(self, folder: StudyFolder, definition: SearchDefinition, settings: ArraySettings) -> None:
        missing = [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]
        if missing:
            raise DeviceError(
                f"{' and '.join(missing)} not found: this machine cannot submit to SLURM",
                hint="run on a login node of the cluster, or leave --launch slurm (the profile) out for local processes",
            )
        self.retry_seconds = 3 * settings.poll_seconds
        self._settings, self._log_folder = settings, folder.log_folder.resolve()
        self._folder = folder.directory.resolve() / "cluster"
        self._ends = self._folder / "ends"
        self._ends.mkdir(parents=True, exist_ok=True)
        place = hashlib.sha256(str(folder.directory.resolve()).encode()).hexdigest()[:8]
        self.job_name = f"calandria_search_{definition.study_name}_{place}"
        self._definition, self._directory = definition, folder.directory.resolve()
        self._submitted: dict[str, int] = {}
        self._limits: dict[str, int] = {}
        self._alive: dict[str, str] = {}
        self._ended: dict[str, int] = {}
        self._states: dict[str, str] = {}
        self._gone: set[str] = set()
        self._looked = self._told = -1e9
        self._is_fresh, self._is_silent, self._was_found = False, False, False
        self._refused = self._failed = 0
        self._recover()

    @property
    def _gpus(self) -> int:
        return int(self._definition.device != "cpu") if self._settings.gpus is None else self._settings.gpus

    @property
    def _record_path(self) -> Path:
        return self._folder / "array.json"

    def _write_record(self) -> None:
        write_json(
            self._record_path,
            {"job_name": self.job_name, "arrays": self._submitted, "limits": self._limits, "gpus_per_worker": self._gpus},
        )

    def _recover(self) -> None:
        """Find the arrays of an earlier controller of this study, and cancel those of another study in this folder."""
        try:
            known = json.loads(self._record_path.read_text(encoding="utf-8"))
            former, arrays = str(known["job_name"]), {str(job): int(count) for job, count in known["arrays"].items()}
            limits = {str(job): int(limit) for job, limit in known.get("limits", {}).items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            former, arrays, limits = self.job_name, {}, {}
        with self._submitting():  # an sbatch that outlived its controller ends first
            pass
        if former != self.job_name:
            log.warning("search: cancelling the array of another study in this folder (%s)", former)
            self._cancel_until_gone(former, time.monotonic() + STOP_SECONDS)
            arrays, limits = {}, {}
        self._submitted, self._limits = arrays, limits
        self._write_record()
        self._look()

    @contextmanager
    def _submitting(self) -> Iterator[int]:
        """Hold a lock that a running sbatch inherits, so that a new controller waits for one whose controller was killed."""
        with open(self._folder / "submit.lock", "ab") as held:
            deadline = time.monotonic() + 2 * COMMAND_SECONDS
            with contextlib.suppress(OSError):  # a file system without locks
                while time.monotonic() < deadline:
                    try:
                        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        time.sleep(0.2)
            yield held.fileno()

    def _command(self, words: Sequence[str], keep_open: Sequence[int] = ()) -> str:
        try:
            done = subprocess.run(
                words,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=COMMAND_SECONDS,
                stdin=subprocess.DEVNULL,
                env=cluster_environment(),
                start_new_session=True,  # Ctrl-C does not reach it
                pass_fds=keep_open,
                check=False,
            )
        except (subprocess.TimeoutExpired, OSError) as error:
            raise NoAnswerError(f"{words[0]}: {error}") from error
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())[:400]
            if words[0] != "sbatch" or PASSING.search(said):
                raise NoAnswerError(f"{words[0]}: {said or f'exit status {done.returncode}'}")
            raise ClusterError(
                f"sbatch refuses the array: {said}",
                hint=f"check partition, account, time, memory and GPUs that are asked for; the script is {self._folder / 'worker.sh'}",
            )
        return done.stdout

    def _queue(self, job_name: str) -> dict[str, tuple[str, str]]:
        """Return state and reason of each task of a name that the cluster knows."""
        words = ["squeue", "--noheader", "--array", "--states=all", f"--name={job_name}", f"--user={os.getuid()}"]
        found = {}
        for line in self._command([*words, "--format=%i|%T|%r"]).splitlines():
            task, state, reason = [*line.strip().split("|", 2), "", ""][:3]
            found[task] = (state, reason)
        return found

    def _look(self) -> None:
        """Ask the queue, and note which tasks have ended."""
        self._looked = time.monotonic()
        try:
            found = self._queue(self.job_name)
            pending = {task: reason for task, (state, reason) in found.items() if state == "PENDING"}
            never = [task for task, reason in pending.items() if reason.replace("_", " ").lower() == NEVER_STARTS]
            if never:
                self._command(["scancel", *never])
        except NoAnswerError as error:
            self._no_answer(error)
            return
        if self._is_silent:
            log.warning("search: the cluster answers again")
        self._is_fresh, self._is_silent = True, False
        alive = {task: state for task, (state, _) in found.items() if state not in ENDED and task not in never}
        expected = {f"{job}_{index}" for job, count in self._submitted.items() for index in range(count)} | set(self._alive)
        for task in expected - set(alive) - self._gone:
            self._ended.setdefault(task, self._exit_status(task))
            self._states[task] = found.get(task, ("", ""))[0]
        self._alive = alive
        if not self._was_found:  # what had ended before we came is nobody's news
            self._was_found = True
            self._gone.update(self._ended)
            self._ended.clear()
            if alive:
                jobs = ", ".join(sorted({task.partition("_")[0] for task in alive}))
                log.warning("search: found %d tasks of array %s at work or waiting", len(alive), jobs)

    def _no_answer(self, error: Exception) -> None:
        self._is_fresh = False
        if not self._is_silent or time.monotonic() - self._told > TOLD_AGAIN_SECONDS:
            self._told, self._is_silent = time.monotonic(), True
            log.warning("search: no answer from the cluster (%s); workers go on, it is asked again", error)

    def _exit_status(self, task: str) -> int:
        try:
            return int((self._ends / task).read_text())
        except (OSError, ValueError):
            return DIED

    def states(self) -> dict[str, int | None]:
        """Return the exit status of each task that ended, None for one that waits or works; the queue is asked now and then."""
        if time.monotonic() - self._looked >= self._settings.poll_seconds:
            self._look()
        return {**self._ended, **dict.fromkeys(self._alive)}

    def forget(self, name: str) -> None:
        """Leave an ended task out of the states."""
        del self._ended[name]
        self._gone.add(name)
        (self._ends / name).unlink(missing_ok=True)

    def start(self, count: int) -> None:
        """Submit an array of so many tasks; where the cluster does not answer, nothing happens until it does.

        Nor does anything happen while the arrays that are there may run as many tasks as are allowed together.
        """
        limit = self._limit()
        if not self._is_fresh or limit == 0:
            return
        count = min(count, TASKS_PER_ARRAY)
        script = self._folder / "worker.sh"
        write_text(script, self._script())
        try:
            with self._submitting() as lock:
                told = self._command(["sbatch", *self._options(count, limit), str(script)], keep_open=[lock])
                job = told.strip().partition(";")[0]
                self._submitted[job] = count
                if limit is not None:
                    self._limits[job] = limit
                self._write_record()
        except NoAnswerError as error:  # it may be there all the same; the next look finds it by its name
            self._no_answer(error)
            self._failed += 1
            if self._failed >= FAILURES and not self._alive:
                raise ClusterError(
                    f"sbatch failed {self._failed} times in a row while squeue answers: {error}",
                    hint=f"try it by hand: sbatch --array=0-0 {script}; then give the same command again",
                ) from error
            return
        except ClusterError as error:
            self._is_fresh = False
            self._refused += 1
            if self._refused >= REFUSALS and not self._alive:
                raise
            log.warning("search: %s", error.message)
            return
        self._refused = self._failed = 0
        self._alive.update({f"{job}_{index}": "PENDING" for index in range(count)})
        log.warning("search: submitted array %s of %d tasks (squeue --name=%s)", job, count, self.job_name)

    def _limit(self) -> int | None:
        """Return how many tasks a new array may run at the same time, so that all arrays together keep to max_running."""
        if self._settings.max_running is None:
            return None
        alive = Counter(task.partition("_")[0] for task in self._alive)
        taken = sum(min(count, self._limits.get(job, count)) for job, count in alive.items())
        return max(0, self._settings.max_running - taken)

    def _options(self, count: int, limit: int | None) -> list[str]:
        settings = self._settings
        options = [
            "--parsable",
            f"--array=0-{count - 1}{'' if limit is None else f'%{limit}'}",
            f"--job-name={self.job_name}",
            f"--chdir={Path.cwd()}",
            f"--output={self._log_folder}/slurm_%A_%a.log",
            "--open-mode=append",
            "--nodes=1",
            "--ntasks=1",
            f"--cpus-per-task={settings.cpus_per_worker or self._definition.search.threads_per_worker}",
            f"--mem={settings.memory_mb}M",
            f"--time={settings.runtime_minutes}",
            f"--signal=B:USR1@{settings.signal_seconds}",
            "--requeue",
        ]
        if self._gpus:
            options.append(f"--gres=gpu:{settings.gpu_type + ':' if settings.gpu_type else ''}{self._gpus}")
        for name in ("partition", "account", "qos", "constraint"):
            if value := getattr(settings, name):
                options.append(f"--{name}={value}")
        return [*options, *shlex.split(settings.sbatch_options)]

    def _script(self) -> str:
        options = worker_options(self._directory, self._definition.device, self._definition.search.threads_per_worker)
        python = self._settings.worker_python or shlex.quote(sys.executable)
        return SCRIPT.format(
            directory=self._directory,
            ends=shlex.quote(str(self._ends)),
            setup=self._settings.setup,
            command=f"{python} {shlex.join([*options, '--leave-when-idle'])}",
        )

    def stop(self, done: bool = False) -> None:
        """Cancel all tasks and wait until none is left; ``done``: those that run end by themselves first."""
        if done:
            with contextlib.suppress(NoAnswerError):
                deadline = time.monotonic() + LEAVE_SECONDS
                while self._cancel(self.job_name, {"PENDING"}) and time.monotonic() < deadline:
                    time.sleep(1.0)
        self._cancel_until_gone(self.job_name, time.monotonic() + STOP_SECONDS)
        self._alive.clear()

    def _cancel_until_gone(self, job_name: str, deadline: float) -> None:
        while True:
            try:
                if not self._cancel(job_name):
                    return
            except NoAnswerError as error:
                self._no_answer(error)
            if time.monotonic() > deadline:
                log.warning("search: array still there; once the cluster answers: scancel --name=%s", job_name)
                return
            time.sleep(1.0)

    def _cancel(self, job_name: str, states: set[str] | None = None) -> bool:
        """Cancel the tasks of a name that are in one of the states, of all if None, and say whether any task is left."""
        alive = {task: state for task, (state, _) in self._queue(job_name).items() if state not in ENDED}
        tasks = [task for task, state in alive.items() if state in states] if states else list(alive)
        tasks = [task for task in tasks if alive[task] != "COMPLETING"]
        for first in range(0, len(tasks), 200):
            self._command(["scancel", *tasks[first : first + 200]])
        return bool(alive)

    def leave(self) -> None:
        """Leave the array alone; the next controller of this study finds it."""
        log.warning("search: the array goes on; the same command finds it again (squeue --name=%s)", self.job_name)

    def last_words(self, name: str) -> str:
        """Return how the cluster says that a task ended, and the last lines of its log."""
        job, _, index = name.partition("_")
        return " | ".join(filter(None, [self._states.get(name, ""), last_lines(self._log_folder / f"slurm_{job}_{index}.log")]))
