import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from calandria.autoencoder.artefacts import read_model, write_model
from calandria.autoencoder.preprocessing import ResizedSlices
from calandria.autoencoder.settings import AutoencoderLearning, AutoencoderSettings, NetworkSettings
from calandria.autoencoder.splits import split_mini_volumes
from calandria.autoencoder.training import build, mean_squared_error, train
from calandria.base.errors import ConvergenceError, DeviceError, InputFileError, StoppedError
from calandria.learning import training as common_training
from calandria.learning.training import load_checkpoint, save_checkpoint
from calandria.tomography.mini_volumes import MiniVolumes, list_origins
from tests.helpers.processes import stopping_every

NETWORK = NetworkSettings(hidden_neurons=16, latent_features=4)


def images_of(image_size):
    smooth = np.random.default_rng(0).choice(np.array([0, 1, 2], np.uint8), (24, 4, 4))
    volume = smooth.repeat(5, axis=1).repeat(5, axis=2)
    return ResizedSlices(MiniVolumes(list_origins({"a": 24}, 3, 3), {"a": volume}), image_size)


@pytest.fixture
def images():
    return images_of(20)


def learning(seed=1, checkpoint_every=2, device="cpu", precision="fp32", **training):
    content = {"seed": seed, "checkpoint_every": checkpoint_every, "device": device, "precision": precision}
    return AutoencoderLearning.from_mapping({**content, "training": {"patience": None, **training}}, "test")


def run_training(images, epochs=4, training=None, changes=None, **options):
    rules = learning(**(changes or {}), **({"epochs": epochs, "batch_size": 2} | (training or {})))
    origins = images.reader.origins
    return train(images, origins[:6], origins[6:], network=NETWORK, learning=rules, **options)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def by_heart(**where):
    images = images_of(31)
    origins, network = images.reader.origins[:2], NetworkSettings(hidden_neurons=64, latent_features=4)
    rules = learning(epochs=200, batch_size=2, learning_rate=0.01, **where)
    assert images.batch(origins).var() > 0.5
    return train(images, origins, origins, network=network, learning=rules).best_loss


def test_it_learns_a_tiny_batch_by_heart():
    assert by_heart() < 0.02


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(images):
    first, again, other = run_training(images), run_training(images), run_training(images, changes={"seed": 2})
    assert same(first.weights, again.weights)
    assert first.rows == again.rows
    assert not same(first.weights, other.weights)


def test_the_best_epoch_is_kept_and_its_error_is_that_of_its_weights(images):
    trained = run_training(images, epochs=25, training={"learning_rate": 0.01})
    errors = [row["loss_validation"] for row in trained.rows]
    assert trained.best_loss == min(errors)
    assert trained.best_epoch == 1 + errors.index(min(errors)) < 25
    model = build(NETWORK, 3, 20, 99)
    model.load_state_dict(trained.weights)
    found = mean_squared_error(model, images, images.reader.origins[6:], torch.device("cpu"), learning(batch_size=4))
    assert found == pytest.approx(trained.best_loss, rel=1e-6)


def test_patience_ends_training(images):
    trained = run_training(images, epochs=60, training={"learning_rate": 0.01, "patience": 3})
    assert len(trained.rows) == trained.best_epoch + 3


class Killed(BaseException):
    pass


@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_an_interrupted_training_ends_with_the_same_bits(images, tmp_path, killed_after):
    def kill(epoch, error):
        if epoch == killed_after:
            raise Killed

    whole = run_training(images, epochs=5)
    with pytest.raises(Killed):
        run_training(images, epochs=5, checkpoint_path=tmp_path / "c.pt", report=kill)
    seen = []
    resumed = run_training(images, epochs=5, checkpoint_path=tmp_path / "c.pt", report=lambda epoch, error: seen.append(epoch))
    assert seen == list(range(1, 6)), "past epochs are reported again"
    assert same(whole.weights, resumed.weights)
    assert whole.rows == resumed.rows


def test_a_training_stopped_at_any_step_ends_with_the_same_bits(images, tmp_path):
    whole, stops = run_training(images, epochs=3), 0
    for calls in range(99):
        try:
            stopped = run_training(
                images, epochs=3, checkpoint_path=tmp_path / "c.pt", stop=stopping_every((4, 2, 6, 3, 8)[calls % 5])
            )
            break
        except StoppedError:
            stops += 1
    assert stops >= 2 and same(whole.weights, stopped.weights) and whole.rows == stopped.rows


