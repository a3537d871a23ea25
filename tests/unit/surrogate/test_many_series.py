"""Many series: few open files, one budget of memory for frames, no frame digested twice."""

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calandria.base.errors import InputFileError
from calandria.base.volumes import FRAME_DIGESTS, frame_digest, open_labelled, read_labelled, write_labelled
from calandria.surrogate import windows
from calandria.surrogate.settings import SplitSettings
from calandria.surrogate.splits import split_runs
from calandria.surrogate.trial import _described
from calandria.surrogate.windows import WindowReader, describe_run, describe_runs
from tests.helpers.series import pressed_film, write_films

MANY, HANDLES = 300, 64
SHAPE = (6, 4, 4)

PROGRAMS = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({handles}, {handles}))
from workflow_scripts.surrogate import split_films, train_surrogate
split_films.main(["--settings", "split_settings.json", "@frames", "--output", "split.json"])
train_surrogate.main(
    ["--settings", "settings.json", "@frames", "--split", "split.json", "--checkpoint-directory", "scratch", "--cache-mb", "1",
     "--output", "model.pt", "--output-losses", "losses.csv"]
)
"""


def test_hundreds_of_series_train_with_few_file_handles(tmp_path):
    film = pressed_film("film_0", 20, shape=SHAPE, n_frames=6)
    paths = []
    for number in range(MANY):
        labels = film.labels.copy()
        labels[:, 0].reshape(len(labels), -1)[:, :6] = [number // 3**digit % 3 for digit in range(6)]  # no film is like another
        path = tmp_path / f"{number}.zarr.zip"
        write_labelled(path, replace(film, labels=labels, attributes=film.attributes | {"film": f"film_{number}"}))
        paths.append(str(path))
    (tmp_path / "frames").write_text("\n".join(["--frames", *paths]))
    (tmp_path / "split_settings.json").write_text(json.dumps({"settings": {"split": {"test_films": ["film_1"]}}}))
    training = {"epochs": 1, "batch_size": 32}
    network = {"kind": "conv1d_lags", "filters": 2, "dense_widths": [], "learning": {"training": training}}
    (tmp_path / "settings.json").write_text(json.dumps({"settings": {}, "network": network}))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")]))}
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAMS.format(handles=HANDLES)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert (tmp_path / "model.pt").exists()
    split = json.loads((tmp_path / "split.json").read_text())
    assert len(split["runs"]) == MANY > HANDLES and any(run["validation"] for run in split["runs"])


def test_files_are_closed_and_frames_dropped_beyond_their_budgets(tmp_path):
    runs = describe_runs(write_films(tmp_path, degrees=(20,), shape=SHAPE))
    size = int(np.prod(SHAPE))
    with WindowReader(runs, 3, cached_bytes=4 * size, open_series=2) as reader:
        for _ in range(2):
            for run, known in enumerate(runs):
                for index in range(known.n_frames):
                    frame = reader.frame(run, index)
                    assert np.array_equal(frame, read_labelled(known.path).labels[index])
                    assert len(reader._open) <= 2 and len(reader._frames) <= 4 and reader._bytes <= 4 * size
        kept = reader.frame(2, 8)
        assert kept is reader.frame(2, 8), "a frame that is kept is not read again"
    assert not reader._open


def test_digests_of_frames_are_those_of_the_file_and_are_not_computed_again(tmp_path, monkeypatch):
    (path,) = write_films(tmp_path, films=("film_1",), degrees=(20,), shape=SHAPE)
    series = read_labelled(path)
    expected = tuple(frame_digest(*frame) for frame in zip(series.labels, series.frames["press_position_um"], strict=True))
    assert describe_run(path).digests == expected
    monkeypatch.setattr(windows, "frame_digest", lambda *frame: pytest.fail("the file holds the digests"))
    assert describe_run(path).digests == expected


def test_a_changed_series_never_keeps_the_digests_of_another(tmp_path):
    (path,) = write_films(tmp_path, films=("film_1",), degrees=(20,), shape=SHAPE)
    series = read_labelled(path)
    labels = series.labels.copy()
    labels[2] = 1
    write_labelled(tmp_path / "changed.zarr.zip", replace(series, labels=labels))
    first, second = (describe_run(str(one)).digests for one in (path, tmp_path / "changed.zarr.zip"))
    assert [one != other for one, other in zip(first, second, strict=True)] == [frame == 2 for frame in range(len(first))]
    write_labelled(tmp_path / "frame.zarr.zip", series.frame(0))
    with open_labelled(tmp_path / "frame.zarr.zip") as (_, facts):
        assert FRAME_DIGESTS not in facts.attributes


def test_a_file_without_digests_is_described_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("calandria.base.volumes._frame_digests", lambda volume: {})
    (path,) = write_films(tmp_path, films=("film_1",), degrees=(20,), shape=SHAPE)
    with open_labelled(path) as (_, facts):
        assert FRAME_DIGESTS not in facts.attributes
    monkeypatch.undo()
    (whole,) = write_films(tmp_path, films=("film_1",), degrees=(20,), shape=SHAPE)
    assert describe_run(path).digests == describe_run(whole).digests


def test_the_trials_of_a_worker_describe_the_series_once_as_long_as_they_stay(tmp_path, monkeypatch):
    paths = tuple(write_films(tmp_path, degrees=(20,), shape=SHAPE))
    described = []
    monkeypatch.setattr("calandria.surrogate.trial.describe_runs", lambda names: described.append(names) or describe_runs(names))
    first = _described(paths)
    assert _described(paths) == first and len(described) == 1
    write_labelled(paths[0], pressed_film("film_1", 30, seed=1, shape=SHAPE))
    os.utime(paths[0], ns=(1, 1))
    assert _described(paths)[0].compression_degree_percent == 30 and len(described) == 2


def test_the_parts_of_many_series_are_found_without_comparing_each_with_all(tmp_path):
    """The work grows with the number of series, not with its square: counted in look-ups of the films' names."""
    (path,) = write_films(tmp_path, films=("film_1",), degrees=(20,), shape=SHAPE)
    one, looked = describe_run(path), []

    class Counted(type(one)):
        def __getattribute__(self, name):
            if name == "film":
                looked.append(1)
            return super().__getattribute__(name)

    def count(number):
        runs = [
            Counted(**{**vars(one), "film": f"film_{n}", "digests": tuple(f"{n} {digest}" for digest in one.digests)})
            for n in range(number)
        ]
        looked.clear()
        split_runs(runs, SplitSettings(test_films=[f"film_{n}" for n in range(number // 4)]), 3)
        return len(looked)

    assert count(400) < 5 * count(100)


def test_a_damaged_frame_is_named_when_it_is_read(tmp_path):
    (path,) = write_films(tmp_path, films=("film_1",), degrees=(20,), shape=SHAPE)
    with zipfile.ZipFile(path) as packed:
        entry = packed.getinfo("labels/c/2/0/0/0")
        start = entry.header_offset + 30 + len(entry.filename)
    content = bytearray(Path(path).read_bytes())
    content[start + entry.compress_size // 2] ^= 0xFF
    Path(path).write_bytes(content)
    with WindowReader([describe_run(path)], 3) as reader:
        assert reader.frame(0, 1).shape == SHAPE
        with pytest.raises(InputFileError, match="is damaged"):
            reader.frame(0, 2)
