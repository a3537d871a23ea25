"""The profile for clusters: what it makes of rules, and what happens where there is no SLURM. Needs none itself."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.validation import validate_slurm_extra

from tests.helpers.rules import rules
from tests.helpers.tiny_study import write_study
from tests.helpers.workflow import ON_SLURM, PROFILE, REPOSITORY, job_counts, snakemake

pytestmark = pytest.mark.slow


@pytest.fixture
def study(tmp_path):
    """Return a folder with a tiny study, and the option that names it."""
    return tmp_path, write_study(tmp_path)


def commands(finished):
    """Return a command line of each program that a dry run shows, the first one in the order of letters."""
    lines = sorted(line.strip().removeprefix("Shell command: ") for line in (finished.stdout + finished.stderr).splitlines())
    found = {}
    for line in lines:
        if (program := re.search(r" -m workflow_scripts\.(?!learning\.torchrun)\w+\.(\w+)", line)) is not None:
            found.setdefault(program.group(1), line)
    return found


def test_all_that_the_profile_names_exists():
    named = {*PROFILE["set-resources"], *PROFILE["set-threads"], *PROFILE["groups"]}
    assert named - {rule.name for rule in rules()} == set() and set(PROFILE["group-components"]) == set(
        PROFILE["groups"].values()
    )
    assert PROFILE["slurm-status-command"] == "squeue" and PROFILE["retries"] >= 1 and "slurm-array-jobs" not in PROFILE


def test_the_profile_plans_the_same_study_and_launches_it_otherwise(study):
    folder, option = study
    here, there = (snakemake(folder, *where, *option, "--dry-run", "--printshellcmds") for where in ((), ON_SLURM))
    assert job_counts(here) == job_counts(there) and not (folder / "results").exists()
    local, cluster = commands(here), commands(there)
    changed = {program for program in local if local[program] != cluster[program]}
    assert changed == {"solve_diffusion", "search_surrogate", "search_autoencoder"}
    assert local["solve_diffusion"].startswith("mpiexec -n 2 python ") and " --ranks 2 " in local["solve_diffusion"]
    wanted = PROFILE["set-resources"]["solve_diffusion"]
    assert cluster["solve_diffusion"].startswith(f"{wanted['mpi']} -n {wanted['tasks']} python ")
    assert f" --ranks {wanted['tasks']} " in cluster["solve_diffusion"] and "--kill-on-bad-exit=1" in wanted["mpi"]
    assert " --workers 1 " in local["search_surrogate"] and "--launch" not in local["search_surrogate"]
    assert all(""" --run-control='{"workers": 1}' """ in shown["search_surrogate"] for shown in (local, cluster))
    for rule in ("search_surrogate", "search_autoencoder"):
        of_rule = PROFILE["set-resources"][rule]
        assert f" --launch=slurm --workers={of_rule['workers']} " in cluster[rule]
        assert (
            f" --memory-mb={of_rule['mem_mb']} " in cluster[rule] and f" --runtime-minutes={of_rule['runtime']} " in cluster[rule]
        )


def test_sites_and_several_gpus_reach_the_commands(study):
    folder, option = study
    resources = [
        *("train_surrogate:processes=4", "train_surrogate:gpu=4"),
        *("train_autoencoder:mpi=srun --kill-on-bad-exit=1", "train_autoencoder:tasks=8", "train_autoencoder:nodes=2"),
        *("search_surrogate:launch=slurm", "search_surrogate:gpu_model=a100", "search_surrogate:max_running=3"),
        *("search_surrogate:slurm_extra=--exclude=n7 --nice", "search_surrogate:gpu=1", "search_surrogate:constraint=ib&a100"),
    ]
    defaults = ("--default-resources", "slurm_partition=gpu", "slurm_account=mine")
    threads = ("--cores", "8", "--set-threads", "train_surrogate=8", "train_autoencoder=3")  # a dry run has one core
    shown = commands(
        snakemake(folder, *ON_SLURM, *option, "--dry-run", "--printshellcmds", *defaults, *threads, "--set-resources", *resources)
    )
    share = "OMP_NUM_THREADS=2 MKL_NUM_THREADS=2 OPENBLAS_NUM_THREADS=2"
    torchrun = f"exec env {share} python -m workflow_scripts.learning.torchrun --standalone --nproc-per-node 4"
    assert shown["train_surrogate"].startswith(f"{torchrun} -m workflow_scripts.surrogate.train_surrogate --processes 4 ")
    srun = "exec srun --kill-on-bad-exit=1 -n 8 --cpus-per-task=3 python -m workflow_scripts.autoencoder.train_autoencoder --processes 8 "
    assert shown["train_autoencoder"].startswith(srun)
    for word in ("--partition=gpu", "--account=mine", "--gpus=1", "--gpu-type=a100", "--max-running=3"):
        assert f" {word} " in shown["search_surrogate"]
    assert " '--constraint=ib&a100' " in shown["search_surrogate"]
    assert " '--sbatch-options=--exclude=n7 --nice' " in shown["search_surrogate"]


class Resources(dict):
    """Resources of a job as the plugin reads them, by key or attribute."""

    __getattr__ = dict.get


def test_what_the_guide_says_of_nodes_is_taken_by_the_plugin_for_rules_that_are_jobs():
    """The plugin refuses options that it sets itself, --constraint among them."""
    row = next(
        line for line in (REPOSITORY / "docs/cluster.md").read_text().splitlines() if line.startswith("| `slurm_extra` | further")
    )
    (extra,) = re.findall(r'`"(.+?)"`', row)
    job = SimpleNamespace(resources=Resources(constraint="ib&a100", slurm_extra=extra, mem_mb=100, runtime=1), threads=1)
    validate_slurm_extra(job)
    words = ("run_uuid", "slurm_logfile", "comment_str", "account", "partition", "workdir")
    command = shlex.split(get_submit_command(job, dict.fromkeys(words, "")))
    assert command[command.index("-C") + 1] == "ib&a100" and extra in command


@pytest.fixture
def without_slurm(tmp_path_factory):
    """Return a PATH with what the system offers but SLURM."""
    folder = tmp_path_factory.mktemp("programs")
    for name in ("bash", "sh", "which", "env", "uname"):
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    return f"{Path(sys.executable).parent}{os.pathsep}{folder}"


def test_without_slurm_plans_are_shown_and_runs_end_in_two_lines(study, without_slurm):
    folder, option = study
    assert sum(job_counts(snakemake(folder, *ON_SLURM, *option, "--dry-run", PATH=without_slurm)).values()) > 30
    finished = snakemake(folder, *ON_SLURM, *option, PATH=without_slurm)
    assert finished.returncode != 0 and not (folder / "results").exists()
    lines = (finished.stdout + finished.stderr).splitlines()
    (where,) = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    assert "sbatch, squeue, scancel, srun cannot be found" in lines[where] and lines[where + 1].startswith("hint: ")
    assert "Traceback" not in finished.stderr


def test_the_smoke_study_is_planned(tmp_path):
    for name in ("config", "examples"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    counts = job_counts(snakemake(tmp_path, *ON_SLURM, "--configfile", "config/smoke.yaml", "--dry-run"))
    assert (
        counts["solve_diffusion"] == counts["search_autoencoder"] == counts["train_autoencoder"] == 1
        and sum(counts.values()) == 11
    )
