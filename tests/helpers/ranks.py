"""Starts programs on several MPI ranks with the launcher of this environment."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def start_ranks(ranks: int, words: Sequence[str], folder: Path, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run ``python *words`` on several ranks in ``folder``; both outputs are captured."""
    prefix = Path(sys.prefix)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [str(prefix / "lib"), os.environ.get("LD_LIBRARY_PATH")])),
    }
    command = [str(prefix / "bin" / "mpiexec"), "-n", str(ranks), sys.executable, *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)
