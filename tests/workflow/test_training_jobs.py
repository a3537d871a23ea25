"""What SLURM is asked for by the trainings of the profile and of the guide's examples. Needs no SLURM."""

import re
import shlex
from types import SimpleNamespace

import pytest
import yaml
from snakemake.iocontainers import ResourceList
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string
from snakemake_executor_plugin_slurm.validation import validate_slurm_extra

from tests.helpers.rules import rules
from tests.helpers.workflow import PROFILE, REPOSITORY

TRAININGS = ("train_surrogate", "train_autoencoder")
STATED = {"processes": 1, "nodes": 1, "gpu": 1, "mem_mb": 16000, "runtime": 1440}  # by the rules, where the device is cuda


def example_of_the_guide():
    blocks = re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "docs/cluster.md").read_text(), re.DOTALL)
    (block,) = [block for block in blocks if "train_surrogate" in block]
    return yaml.safe_load(block)


def examples_of_the_profile():
    """Return what the comments offer to a site: the whole example, and the training over two nodes."""
    lines = (REPOSITORY / "slurm_profile/config.v9+.yaml").read_text().splitlines()
    start, second = ([line.startswith(words) for line in lines].index(True) for words in ("# SITE: an example", "# On two nodes"))
    parts = (lines[start + 2 : second], lines[second + 1 :])
    return [yaml.safe_load("\n".join(line.removeprefix("# ") for line in part)) for part in parts]


def sbatch(asked, threads):
    """Return the words with which the plugin submits a training."""
    job = SimpleNamespace(resources=ResourceList(fromdict={**STATED, **asked}), threads=threads)
    validate_slurm_extra(job)
    words = ("run_uuid", "slurm_logfile", "comment_str", "account", "partition", "workdir")
    return shlex.split(get_submit_command(job, dict.fromkeys(words, "")) + set_gres_string(job))


@pytest.mark.parametrize("rule", TRAININGS)
def test_a_training_is_told_to_stop_before_its_time_limit_and_stays_on_one_node(rule):
    first, second = examples_of_the_profile()
    sections = [PROFILE["set-resources"], first["set-resources"], example_of_the_guide()["set-resources"], second]
    for asked in sections:
        assert "--signal=TERM@120" in sbatch(asked.get(rule, sections[0][rule]), 1)
    assert {"--nodes=1", "--gpus=1"} <= set(sbatch(sections[0][rule], 1))
    (parsed,) = (found for found in rules() if found.name == rule)
    assert "nodes" in parsed.resources
    assert parsed.command.startswith("exec {params.trainer} -m"), "signals reach the program and no shell before it"


def test_processes_of_one_training_get_their_gpus_and_cores_where_they_are():
    first, second = examples_of_the_profile()
    guide = example_of_the_guide()
    resources, threads = guide["set-resources"], guide["set-threads"]
    for asked, cores in (
        (resources["train_surrogate"], threads["train_surrogate"]),
        (first["set-resources"]["train_surrogate"], first["set-threads"]["train_surrogate"]),
    ):
        assert {"--nodes=1", "--gpus=4", "--cpus-per-task=32"} <= set(sbatch(asked, cores)) and asked["processes"] == 4
    for asked in (resources["train_autoencoder"], second["train_surrogate"]):
        words = sbatch(asked, threads["train_autoencoder"])
        assert {"--nodes=2", "--ntasks=8", "--ntasks-per-node=4", "--gpus-per-node=4", "--cpus-per-task=8"} <= set(words)
        assert not [word for word in words if word.startswith(("--gpus=", "--ntasks-per-gpu"))]
