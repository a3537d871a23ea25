"""A training whose two processes run on two nodes, started by srun: stopped by SLURM, gone on with, and never as two copies."""

import json
import subprocess
import sys
import time

import pytest

from tests.helpers.processes import environment
from tests.helpers.series import write_films
from workflow_scripts.common.training import load_checkpoint
from workflow_scripts.surrogate import split_films
from workflow_scripts.surrogate.training import load_model

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
    unet = {"widths": [4, 6], "detail_width": 2, "training": {"epochs": 60, "patience": 99, "batch_size": 3, "crop_voxels": 8}}
    content = {"checkpoint_every": 1, "press_unet": unet, "split": {"validation_films": ["film_2"], "test_films": ["film_3"]}}
    settings, split = str(tmp_path / "s.json"), str(tmp_path / "split.json")
    (tmp_path / "s.json").write_text(json.dumps(content))
    paths = write_films(tmp_path, degrees=(20,), shape=(10, 9, 8))
    split_films.main(["--settings", settings, "--frames", *paths, "--output", split])
    program = [
        *("-m", "workflow_scripts.surrogate.train_surrogate", "--settings", settings, "--architecture", "press_unet"),
        *("--split", split, "--frames", *paths, "--checkpoint-directory", str(tmp_path / "scratch")),
        *("--output", str(tmp_path / "model.pt"), "--output-losses", str(tmp_path / "losses.csv")),
    ]
    name, checkpoint = f"calandria_test_{tmp_path.name}", tmp_path / "scratch" / "press_unet.pt"
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
    torchrun = ["-m", "workflow_scripts.common.torchrun", "--standalone", "--nproc-per-node", "1"]
    program = ["-m", "workflow_scripts.surrogate.train_surrogate", "--architecture", "press_unet"]
    missing = [
        word
        for name in ("settings", "split", "frames", "checkpoint-directory", "output", "output-losses")
        for word in (f"--{name}", "x")
    ]
    with start([*torchrun, *program, *missing], tmp_path, f"calandria_test_{tmp_path.name}") as step:
        told = step.communicate(timeout=300)[1]
    assert step.returncode != 0 and "error: srun started 2 tasks (SLURM_STEP_NUM_TASKS)" in told
    assert not list(tmp_path.iterdir())
