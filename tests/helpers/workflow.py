"""Runs Snakemake on the repository's rules in a folder of the test's own, and reads what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import IO

import yaml

REPOSITORY = Path(__file__).parents[2]
SNAKEMAKE = Path(sys.executable).parent / "snakemake"


HERE = ("--cores", "2")
ON_SLURM = ("--profile", REPOSITORY / "slurm_profile")
PROFILE = yaml.safe_load((REPOSITORY / "slurm_profile/config.v9+.yaml").read_text())
TWO_RANKS = ("tasks=2", "nodes=2", f"mpi={PROFILE['set-resources']['solve_diffusion']['mpi']}")


def _call(directory: Path, options: tuple[object, ...], environment: dict[str, str]) -> dict:
    where = () if "--profile" in options else HERE
    command = [SNAKEMAKE, "--snakefile", REPOSITORY / "Snakefile", "--directory", directory, *where, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(directory / ".cache"), **environment}
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST", "SNAKEMAKE_PROFILE"):
        environment.pop(name, None)
    return {"args": list(map(str, command)), "env": environment, "text": True}


def snakemake(directory: Path, *options: object, timeout_s: float = 580, **environment: str) -> subprocess.CompletedProcess:
    """Run Snakemake in ``directory``; its results, logs and bookkeeping stay there."""
    call = _call(directory, options, environment)
    return subprocess.run(**call, capture_output=True, check=False, timeout=timeout_s)


def start_snakemake(
    directory: Path, *options: object, said: IO | int = subprocess.DEVNULL, **environment: str
) -> subprocess.Popen:
    """Start Snakemake in ``directory`` and do not wait for it; what it says goes to ``said``."""
    return subprocess.Popen(**_call(directory, options, environment), stdout=said, stderr=said)


def job_counts(finished: subprocess.CompletedProcess) -> dict[str, int]:
    """Return how many jobs of each rule Snakemake planned, from its first table of jobs; none where nothing was to be done."""
    assert finished.returncode == 0, (finished.stdout + finished.stderr)[-3000:]
    text = finished.stdout + finished.stderr
    table = re.search(r"^job +count\n-[- ]+\n(.*?)^total +(\d+)", text, re.MULTILINE | re.DOTALL)
    if table is None:
        assert "Nothing to be done" in text, text[-3000:]
        return {}
    counts = {rule: int(count) for rule, count in (line.split() for line in table.group(1).splitlines())}
    assert sum(counts.values()) == int(table.group(2))
    return counts
