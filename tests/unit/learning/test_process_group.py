"""Processes of one training: counted, each with a device of its own, their parts joined, their errors told once."""

import contextlib
import re
import signal
from types import SimpleNamespace

import pytest
import torch

from calandria.base.errors import DeviceError, SettingsError, StoppedError
from calandria.base.processes import stop_signals
from calandria.learning import process_group
from calandria.learning.process_group import Launch, Processes, find_launch, joined, own_device
from calandria.learning.settings import Training
from calandria.learning.training import Pace, learn
from tests.helpers.processes import ends, processes_of

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "GROUP_WORLD_SIZE": "2"}
SRUN = {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}


def test_launchers_are_understood():
    assert find_launch({}) == Launch(0, 1, 0, "")
    assert find_launch(TORCHRUN, 4) == find_launch(TORCHRUN | {"SLURM_STEP_NUM_TASKS": "2"}) == Launch(3, 4, 1, "torchrun")
    assert find_launch(SRUN, 4) == Launch(2, 4, 0, "srun")
    assert find_launch({"SLURM_NTASKS": "4"}) == Launch(), "tasks of an allocation that nobody started are no promise"
    assert find_launch({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, 1) == Launch()
    alone = {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "GROUP_WORLD_SIZE": "1", "SLURM_STEP_NUM_TASKS": "1"}
    assert find_launch(alone).size == 4, "torchrun --standalone in a step of one task"


@pytest.mark.parametrize(
    ("environment", "promised", "found"),
    [
        ({}, 2, "2 processes were promised .* found 1"),
        (TORCHRUN, 2, "found 4"),
        (SRUN | {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "GROUP_WORLD_SIZE": "1"}, None, "srun started 4 tasks"),
        ({"PMI_SIZE": "4", "PMI_RANK": "1"}, None, "4 copies were started .PMI_SIZE."),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, None, "2 copies"),
    ],
)
def test_processes_that_do_not_know_of_each_other_are_an_error(environment, promised, found):
    with pytest.raises(DeviceError, match=found):
        find_launch(environment, promised)


def test_each_process_has_a_gpu_of_its_own_or_there_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert own_device("cuda", Launch(5, 8, 1, "torchrun")) == torch.device("cuda", 1)
    assert own_device("cpu", Launch(1, 2, 1, "torchrun")) == torch.device("cpu")
    assert own_device("cuda:1", Launch()) == torch.device("cuda", 1)
    for name, launch, found in (
        ("cuda", Launch(2, 3, 2, "torchrun"), "needs cuda:2; .* sees 2 CUDA devices"),
        ("cuda:1", Launch(0, 2, 0, "torchrun"), "one device, and 2 processes"),
        ("cuda:2", Launch(), "sees 2"),
    ):
        with pytest.raises(DeviceError, match=found):
            own_device(name, launch)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for launch in (Launch(), Launch(0, 2, 0, "torchrun"), Launch(0, 2, 0, "srun")):
        with pytest.raises(DeviceError, match="sees 0"):
            own_device("cuda", launch)


