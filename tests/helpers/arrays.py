"""Searches on the SLURM for tests: start a controller, see its array, kill what works, and check that nothing was lost."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from calandria.base.records import read_json, read_table
from calandria.search.status import study_status
from calandria.search.study import StudyFolder
from tests.helpers.searching import ROOT, check_diary, diary, worker_ids

PATIENCE_SECONDS = 240.0


class ArraySearch:
    """A toy search whose workers are tasks of an array.

    Parameters
    ----------
    folder
        Where the study lies.
    workers
        Tasks of the array.
    options
        Further options of the search program.
    path
        Put first on PATH of the controller.
    said
        File for what controllers say; beside the study if None.
    toy, search
        Settings of the objective, and of the search.
    """

    def __init__(self, folder, workers=4, options=(), path=None, said=None, toy=None, **search):
        self.said_path = Path(said or f"{folder}.said")
        self.folder, self.study = Path(folder), StudyFolder(folder)
        self.search = {"pruner": "none", "sampler": "random", "lease_seconds": 20, **search}
        self.path = path
        self.command = [sys.executable, "-m", "tests.helpers.toy_search", "--directory", str(folder), "--launch=slurm"]
        self.command += [f"--workers={workers}", "--memory-mb=200", "--runtime-minutes=30", "--poll-seconds=0.5"]
        self.command += [f"--search={json.dumps(self.search)}", f"--toy={json.dumps(toy or {})}", *options]
        for name, suffix in (("trials", "csv"), ("best", "json"), ("importance", "png")):
            self.command += [f"--output-{name}", f"{folder}.{suffix}"]
        self.controllers = []

    def start(self):
        """Start a controller; what it says goes to a file beside the study."""
        environment = dict(os.environ)
        if self.path is not None:
            environment["PATH"] = f"{self.path}{os.pathsep}{environment['PATH']}"
        with open(self.said_path, "ab") as said:
            controller = subprocess.Popen(self.command, cwd=ROOT, stdout=said, stderr=said, env=environment)
        self.controllers.append(controller)
        return controller

    def said(self):
        """Return all that controllers said."""
        return self.said_path.read_text()

    def finish(self, controller):
        """Wait for a controller and check that it ended well."""
        status = controller.wait(PATIENCE_SECONDS)
        assert status == 0, self.said()

    @property
    def job_name(self):
        """The name of the study's arrays."""
        return read_json(self.folder / "cluster" / "array.json")["job_name"]

    def tasks(self, *options):
        """Return the state of each task that the cluster has not forgotten."""
        command = ["squeue", "-h", "-r", "-o", "%i %T", f"--name={self.job_name}", *options]
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
        return dict(line.split() for line in told.splitlines())

    def arrays(self):
        """Return the numbers of all arrays that were submitted for this study, as the cluster knows them."""
        return {task.partition("_")[0] for task in self.tasks("--states=all")}

    def workers(self):
        """Return the process numbers of the study's workers."""
        return worker_ids(self.folder)

    def wait(self, condition, seconds=PATIENCE_SECONDS):
        """Wait until something holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited in vain; {study_status(self.folder)}; {self.said()}")
            time.sleep(0.05)

    def wait_for_steps(self, count):
        """Wait until the objective has noted so many steps in all."""
        self.wait(lambda: sum(entry["word"] == "step" for entry in diary(self.study)) >= count)

    def check(self, n_trials):
        """Check that the study is whole: the budget exact, no trial lost or run after its end, every file readable, no worker left."""
        definition = self.study.read_definition()
        trials = self.study.open_study(definition).trials
        assert [trial.number for trial in trials] == list(range(n_trials))
        assert Counter(trial.state.name for trial in trials) == {"COMPLETE": n_trials}
        check_diary(self.study, trials)
        told = [json.loads(line) for line in self.study.journal_path.read_text().splitlines()]
        ends = Counter(entry["trial_id"] for entry in told if entry["op_code"] == 6)
        assert ends == dict.fromkeys(range(n_trials), 1), "a trial was told twice or never"
        left = [number for number in range(n_trials) if self.study.checkpoint_path(definition.study_name, number).exists()]
        assert left == [], "checkpoints of finished trials are deleted"
        assert [row["state"] for row in read_table(f"{self.folder}.csv")] == ["complete"] * n_trials
        assert read_json(f"{self.folder}.json")["n_complete"] == n_trials
        assert Path(f"{self.folder}.png").read_bytes().startswith(b"\x89PNG")
        assert self.tasks() == {} and self.workers() == []
        assert not list((self.folder / "leases").glob("*/*")) and not list(self.folder.rglob(".unfinished*"))
        status = study_status(self.folder)
        assert (status.complete, status.running, status.stale, status.is_finished) == (n_trials, 0, 0, True)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for controller in self.controllers:
            if controller.poll() is None:
                controller.kill()
            controller.wait()
        if (self.folder / "cluster" / "array.json").exists():
            subprocess.run(["scancel", f"--name={self.job_name}"], check=False, timeout=120)
            self.wait(lambda: not self.tasks(), 120)


def kill(pid, number=signal.SIGKILL):
    """Send a signal to a process that may have just ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
