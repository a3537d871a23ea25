"""The environment's recipe survives being killed at any point."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.workflow import REPOSITORY

pytestmark = pytest.mark.slow


def make_venv(folder):
    base = Path(sys.base_prefix) / "bin/python3.11"
    command = ["make", "-f", str(REPOSITORY / "Makefile"), "venv", f"PYTHON={base}"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)


def test_a_half_made_environment_is_made_again_and_a_whole_one_is_kept(tmp_path):
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.base_prefix + "/bin/python3.11")  # runs, but is no environment of its own
    make_venv(tmp_path)
    assert (tmp_path / ".venv/pyvenv.cfg").exists() and (tmp_path / ".venv/bin/pip").exists()
    (tmp_path / ".venv/kept").touch()
    make_venv(tmp_path)
    assert (tmp_path / ".venv/kept").exists()
    shutil.rmtree(tmp_path / ".venv/lib/python3.11/site-packages/pip/_internal")  # killed while pip was laid out
    make_venv(tmp_path)
    assert not (tmp_path / ".venv/kept").exists()
    assert (
        subprocess.run([tmp_path / ".venv/bin/python", "-m", "pip", "--version"], check=False, capture_output=True).returncode
        == 0
    )
