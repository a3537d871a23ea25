"""Trainings on SLURM, by srun over two nodes and as jobs of Snakemake: stopped by SLURM, gone on with, and never as two copies."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import time

import pytest
import torch

from calandria.base.records import read_table
from calandria.learning.training import load_checkpoint
from calandria.surrogate.training import load_model
from tests.helpers import slurm
from tests.helpers.processes import environment
from tests.helpers.series import write_films
from tests.helpers.tiny_study import SETTINGS, write_study
from tests.helpers.workflow import ON_SLURM, PROFILE, snakemake
from workflow_scripts.surrogate import split_films

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


def start(words, folder, name):
    srun = ["srun", f"--job-name={name}", "--nodes=2", "--ntasks-per-node=1", "--mem=500", "--time=10", "--kill-on-bad-exit=1"]
    return subprocess.Popen(
        [*srun, sys.executable, *words],
        cwd=folder,
        env=environment(MASTER_ADDR="127.0.0.1"),  # both nodes of the test are this machine, which has not their names
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_nodes_train_together_stop_together_and_go_on(tmp_path):
    training = {"epochs": 60, "patience": 99, "batch_size": 3, "crop_voxels": 8}
    learning = {"checkpoint_every": 1, "training": training}
    network = {"kind": "press_unet", "widths": [4, 6], "detail_width": 2, "learning": learning}
    parts = {"validation_films": ["film_2"], "test_films": ["film_3"]}
    settings, split = str(tmp_path / "s.json"), str(tmp_path / "split.json")
    (tmp_path / "s.json").write_text(json.dumps({"settings": {"split": parts}, "network": network}))
    paths = write_films(tmp_path, degrees=(20,), shape=(10, 9, 8))
    split_films.main(["--settings", settings, "--frames", *paths, "--output", split])
    program = [
        *("-m", "workflow_scripts.surrogate.train_surrogate", "--settings", settings),
        *("--split", split, "--frames", *paths, "--checkpoint-directory", str(tmp_path / "scratch")),
        *("--output", str(tmp_path / "model.pt"), "--output-losses", str(tmp_path / "losses.csv")),
    ]
    name, checkpoint = f"calandria_test_{tmp_path.name}", tmp_path / "scratch" / "training.pt"
    with start([*program, "--processes", "2"], tmp_path, name) as step:
        while not checkpoint.exists():
            assert step.poll() is None, step.communicate()[1]
            time.sleep(0.1)
        subprocess.run(["scancel", "--signal=TERM", f"--name={name}"], check=True, timeout=60)
        told = step.communicate(timeout=300)[1]
    assert step.returncode == 75 and told.count("was stopped by a signal after") == 1, told
    reached = load_checkpoint(checkpoint)
    assert reached["epoch"] < 60 and reached["processes"] == [2]
    with start([*program, "--processes", "2"], tmp_path, name) as step:
        told = step.communicate(timeout=300)[1]
    assert step.returncode == 0 and load_model(tmp_path / "model.pt")[1]["processes"] == [2], told


def test_copies_that_do_not_know_of_each_other_do_not_train(tmp_path):
    torchrun = ["-m", "workflow_scripts.learning.torchrun", "--standalone", "--nproc-per-node", "1"]
    program = ["-m", "workflow_scripts.surrogate.train_surrogate"]
    missing = [
        word
        for name in ("settings", "split", "frames", "checkpoint-directory", "output", "output-losses")
        for word in (f"--{name}", "x")
    ]
    with start([*torchrun, *program, *missing], tmp_path, f"calandria_test_{tmp_path.name}") as step:
        told = step.communicate(timeout=300)[1]
    assert step.returncode != 0 and "error: srun started 2 tasks (SLURM_STEP_NUM_TASKS)" in told
    assert not list(tmp_path.iterdir())


# In the trainings of a run: notes where each process is, and each checkpoint. Where it is asked for, the second checkpoint takes until the
# signal to stop has come, and some seconds more, as a long step would: time for all that hears the signal and does not wait to end.
HOOK = """
import os, signal, sys, time

def note(*words):
    with open({notes!r}, "a") as notes:
        print(os.getpid(), *words, file=notes)

def at_checkpoints(event, words):
    if event == "os.rename" and str(words[1]).endswith("/training.pt"):
        note("checkpoint")
        if {slow_s} and open({notes!r}).read().count("checkpoint") == 2:
            os.system({meanwhile!r})
            while signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # set by the first signal to stop
                time.sleep(0.1)
            time.sleep({slow_s})

if "workflow_scripts.autoencoder.train_autoencoder" in sys.orig_argv and "workflow_scripts.learning.torchrun" not in sys.orig_argv:
    note("begin", os.environ.get("SLURMD_NODENAME"), os.environ["OMP_NUM_THREADS"])
    sys.addaudithook(at_checkpoints)