def test_a_gpu_that_srun_gave_to_one_task_is_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert own_device("cuda", Launch(3, 4, 3, "srun")) == torch.device("cuda", 0)
    with pytest.raises(DeviceError, match="needs cuda:3"):
        own_device("cuda", Launch(3, 4, 3, "torchrun"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with pytest.raises(DeviceError, match="needs cuda:3"):
        own_device("cuda", Launch(3, 4, 3, "srun"))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_shares_hold_each_window_once(size):
    for count in range(25):
        shares = [list(range(count))[Processes(Launch(rank, size)).share(count)] for rank in range(size)]
        assert [index for share in shares for index in share] == list(range(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_totals_of_another_number_of_processes_are_taken_by_the_first():
    assert [Processes(Launch(rank, 2)).own_total([1.0, 2.0]) for rank in range(2)] == [1.0, 2.0]
    assert [Processes(Launch(rank, 3)).own_total([1.0, 2.0]) for rank in range(3)] == [3.0, 0.0, 0.0]


def test_a_batch_too_small_for_the_processes_is_an_error():
    model = torch.nn.Linear(1, 1)
    with pytest.raises(SettingsError, match=r"a batch of 2 .* 3 processes"):
        learn(
            SimpleNamespace(name="any"),
            model,
            torch.optim.SGD(model.parameters()),
            Pace(Training(epochs=1, batch_size=2), checkpoint_every=1),
            identity="",
            checkpoint_path=None,
            processes=Processes(Launch(0, 3)),
        )


def test_one_process_joins_nobody(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS", *process_group.MPI_SIZES):
        monkeypatch.delenv(name, raising=False)
    with joined(None, 1) as processes:
        assert (processes.size, processes.is_first, processes.any(True), processes.gathered(2.0)) == (1, True, True, [2.0])
        assert not torch.distributed.is_initialized()


BY_TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2"}
BY_SRUN = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}


@pytest.mark.parametrize(("launch", "cure"), [(BY_TORCHRUN, "torchrun .* by --local-addr"), (BY_SRUN, "set MASTER_ADDR ")])
def test_a_first_host_without_an_address_is_told_at_once_with_what_its_launcher_heeds(monkeypatch, launch, cure):
    for name in (*BY_TORCHRUN, *BY_SRUN, "GROUP_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, word in {**launch, "MASTER_ADDR": "no host", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, word)
    group = joined(2, 1)
    with pytest.raises(DeviceError, match="'no host' has no address") as told, group:
        pass
    assert re.search(cure, told.value.hint) and ("MASTER_ADDR" in told.value.hint) == (launch is BY_SRUN)


def test_signals_ask_to_stop_and_those_of_the_launcher_change_no_exit_status():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
    for error in (None, StoppedError):
        with contextlib.suppress(StoppedError), stop_signals() as stop:
            assert not stop()
            signal.raise_signal(signal.SIGUSR1)
            assert stop()
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)  # a dying workflow sends it
            if error:
                raise error("", hint="")
        now = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
        assert now == ([signal.SIG_IGN, signal.SIG_IGN, before[2]] if error else before)
    for number, handler in zip((signal.SIGTERM, signal.SIGUSR1), before[:2], strict=True):
        signal.signal(number, handler)


HEAD = """
import json, sys, time
import torch
from functools import partial
from calandria.cli.program import run
from calandria.base.errors import InputFileError
from calandria.learning.process_group import joined
from calandria.learning.training import _joint_layers
def main(arguments):
    with joined(2, float(sys.argv[1])) as processes:
        rank = processes.launch.rank
        work(processes, rank)
"""
END = """
sys.exit(run(main))
"""

EXCHANGES = """
def work(processes, rank):
    state = {"a": torch.arange(5).float() + 0.5, "none": None, "list": [torch.tensor(True), 2**80, "b"], "empty": torch.zeros(0)}
    got = processes.once(lambda: state)
    assert got["a"].equal(state["a"]) and got["list"][0].item() is True and got["list"][1:] == [2**80, "b"] and len(got["empty"]) == 0
    assert processes.gathered(float(rank)) == [0.0, 1.0]
    assert processes.any(rank == 1) and not processes.any(False) and processes.largest(3 * rank) == 3
    found = []
    for first in (0, 1):
        def fails():
            if rank == 1 or not first:
                raise InputFileError(f"of {rank}", hint="")
        try:
            (processes.once if first == 0 else processes.together)(fails)
        except InputFileError as error:
            found.append(error.message)
    assert found == ["of 0", "of 1"]
    layers = [torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.4), torch.nn.Dropout3d(0.5)]
    shapes = [(5, 3, 4), (5, 6), (5, 3, 2, 2, 2)]
    for layer, shape in zip(layers, shapes):
        torch.manual_seed(1)
        values = torch.randn(shape).requires_grad_()
        weights = torch.randn(shape)
        state = torch.get_rng_state()
        before = {k: v.clone() for k, v in layer.state_dict().items()}
        whole = layer(values)
        (whole * weights).sum().backward()
        after = {k: v.clone() for k, v in layer.state_dict().items()}
        gradients = [values.grad.clone()] + [p.grad.clone() for p in layer.parameters()]
        for dealt in (slice(None), slice(0, 1)):  # five rows to two processes, then one row, which leaves one process idle
            layer.load_state_dict(before)
            torch.set_rng_state(state)
            if dealt.stop:
                whole = layer(values[dealt])
                after = {k: v.clone() for k, v in layer.state_dict().items()}
                layer.load_state_dict(before)
                torch.set_rng_state(state)
            values.grad = None
            with _joint_layers(torch.nn.Sequential(layer), processes) as joint:
                joint.take(range(len(values[dealt])), processes)
                share = joint.share if joint.count else slice(0, 1)
                part = layer(values[dealt][share])
                for p in layer.parameters():
                    p.grad = None
                ((part * weights[dealt][share]).sum() * (joint.count > 0)).backward()
            torch.testing.assert_close(part, whole[share], atol=1e-6, rtol=1e-5)
            for name, value in layer.state_dict().items():
                torch.testing.assert_close(value, after[name], atol=1e-6, rtol=1e-5)
            if not dealt.stop:
                torch.testing.assert_close(values.grad[share], gradients[0][share], atol=1e-5, rtol=1e-5)
                assert all(v.abs().sum() == 0 for i, v in enumerate(values.grad) if not share.start <= i < share.stop)
                for p, gradient in zip(layer.parameters(), gradients[1:]):
                    torch.testing.assert_close(processes.summed(p.grad), gradient, atol=1e-5, rtol=1e-5)
        assert "forward" not in vars(layer)
    print(json.dumps("done"))
"""


def group(work, folder, timeout_s="60", **options):
    return processes_of(2, ["-c", HEAD + work + END, timeout_s], folder, **options)


def test_two_processes_exchange_what_training_needs(tmp_path):
    with group(EXCHANGES, tmp_path) as both:
        for code, out, told in ends(both):
            assert (code, out) == (0, '"done"\n'), told


def test_an_error_of_all_is_told_once(tmp_path):
    with group("def work(processes, rank):\n    raise InputFileError('same', hint='mend it')", tmp_path) as both:
        assert [(code, told) for code, _, told in ends(both)] == [(2, "error: same\nhint: mend it\n"), (2, "")]


LOST = r"error: process 0 of 2 lost another one \(.*\)\nhint: see the errors of the others; .* last checkpoint\n"


def test_an_error_of_one_is_told_by_it_and_ends_the_other(tmp_path):
    work = "def work(processes, rank):\n    if rank == 1:\n        raise InputFileError('mine', hint='mend it')\n    processes.any(True)"
    with group(work, tmp_path) as both:
        (first, _, lost), (second, _, told) = ends(both)
    assert (first, second, told) == (2, 2, "error: mine\nhint: mend it\n")
    assert re.fullmatch(LOST, lost)


WAITS = "def work(processes, rank):\n    print('in', flush=True)\n    time.sleep(3600) if rank else processes.any(True)"


@pytest.mark.parametrize(("kills", "timeout_s"), [(True, "600"), (False, "2")])
def test_nobody_waits_for_ever_for_a_killed_or_silent_process(tmp_path, kills, timeout_s):
    with group(WAITS, tmp_path, timeout_s) as (first, second):
        for process in (first, second):
            assert process.stdout.readline() == "in\n", process.stderr.read()
        if kills:
            second.kill()
        [(code, _, told)] = ends([first])
    assert code == 2 and re.fullmatch(LOST, told)


def test_a_process_that_never_came_is_told(tmp_path):
    with group(WAITS, tmp_path, "2", started=1) as alone:
        [(code, _, told)] = ends(alone)
    assert code == 2 and told.startswith("error: process 0 of 2 could not join the others") and told.count("\n") == 2
