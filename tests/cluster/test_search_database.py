"""A search whose trials are recorded in PostgreSQL: a real server with a password, its restart, and the death of workers."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from calandria.search.status import study_status
from tests.helpers.arrays import ArraySearch, kill
from tests.helpers.searching import check_diary

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


class Server:
    """A PostgreSQL server of our own that asks for a password; Debian's package `postgresql` has its programs and its user."""

    def __init__(self, folder, password):
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
        if not found:
            raise RuntimeError("no PostgreSQL on this machine; install Debian's package postgresql")
        self.programs, self.folder = found[-1].parent, folder
        (folder / "password").write_text(password)
        shutil.chown(folder, "postgres")
        (folder / "password").chmod(0o644)
        options = ["--auth=scram-sha-256", "--username=search", f"--pwfile={folder}/password", "--no-sync"]
        self.run("initdb", "-D", f"{folder}/data", *options)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.control("start")

    def run(self, program, *words):
        command = ["runuser", "-u", "postgres", "--", str(self.programs / program), *words]
        subprocess.run(command, check=True, timeout=120, cwd="/", stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    def control(self, *words):
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self.run("pg_ctl", "-w", "-D", f"{self.folder}/data", "-l", f"{self.folder}/log", "-o", options, *words)


@pytest.fixture
def server(monkeypatch, tmp_path):
    """Return a running server; its password is where libpq looks for it."""
    password = secrets.token_hex(12)
    with tempfile.TemporaryDirectory() as place:
        started = Server(Path(place), password)
        (tmp_path / "pgpass").write_text(f"127.0.0.1:{started.port}:*:search:{password}\n")
        (tmp_path / "pgpass").chmod(0o600)
        monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
        started.password = password
        yield started
        started.control("stop", "-m", "immediate")


def test_trials_in_postgresql_survive_kills_and_a_restart_of_the_server(tmp_path, server):
    storage = f"postgresql://search@127.0.0.1:{server.port}/postgres"
    toy = {"steps": 8, "sleep_s": 0.3}
    with ArraySearch(tmp_path / "s", 2, n_trials=6, storage=storage, toy=toy) as search:
        controller = search.start()
        search.wait_for_steps(6)
        assert kill(search.workers()[0])
        search.wait_for_steps(14)
        running = study_status(search.folder)
        assert running.remark is None and running.running + running.stale > 0
        server.control("restart", "-m", "immediate")
        if controller.wait(240):  # a server that is gone may end the controller, with two lines; the same command goes on
            assert "Traceback" not in search.said(), search.said()
            search.finish(search.start())
        trials = search.study.open_study(search.study.read_definition()).trials
        assert Counter(trial.state.name for trial in trials) == {"COMPLETE": 6}
        check_diary(search.study, trials)
        assert study_status(search.folder).complete == 6 and not search.study.journal_path.exists()
        assert json.loads(Path(f"{search.folder}.json").read_text())["n_complete"] == 6
        assert search.tasks() == {}
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "pgpass":
            assert server.password.encode() not in path.read_bytes(), path
    assert os.environ["PGPASSFILE"]
