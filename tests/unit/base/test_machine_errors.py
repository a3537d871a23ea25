"""What the machine lacks is never reported as a fault of a file."""

import builtins
import errno
import io
import os
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest
import tifffile
import torch
import zarr
from zarr.storage import ZipStore

from calandria.base.errors import InputFileError
from calandria.base.files import existing_file, raise_machine_error
from calandria.base.volumes import Labelled, read_labelled, write_labelled
from calandria.calendering.dumps import read_frames
from calandria.calendering.particles import read_run_file
from calandria.cli.program import MEMORY_HINT, OSERROR_HINTS, run
from calandria.learning.training import load_checkpoint, save_checkpoint
from calandria.tomography.readers import read_image

MACHINE = [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE]


@pytest.fixture
def files(tmp_path):
    """One whole file of each kind that is read, and its reader."""
    labels = np.zeros((4, 5, 6), np.uint8)
    write_labelled(tmp_path / "volume.zarr.zip", Labelled(labels, 0.4, (False,) * 3, "made"))
    tifffile.imwrite(tmp_path / "image.tif", labels, photometric="minisblack")
    np.save(tmp_path / "image.npy", labels)
    (tmp_path / "slices").mkdir()
    for index in range(2):
        tifffile.imwrite(tmp_path / f"slices/s{index}.tif", labels[0], photometric="minisblack")
    with h5py.File(tmp_path / "image.h5", "w") as file:
        file["labels"] = labels
    save_checkpoint(tmp_path / "model.pt", {"a": 1})
    (tmp_path / "dump").write_text("ITEM: TIMESTEP\n0\n")
    readers = {
        "volume.zarr.zip": read_labelled,
        "image.tif": read_image,
        "image.npy": read_image,
        "slices": read_image,
        "image.h5": read_image,
        "model.pt": load_checkpoint,
        "dump": lambda path: list(read_frames(path)),
    }
    return {tmp_path / name: read for name, read in readers.items()}


@pytest.mark.parametrize("number", MACHINE)
def test_a_failing_machine_is_named_and_no_file_is_blamed(files, number, monkeypatch, capsys):
    def fail(name, *arguments, **others):
        raise OSError(number, os.strerror(number), str(name))

    for module in (builtins, io):
        monkeypatch.setattr(module, "open", fail)
    monkeypatch.setattr(h5py.h5f, "open", lambda *_, **__: fail("image.h5"))
    monkeypatch.setattr(tifffile.tifffile.FileHandle, "open", lambda self: fail(self._file))
    for path, read in files.items():
        with pytest.raises(OSError) as caught:
            read(path)
        assert caught.value.errno == number, path
        assert run(lambda _, read=read, path=path: read(path)) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 2 and os.strerror(number) in lines[0] and lines[1] == f"hint: {OSERROR_HINTS[number]}", path


@pytest.mark.parametrize("name", ["volume.zarr.zip", "model.pt"])
def test_an_error_while_a_zip_file_is_read_is_no_bad_zip_file(files, name, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(zipfile, "_EndRecData", fail)  # zipfile itself calls this a bad zip file
    path = next(path for path in files if path.name == name)
    with pytest.raises(OSError) as caught:
        files[path](path)
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(path))


def test_no_memory_while_reading_ends_in_two_lines(files, monkeypatch, capsys):
    def fail(*_, **__):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(torch, "load", fail)
    path = next(path for path in files if path.name == "model.pt")
    assert run(lambda _: load_checkpoint(path)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[0].startswith("error: out of memory: while reading") and str(path) in lines[0]
    assert lines[1] == f"hint: {MEMORY_HINT}"


def test_an_array_without_room_ends_in_two_lines(capsys):
    assert run(lambda _: np.empty((1 << 30, 1 << 30), np.uint8)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("error: out of memory: Unable to allocate") and lines[1] == f"hint: {MEMORY_HINT}"


def test_files_without_end_are_refused_by_the_system_and_named_so(files):
    """The real limit, in a process of its own: every reader says that the machine opens no more files."""
    for path, read in files.items():
        code = (
            "import os, resource, sys\n"
            "from calandria.cli.program import run\n"
            "from calandria.base.volumes import read_labelled\n"
            "from calandria.tomography.readers import read_image\n"
            "from calandria.calendering.dumps import read_frames\n"
            "def main(arguments):\n"
            "    path = sys.argv[2]\n"
            "    if sys.argv[1] == 'load_checkpoint':\n"
            "        from calandria.learning.training import load_checkpoint\n"
            "    import h5py, tifffile, zarr, PIL.TiffImagePlugin, zipfile\n"
            "    read = {'dump': lambda p: list(read_frames(p))}.get(os.path.basename(path)) or locals().get(sys.argv[1]) or globals()[sys.argv[1]]\n"
            "    held = []\n"
            "    try:\n"
            "        while True: held.append(os.open(os.devnull, os.O_RDONLY))\n"
            "    except OSError: pass\n"
            "    read(path)\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
            "sys.exit(run(main, []))\n"
        )
        name = read.__name__ if read.__name__ != "<lambda>" else "read_frames"
        ended = subprocess.run([sys.executable, "-c", code, name, path], check=False, capture_output=True, text=True)
        lines = ended.stderr.splitlines()
        assert (ended.returncode, len(lines)) == (2, 2), (path, ended.stderr)
        assert "Too many open files" in lines[0] and "ulimit -n" in lines[1], path


def test_the_number_is_found_in_the_words_of_hdf5():
    said = OSError(
        "Unable to synchronously open file (unable to open file: name = 'a.h5', errno = 24, error message = 'Too many')"
    )
    with pytest.raises(OSError) as caught:
        raise_machine_error(said, "a.h5")
    assert (caught.value.errno, caught.value.filename) == (errno.EMFILE, "a.h5")


@pytest.mark.parametrize(
    "error", [OSError("bad magic"), OSError(errno.EINVAL, "Invalid argument"), ValueError("x"), RuntimeError("zstd")]
)
def test_what_the_content_causes_stays_an_error_of_the_file(error):
    assert raise_machine_error(error, "a") is None


def test_a_file_system_that_fails_is_not_a_missing_file(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(os, "stat", fail)
    with pytest.raises(OSError) as caught:
        existing_file(tmp_path)
    assert caught.value.errno == errno.ESTALE


def test_a_particle_file_behind_a_failing_disk_is_not_blamed(tmp_path, monkeypatch):
    (tmp_path / "particles.h5").write_bytes(b"no HDF5")
    with pytest.raises(InputFileError, match="cannot be read as HDF5") as caught:
        read_run_file(tmp_path / "particles.h5")
    assert "delete" not in caught.value.hint

    def fail(*_, **__):
        raise OSError("Unable to synchronously open file (file read failed: errno = 5, error message = 'Input/output error')")

    monkeypatch.setattr(h5py.h5f, "open", fail)
    with pytest.raises(OSError) as found:
        read_run_file(tmp_path / "particles.h5")
    assert found.value.errno == errno.EIO


def test_a_volume_without_labels_is_kept(tmp_path):
    """A missing array proves no damage: the hint never advises to delete the file."""
    with ZipStore(tmp_path / "other.zarr.zip", mode="w") as store:
        zarr.create_group(store)
    with pytest.raises(InputFileError, match="is not a labelled volume") as caught:
        read_labelled(tmp_path / "other.zarr.zip")
    assert "delete" not in caught.value.hint
