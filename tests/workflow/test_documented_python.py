"""The Python of README and docs runs as it stands, in a folder that has the repository's examples and a series ``frames.zarr.zip``."""

import re

import numpy as np
import pytest

from calandria.base.volumes import Labelled, write_labelled
from tests.helpers.workflow import REPOSITORY

FILES = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
BLOCKS = [
    pytest.param(block, id=f"{path.name}-{number}")
    for path in FILES
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL))
]


def test_there_are_examples():
    assert {"README.md-0", "transport.md-0"} <= {block.id for block in BLOCKS}


@pytest.mark.parametrize("block", BLOCKS)
def test_example_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    frames = {"press_position_um": np.array([3.0, 2.5])}
    series = Labelled(np.zeros((2, 3, 4, 4), np.uint8), 0.5, (False, True, True), "a test", frames)
    write_labelled(tmp_path / "frames.zarr.zip", series)
    labels = np.random.default_rng(0).choice(np.array([0, 1, 2], np.uint8), (12, 12, 12), p=[0.6, 0.1, 0.3])
    exec(compile(block, "example", "exec"), {"labels": labels})