"""
RESULTS = "results/tiny/autoencoder/noise/w4_s2"


class Training:
    """The training of a tiny study: once alone on this machine, then as a job of the profile, with nothing kept but its inputs."""

    def __init__(self, folder, **training):
        self.folder = folder / "study"
        self.folder.mkdir()
        settings = copy.deepcopy(SETTINGS)
        settings["autoencoder"]["learning"] = {"checkpoint_every": 10, "training": {"patience": None, **training}}
        self.option = write_study(self.folder, settings)
        finished = snakemake(self.folder, f"{RESULTS}/model.pt", *self.option)
        assert finished.returncode == 0, (finished.stdout + finished.stderr)[-3000:]
        self.alone = self.result()
        shutil.rmtree(self.folder / "results/tiny/scratch")
        for name in ("model.pt", "losses.csv"):
            (self.folder / RESULTS / name).unlink()

    def result(self):
        place = self.folder / RESULTS
        return read_table(place / "losses.csv"), torch.load(place / "model.pt", weights_only=True)

    def on_slurm(self, *options, slow_s=0, meanwhile="", **variables):
        """Train through the profile; ``meanwhile`` is done in the second checkpoint. Return what Snakemake says, and the notes."""
        place = self.folder.parent / "hook"
        place.mkdir()
        (place / "notes").touch()
        (place / "sitecustomize.py").write_text(HOOK.format(notes=str(place / "notes"), slow_s=slow_s, meanwhile=meanwhile))
        path = os.pathsep.join(filter(None, [str(place), os.environ.get("PYTHONPATH")]))
        way = (*ON_SLURM, "--slurm-init-seconds-before-status-checks", "3", *options, *self.option)
        finished = snakemake(self.folder, f"{RESULTS}/model.pt", *way, PYTHONPATH=path, **variables)
        said = finished.stdout + finished.stderr
        assert finished.returncode == 0, said[-4000:]
        return said, [line.split() for line in (place / "notes").read_text().splitlines()]


EXTRA = PROFILE["set-resources"]["train_autoencoder"]["slurm_extra"]  # tells it to stop within the first of three minutes


@pytest.mark.parametrize(
    ("minutes", "slow_s", "meanwhile", "state"),
    [(3, 10, "", "FAILED"), (30, 1, "scancel $SLURM_JOB_ID", "CANCELLED")],
    ids=["signal before the time limit", "scancel"],
)
def test_a_training_that_must_stop_saves_is_submitted_again_and_ends_as_if_undisturbed(
    tmp_path, minutes, slow_s, meanwhile, state
):
    training = Training(tmp_path, epochs=30)
    asked = ("--set-resources", f"train_autoencoder:runtime={minutes}", f"train_autoencoder:slurm_extra={EXTRA}")
    said, notes = training.on_slurm(*asked, slow_s=slow_s, meanwhile=meanwhile)
    first, second = [pid for pid, word, *_ in notes if word == "begin"]
    saved = [pid for pid, word, *_ in notes if word == "checkpoint"]
    assert saved == [first] * 3 + [second], "after 10 and 20 epochs and when it stopped, then at the end of the 30"
    assert len(re.findall("has been submitted with SLURM jobid", said)) == 2 and "Trying to restart job" in said
    assert re.findall(r"SLURM status is: '(\w+)'", said) == [state]
    (rows, model), (rows_alone, alone) = training.result(), training.alone
    assert rows == rows_alone and len(rows) == 30
    assert all(torch.equal(value, alone["weights"][name]) for name, value in model["weights"].items())


@pytest.mark.parametrize("launcher", ["srun", "torchrun"])
def test_a_training_by_two_processes_is_a_job_of_the_profile(tmp_path, launcher):
    training = Training(tmp_path, epochs=3)
    per_node = "slurm_extra=--ntasks-per-node=1 --gpus-per-node=1"
    asked = {
        "srun": ("mpi=srun --kill-on-bad-exit=1", "tasks=2", "nodes=2", "gpu=0", per_node),
        "torchrun": ("processes=2",),
    }[launcher]
    resources = [f"train_autoencoder:{word}" for word in ("mem_mb=2000", *asked)]
    options = ("--set-threads", "train_autoencoder=2", "--set-resources", *resources)
    said, notes = training.on_slurm(*options, MASTER_ADDR="127.0.0.1")  # both nodes are this machine, which has not their names
    (number,) = re.findall(r"has been submitted with SLURM jobid (\d+)", said)
    job, places = slurm.job_record(number), sorted(place for _, word, *place in notes if word == "begin")
    if launcher == "srun":
        assert places == [["n1", "2"], ["n2", "2"]], "one process on each node, with two cores"
        assert (job["NumNodes"], job["NumTasks"], job["CPUs/Task"], job["TresPerNode"]) == ("2", "2", "2", "gres:gpu:1")
    else:
        assert len(places) == 2 and {threads for _, threads in places} == {"1"}, "two processes share two cores"
        assert (job["NumNodes"], job["NumTasks"], job["CPUs/Task"]) == ("1", "1", "2")
    (rows, model), (rows_alone, _) = training.result(), training.alone
    assert model["processes"] == [2]
    for row, other in zip(rows, rows_alone, strict=True):
        for name in ("loss_train", "loss_validation"):
            assert float(row[name]) == pytest.approx(float(other[name]), rel=1e-5)
