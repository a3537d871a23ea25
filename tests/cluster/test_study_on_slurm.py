"""A whole study through the profile on a real SLURM, Snakemake killed on the way: searches as arrays, MPI over two nodes, the numbers of a local run."""

import copy
import re
import subprocess
import threading
import time

import h5py
import numpy as np
import pytest
import torch

from calandria.base.records import read_json, read_table
from calandria.base.volumes import read_labelled
from tests.helpers import slurm
from tests.helpers.tiny_study import SETTINGS, write_study
from tests.helpers.workflow import ON_SLURM, TWO_RANKS, job_counts, snakemake, start_snakemake

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

N_TRIALS = 8
SEARCH = {"n_trials": N_TRIALS, "workers": 2, "sampler": "random", "pruner": "none"}
# What the profile says, with less memory and time, four workers with a GPU each, and as many ranks as a local run has.
RESOURCES = [
    *(f"solve_diffusion:{word}" for word in TWO_RANKS),
    *(
        f"{rule}:{word}"
        for rule in ("search_surrogate", "search_autoencoder")
        for word in ("launch=slurm", "workers=4", "gpu=1", "mem_mb=4000", "runtime=15")
    ),
]
RUN = (*ON_SLURM, "--slurm-init-seconds-before-status-checks", "3", "--set-resources", *RESOURCES)


def settings():
    study = copy.deepcopy(SETTINGS)
    for learning in (study["surrogate"]["networks"]["unet"]["learning"], study["autoencoder"]["learning"]):
        learning["search"]["budget"] = SEARCH
    return study


class Watch(threading.Thread):
    """Keeps what ``squeue`` and ``scontrol`` tell while a run is at work."""

    def __init__(self):
        super().__init__(daemon=True)
        self.ended, self.records = threading.Event(), {}

    def run(self):
        while not self.ended.wait(1.0):
            for number, state, _ in slurm.jobs():
                if state == "RUNNING":
                    with_steps = subprocess.run(["scontrol", "-o", "-d", "show", "job", number], capture_output=True, text=True)
                    record = dict(word.partition("=")[::2] for word in with_steps.stdout.split())
                    if record.get("JobState") == "RUNNING":  # it may have ended meanwhile, and then has no GPU any more
                        self.records[number] = record

    def wait_for(self, names):
        """Wait until a job whose name begins with one of these words is at work."""
        deadline = time.monotonic() + 400
        while not any(record["JobName"].startswith(names) for record in list(self.records.values())):
            assert time.monotonic() < deadline, f"no job {names}"
            time.sleep(0.5)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()


def numbers_of(path):
    """Return what a result says, without times, places and how the run was made."""
    if path.suffix == ".csv":
        timed = {"duration_s", "worker", "digest"}
        return [{key: value for key, value in row.items() if key not in timed} for row in read_table(path)]
    if path.suffix == ".json":
        return without_circumstances(read_json(path))
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            found = {}
            file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
            return found
    if path.suffix == ".pt":
        content = torch.load(path, weights_only=False)
        return {key: value for key, value in content.items() if isinstance(value, dict) and key != "provenance"}
    return read_labelled(path).labels[:]


CIRCUMSTANCES = {"provenance", "inputs_sha256", "table_sha256", "study"}  # digests of files that hold times


def without_circumstances(content):
    if isinstance(content, dict):
        return {key: without_circumstances(value) for key, value in content.items() if key not in CIRCUMSTANCES}
    return [without_circumstances(value) for value in content] if isinstance(content, list) else content


def same(one, other):
    """Say whether two results are equal to the last bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    return one == other


def artefacts(folder):
    """Return the results whose numbers may not depend on where they were made."""
    results = folder / "results/tiny"
    kinds = (".csv", ".json", ".h5", ".pt", ".zip")
    left_out = ("scratch", "benchmarks", "settings", "inputs")  # inputs: sizes and times of the user's files
    paths = {path.relative_to(results): path for path in results.rglob("*") if path.suffix in kinds and path.is_file()}
    return {name: path for name, path in paths.items() if name.parts[0] not in left_out}


def arrays_of_workers_were_there(records):
    arrays = {}
    for record in records.values():
        if record["JobName"].startswith(("calandria_search_surrogate", "calandria_search_autoencoder")):
            arrays.setdefault(record["ArrayJobId"], []).append(record)
    assert len(arrays) == 2, "one array for each of the two searches, also where Snakemake was killed meanwhile"
    tasks = [task for members in arrays.values() for task in members]
    assert max(len(members) for members in arrays.values()) >= 3, "tasks worked side by side"
    assert {task["NodeList"] for task in tasks} == {"n1", "n2"}
    places = {(task["NodeList"], re.search(r"gpu:fake:1\(IDX:(\d)\)", task["GRES"]).group(1)) for task in tasks}
    assert len(places) >= 3, "each task has a GPU of its own, on two nodes"


def ranks_worked_on_two_nodes(records):
    (solver,) = [record for record in records.values() if "rule_solve_diffusion" in record.get("Comment", "")]
    assert (solver["NodeList"], solver["NumNodes"]) == ("n[1-2]", "2")


def small_steps_stayed_here(records):
    told = " ".join(record.get("Comment", "") for record in records.values())
    assert "rule_train_surrogate" in told and "rule_frames_read_dumps_voxelize_frames" in told
    for rule in ("search_", "tabulate_results", "draw_surrogate", "write_page"):
        assert f"rule_{rule}" not in told


def every_trial_is_there_once(folder):
    workers = set()
    for place in ("surrogate/search/unet", "autoencoder/noise/search"):
        rows = read_table(folder / "results/tiny" / place / "trials.csv")
        assert [int(row["number"]) for row in rows] == list(range(N_TRIALS))
        assert {row["state"] for row in rows} == {"complete"}
        workers |= {row["worker"] for row in rows}
    assert len(workers) >= 3


def test_the_study_runs_on_slurm_through_a_kill_and_its_numbers_are_those_of_a_local_run(tmp_path):
    cluster, local = tmp_path / "cluster", tmp_path / "local"
    study = {place: write_study(place, settings()) for place in (cluster, local) if place.mkdir() is None}
    with Watch() as watch:
        first = start_snakemake(cluster, *RUN, *study[cluster])
        watch.wait_for(("calandria_search_surrogate", "calandria_search_autoencoder"))
        first.kill()
        first.wait()
        finished = snakemake(cluster, *RUN, *study[cluster], timeout_s=1200)
    assert finished.returncode == 0, (finished.stdout + finished.stderr)[-4000:]
    arrays_of_workers_were_there(watch.records)
    ranks_worked_on_two_nodes(watch.records)
    small_steps_stayed_here(watch.records)
    every_trial_is_there_once(cluster)
    log = cluster / "logs/tiny/transport/solve_diffusion/noise_pore_cbd_z.log"
    assert "solved on 2 ranks" in log.read_text()
    assert job_counts(snakemake(cluster, *RUN, *study[cluster], "--dry-run")) == {}
    assert job_counts(snakemake(cluster, *study[cluster], "--dry-run")) == {}, "where and how it ran triggers no rerun"

    finished = snakemake(local, *study[local], timeout_s=900)
    assert finished.returncode == 0, (finished.stdout + finished.stderr)[-4000:]
    one, other = artefacts(cluster), artefacts(local)
    assert one.keys() == other.keys() and len(one) > 40
    differing = [str(name) for name in one if not same(numbers_of(one[name]), numbers_of(other[name]))]
    assert differing == []
