"""A search whose workers are tasks of a SLURM array, with its kills one by one."""

import re
import shlex
import signal
import subprocess
import sys

import pytest

from calandria.base.records import read_table
from calandria.search.locks import OwnedLock
from tests.helpers import slurm
from tests.helpers.arrays import ArraySearch, kill
from tests.helpers.searching import ROOT, diary

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


def scontrol(job):
    told = subprocess.run(["scontrol", "show", "job", "-d", job], capture_output=True, text=True, check=True, timeout=120).stdout
    return dict(word.split("=", 1) for word in told.split() if "=" in word)


def test_an_array_with_gpus_runs_the_exact_budget(tmp_path):
    options = [
        "--gpus=1",
        "--gpu-type=fake",
        "--max-running=3",
        "--sbatch-options=--nice=1",
        "--setup=export TOY_SETUP=1; sleep 0.1",
    ]
    with ArraySearch(tmp_path / "s", 4, options, n_trials=10, toy={"steps": 3, "sleep_s": 0.3}) as search:
        controller = search.start()
        search.wait_for_steps(3)
        (array,) = search.arrays()
        task = scontrol(f"{array}_0")
        assert task["ArrayTaskThrottle"] == "3" and task["Nice"] == "1" and task["Requeue"] == "1"
        assert "gpu:fake:1" in task["TresPerNode"] and task["JobName"].startswith("calandria_search_toy")
        assert 2 <= list(search.tasks().values()).count("RUNNING") <= 3
        search.finish(controller)
        search.check(10)
        workers = {row["worker"] for row in read_table(f"{search.folder}.csv")}
        assert len(workers) >= 2 and workers <= {f"slurm_{array}_{index}" for index in range(4)}
        # the same command does nothing, a larger budget goes on
        search.finish(search.start())
        assert search.arrays() == {array}


def test_a_killed_worker_loses_no_trial(tmp_path):
    with ArraySearch(tmp_path / "s", 2, n_trials=6, toy={"steps": 8, "sleep_s": 0.25}) as search:
        controller = search.start()
        search.wait_for_steps(6)
        assert kill(search.workers()[0])
        search.wait(lambda: len(search.arrays()) == 2)  # the missing worker is asked for again
        search.finish(controller)
        search.check(6)
        resumed = [entry["first"] for entry in diary(search.study) if entry["word"] == "start" and entry["first"] > 0]
        assert resumed, "the killed worker's trial went on where its checkpoint was"


def test_a_killed_controller_finds_its_array_again(tmp_path):
    with ArraySearch(tmp_path / "s", 2, n_trials=6, toy={"steps": 12, "sleep_s": 0.6}) as search:
        controller = search.start()
        search.wait_for_steps(5)
        before = search.arrays()
        controller.kill()
        controller.wait()
        steps = sum(entry["word"] == "step" for entry in diary(search.study))
        search.wait_for_steps(steps + 3)  # the array goes on without it
        again = search.start()
        search.finish(again)
        assert search.arrays() == before
        assert "at work or waiting" in search.said()
        search.check(6)


def test_a_stopped_controller_cancels_its_array_first(tmp_path):
    with ArraySearch(tmp_path / "s", 3, n_trials=6, toy={"steps": 8, "sleep_s": 0.25}) as search:
        controller = search.start()
        search.wait_for_steps(5)
        controller.send_signal(signal.SIGTERM)
        assert controller.wait(120) == 143
        assert search.tasks() == {} and search.workers() == []
        assert not list((search.folder / "leases").glob("*/*.lease")), "workers gave their trials back"
        search.finish(search.start())
        search.check(6)


def test_cancelled_tasks_and_arrays_are_asked_for_again(tmp_path):
    with ArraySearch(tmp_path / "s", 3, n_trials=8, toy={"steps": 8, "sleep_s": 0.25}) as search:
        controller = search.start()
        search.wait_for_steps(8)
        task = next(task for task, state in search.tasks().items() if state == "RUNNING")
        subprocess.run(["scancel", task], check=True, timeout=120)
        search.wait(lambda: len(search.arrays()) == 2)
        search.wait_for_steps(18)
        subprocess.run(["scancel", *search.arrays()], check=True, timeout=120)
        search.wait(lambda: len(search.arrays()) == 3)
        search.finish(controller)
        search.check(8)


