"""Training of the auto-encoder by two processes."""

import pytest

from calandria.base.records import read_table
from calandria.learning.training import load_checkpoint
from tests.helpers.processes import ends, processes_of
from workflow_scripts.autoencoder import train_autoencoder

PROGRAM = "workflow_scripts.autoencoder.train_autoencoder"


def test_two_processes_learn_what_one_learns(tmp_path, autoencoder_inputs):
    inputs = autoencoder_inputs(tmp_path, epochs=4)

    def words(name):
        outputs = ["--output", str(tmp_path / f"{name}.pt"), "--output-losses", str(tmp_path / f"{name}.csv")]
        return [*inputs.of("train"), "--checkpoint-directory", str(tmp_path / f"scratch_{name}"), *outputs]

    train_autoencoder.main(words("one"))
    with processes_of(2, ["-m", PROGRAM, *words("two"), "--processes", "2"], tmp_path) as both:
        for code, _, told in ends(both):
            assert (code, told) == (0, "")
    one, two = (read_table(tmp_path / f"{name}.csv") for name in ("one", "two"))
    for name in ("loss_train", "loss_validation"):
        assert [float(row[name]) for row in two] == pytest.approx([float(row[name]) for row in one], rel=1e-5)
    first, second = (load_checkpoint(tmp_path / f"{name}.pt") for name in ("one", "two"))
    assert (first["processes"], second["processes"]) == ([1], [2])
    assert all(float((first["weights"][name] - second["weights"][name]).abs().max()) < 1e-4 for name in first["weights"])
