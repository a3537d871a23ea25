"""The environment's recipe survives being killed at any point, and cleaning leaves results alone."""

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
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)


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


def clean(folder, *words, answer=""):
    """Lay out what a user has, clean, and return what is left."""
    for name in ("results/demo/report", "logs/demo", ".snakemake/metadata", ".venv/bin", "build/temp", "calandria/transport"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in ("results/demo/report/index.html", "calandria/transport/_solver.so", "calandria/transport/solver.py"):
        (folder / name).write_text("x")
    command = ["make", "-f", str(REPOSITORY / "Makefile"), *words]
    ended = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, input=answer, timeout=300)
    return ended.returncode, {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} | {
        path.name for path in folder.iterdir()
    }


def test_clean_deletes_what_was_built_and_leaves_results_and_logs(tmp_path):
    code, left = clean(tmp_path, "clean")
    assert code == 0
    assert {"results/demo/report/index.html", "logs", ".snakemake", "calandria/transport/solver.py"} <= left
    assert not {".venv", "build", "calandria/transport/_solver.so"} & left


@pytest.mark.parametrize("answer", ["", "no\n", "y\n"])
def test_distclean_deletes_nothing_without_a_yes(tmp_path, answer):
    code, left = clean(tmp_path, "distclean", answer=answer)
    assert code != 0
    assert {"results/demo/report/index.html", "logs", ".snakemake", ".venv", "calandria/transport/_solver.so"} <= left


@pytest.mark.parametrize(("words", "answer"), [(["distclean"], "yes\n"), (["distclean", "CONFIRM=yes"], "")])
def test_distclean_deletes_results_once_confirmed(tmp_path, words, answer):
    code, left = clean(tmp_path, *words, answer=answer)
    assert code == 0 and left == {"calandria", "calandria/transport/solver.py"}