def test_a_worker_at_its_time_limit_is_requeued_and_goes_on(tmp_path):
    options = ["--runtime-minutes=1", "--signal-seconds=45"]  # SLURM looks every 30 s, so it tells after 15 to 45 s
    with ArraySearch(tmp_path / "s", 1, options, n_trials=1, toy={"steps": 50, "sleep_s": 1.0}) as search:
        controller = search.start()
        search.wait_for_steps(1)
        (array,) = search.arrays()
        search.finish(controller)
        assert search.arrays() == {array} and int(scontrol(f"{array}_0")["Restarts"]) >= 1
        search.check(1)
        firsts = [entry["first"] for entry in diary(search.study) if entry["word"] == "start"]
        assert len(firsts) >= 2 and firsts == sorted(set(firsts))


def test_a_worker_whose_node_is_set_down_is_requeued_and_loses_no_trial(tmp_path):
    def under_way():
        trials = {word: {entry["trial"] for entry in diary(search.study) if entry["word"] == word} for word in ("step", "end")}
        return trials["step"] - trials["end"]

    with ArraySearch(tmp_path / "s", 4, n_trials=10, toy={"steps": 12, "sleep_s": 0.5}) as search:
        controller = search.start()
        search.wait(lambda: len(under_way()) == 4)
        (array,) = search.arrays()
        nodes = {index: scontrol(f"{array}_{index}")["NodeList"] for index in range(4)}
        assert set(nodes.values()) == {"n1", "n2"}
        slurm.set_node("n2", "down")
        lost = [index for index, node in nodes.items() if node == "n2"]
        search.wait(lambda: all(int(scontrol(f"{array}_{index}")["Restarts"]) >= 1 for index in lost))
        slurm.wait_for_nodes(60)
        search.finish(controller)
        assert search.arrays() == {array}, "SLURM starts the same tasks again"
        search.check(10)
        assert any(entry["first"] > 0 for entry in diary(search.study) if entry["word"] == "start"), "trials went on"


def test_of_two_controllers_one_wins_and_the_other_says_so(tmp_path):
    with ArraySearch(tmp_path / "s", 2, n_trials=4, toy={"steps": 20, "sleep_s": 0.6}) as search:
        pair = [search.start(), search.start()]
        search.wait(lambda: any(controller.poll() is not None for controller in pair))
        loser = next(controller for controller in pair if controller.poll() is not None)
        (winner,) = [controller for controller in pair if controller is not loser]
        assert (
            loser.returncode == 2 and f"process {winner.pid} on " in search.said() and "already runs the search" in search.said()
        )
        search.finish(winner)
        assert len(search.arrays()) == 1
        search.check(4)


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"no tmpfs can be mounted: {done.stderr}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_is_told_and_the_search_goes_on_when_there_is_room(small_disk, tmp_path):
    toy = {"steps": 8, "sleep_s": 0.25, "diary": str(tmp_path / "s.diary")}
    with ArraySearch(small_disk / "s", 2, said=tmp_path / "said", n_trials=6, toy=toy) as search:
        controller = search.start()
        search.wait(
            lambda: len((tmp_path / "s.diary").read_text().splitlines()) > 8 if (tmp_path / "s.diary").exists() else False
        )
        filler = small_disk / "filler"
        with open(filler, "wb", buffering=0) as stream:
            try:
                while True:
                    stream.write(bytes(4096))
            except OSError:
                pass
        assert controller.wait(240) == 2, search.said()
        assert "No space left on device" in search.said() and "hint: " in search.said()
        assert search.tasks() == {}
        filler.unlink()
        search.finish(search.start())
        (small_disk / "s.diary").write_text((tmp_path / "s.diary").read_text())
        search.check(6)


