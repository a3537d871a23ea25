import pickle
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from calandria.base.errors import DeviceError, InputFileError
from calandria.learning.devices import working_device
from calandria.learning.training import (
    EarlyStopping,
    autocast,
    load_checkpoint,
    restore_rng,
    rng_state,
    save_checkpoint,
    seeded_torch,
    select_device,
)


def test_cpu_is_selected_and_unknown_devices_are_refused():
    assert select_device("cpu") == torch.device("cpu")
    for name in ("gpu", "meta", "cpu:1"):
        with pytest.raises(DeviceError):
            select_device(name)


def test_there_is_no_fallback_when_cuda_is_missing():
    with pytest.raises(DeviceError, match="was asked for"):
        select_device(f"cuda:{torch.cuda.device_count()}")


def test_a_device_that_is_there_has_to_compute(monkeypatch):
    assert working_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 100)
    with pytest.raises(DeviceError, match="'cuda:99' does not compute: "):
        working_device("cuda:99")
    monkeypatch.setattr(torch, "ones", Mock(side_effect=torch.cuda.OutOfMemoryError))  # as another program fills it
    assert working_device("cuda:99") == torch.device("cuda:99")


def test_generators_continue_where_the_checkpoint_left_them(tmp_path):
    order, noise = np.random.default_rng(1), torch.Generator().manual_seed(2)
    order.random(3)
    with seeded_torch(5):
        save_checkpoint(tmp_path / "c.pt", {"rng": rng_state(order=order, noise=noise), "step": 7})
        first = order.random(4), torch.rand(4, generator=noise), torch.rand(4)
        restored_order, restored_noise = np.random.default_rng(9), torch.Generator()
        state = load_checkpoint(tmp_path / "c.pt")
        restore_rng(state["rng"], order=restored_order, noise=restored_noise)
        assert state["step"] == 7
        np.testing.assert_array_equal(restored_order.random(4), first[0])
        assert torch.equal(torch.rand(4, generator=restored_noise), first[1])
        assert torch.equal(torch.rand(4), first[2])


def test_seeding_leaves_the_outside_untouched():
    before = torch.get_rng_state()
    with seeded_torch(3):
        first = torch.rand(2)
    assert torch.equal(torch.get_rng_state(), before)
    with seeded_torch(3):
        assert torch.equal(torch.rand(2), first)


def test_a_failed_save_keeps_the_old_checkpoint(tmp_path):
    path = tmp_path / "c.pt"
    save_checkpoint(path, {"step": 1})
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        save_checkpoint(path, {"step": 2, "code": lambda: None})
    assert load_checkpoint(path) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["c.pt"]


@pytest.mark.parametrize("content", [b"", b"nonsense", b"epoch,mse\n1,0.5\n", b"PK\x03\x04 cut"])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(InputFileError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "c.pt")


def test_a_checkpoint_cannot_smuggle_code(tmp_path):
    torch.save({"code": np.random.default_rng}, tmp_path / "c.pt")
    with pytest.raises(InputFileError):
        load_checkpoint(tmp_path / "c.pt")


def test_early_stopping_survives_a_checkpoint_and_ignores_nan():
    stopping = EarlyStopping(patience=2)
    assert stopping.update(0, 1.0)
    assert not stopping.update(1, float("nan"))
    again = EarlyStopping.from_state(stopping.state())
    assert again == stopping
    assert not again.should_stop
    assert not again.update(2, 1.0)
    assert again.should_stop
    assert again.best_step == 0


def test_without_patience_nothing_stops():
    stopping = EarlyStopping(patience=None)
    for step in range(50):
        stopping.update(step, 1.0)
    assert not stopping.should_stop


def test_mixed_precision_on_the_cpu_is_float32():
    with autocast(torch.device("cpu"), "amp"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_equal_states_make_equal_files(tmp_path):
    for name in ("a.pt", "b.pt"):
        save_checkpoint(tmp_path / name, {"weights": torch.ones(3), "step": 1})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_a_checkpoint_cut_anywhere_is_named(tmp_path):
    save_checkpoint(tmp_path / "whole.pt", {"weights": torch.ones(50), "step": 1})
    content = (tmp_path / "whole.pt").read_bytes()
    for length in range(0, len(content), 37):
        (tmp_path / "cut.pt").write_bytes(content[:length])
        with pytest.raises(InputFileError, match="not a checkpoint"):
            load_checkpoint(tmp_path / "cut.pt")
