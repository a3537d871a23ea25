import argparse
import json
import os
import signal
import subprocess
import threading
import time

import pytest

from calandria.base.errors import DeviceError, SettingsError
from calandria.base.processes import WORKFLOW
from calandria.search import slurm
from calandria.search.settings import ArraySettings
from calandria.search.slurm import DIED, ClusterError, NoAnswerError, SlurmArray, cluster_environment
from tests.helpers.searching import prepared, wait_for
from workflow_scripts.search.options import add_search_options, array_settings

REQUIRED = ["--directory=s", "--output-trials=t.csv", "--output-best=b.json", "--output-importance=i.png"]


class Cluster:
    """A cluster that answers as SLURM's commands do; tasks change their state only when a test says so."""

    def __init__(self):
        self.tasks, self.names, self.calls, self.trouble = {}, {}, [], {}
        self.last = 100

    def answer(self, words, keep_open=()):
        self.calls.append(list(words))
        trouble = self.trouble.get(words[0])
        if words[0] == "squeue":
            if trouble:
                raise trouble
            name = next(word.partition("=")[2] for word in words if word.startswith("--name="))
            rows = [(task, *state) for task, state in self.tasks.items() if self.names[task.partition("_")[0]] == name]
            return "".join(f"{task}|{state}|{reason}\n" for task, state, reason in rows)
        if words[0] == "scancel":
            for task in words[1:]:
                self.tasks[task] = ("CANCELLED", "None")
            return ""
        if isinstance(trouble, ClusterError):
            raise trouble
        self.last += 1
        name, array = (
            next(word.partition("=")[2] for word in words if word.startswith(f"--{key}=")) for key in ("job-name", "array")
        )
        self.names[str(self.last)] = name
        for index in range(int(array.partition("%")[0].partition("-")[2]) + 1):
            self.tasks[f"{self.last}_{index}"] = ("PENDING", "Priority")
        if trouble:
            raise trouble
        return f"{self.last}\n"

    def submissions(self):
        return [words for words in self.calls if words[0] == "sbatch"]


