"""Runs Snakemake on the repository's rules in a folder of the test's own, and reads what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SNAKEMAKE = Path(sys.executable).parent / "snakemake"


def _call(directory: Path, options: tuple[object, ...]) -> dict:
    command = [SNAKEMAKE, "--snakefile", REPOSITORY / "Snakefile", "--directory", directory, "--cores", "2", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(directory / ".cache")}
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST", "SNAKEMAKE_PROFILE"):
        environment.pop(name, None)
    return {"args": list(map(str, command)), "env": environment, "text": True}


def snakemake(directory: Path, *options: object) -> subprocess.CompletedProcess:
    """Run Snakemake in ``directory``; its results, logs and bookkeeping stay there."""
    return subprocess.run(**_call(directory, options), capture_output=True, check=False, timeout=580)


def start_snakemake(directory: Path, *options: object) -> subprocess.Popen:
    """Start Snakemake in ``directory`` and do not wait for it."""
    return subprocess.Popen(**_call(directory, options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


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
