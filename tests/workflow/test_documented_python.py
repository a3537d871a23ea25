"""The Python of README and docs runs as it stands, in a folder that has the repository's examples and a series ``frames.zarr.zip``."""

import re

import numpy as np
import pytest

from calandria.base.phases import CBD
from calandria.base.results import Result, TableWriter
from calandria.base.volumes import Labelled, write_labelled
from calandria.calendering.dumps import Particles
from calandria.calendering.particles import write_run
from calandria.calendering.press import Surface
from tests.helpers.workflow import REPOSITORY

FILES = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
BLOCKS = [
    pytest.param(block, id=f"{path.name}-{number}")
    for path in FILES
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL))
]


def test_there_are_examples():
    assert {"README.md-0", "transport.md-0"} <= {block.id for block in BLOCKS}


def write_results(folder):
    """Write tables of results with predictions of one run and the porosity of two films."""
    with (
        TableWriter(folder / "results.csv", folder / "results.parquet") as table,
        TableWriter(None, folder / "frames.parquet") as frames,
    ):
        for film, value in (("film_1", 0.30), ("film_2", 0.32)):
            keys = {"film": film, "degree_percent": 20, "rule": "a_rule", "file": f"{film}.csv", "digest": "d"}
            table.write(Result(stage="transport", **keys, moment="last", frame=8, quantity="porosity_free", value=value))
            predicted = {"stage": "surrogate", "predictor": "copy", "mode": "rollout", "leaking": False}
            table.write(Result(**keys, **predicted, quantity="porosity_free_relative_error", value=0.1))
            for frame in range(3):
                frames.write(Result(**keys, **predicted, frame=frame, quantity="r2_film", value=0.9))


def write_particles(path):
    """Write a run of touching spheres that a press squeezes affinely, in five frames."""
    path.parent.mkdir(parents=True)
    lattice = np.stack(np.meshgrid(*[np.arange(4) * 2.0 + 1] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    press = np.linspace(8.0, 7.6, 5)
    x, y, z = (np.tile(lattice[:, axis], (5, 1)) for axis in range(3))
    radius, count = np.full(x.shape, 0.99), x.shape[1]
    box = np.tile([[0.0, 8.0], [0.0, 8.0], [0.0, 10.0]], (5, 1, 1))
    phase, identity, step = np.full(count, CBD, np.uint8), np.arange(1, count + 1), np.arange(5)
    particles = Particles(x, y, z * press[:, None] / 8, radius, phase, identity, None, box, (True, True), step, None)
    surface = Surface(press, press, 1 - press / 8, 4, "a test", False, 7.6, "press table", "press table")
    write_run(path, particles, surface, np.arange(5.0), {})


@pytest.mark.parametrize("block", BLOCKS)
def test_example_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    frames = {"press_position_um": np.array([3.0, 2.5])}
    series = Labelled(np.zeros((2, 3, 4, 4), np.uint8), 0.5, (False, True, True), "a test", frames)
    write_labelled(tmp_path / "frames.zarr.zip", series)
    write_results(tmp_path / "results/demo/report")
    write_particles(tmp_path / "results/demo/calendering/film_3/cd50/particles.h5")
    labels = np.random.default_rng(0).choice(np.array([0, 1, 2], np.uint8), (12, 12, 12), p=[0.6, 0.1, 0.3])
    exec(compile(block, "example", "exec"), {"labels": labels})
