"""Measure how many trials per second a search's workers finish, and what one trial costs beside its own work.

    python -m benchmarks.search                        2 and 4 workers with sleeping trials; 64 workers with fast ones
    python -m benchmarks.search --output benchmarks/results/search.json

Trials sleep, so that what is measured is ours: claiming, leases, journal, checkpoints. Workers are local processes and share one journal.
All begin at once, when the last one is up; a rate is counted until the first finds nothing more to begin.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from calandria.base.files import write_text
from calandria.learning.settings import SearchSettings
from calandria.search.status import CREATE_TRIAL, SET_STATE, read_journal
from calandria.search.study import SearchDefinition, StudyFolder
from tests.helpers.toy_objective import __name__ as OBJECTIVE


def is_up(pid):
    """Say whether a worker has come so far as to give signs of life: that takes a second thread."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("Threads:")[2].split()[0]) > 1


def measured(workers, n_trials, sleep_s, steps=1, sampler="random"):
    """Run a study and return its rates."""
    with tempfile.TemporaryDirectory() as place:
        folder = StudyFolder(Path(place) / "study")
        search = SearchSettings(n_trials=n_trials, workers=workers, sampler=sampler, pruner="none")
        definition = SearchDefinition("benchmark", OBJECTIVE, {"steps": steps, "sleep_s": sleep_s}, {}, search).identified()
        folder.write_definition(definition)
        folder.open_study(definition)
        command = [
            sys.executable,
            "-m",
            "workflow_scripts.search.run_worker",
            "--directory",
            str(folder.directory),
            "--leave-when-idle",
        ]
        gate = folder.claim_lock(definition.study_name, 1e9)  # no trial is made before all workers are there
        gate.acquire()
        processes = [
            subprocess.Popen([*command, "--worker-name", f"w{i}"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            for i in range(workers)
        ]
        while not all(is_up(process.pid) for process in processes):
            time.sleep(0.5)
        time.sleep(2.0)
        begin = time.time()
        gate.release()
        failed = sum(process.wait() != 0 for process in processes)
        wall_s = time.time() - begin
        trials, _, unreadable = read_journal(folder.journal_path, definition.study_name)
        lines = [json.loads(line) for line in folder.journal_path.read_text().splitlines()]
        writes = len({(line["worker_id"], i) for i, line in enumerate(lines)})
    created = Counter(line["op_code"] for line in lines)
    assert failed == unreadable == 0 and len(trials) == created[CREATE_TRIAL] == created[SET_STATE] == n_trials
    ends = sorted(trial.ended for trial in trials)
    end = ends[-min(workers, n_trials)]
    inside = [moment for moment in ends if moment <= end]
    quarters = [
        sum(begin + k * (end - begin) / 4 < moment <= begin + (k + 1) * (end - begin) / 4 for moment in ends) * 4 / (end - begin)
        for k in range(4)
    ]
    spent = statistics.mean(trial.ended - trial.started for trial in trials if trial.started < end)
    return {
        "workers": workers,
        "n_trials": n_trials,
        "sleep_per_trial_s": steps * sleep_s,
        "sampler": sampler,
        "trials_per_s": round(len(inside) / (end - begin), 2),
        "trials_per_s_by_quarter": [round(rate, 2) for rate in quarters],
        "share_of_ideal": round(len(inside) / (end - begin) * steps * sleep_s / workers, 3),
        "mean_trial_s": round(spent, 3),
        "journal_lines_per_trial": round(writes / n_trials, 2),
        "wall_s": round(wall_s, 1),
    }


def main():
    """Measure what was asked for and write or print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", help="JSON to write; printed if not given")
    parser.add_argument("--only", nargs=3, metavar=("WORKERS", "TRIALS", "SLEEP_S"), help="one measurement only")
    parser.add_argument("--sampler", default="random", choices=["random", "tpe"], help="for --only")
    options = parser.parse_args()
    if options.only:
        rows = [measured(int(options.only[0]), int(options.only[1]), float(options.only[2]), sampler=options.sampler)]
    else:
        cases = [(2, 60, 1.0), (4, 120, 1.0), (16, 480, 1.0), (64, 2000, 1.0)]
        rows = [measured(*case) for case in cases]
    content = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, local disk",
        "date": time.strftime("%Y-%m-%d"),
        "rows": rows,
    }
    if not options.only:
        content["rate_4_over_2_workers"] = round(rows[1]["trials_per_s"] / rows[0]["trials_per_s"], 3)
    text = json.dumps(content, indent=1) + "\n"
    if options.output:
        write_text(options.output, text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
