"""Makers of small studies for tests of searches."""

import json
import math
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from calandria.learning.settings import SearchSettings
from calandria.search.presence import Presence
from calandria.search.study import SearchDefinition, StudyFolder
from calandria.search.worker import Worker

ROOT = Path(__file__).parents[2]
OBJECTIVE = "tests.helpers.toy_objective"


def toy_definition(folder, *, objective=OBJECTIVE, device="cpu", direction="minimize", search=None, **settings):
    """Return a definition of the toy search whose diary lies beside the study's folder."""
    settings = {"diary": str(Path(folder).with_suffix(".diary")), **settings}
    return SearchDefinition("toy", objective, settings, {}, SearchSettings(**(search or {})), device, direction)


def prepared(folder, **options):
    """Write the definition of a toy search and return its folder and the identified definition."""
    definition = toy_definition(folder, **options).identified()
    study_folder = StudyFolder(folder)
    study_folder.write_definition(definition)
    return study_folder, definition


def work_here(folder, name="here", **options):
    """Work on a study in this process until it is done and return the worker."""
    with Presence(0.5, None, lambda: None) as presence:
        worker = Worker(folder, presence, name=name, **options)
        worker.work()
    return worker


def start_worker(folder, *options):
    """Start a worker process on a study."""
    command = [sys.executable, "-m", "workflow_scripts.search.run_worker", "--directory", str(folder.directory), *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(condition, seconds=120.0):
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def diary(folder):
    """Return what the toy objective noted."""
    path = Path(folder.directory).with_suffix(".diary")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def check_diary(folder, trials):
    """Check that every completed trial ended, ran nothing after it was told, and resumed where its checkpoint was."""
    told = {trial.number: trial.datetime_complete.timestamp() for trial in trials if trial.datetime_complete}
    ends = Counter()
    next_step = {}
    for entry in diary(folder):
        number = entry["trial"]
        # killed after its last step and before it was told: it ends once more
        assert ends[number] == 0 or entry["word"] != "step", f"trial {number} ran a step after it had ended"
        assert entry["time"] <= told.get(number, math.inf), f"trial {number} ran after it was told"
        if entry["word"] == "start":
            # killed after the note and before the checkpoint: that one step is repeated
            assert next_step.get(number, 0) - 1 <= entry["first"] <= next_step.get(number, 0)
            next_step[number] = entry["first"]
        elif entry["word"] == "step":
            assert entry["step"] == next_step[number]
            next_step[number] += 1
        else:
            ends[number] += 1
    complete = {trial.number for trial in trials if trial.state.name == "COMPLETE"}
    assert set(ends) >= complete


def worker_ids(folder):
    """Return the process numbers of a study's workers on this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if "workflow_scripts.search.run_worker" in words and str(folder) in words:
            found.append(int(path.name))
    return found