@pytest.fixture
def cluster(monkeypatch):
    found = Cluster()
    monkeypatch.setattr(SlurmArray, "_command", lambda self, words, keep_open=(): found.answer(words, keep_open))
    monkeypatch.setattr(slurm.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(slurm.time, "sleep", lambda seconds: None)
    return found


def launcher(tmp_path, name="s", settings=None, **options):
    folder, definition = prepared(tmp_path / name, **options)
    array = SlurmArray(folder, definition, ArraySettings(**(settings or {})))
    array._settings = array._settings.model_copy(update={"poll_seconds": 0.0})  # every call looks
    return array


def test_an_array_asks_for_what_the_settings_say(tmp_path, cluster):
    settings = {"partition": "gpu", "account": "me", "qos": "low", "runtime_minutes": 90, "memory_mb": 500, "max_running": 3}
    more = {
        "cpus_per_worker": 4,
        "gpus": 2,
        "gpu_type": "a100",
        "constraint": "ib&a100",
        "sbatch_options": "--comment='a b' --nice",
    }
    array = launcher(tmp_path, settings=settings | more)
    array.start(8)
    (words,) = cluster.submissions()
    for word in ("--array=0-7%3", "--partition=gpu", "--account=me", "--qos=low", "--time=90", "--mem=500M", "--cpus-per-task=4"):
        assert word in words
    assert {
        "--gres=gpu:a100:2",
        "--constraint=ib&a100",
        "--comment=a b",
        "--nice",
        "--requeue",
        "--signal=B:USR1@120",
        "--parsable",
    } <= set(words)
    assert array.states() == {f"101_{index}": None for index in range(8)}
    record = json.loads((tmp_path / "s/cluster/array.json").read_text())
    assert record == {"job_name": array.job_name, "arrays": {"101": 8}, "limits": {"101": 3}, "gpus_per_worker": 2}


@pytest.mark.parametrize(("device", "gpus"), [("cpu", 0), ("cuda", 1)])
def test_a_worker_gets_a_gpu_where_the_study_computes_on_one(tmp_path, cluster, device, gpus):
    launcher(tmp_path, device=device).start(1)
    (words,) = cluster.submissions()
    assert [word for word in words if "gres" in word] == ["--gres=gpu:1"] * gpus


def test_the_limit_of_running_tasks_holds_for_all_arrays_together(tmp_path, cluster):
    array = launcher(tmp_path, settings={"max_running": 3})
    array.start(2)
    array.start(4)
    array.start(2)  # three may run already
    assert [words[2] for words in cluster.submissions()] == ["--array=0-1%3", "--array=0-3%1"]
    cluster.tasks["101_0"] = ("COMPLETED", "None")
    again = launcher(tmp_path, settings={"max_running": 3})
    again.start(1)
    again.start(1)
    cluster.tasks["101_1"] = ("COMPLETED", "None")
    again.states()
    again.start(2)
    assert [words[2] for words in cluster.submissions()][2:] == ["--array=0-0%1", "--array=0-1%1"]


def test_the_array_of_a_killed_controller_is_found_again(tmp_path, cluster):
    launcher(tmp_path).start(3)
    cluster.tasks["101_1"] = ("COMPLETED", "None")
    again = launcher(tmp_path)
    assert again.states() == {"101_0": None, "101_2": None}, "what ended before is no news"
    cluster.tasks["101_0"] = ("FAILED", "NonZeroExitCode")
    assert again.states() == {"101_0": DIED, "101_2": None}


def test_an_array_that_no_controller_could_note_is_found_by_its_name(tmp_path, cluster):
    launcher(tmp_path).start(2)
    (tmp_path / "s/cluster/array.json").unlink()
    assert launcher(tmp_path).states() == {"101_0": None, "101_1": None}
    assert launcher(tmp_path, "elsewhere").states() == {}, "the same study in another folder has its own array"


def test_an_array_accepted_without_an_answer_is_not_submitted_twice(tmp_path, cluster):
    array = launcher(tmp_path)
    cluster.trouble["sbatch"] = NoAnswerError("sbatch: Socket timed out on send/recv operation")
    array.start(2)
    array.start(2)  # not before the queue was seen
    assert array.states() == {"101_0": None, "101_1": None} and len(cluster.submissions()) == 1


def test_a_silent_cluster_changes_nothing(tmp_path, cluster, caplog):
    array = launcher(tmp_path)
    array.start(2)
    cluster.trouble["squeue"] = NoAnswerError("squeue: Unable to contact slurm controller")
    cluster.tasks["101_0"] = ("FAILED", "NonZeroExitCode")
    assert array.states() == {"101_0": None, "101_1": None} == array.states()
    array.start(1)
    assert len(cluster.submissions()) == 1
    assert caplog.text.count("no answer from the cluster") == 1
    del cluster.trouble["squeue"]
    assert array.states() == {"101_0": DIED, "101_1": None} and "the cluster answers again" in caplog.text
    array.start(1)
    assert len(cluster.submissions()) == 2


def test_a_controller_that_starts_while_the_cluster_is_silent_waits(tmp_path, cluster):
    launcher(tmp_path).start(2)
    cluster.tasks["101_0"] = ("FAILED", "NonZeroExitCode")
    cluster.trouble["squeue"] = NoAnswerError("squeue: timed out")
    again = launcher(tmp_path)
    assert again.states() == {}
    again.start(2)
    assert len(cluster.submissions()) == 1
    del cluster.trouble["squeue"]
    assert again.states() == {"101_1": None}


def test_refusals_end_a_search_only_if_they_persist_and_nobody_works(tmp_path, cluster):
    array = launcher(tmp_path)
    array.start(1)
    cluster.trouble["sbatch"] = ClusterError("sbatch refuses the array: invalid account", hint="x")
    for _ in range(5):
        array.start(1)
        array.states()
    cluster.tasks["101_0"] = ("COMPLETED", "None")
    array.states()
    with pytest.raises(ClusterError, match="invalid account"):
        array.start(1)


def test_what_was_taken_for_a_passing_trouble_ends_a_search_in_which_nobody_works(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(slurm, "FAILURES", 4)
    array = launcher(tmp_path)
    array.start(1)
    cluster.trouble["sbatch"] = NoAnswerError("sbatch: the site's filter timed out")
    for _ in range(5):
        array.start(1)
        cluster.tasks = {task: state for task, state in cluster.tasks.items() if task == "101_0"}  # none was accepted
        array.states()
    cluster.tasks["101_0"] = ("COMPLETED", "None")
    array.states()
    with pytest.raises(ClusterError, match=r"failed 6 times in a row while squeue answers: .*filter timed out"):
        array.start(1)


@pytest.mark.parametrize("state", [*sorted(slurm.ENDED), None])
def test_the_end_of_a_task_is_its_workers_exit_status(tmp_path, cluster, state):
    array = launcher(tmp_path)
    array.start(3)
    (tmp_path / "s/cluster/ends/101_0").write_text("0\n")
    (tmp_path / "s/cluster/ends/101_1").write_text("2\n")
    (tmp_path / "s/logs/slurm_101_1.log").write_text("error: no such device\nhint: ask for one\n")
    for task in list(cluster.tasks):
        if state is None:
            del cluster.tasks[task]  # forgotten by the cluster
        else:
            cluster.tasks[task] = (state, "None")
    assert array.states() == {"101_0": 0, "101_1": 2, "101_2": DIED}
    assert array.last_words("101_1").endswith("error: no such device | hint: ask for one")
    for task in ("101_0", "101_1", "101_2"):
        array.forget(task)
    assert array.states() == {} and not list((tmp_path / "s/cluster/ends").iterdir())


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "SUSPENDED", "STOPPED"])
def test_a_task_in_any_other_state_is_there(tmp_path, cluster, state):
    array = launcher(tmp_path)
    array.start(1)
    (tmp_path / "s/cluster/ends/101_0").write_text("75\n")
    cluster.tasks["101_0"] = (state, "None")
    assert array.states() == {"101_0": None}


