"""A run takes its study over: locks, tokens, and SLURM jobs of an earlier run, asked from programs that the test puts in place."""

import errno
import inspect
import os
import subprocess
import sys
import time
from types import SimpleNamespace
from unittest.mock import ANY

import pytest
import snakemake.api
from snakemake_executor_plugin_slurm import ExecutorSettings

from calandria.base import files
from calandria.base.errors import DeviceError, InputFileError
from calandria.cluster import runs
from calandria.cluster.runs import Run, check_token, end_older_jobs, folder_word, guard_runs, require_slurm
from tests.helpers.locks import alive


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Return a study's folder; no queue answers unless a test says so."""
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    monkeypatch.delenv(runs.TOKEN, raising=False)
    for name in ("QUEUE_SECONDS", "LIFE_SECONDS"):
        monkeypatch.setattr(runs, name, 0.02)
    monkeypatch.setattr(runs, "WATCH_SECONDS", 0.3)
    monkeypatch.setattr(runs, "QUEUE_PATIENCE_SECONDS", 0.1)
    (tmp_path / "programs").mkdir()
    (tmp_path / "study").mkdir()
    return tmp_path / "study"


def install(study, name, lines):
    program = study.parent / "programs" / name
    program.write_text("#!/bin/sh\n" + lines)
    program.chmod(0o755)


def lock_lines(study):
    return (study / ".lock").read_text().splitlines()


def test_a_run_writes_its_token_into_the_lock_and_gives_it_to_its_jobs(study):
    run = Run(str(study))
    assert run.started is None
    run.take_over(slurm=False)
    assert run.started == pytest.approx(time.time(), abs=60)
    assert lock_lines(study)[0] == f"process {os.getpid()} on {runs.socket.gethostname()}"
    assert lock_lines(study)[1:] == [os.environ[runs.TOKEN]] and len(os.environ[runs.TOKEN]) == 32
    check_token(study)
    with pytest.raises(InputFileError, match=f"is being worked on by process {os.getpid()} on "):
        Run(str(study)).take_over(slurm=False)


@pytest.mark.parametrize("present", [None, "", "process 1 on a\n", "process 1 on a\nanother\n"])
def test_a_job_of_another_run_is_refused(study, monkeypatch, present):
    check_token(study)  # no token: no job of ours
    monkeypatch.setenv(runs.TOKEN, "mine")
    if present is not None:
        (study / ".lock").write_text(present)
    with pytest.raises(InputFileError, match=r"belongs to a run of .* that has ended"):
        check_token(study)
    (study / ".lock").write_text("process 1 on a\nanother\nmine\n")  # killed, and its programs are awaited
    with pytest.raises(InputFileError, match="it writes nothing"):
        check_token(study)
    (study / ".lock").write_text("process 1 on a\nmine\n")
    check_token(study)


def test_a_lock_of_another_machine_is_kept_while_it_shows_life(study):
    lock = study / ".lock"
    lock.write_text("process 7 on elsewhere\ntoken\n")
    with alive(lock):
        with pytest.raises(InputFileError, match="is being worked on by process 7 on elsewhere"):
            Run(str(study)).take_over(slurm=False)
        assert lock_lines(study) == ["process 7 on elsewhere", "token"]
    Run(str(study)).take_over(slurm=False)
    assert lock_lines(study)[0].startswith(f"process {os.getpid()} on ")


