"""Examples in docstrings run in an empty folder of their own, so that they may write files."""

import pytest


@pytest.fixture(autouse=True)
def _own_folder_of_examples(request: pytest.FixtureRequest) -> None:
    if isinstance(request.node, pytest.DoctestItem):
        request.getfixturevalue("monkeypatch").chdir(request.getfixturevalue("tmp_path"))