def test_a_killed_training_loses_no_more_than_the_time_between_two_checkpoints(images, tmp_path, monkeypatch):
    steps = iter(range(6))

    def killed_at_the_seventh():  # asked at three steps and before validation: at the third step of the second epoch
        if next(steps, None) is None:
            raise Killed
        return False

    options = {"epochs": 3, "checkpoint_path": tmp_path / "c.pt", "changes": {"checkpoint_every": 99}}
    whole = run_training(images, epochs=3)
    with pytest.raises(Killed):
        run_training(images, **options, stop=killed_at_the_seventh)
    assert not (tmp_path / "c.pt").exists(), "ten minutes have not passed"
    monkeypatch.setattr(common_training, "CHECKPOINT_SECONDS", -1.0)
    steps = iter(range(6))
    with pytest.raises(Killed):
        run_training(images, **options, stop=killed_at_the_seventh)
    held = load_checkpoint(tmp_path / "c.pt")
    assert (held["epoch"], held["step"]) == (1, 1)
    resumed = run_training(images, **options)
    assert same(whole.weights, resumed.weights) and whole.rows == resumed.rows


def test_more_epochs_go_on_and_fewer_start_again(images, tmp_path):
    run_training(images, epochs=2, checkpoint_path=tmp_path / "c.pt")
    longer = run_training(images, epochs=5, checkpoint_path=tmp_path / "c.pt")
    assert same(longer.weights, run_training(images, epochs=5).weights)
    assert len(run_training(images, epochs=1, checkpoint_path=tmp_path / "c.pt").rows) == 1


@pytest.mark.parametrize("change", [{"changes": {"seed": 2}}, {"inputs": {"a": "other"}}, {"training": {"learning_rate": 0.1}}])
def test_a_checkpoint_of_other_work_is_passed_over(images, tmp_path, change):
    run_training(images, epochs=2, checkpoint_path=tmp_path / "c.pt")
    fresh = run_training(images, epochs=3, **change)
    assert same(run_training(images, epochs=3, checkpoint_path=tmp_path / "c.pt", **change).weights, fresh.weights)


def test_a_damaged_checkpoint_is_passed_over(images, tmp_path):
    (tmp_path / "c.pt").write_bytes(b"cut")
    with pytest.warns(UserWarning, match="the training starts again"):
        assert len(run_training(images, epochs=1, checkpoint_path=tmp_path / "c.pt").rows) == 1


def test_a_training_that_never_has_a_finite_error_is_an_error(images):
    with pytest.raises(ConvergenceError, match="finite"), np.errstate(all="ignore"):
        train(
            Poisoned(images),
            images.reader.origins[:2],
            images.reader.origins[2:],
            network=NETWORK,
            learning=learning(epochs=2),
        )


class Poisoned:
    def __init__(self, images):
        self.images = images

    def __getattr__(self, name):
        return getattr(self.images, name)

    def batch(self, origins):
        return self.images.batch(origins) * float("nan")


def test_a_missing_device_is_an_error(images):
    with pytest.raises(DeviceError):
        run_training(images, changes={"device": f"cuda:{torch.cuda.device_count()}"})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("precision", ["fp32", "amp"])
def test_it_trains_on_a_gpu(precision):
    assert by_heart(device="cuda", precision=precision) < 0.05


def test_a_model_file_gives_the_same_reconstruction(images, tmp_path):
    settings = AutoencoderSettings(image_size=20, network=NETWORK)
    origins = images.reader.origins
    split = split_mini_volumes(origins, "random", 0.2, 1)
    trained = run_training(images)
    write_model(tmp_path / "m.pt", trained, settings, origins, split, train_mean=-0.1, provenance={})
    model = read_model(tmp_path / "m.pt")
    network = build(NETWORK, 3, 20, 5)
    network.load_state_dict(trained.weights)
    batch = images.batch(origins[:2])
    assert torch.equal(model.network(batch), network(batch))
    assert model.split == split
    assert [model.part_of(origin) for origin in origins] == list(split.parts)
    assert model.part_of(list_origins({"b": 9}, 3, 3)[0]) == "unseen"


def test_another_file_is_no_model(tmp_path):
    save_checkpoint(tmp_path / "m.pt", {"kind": "surrogate"})
    with pytest.raises(InputFileError, match="expected"):
        read_model(tmp_path / "m.pt")


@pytest.mark.slow
def test_kill_9_at_any_moment_ends_with_the_same_model(tmp_path, autoencoder_inputs):
    command = [
        sys.executable,
        "-m",
        "workflow_scripts.autoencoder.train_autoencoder",
        *autoencoder_inputs(tmp_path, epochs=30).of("train"),
    ]

    def options(name):
        folder = tmp_path / name
        return ["--checkpoint-directory", folder / "scratch", "--output", folder / "m.pt", "--output-losses", folder / "l.csv"]

    subprocess.run([*command, *options("whole")], check=True)
    for epochs in (3, 12):
        process = subprocess.Popen([*command, *options("killed")])
        deadline = time.monotonic() + 300
        scratch = tmp_path / "killed" / "scratch" / "training.pt"
        while process.poll() is None and time.monotonic() < deadline:
            if scratch.exists() and len(load_checkpoint(scratch)["rows"]) >= epochs:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "killed" / "m.pt").exists()
    subprocess.run([*command, *options("killed")], check=True)
    for name in ("m.pt", "l.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