def test_a_lock_of_this_machine_is_watched_where_the_file_system_has_no_locks(study, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files.fcntl, "flock", flock)
    first = Run(str(study))
    with pytest.warns(UserWarning, match=r"cannot be locked \(No locks available\)"):
        first.take_over(slurm=False)
    with pytest.raises(InputFileError, match=f"is being worked on by process {os.getpid()} on "):
        Run(str(study)).take_over(slurm=False)
    first._lock.close()  # as when it is killed
    first._lock = None
    with pytest.warns(UserWarning):
        Run(str(study)).take_over(slurm=False)
    assert lock_lines(study)[1:] == [os.environ[runs.TOKEN], ANY]


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_a_run_that_is_stopped_while_it_waits_leaves_word_of_the_killed_ones(study, monkeypatch, end):
    """Killed by -9 it leaves the same: what stands in the file while it waits."""
    (study / ".lock").write_text(f"process 7 on {runs.socket.gethostname()}\nold\n")
    monkeypatch.setattr(runs, "LIFE_SECONDS", 60.0)  # a sign of life under way would keep a lock that is given back
    waited = []

    def stopped(token):
        waited.append((token, lock_lines(study)))
        raise end

    with monkeypatch.context() as patch:
        patch.setattr(runs, "_await_programs", stopped)
        with pytest.raises(end):
            Run(str(study)).take_over(slurm=False)
    second = os.environ[runs.TOKEN]
    assert waited == [("old", lock_lines(study))] and lock_lines(study)[1:] == [second, "old"]
    awaited = []
    monkeypatch.setattr(runs, "_await_programs", awaited.append)
    run = Run(str(study))
    run.take_over(slurm=False)
    assert awaited == [second, "old"] and lock_lines(study)[1:] == [os.environ[runs.TOKEN], second, "old"]
    run.end()
    Run(str(study)).take_over(slurm=False)
    assert awaited == [second, "old"]


