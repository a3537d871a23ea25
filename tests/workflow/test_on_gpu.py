"""The script for machines with a GPU ends in two lines where there is none."""

import os
import subprocess
import sys

import pytest

from tests.helpers.workflow import REPOSITORY


@pytest.mark.parametrize("python", [sys.executable, "/nowhere/python"])
def test_without_a_gpu_it_says_so_in_two_lines(python, tmp_path):
    environment = {**os.environ, "PYTHON": python, "CUDA_VISIBLE_DEVICES": ""}
    command = [REPOSITORY / "benchmarks/on_gpu.sh", tmp_path / "tables"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    first, second = (ended.stdout + ended.stderr).splitlines()
    assert ended.returncode == 0 and first.startswith("not run: ") and "GPU" in second
    assert not list((tmp_path / "tables").iterdir())