@pytest.mark.parametrize("reason", ["launch failed requeued held", "launch_failed_requeued_held"])
def test_a_task_that_never_starts_is_cancelled_and_counts_as_dead(tmp_path, cluster, reason):
    array = launcher(tmp_path)
    array.start(1)
    cluster.tasks["101_0"] = ("PENDING", reason)
    assert array.states() == {"101_0": DIED} and cluster.tasks["101_0"][0] == "CANCELLED"


def test_the_array_of_another_study_in_this_folder_is_cancelled(tmp_path, cluster):
    launcher(tmp_path).start(2)
    other = launcher(tmp_path, steps=5)
    assert other.states() == {} and {state for state, _ in cluster.tasks.values()} == {"CANCELLED"}


def test_stopping_leaves_no_task_and_an_end_lets_workers_leave(tmp_path, cluster, monkeypatch):
    array = launcher(tmp_path)
    array.start(3)
    cluster.tasks["101_0"] = ("RUNNING", "None")
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        cluster.tasks["101_0"] = ("COMPLETED", "None")

    monkeypatch.setattr(slurm.time, "sleep", sleep)
    array.stop(done=True)
    assert slept and [words for words in cluster.calls if words[0] == "scancel"] == [["scancel", "101_1", "101_2"]]
    array.start(1)
    array.stop()
    assert cluster.tasks["102_0"][0] == "CANCELLED"


def test_leaving_touches_nothing(tmp_path, cluster):
    array = launcher(tmp_path)
    array.start(2)
    before = len(cluster.calls)
    array.leave()
    assert len(cluster.calls) == before


def test_a_machine_without_slurm_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="sbatch and squeue and scancel not found"):
        launcher(tmp_path)


