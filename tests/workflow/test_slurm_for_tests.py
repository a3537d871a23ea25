"""The SLURM for tests keeps its hands off one that is there. Nothing is started."""

import pytest

from tests.helpers import slurm


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine's folder of SLURM's configuration, and a start that goes no further than writing there."""
    monkeypatch.setattr(slurm, "CONFIGURATION", tmp_path / "etc")
    monkeypatch.setattr(slurm, "STATE", tmp_path / "state")
    monkeypatch.setattr(slurm, "which", lambda program: f"/usr/sbin/{program}")
    monkeypatch.setattr(slurm.os, "geteuid", lambda: 0)
    monkeypatch.setattr(slurm.socket, "getaddrinfo", lambda *names: [])
    monkeypatch.setattr(slurm, "_start_munge", lambda: pytest.fail("the SLURM for tests would be started"))
    (tmp_path / "etc").mkdir()
    return tmp_path / "etc"


@pytest.mark.parametrize("name", slurm.FILES)
def test_a_file_of_another_slurm_is_neither_overwritten_nor_deleted(machine, name):
    slurm._configure()
    assert slurm.foreign() == []
    (machine / name).write_text("# of the site\n")
    with pytest.raises(SystemExit, match=f"another SLURM is set up here: .*etc/{name}"):
        slurm.start()
    try:
        slurm.stop()
    except SystemExit as ended:
        assert name == "slurm.conf" and "belongs to another SLURM" in str(ended)
    else:
        assert [path.name for path in machine.iterdir()] == [name]
    assert (machine / name).read_text() == "# of the site\n"


def test_what_was_written_here_is_removed(machine):
    slurm._configure()
    assert sorted(path.name for path in machine.iterdir()) == sorted(slurm.FILES)
    slurm.stop()
    assert not list(machine.iterdir())