SHIM = """#!/bin/sh
if [ -e {flag} ]; then
    echo "$(basename $0): error: Unable to contact slurm controller (connect failure)" >&2
    exit 1
fi
exec {program} "$@"
"""


def test_a_cluster_that_does_not_answer_for_a_while_ends_nothing(tmp_path):
    flag = tmp_path / "silent"
    (tmp_path / "bin").mkdir()
    for name in ("sbatch", "squeue", "scancel"):
        shim = tmp_path / "bin" / name
        shim.write_text(SHIM.format(flag=flag, program=slurm.which(name)))
        shim.chmod(0o755)
    flag.touch()
    with ArraySearch(tmp_path / "s", 2, path=tmp_path / "bin", n_trials=6, toy={"steps": 8, "sleep_s": 0.25}) as search:
        controller = search.start()
        search.wait(lambda: "no answer from the cluster" in search.said())
        flag.unlink()
        search.wait_for_steps(6)
        flag.touch()
        assert kill(search.workers()[0])
        search.wait_for_steps(12)
        flag.unlink()
        search.finish(controller)
        assert search.said().count("the cluster answers again") >= 2
        search.check(6)


def test_a_refused_array_is_told_in_two_lines(tmp_path):
    with ArraySearch(tmp_path / "s", 2, ["--partition=nowhere"], n_trials=2) as search:
        assert search.start().wait(120) == 2
        assert "error: sbatch refuses the array: " in search.said() and "invalid partition" in search.said().lower()
        assert "hint: check partition" in search.said()


def test_a_search_in_which_most_fail_stops_early_and_leaves_no_task(tmp_path):
    with ArraySearch(tmp_path / "s", 2, n_trials=50, toy={"fail_always": True}) as search:
        assert search.start().wait(120) == 2
        assert re.search(
            r"stops early: (3|4) of \1 finished trials failed", search.said()
        )  # the other worker may end one meanwhile
        assert search.tasks() == {}


def by_hand(search, name):
    """Submit a worker by the command of docs/cluster.md, smaller, and return the job's number."""
    block = re.search(r"```\n(sbatch --array=.*?)```", (ROOT / "docs/cluster.md").read_text(), re.DOTALL)[1].replace("\\\n", " ")
    small = {
        "--array=0-7": "--array=0",
        "--gres=gpu:1": "--output=/dev/null",
        "--mem=16G": "--mem=200M",
        ".venv/bin/python": sys.executable,
        "results/NAME/scratch/search_surrogate_NETWORK": str(search.folder),
        "--leave-when-idle": f"--leave-when-idle --worker-name={name}",
    }
    for word, other in small.items():
        assert block.count(word) == 1
        block = block.replace(word, other)
    told = subprocess.run(shlex.split(block), cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout
    return told.split()[-1]


def test_workers_join_a_running_array_by_hand_and_leave_before_their_time_limit(tmp_path):
    def holders():
        return {owner.name for path in (search.folder / "leases").glob("*/trial_*") if (owner := OwnedLock(path, 60).owner())}

    with ArraySearch(tmp_path / "s", 1, n_trials=20, toy={"steps": 8, "sleep_s": 0.25}) as search:
        controller = search.start()
        search.wait_for_steps(2)
        jobs = [by_hand(search, name) for name in ("helper", "stopped")]
        search.wait(lambda: "stopped" in holders())
        subprocess.run(["scancel", "--batch", "--signal=TERM", jobs[1]], check=True, timeout=120)  # as --signal=B:TERM@120 does
        search.wait(lambda: scontrol(jobs[1])["JobState"] == "FAILED", 60)
        assert scontrol(jobs[1])["ExitCode"] == "75:0" and "stopped" not in holders(), "it gave its trial back"
        search.finish(controller)
        search.wait(lambda: scontrol(jobs[0])["JobState"] == "COMPLETED", 60)
        search.check(20)
        assert "helper" in {row["worker"] for row in read_table(f"{search.folder}.csv")}
