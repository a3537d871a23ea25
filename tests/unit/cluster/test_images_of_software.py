import hashlib
import json
import os
import shlex
import sys
from pathlib import Path

import pytest

from calandria import __version__
from calandria.base.errors import DeviceError, InputFileError
from calandria.base.provenance import provenance
from calandria.cli.program import run
from calandria.cluster import images


@pytest.fixture
def in_image(tmp_path, monkeypatch):
    """This process as if Python lay in an image."""
    record = {"title": "calandria-voxels", "version": "0.1.0", "revision": "1a2b3c", "base": "somewhere/base:1"}
    record["lock_sha256"] = hashlib.sha256(b"numpy==1\n").hexdigest()
    (tmp_path / "image.json").write_text(json.dumps(record))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    images.image_record.cache_clear()
    yield record
    images.image_record.cache_clear()


def package(folder, **files):
    for name, text in files.items():
        path = folder / "calandria" / name.replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return images.code_digest(folder)


def test_outside_of_images_provenance_names_none(monkeypatch):
    monkeypatch.setattr(sys, "prefix", "/nowhere")
    images.image_record.cache_clear()
    assert provenance("report")["image"] is None
    images.image_record.cache_clear()


def test_provenance_tells_the_image(in_image):
    assert provenance("report")["image"] == in_image


def test_the_code_s_digest_is_of_contents_and_names_not_of_place_or_compiled_files(tmp_path):
    digest = package(tmp_path / "one", a_dot_py="x = 1\n", b_dot_c="int i;\n")
    assert package(tmp_path / "two", a_dot_py="x = 1\n", b_dot_c="int i;\n", b_dot_so="built") == digest
    assert package(tmp_path / "three", a_dot_py="x = 2\n", b_dot_c="int i;\n") != digest
    assert package(tmp_path / "four", c_dot_py="x = 1\n", b_dot_c="int i;\n") != digest
    assert package(tmp_path / "five", a_dot_py="x = 1\nint", b_dot_c=" i;\n") != digest


def test_what_editors_and_notebooks_leave_changes_no_digest(tmp_path):
    digest = package(tmp_path, a_dot_py="x = 1\n")
    (tmp_path / ".#a.py").symlink_to("someone@somewhere.123:456")
    (tmp_path / "calandria/folder.py").mkdir(parents=True)
    (tmp_path / "calandria/.ipynb_checkpoints").mkdir()
    (tmp_path / "calandria/.ipynb_checkpoints/a.py").write_text("x = 0\n")
    images.code_digest.cache_clear()
    assert images.code_digest(tmp_path) == digest
    images.code_digest.cache_clear()
    (tmp_path / "calandria/a.py").write_text("x = 0\n")
    assert images.code_digest(tmp_path) != digest


def test_a_program_in_an_image_of_other_code_stops_in_two_lines(in_image, monkeypatch, capsys):
    ran = []
    monkeypatch.setenv(images.CODE, "0" * 64)
    assert run(lambda arguments: ran.append(1)) == 2 and ran == []
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: the image calandria-voxels (version 0.1.0, commit 1a2b3c) holds other code")
    assert hint.startswith("hint: build the images of this checkout: containers/build.py") and ".snakemake/singularity" in hint


@pytest.fixture
def locks(tmp_path):
    """A folder with the lock of the image, and that of another set."""
    folder = tmp_path / "envs"
    folder.mkdir()
    (folder / "voxels.lock").write_text("numpy==1\n")
    (folder / "torch.lock").write_text("torch==2\n")
    return folder


def test_an_image_of_another_lock_is_refused_and_locks_of_other_sets_do_not_count(in_image, locks, monkeypatch):
    monkeypatch.setenv(images.CODE, "")
    (locks / "torch.lock").write_text("torch==3\n")
    images.name_code(locks)
    images.check_code()
    (locks / "voxels.lock").write_text("numpy==2\n")
    images.name_code(locks)
    with pytest.raises(DeviceError, match=r"calandria-voxels .* holds other packages than envs/voxels\.lock of this checkout"):
        images.check_code()


def test_an_image_of_before_locks_were_noted_is_refused(in_image, locks, tmp_path, monkeypatch):
    del in_image["lock_sha256"]
    (tmp_path / "image.json").write_text(json.dumps(in_image))
    monkeypatch.setenv(images.CODE, "")
    images.name_code(locks)
    with pytest.raises(DeviceError, match="other packages"):
        images.check_code()


def test_a_program_in_an_image_of_this_code_runs(in_image, locks, monkeypatch):
    monkeypatch.setenv(images.CODE, "")
    images.name_code(locks)
    images.check_code()
    monkeypatch.delenv(images.CODE)
    images.check_code()
    monkeypatch.setenv(images.CODE, "other")
    with pytest.raises(DeviceError):
        images.check_code()


def test_outside_of_images_the_code_is_not_compared(monkeypatch):
    monkeypatch.setattr(sys, "prefix", "/nowhere")
    images.image_record.cache_clear()
    monkeypatch.setenv(images.CODE, "other")
    images.check_code()
    images.image_record.cache_clear()


def test_images_lie_in_a_folder_or_behind_a_registry():
    assert images.image_address("voxels", "containers") == "containers/voxels.sif"
    assert images.image_address("voxels", "oras://site/calandria") == f"oras://site/calandria/voxels:{__version__}"


def test_launchers_outside_get_one_line_that_a_shell_reads_back(tmp_path, monkeypatch):
    folder = tmp_path / "it's here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    words = shlex.split(images.exec_command("torch", str(folder / "images"), "--nv --bind /scratch"))
    assert words == ["apptainer", "exec", "--home", str(Path.cwd()), "--nv", "--bind", "/scratch", f"{folder}/images/torch.sif"]


def test_missing_images_are_told_at_once_with_the_command_that_builds_them(tmp_path):
    (tmp_path / "voxels.sif").touch()
    images.check_images({"voxels"}, str(tmp_path))
    images.check_images({"voxels", "torch"}, "docker://registry.example/calandria")
    with pytest.raises(InputFileError) as told:
        images.check_images({"torch", "voxels", "lammps"}, str(tmp_path))
    assert f"{tmp_path}/lammps.sif, {tmp_path}/torch.sif are missing" in told.value.message
    assert "containers/build.py --tool apptainer lammps torch;" in told.value.hint and "--config images=" in told.value.hint


def test_pythons_paths_of_the_host_do_not_reach_into_containers(tmp_path, monkeypatch):
    for name in ("APPTAINERENV_PYTHONPATH", "APPTAINERENV_PYTHONHOME", images.CODE):
        monkeypatch.setenv(name, "something")
    images.name_code(tmp_path)
    assert os.environ["APPTAINERENV_PYTHONPATH"] == os.environ["APPTAINERENV_PYTHONHOME"] == ""