def test_programs_of_a_killed_run_are_awaited_but_not_workers_of_arrays(study, monkeypatch):
    (study / ".lock").write_text(f"process 7 on {runs.socket.gethostname()}\nold\n")
    code = [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"]
    environments = {runs.TOKEN: "old"}, {runs.TOKEN: "old", "SLURM_JOB_ID": "3"}, {runs.TOKEN: "other"}
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    started = [subprocess.Popen(code, env=variables, stdout=subprocess.PIPE) for variables in environments]
    try:
        for program in started:
            program.stdout.readline()
        monkeypatch.setattr(runs, "PROGRAMS_SECONDS", 0.3)
        run = Run(str(study))
        with pytest.raises(InputFileError, match=f"programs of a killed run .* at work: processes {started[0].pid}\n"):
            run.take_over(slurm=False)
        assert lock_lines(study)[2:] == ["old"], "they are known to the next run, too"
        monkeypatch.setenv("SLURM_JOB_ID", "3")  # all of it is in one allocation
        with pytest.raises(InputFileError, match=rf"at work: processes .*\b{started[1].pid}\b"):
            run.take_over(slurm=False)
        monkeypatch.delenv("SLURM_JOB_ID")
        started[0].kill()
        started[0].wait()
        run.take_over(slurm=False)
        assert [program.poll() for program in started[1:]] == [None, None]
    finally:
        for program in started:
            program.kill()
            program.communicate()


def test_a_run_shows_life(study):
    run = Run(str(study))
    run.take_over(slurm=False)
    os.utime(study / ".lock", (0, 0))
    deadline = time.monotonic() + 10
    while (study / ".lock").stat().st_mtime == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (study / ".lock").stat().st_mtime > 0


def test_words_of_folders_differ_and_do_not_depend_on_how_they_are_named(study, monkeypatch):
    (study.parent / "link").symlink_to(study)
    monkeypatch.chdir(study.parent)
    assert folder_word("study") == folder_word(study) == folder_word(study.parent / "link") != folder_word(study.parent)
    assert len(folder_word(study)) + len("_") + 20 <= 50, "the plugin's limit for prefixes of names"


QUEUE = """
here={here}
calls=$(cat $here/calls 2>/dev/null || echo 0)
echo $((calls + 1)) > $here/calls
if [ $calls -lt 2 ]; then echo "1 RUNNING x_{word}_u"; fi
if [ $calls -lt 1 ]; then echo "2 PENDING {word}_u"; echo "3 FAILED {word}_u"; echo "6 REQUEUE_HOLD {word}_u"; fi
echo "4 RUNNING calandria-000000000000_u"
echo "5_[1-3] PENDING calandria_search_x"
"""


def test_waiting_jobs_are_cancelled_and_working_ones_awaited(study, capsys):
    word = folder_word(study)
    install(study, "squeue", QUEUE.format(here=study.parent, word=word))
    install(study, "scancel", f'echo "$@" >> {study.parent}/cancelled\n')
    os.environ["PATH"] += ":/usr/bin:/bin"
    end_older_jobs(word, must_answer=True)
    assert (study.parent / "cancelled").read_text() == "--state=PENDING 2\n6\n"
    assert (study.parent / "calls").read_text() == "3\n"
    told = capsys.readouterr().err
    assert told.count("waiting for 1 SLURM jobs") == 1 and told.splitlines()[0].endswith(": 1")


def test_a_queue_that_does_not_answer_stops_a_run_on_slurm_and_no_other(study):
    install(study, "squeue", "echo down >&2; exit 1\n")
    end_older_jobs("word", must_answer=False)
    with pytest.raises(DeviceError, match=r"squeue does not answer \(down\)"):
        end_older_jobs("word", must_answer=True)


def test_missing_programs_of_slurm_are_named(study):
    install(study, "sbatch", "")
    with pytest.raises(DeviceError, match="to SLURM, but squeue, scancel, srun cannot be found"):
        require_slurm()


class Workflow:
    """What of Snakemake's workflow matters here."""

    def __init__(self, main=True):
        self.is_main_process, self.executed = main, []

    def execute(self, executor_plugin, executor_settings, scheduler_plugin=None):
        self.executed.append((executor_settings, scheduler_plugin))
        return "done"


def plugin(dryrun=False):
    return SimpleNamespace(common_settings=SimpleNamespace(dryrun_exec=dryrun))


def test_execution_begins_with_taking_over_and_dry_runs_do_not(study):
    workflow = Workflow()
    run = guard_runs(workflow, str(study))
    assert workflow.execute(executor_plugin=plugin(dryrun=True), executor_settings=None) == "done"
    assert run.started is None and not (study / ".lock").exists()
    assert workflow.execute(executor_plugin=plugin(), executor_settings=None, scheduler_plugin=3) == "done"
    assert run.started is not None and workflow.executed[-1] == (None, 3)


def test_names_of_slurm_jobs_begin_with_the_users_prefix_and_the_folders_word(study):
    for name in runs.SLURM_PROGRAMS:
        install(study, name, "")
    for prefix, named in (("", folder_word(study)), ("mine", f"mine_{folder_word(study)}")):
        workflow, settings = Workflow(), SimpleNamespace(jobname_prefix=prefix)
        run = guard_runs(workflow, str(study))
        workflow.execute(executor_plugin=plugin(), executor_settings=settings)
        assert settings.jobname_prefix == named
        run.end()
        assert lock_lines(study) == []


def test_without_slurm_its_profile_ends_in_two_lines(study):
    workflow = Workflow()
    guard_runs(workflow, str(study))
    with pytest.raises(SystemExit) as ended:
        workflow.execute(executor_plugin=plugin(), executor_settings=SimpleNamespace(jobname_prefix=""))
    lines = str(ended.value).splitlines()
    assert lines[0].startswith("error: jobs are to be submitted to SLURM") and lines[1].startswith("hint: ") and len(lines) == 2
    assert not workflow.executed and not (study / ".lock").exists()


def test_a_job_ends_before_it_writes_where_its_run_has_ended(study, monkeypatch):
    monkeypatch.setenv(runs.TOKEN, "old")
    with pytest.raises(SystemExit, match="error: this job belongs to a run"):
        guard_runs(Workflow(main=False), str(study))
    monkeypatch.delenv(runs.TOKEN)
    workflow = Workflow(main=False)
    guard_runs(workflow, str(study))
    assert workflow.execute(plugin(), None) == "done" and not (study / ".lock").exists()


def test_the_installed_snakemake_is_executed_as_we_expect():
    """Our hook leans on names that Snakemake does not promise."""
    assert {"executor_plugin", "executor_settings"} <= set(inspect.signature(snakemake.api.Workflow.execute).parameters)
    assert (
        isinstance(snakemake.api.Workflow.is_main_process, property) and "jobname_prefix" in ExecutorSettings.__dataclass_fields__
    )
