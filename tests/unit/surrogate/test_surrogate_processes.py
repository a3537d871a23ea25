"""Training by two processes: the loss of one, stopped and killed and gone on, started by torchrun."""

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from calandria.base.records import read_table
from calandria.learning.training import load_checkpoint
from calandria.surrogate.training import load_model
from tests.helpers.processes import ends, environment, processes_of
from tests.helpers.series import write_films
from workflow_scripts.surrogate import split_films, train_surrogate

PROGRAM = "workflow_scripts.surrogate.train_surrogate"
SAME_LOSS = 1e-5
"""Relative difference of losses between numbers of processes; docs/cluster.md states it."""


SPLIT = {"validation_films": ["film_2"], "test_films": ["film_3"]}


def network_of(kind, epochs, device="cpu"):
    """Batches of three and four windows, which two processes cannot deal evenly, dropout, augmentation, crops, batch norm.

    Behind batch norm some gradients of conv1d_lags are exactly zero but for rounding, and Adam makes whole steps of them; small
    steps keep that out of the comparison, which has the gradients themselves instead (see docs/cluster.md).
    """
    sizes, training = {
        "press_unet": (
            {"widths": [4, 6], "detail_width": 2, "dropout": 0.1},
            {"patience": 99, "batch_size": 3, "crop_voxels": 8},
        ),
        "conv1d_lags": ({"filters": 4, "dense_widths": [6]}, {"batch_size": 4, "learning_rate": 1e-6}),
    }[kind]
    learning = {"device": device, "checkpoint_every": 1, "training": {"epochs": epochs, **training}}
    return {"kind": kind, **sizes, "learning": learning}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    (folder / "s.json").write_text(json.dumps({"settings": {"split": SPLIT}}))
    paths = write_films(folder, degrees=(20,), shape=(10, 9, 8))
    split_films.main(["--settings", str(folder / "s.json"), "--frames", *paths, "--output", str(folder / "split.json")])
    return folder, paths


def words(data, folder, kind="press_unet", epochs=30, device="cpu", name="model"):
    films, paths = data
    settings = folder / f"{kind}_{device}_{epochs}.json"
    settings.write_text(json.dumps({"settings": {}, "network": network_of(kind, epochs, device)}))
    return [
        *("--settings", str(settings), "--frames", *paths),
        *("--split", str(films / "split.json"), "--checkpoint-directory", str(folder / f"scratch_{name}")),
        *("--output", str(folder / f"{name}.pt"), "--output-losses", str(folder / f"{name}.csv")),
    ]


def differences(one, other):
    """Return the largest relative difference of losses and the largest difference of weights."""
    rows = [read_table(path.with_suffix(".csv")) for path in (one, other)]
    assert len(rows[0]) == len(rows[1])
    losses = [
        abs(float(a[name]) / float(b[name]) - 1)
        for a, b in zip(*rows, strict=True)
        for name in ("loss_train", "loss_validation", "learning_rate")
    ]
    first, second = (load_model(path)[0].state_dict() for path in (one, other))
    return max(losses), max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.mark.parametrize("kind", ["press_unet", "conv1d_lags"])
def test_two_processes_learn_what_one_learns(data, tmp_path, kind):
    train_surrogate.main(words(data, tmp_path, kind, 3, name="one"))
    with processes_of(2, ["-m", PROGRAM, *words(data, tmp_path, kind, 3, name="two"), "--processes", "2"], tmp_path) as both:
        for code, _, told in ends(both):
            assert (code, told) == (0, "")
    losses, weights = differences(tmp_path / "one.pt", tmp_path / "two.pt")
    assert losses < SAME_LOSS and weights < 1e-4
    one, two = (load_checkpoint(tmp_path / f"scratch_{name}" / "training.pt")["optimizer"]["state"] for name in ("one", "two"))
    largest = max(float(moments["exp_avg"].abs().max()) for moments in one.values())  # means of the gradients of all steps
    assert all(float((two[name]["exp_avg"] - one[name]["exp_avg"]).abs().max()) < 1e-3 * largest for name in one)
    assert [load_model(tmp_path / f"{name}.pt")[1]["processes"] for name in ("one", "two")] == [[1], [2]]


def wait_for_epochs(checkpoint, epochs, processes):
    while not (checkpoint.exists() and load_checkpoint(checkpoint)["epoch"] >= epochs):
        assert all(process.poll() is None for process in processes), [process.communicate()[1] for process in processes]
        time.sleep(0.02)