def program(folder, name, text):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)", NoAnswerError),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", NoAnswerError),
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", NoAnswerError),
        ("sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received", NoAnswerError),
        ("sbatch: error: Batch job submission failed: Message receive failure", NoAnswerError),
        ("sbatch: error: Batch job submission failed: Protocol authentication error", NoAnswerError),
        ("sbatch: error: Batch job submission failed: Slurm backup controller in standby mode", NoAnswerError),
        ("sbatch: error: Batch job submission failed: Resource temporarily unavailable", NoAnswerError),
        ("sbatch: error: invalid partition specified: nowhere", ClusterError),
        ("sbatch: error: invalid partition specified: temporary", ClusterError),
        ("sbatch: error: You are not authorized to use account materials", ClusterError),
        ("sbatch: error: Batch job submission failed: Invalid qos specification: controller", ClusterError),
        ("sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified", ClusterError),
        ("sbatch: error: Batch job submission failed: Requested node configuration is not available", ClusterError),
    ],
)
def test_what_may_pass_is_told_from_what_will_not(tmp_path, monkeypatch, said, error):
    for name in ("squeue", "scancel"):
        program(tmp_path, name, "exit 0")
    program(tmp_path, "sbatch", f"echo '{said}' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    array = launcher(tmp_path)
    with pytest.raises(error, match="sbatch"):
        array._command(["sbatch", "x"])


def test_a_new_controller_waits_for_an_sbatch_that_outlived_the_former(tmp_path, monkeypatch):
    program(tmp_path, "squeue", "exit 0")
    program(tmp_path, "scancel", "exit 0")
    program(
        tmp_path,
        "sbatch",
        f"touch {tmp_path}/begun; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; touch {tmp_path}/ended; echo 7",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    array = launcher(tmp_path)
    controller = os.fork()
    if not controller:
        array.start(1)
        os._exit(0)
    wait_for(lambda: (tmp_path / "begun").exists())
    os.kill(controller, signal.SIGKILL)
    os.waitpid(controller, 0)
    assert not (tmp_path / "ended").exists()
    going = threading.Timer(0.3, (tmp_path / "go").touch)
    going.start()
    launcher(tmp_path)
    going.join()
    assert (tmp_path / "ended").exists()


def test_tasks_inherit_nothing_of_our_job_and_our_workflow(monkeypatch):
    for name, text in {"SLURM_JOB_ID": "1", "SLURM_CONF": "/etc/x", WORKFLOW: "1 2 3", "OTHER": "kept"}.items():
        monkeypatch.setenv(name, text)
    kept = cluster_environment()
    assert kept["OTHER"] == "kept" and kept["SLURM_CONF"] == "/etc/x" and not {"SLURM_JOB_ID", WORKFLOW} & set(kept)


@pytest.fixture
def script(tmp_path, cluster, monkeypatch):
    """Return a function that starts the script of a task with a worker of a few lines instead of ours."""
    started = []

    def start(worker):
        program(tmp_path, "worker", worker)
        program(tmp_path, "scontrol", f"echo $@ > {tmp_path}/requeued")
        array = launcher(tmp_path, settings={"worker_python": f"{tmp_path}/worker", "setup": "export TOY_SETUP=done"})
        path = tmp_path / "worker.sh"
        path.write_text(array._script())
        environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
        environment |= {"SLURM_ARRAY_JOB_ID": "101", "SLURM_ARRAY_TASK_ID": "4"}
        started.append(subprocess.Popen(["bash", path], env=environment))
        return started[-1], tmp_path / "s/cluster/ends/101_4", tmp_path / "requeued"

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_task_runs_its_setup_and_leaves_its_workers_status(script, tmp_path):
    process, end, requeued = script(f'echo "$TOY_SETUP $@" > {tmp_path}/said; exit 3')
    assert process.wait(10) == 3 and end.read_text() == "3\n" and not requeued.exists()
    said = (tmp_path / "said").read_text()
    assert said.startswith("done -m workflow_scripts.search.run_worker") and "--leave-when-idle --worker-name slurm_101_4" in said


@pytest.mark.parametrize(
    ("number", "status", "is_requeued"),
    [(signal.SIGUSR1, 75, True), (signal.SIGUSR1, 0, False), (signal.SIGTERM, 75, False), (signal.SIGTERM, 0, False)],
)
def test_a_task_passes_signals_on_and_asks_to_be_requeued_for_its_time_limit_only(script, tmp_path, number, status, is_requeued):
    process, end, requeued = script(f"trap 'exit {status}' TERM; touch {tmp_path}/ready; while :; do sleep 0.05; done")
    deadline = time.monotonic() + 300
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < deadline
    process.send_signal(number)
    assert process.wait(10) == status
    assert requeued.exists() == is_requeued and end.exists() != is_requeued
    if is_requeued:
        assert requeued.read_text() == "requeue 101_4\n"


@pytest.mark.parametrize(("number", "is_requeued"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_a_worker_told_to_stop_while_it_starts_counts_as_stopped(script, tmp_path, number, is_requeued):
    process, end, requeued = script(f"touch {tmp_path}/ready; exec sleep 20")  # as Python does that loads its modules
    wait_for(lambda: (tmp_path / "ready").exists())
    process.send_signal(number)
    assert process.wait(10) == 75 and requeued.exists() == is_requeued
    assert end.exists() != is_requeued and (is_requeued or end.read_text() == "75\n")


def test_a_worker_that_nobody_told_to_stop_leaves_its_status(script):
    process, end, requeued = script("kill -TERM $$")
    assert process.wait(10) == 143 and end.read_text() == "143\n" and not requeued.exists()


def test_a_killed_worker_leaves_the_status_of_its_signal(script):
    process, end, _ = script("kill -9 $$")
    assert process.wait(10) == 137 and end.read_text() == "137\n"


def parsed(*options):
    parser = argparse.ArgumentParser()
    add_search_options(parser)
    return parser.parse_args([*REQUIRED, *options])


def test_options_become_settings_and_empty_ones_their_defaults():
    assert array_settings(parsed()) == ArraySettings()
    options = ["--partition=gpu", "--runtime-minutes=30", "--gpus=", "--sbatch-options=--nice --exclude=n7", "--poll-seconds=2.5"]
    assert array_settings(parsed(*options)) == ArraySettings(
        partition="gpu", runtime_minutes=30, sbatch_options="--nice --exclude=n7", poll_seconds=2.5
    )


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--runtime-minutes=1", "leave nothing of runtime_minutes"),
        ("--memory-mb=lots", "memory_mb: expected a whole number, found 'lots'"),
        ("--partition=a b", "partition"),
        ("--constraint=ib or a100", "constraint"),
        ("--sbatch-options=exclude=x", "expected options such as --exclude=node7"),
        ("--sbatch-options=--a='", "cannot be split"),
    ],
)
def test_wrong_options_are_told(option, words):
    with pytest.raises(SettingsError, match=words):
        array_settings(parsed(option))