def test_a_signal_to_one_stops_all_at_one_step_and_they_go_on(data, tmp_path):
    whole, stopped = (["-m", PROGRAM, *words(data, tmp_path, epochs=12, name=name)] for name in ("whole", "stopped"))
    scratch = tmp_path / "scratch_stopped" / "training.pt"
    with processes_of(2, stopped, tmp_path) as both:
        wait_for_epochs(scratch, 2, both)
        both[1].send_signal(signal.SIGTERM)
        [(code, _, told), other] = ends(both)
    assert (code, other[0], other[2]) == (75, 75, "")
    assert "was stopped by a signal after" in told and "same command again" in told and told.count("\n") == 2
    assert load_checkpoint(scratch)["epoch"] < 12 and not (tmp_path / "stopped.pt").exists()
    shutil.copytree(scratch.parent, tmp_path / "scratch_alone")
    with processes_of(2, whole, tmp_path) as both, processes_of(2, stopped, tmp_path) as again:
        assert [code for code, *_ in ends([*both, *again])] == [0] * 4
    assert differences(tmp_path / "whole.pt", tmp_path / "stopped.pt") == (0, 0)
    train_surrogate.main(words(data, tmp_path, epochs=12, name="alone"))
    losses, _ = differences(tmp_path / "whole.pt", tmp_path / "alone.pt")
    assert losses < SAME_LOSS and load_model(tmp_path / "alone.pt")[1]["processes"] == [1, 2]


CLOCKS_THAT_DIFFER = f"""
import os, sys
from calandria.learning import training
from {PROGRAM.rpartition(".")[0]} import train_surrogate
training.CHECKPOINT_SECONDS = -1.0 if os.environ["RANK"] == "1" else 1e9
write = training.save_checkpoint
def save_checkpoint(path, state):
    print(state["epoch"], state["step"])
    write(path, state)
training.save_checkpoint = save_checkpoint
train_surrogate.main(sys.argv[1:])
"""


def test_a_checkpoint_that_is_due_in_one_process_is_saved_by_all(data, tmp_path):
    train_surrogate.main(words(data, tmp_path, epochs=2, name="one"))
    with processes_of(2, ["-c", CLOCKS_THAT_DIFFER, *words(data, tmp_path, epochs=2, name="two")], tmp_path) as both:
        (first, saved, told), (second, silent, _) = ends(both)
    assert (first, second, silent) == (0, 0, ""), told
    rows = [tuple(map(int, line.split())) for line in saved.splitlines()]
    assert rows == sorted(rows) and {(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)} <= set(rows)
    assert differences(tmp_path / "one.pt", tmp_path / "two.pt")[0] < SAME_LOSS


def test_a_killed_process_ends_the_other_and_one_alone_goes_on(data, tmp_path):
    killed = words(data, tmp_path, epochs=12, name="killed")
    scratch = tmp_path / "scratch_killed" / "training.pt"
    with processes_of(2, ["-m", PROGRAM, *killed], tmp_path) as both:
        wait_for_epochs(scratch, 2, both)
        both[1].kill()
        [(code, _, told), _] = ends(both)
    assert code == 2 and told.startswith("error: process 0 of 2 lost another one")
    reached = load_checkpoint(scratch)["epoch"]
    assert 2 <= reached < 12 and not (tmp_path / "killed.pt").exists()
    train_surrogate.main(killed)
    train_surrogate.main(words(data, tmp_path, epochs=12, name="whole"))
    assert differences(tmp_path / "whole.pt", tmp_path / "killed.pt")[0] < SAME_LOSS


TORCHRUN = ["-m", "workflow_scripts.learning.torchrun", "--standalone", "--nproc-per-node", "2", "-m", PROGRAM]


def start_torchrun(words, folder):
    return subprocess.Popen([sys.executable, *TORCHRUN, *words], cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True)


def test_torchrun_passes_on_signals_and_says_by_75_that_the_same_command_goes_on(data, tmp_path):
    stopped = [*words(data, tmp_path, epochs=120, name="stopped"), "--processes", "2"]
    scratch = tmp_path / "scratch_stopped" / "training.pt"
    with start_torchrun(stopped, tmp_path) as process:
        wait_for_epochs(scratch, 1, [process])
        process.send_signal(signal.SIGTERM)
        told = process.communicate()[1]
    assert process.returncode == 75 and "Traceback" not in told
    assert told.count("was stopped by a signal after") == 1
    assert load_checkpoint(scratch)["processes"] == [2]


@pytest.mark.skipif(torch.cuda.device_count() > 1, reason="two GPUs are here")
def test_processes_without_a_gpu_of_their_own_do_not_start(data, tmp_path):
    with start_torchrun(words(data, tmp_path, device="cuda", name="none"), tmp_path) as process:
        told = process.communicate()[1]
    assert process.returncode == 2 and "Traceback" not in told
    errors = [line for line in told.splitlines() if line.startswith(("error: ", "hint: "))]
    assert len(errors) == 2 and "CUDA devices there" in errors[0] and "device: cpu" in errors[1]
    assert not (tmp_path / "scratch_none").exists()
