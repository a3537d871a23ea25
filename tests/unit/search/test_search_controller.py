import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import optuna
import pytest
from sqlalchemy.exc import OperationalError

from calandria.base.errors import CalandriaError, SettingsError
from calandria.base.records import number, read_json, read_table
from calandria.search.controller import SearchError, _check_room, run_search
from calandria.search.launch import LocalProcesses, local_processes
from calandria.search.study import StudyFolder
from calandria.search.worker import StudyFailingError
from tests.helpers.locks import alive
from tests.helpers.searching import ROOT, check_diary, diary, start_worker, toy_definition, wait_for, worker_ids

COMMAND = """
import sys
from pathlib import Path
from tests.helpers.searching import toy_definition
from calandria.cli.program import run
from calandria.search.controller import run_search
folder = Path(sys.argv[1])
definition = toy_definition(folder, search={"n_trials": 8, "n_startup_trials": 3}, steps=5, sleep_s=0.02)
results = dict(trials_path=folder.with_suffix(".csv"), best_path=folder.with_suffix(".json"), importance_path=folder.with_suffix(".png"))
sys.exit(run(lambda _: run_search(folder, definition, workers=2, **results)))
"""


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def results(folder):
    return {"trials_path": f"{folder}.csv", "best_path": f"{folder}.json", "importance_path": f"{folder}.png"}


def search_here(folder, workers=1, launch=local_processes, **options):
    definition = toy_definition(folder, **options)
    run_search(folder, definition, workers=workers, launch=launch, **results(folder))
    study_folder = StudyFolder(folder)
    return study_folder, study_folder.open_study(study_folder.read_definition()).trials


class Idle(LocalProcesses):
    def start(self, count):
        raise AssertionError("nothing is left to do")


def start_controller(folder):
    return subprocess.Popen([sys.executable, "-c", COMMAND, folder], cwd=ROOT, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_budget_is_exact_and_the_summary_tells_it(tmp_path, workers):
    folder, trials = search_here(tmp_path / "s", workers, search={"n_trials": 9, "pruner": "none"}, steps=2)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 9
    check_diary(folder, trials)
    rows, best = read_table(f"{tmp_path}/s.csv"), read_json(f"{tmp_path}/s.json")
    assert [row["number"] for row in rows] == [str(i) for i in range(9)]
    winner = min(rows, key=lambda row: number(row["value"]))
    assert (best["number"], best["value"]) == (int(winner["number"]), number(winner["value"]))
    assert best["parameters"]["x"] == number(winner["parameter_x"]) and best["seed"] == int(winner["seed"])
    assert (best["n_complete"], best["n_pruned"], best["n_failed"]) == (9, 0, 0)
    assert Path(f"{tmp_path}/s.png").read_bytes().startswith(b"\x89PNG")
    assert worker_ids(folder.directory) == []


def test_the_same_call_does_nothing_a_larger_budget_goes_on_and_other_settings_begin_anew(tmp_path):
    folder, first = search_here(tmp_path / "s", search={"n_trials": 3})
    _, again = search_here(tmp_path / "s", search={"n_trials": 3}, launch=lambda *_: Idle(tmp_path, tmp_path, "cpu", 1))
    assert [trial.params for trial in again] == [trial.params for trial in first]
    _, more = search_here(tmp_path / "s", search={"n_trials": 5})
    assert [trial.params for trial in more[:3]] == [trial.params for trial in first] and len(more) == 5
    check_diary(folder, more)
    _, other = search_here(tmp_path / "s", search={"n_trials": 2}, steps=1)
    assert len(other) == 2 and all(sorted(trial.intermediate_values) == [0] for trial in other)


def test_workers_killed_at_random_are_replaced_and_nothing_is_lost(tmp_path):
    dice, folder = random.Random(7), tmp_path / "s"
    controller = start_controller(folder)
    for kill in range(4):
        wait_for(lambda kill=kill: len(diary(StudyFolder(folder))) > 7 * kill and worker_ids(folder))
        time.sleep(dice.uniform(0, 0.1))
        ids = worker_ids(folder)
        if ids:
            os.kill(dice.choice(ids), signal.SIGKILL)
    assert controller.wait(40) == 0, controller.stderr.read()
    controller.stderr.close()
    check_whole(folder)


def test_a_killed_controller_leaves_no_workers_and_the_same_command_goes_on(tmp_path):
    folder = tmp_path / "s"
    for turn in range(2):
        controller = start_controller(folder)
        wait_for(lambda turn=turn: len(diary(StudyFolder(folder))) > 14 * turn + 4)
        controller.kill()
        controller.wait()
        controller.stderr.close()
    wait_for(lambda: not worker_ids(folder))
    with open(folder / "journal.log", "ab") as stream:
        stream.write(b'{"op_code": 6, "wor')
    controller = start_controller(folder)
    assert controller.wait(40) == 0, controller.stderr.read()
    controller.stderr.close()
    check_whole(folder)


def check_whole(folder):
    """Check the study of COMMAND: eight trials, none lost, none repeated."""
    study_folder = StudyFolder(folder)
    trials = study_folder.open_study(study_folder.read_definition()).trials
    assert len(trials) == 8 and {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED"}
    check_diary(study_folder, trials)
    assert len(read_table(folder.with_suffix(".csv"))) == 8


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_controller_stops_its_workers_first(tmp_path, number, status):
    folder = tmp_path / "s"
    controller = start_controller(folder)
    wait_for(lambda: len(diary(StudyFolder(folder))) > 4)
    controller.send_signal(number)
    assert controller.wait(10) == status
    controller.stderr.close()
    assert worker_ids(folder) == [] and not (folder / "controller.lock").exists()
    assert not list((folder / "leases").glob("*/*.lease"))
    assert not folder.with_suffix(".csv").exists()


def test_a_controller_waits_for_one_that_is_about_to_stop(tmp_path):
    (tmp_path / "s").mkdir()
    former = StudyFolder(tmp_path / "s").controller_lock(60.0)
    assert former.try_acquire()
    threading.Timer(1.0, former.release).start()
    _, trials = search_here(tmp_path / "s", search={"n_trials": 1})
    assert [trial.state.name for trial in trials] == ["COMPLETE"]


def test_a_second_controller_is_refused_and_a_second_worker_welcome(tmp_path, monkeypatch):
    monkeypatch.setattr("calandria.search.controller.CONTROLLER_PATIENCE_SECONDS", 0.5)
    folder = tmp_path / "s"
    controller = start_controller(folder)
    wait_for(lambda: len(diary(StudyFolder(folder))) > 2)
    with pytest.raises(SearchError, match=f"process {controller.pid} on .* already runs the search"):
        search_here(folder)
    helper = start_worker(StudyFolder(folder), "--worker-name", "helper")
    assert controller.wait(40) == 0 and helper.wait(10) == 0
    controller.stderr.close()
    check_whole(folder)


def test_failing_trials_stop_the_search_with_their_reason(tmp_path):
    with pytest.raises(StudyFailingError, match=r"trial \d broke"):
        search_here(tmp_path / "s", 2, search={"n_trials": 30}, fail_always=True)
    assert worker_ids(tmp_path / "s") == [] and not Path(f"{tmp_path}/s.csv").exists()


def test_a_worker_with_wrong_input_ends_the_search_at_once(tmp_path):
    with pytest.raises(SearchError, match=r"gave up: .*cuda:99"):
        search_here(tmp_path / "s", search={"n_trials": 2}, device="cuda:99")


class Tasks(LocalProcesses):
    """Tasks of which each begins when and ends as a list says: (s to wait, status), None for a worker that works."""

    def __init__(self, folder, definition, *tasks):
        super().__init__(folder.directory, folder.log_folder, "cpu", 1)
        self.tasks, self.starts = list(tasks), []

    def start(self, count):
        self.starts.append(count)
        super().start(count)

    def _process(self, name):
        task = self.tasks.pop(0) if self.tasks else None
        if task is None:
            return super()._process(name)
        return subprocess.Popen([sys.executable, "-S", "-c", f"import time; time.sleep({task[0]}); raise SystemExit({task[1]})"])


def test_a_bad_node_at_the_start_does_not_end_the_search(tmp_path, caplog):
    _, trials = search_here(
        tmp_path / "s", 2, launch=lambda *study: Tasks(*study, (0, 2), None), search={"n_trials": 3}, steps=2, sleep_s=0.2
    )
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3 and "ended with status 2" in caplog.text


@pytest.mark.parametrize(("pause_s", "tasks"), [(30.0, [(0, 2), (1, 2)]), (0.1, [(0, 2), (60, 0), (0, 2), (0, 2)])])
def test_what_is_wrong_for_all_ends_the_search(tmp_path, monkeypatch, pause_s, tasks):
    """None is left, or again and again one gives up while others still wait for a node."""
    monkeypatch.setattr("calandria.search.controller.WRONG_INPUT_SECONDS", pause_s)
    with pytest.raises(SearchError, match=r"worker worker_\d gave up"):
        search_here(tmp_path / "s", 2, launch=lambda *study: Tasks(*study, *tasks), search={"n_trials": 3})


def test_nobody_is_started_for_what_workers_by_hand_do(tmp_path, monkeypatch):
    monkeypatch.setattr("calandria.search.controller.WATCH_SECONDS", 0.05)
    definition = toy_definition(tmp_path / "s", search={"n_trials": 2}).identified()
    folder, launchers = StudyFolder(tmp_path / "s"), []
    folder.directory.mkdir()
    folder.write_definition(definition)
    study = folder.open_study(definition)
    leases = [folder.lease(definition.study_name, study.ask().number, 60) for _ in range(2)]
    assert all(lease.try_acquire() for lease in leases)

    def end():
        time.sleep(1.0)
        study._storage.set_trial_user_attr(0, "work", {"worker": "by_hand", "seed": 1, "parameters": {}})
        study.tell(0, 1.0)
        leases[1].release()  # as if its worker had been stopped

    threading.Thread(target=end).start()
    _, trials = search_here(
        tmp_path / "s", 2, launch=lambda *study: launchers.append(Tasks(*study)) or launchers[0], search={"n_trials": 2}
    )
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 2 and launchers[0].starts == [1]


def test_a_database_that_is_away_kills_no_search(tmp_path, monkeypatch):
    """Workers end while it is away; that they died is no news, and none is started until it is back."""
    get, begun, asked = optuna.Study.get_trials, [], []

    def away(self, *words, **options):
        if begun and len(asked) < 20:
            asked.append(time.monotonic())
            raise OperationalError("SELECT", {}, Exception("server closed the connection"))
        return get(self, *words, **options)

    class Leaving(Tasks):
        def start(self, count):
            assert not begun or len(asked) == 20
            begun.append(count)
            super().start(count)

    monkeypatch.setattr("calandria.search.controller.WATCH_SECONDS", 0.05)
    monkeypatch.setattr(optuna.Study, "get_trials", away)
    launch = lambda *study: Leaving(*study, (0, 1), (0, 1))  # noqa: E731
    search = {"n_trials": 2, "storage": f"sqlite:///{tmp_path}/trials.db"}
    _, trials = search_here(tmp_path / "s", 2, launch=launch, search=search)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 2 and len(begun) == 2


def test_a_changed_storage_is_refused_and_trials_that_are_there_as_well_go_on(tmp_path):
    folder, trials = search_here(tmp_path / "s", search={"n_trials": 1})
    elsewhere = f"sqlite:///{tmp_path}/trials.db"
    with pytest.raises(SettingsError, match=r"are recorded in '.*journal.log', and `storage` now means 'sqlite:"):
        search_here(tmp_path / "s", search={"n_trials": 2, "storage": elsewhere})
    assert not (tmp_path / "trials.db").exists() and folder.read_definition().search.storage is None
    definition = folder.read_definition()
    optuna.copy_study(from_study_name=definition.study_name, from_storage=folder.open_storage(definition), to_storage=elsewhere)
    folder.definition_path.unlink()
    _, more = search_here(tmp_path / "s", search={"n_trials": 2, "storage": elsewhere})
    assert more[0].params == trials[0].params and len(more) == 2
    check_diary(folder, more)


def test_a_study_without_a_completed_trial_has_no_best(tmp_path):
    with pytest.raises(SearchError, match=r"no trial .* completed"):
        search_here(tmp_path / "s", search={"n_trials": 2}, prune_from=0)


def test_a_storage_that_cannot_be_opened_is_mended_by_another(tmp_path):
    with pytest.raises(CalandriaError):
        search_here(tmp_path / "s", search={"n_trials": 1, "storage": "sqlite:////no/such/folder/trials.db"})
    _, trials = search_here(tmp_path / "s", search={"n_trials": 1})
    assert [trial.state.name for trial in trials] == ["COMPLETE"]


def test_bad_nodes_do_not_end_a_search_that_other_machines_work_on(tmp_path, monkeypatch):
    """Their leases carry another machine's name, so that they are never seen to be dead before they lapse."""
    monkeypatch.setattr("calandria.search.controller.WRONG_INPUT_SECONDS", 0.05)
    definition = toy_definition(tmp_path / "s", search={"n_trials": 2}).identified()
    folder = StudyFolder(tmp_path / "s")
    folder.directory.mkdir()
    folder.write_definition(definition)
    study = folder.open_study(definition)
    study.ask()
    lease = folder.lease(definition.study_name, 0, 60)
    assert lease.try_acquire()
    lease.path.write_text(json.dumps({**json.loads(lease.path.read_text()), "machine": "elsewhere"}))
    tasks = [(0, 2)] * 5

    def launch(*study):
        threading.Timer(4.0, lease.path.unlink).start()
        return Tasks(*study, *tasks)

    _, trials = search_here(tmp_path / "s", 1, launch=launch, search={"n_trials": 2})
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 2


@pytest.mark.parametrize(("max_attempts", "deaths"), [(5, 7), (9, 11)])
def test_workers_that_die_without_progress_end_the_search(tmp_path, monkeypatch, max_attempts, deaths):
    class Dying(LocalProcesses):
        def _process(self, name):
            return subprocess.Popen([sys.executable, "-S", "-c", "import sys; sys.exit(9)"])

    monkeypatch.setattr("calandria.search.controller.WATCH_SECONDS", 0.05)
    monkeypatch.setattr("calandria.search.controller.MAX_PAUSE_SECONDS", 0.1)
    search = {"n_trials": 2, "max_attempts": max_attempts}  # a trial that kills its workers is given up before
    with pytest.raises(SearchError, match=rf"workers died {deaths} times without any progress.*status 9"):
        search_here(tmp_path / "s", launch=lambda *_: Dying(tmp_path, tmp_path, "cpu", 1), search=search)


class Watched:
    """A launcher without workers that notes what it is told, and does something when it is asked."""

    retry_seconds = 0.0

    def __init__(self, asked):
        self.asked, self.told = asked, []

    def start(self, count):
        self.told.append(f"start {count}")

    def states(self):
        self.asked()
        return {}

    def stop(self, done=False):
        self.told.append("stop")

    def leave(self):
        self.told.append("leave")


def test_a_signal_while_an_array_is_found_stops_it(tmp_path):
    launcher = Watched(lambda: None)

    def launch(folder, definition):
        os.kill(os.getpid(), signal.SIGINT)
        return launcher

    with pytest.raises(KeyboardInterrupt):
        search_here(tmp_path / "s", 3, launch=launch, search={"n_trials": 2})
    assert launcher.told == ["stop"]


@pytest.mark.parametrize(("is_orphan", "end"), [(True, "leave"), (False, "stop")])
def test_workers_of_a_cluster_survive_a_killed_workflow_only(tmp_path, monkeypatch, is_orphan, end):
    monkeypatch.setattr("calandria.search.controller.workflow_has_ended", lambda: is_orphan)
    launcher = Watched(lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        search_here(tmp_path / "s", 3, launch=lambda *_: launcher, search={"n_trials": 2})
    assert launcher.told == ["start 2", end]


def test_a_controller_that_lost_its_lock_leaves_the_search_to_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr("calandria.search.controller.CONTROLLER_BEAT_SECONDS", 0.02)
    lock = tmp_path / "s" / "controller.lock"
    launcher = Watched(lambda: lock.write_text(lock.read_text().replace('"token": "', '"token": "of another ')))
    with pytest.raises(SearchError, match="another controller has taken over"):
        search_here(tmp_path / "s", launch=lambda *_: launcher, search={"n_trials": 2})
    assert launcher.told[-1] == "leave" and lock.exists()


def foreign_controller(folder):
    folder.mkdir()
    lock = StudyFolder(folder).controller_lock(60.0)
    assert lock.try_acquire()
    lock.path.write_text(lock.path.read_text().replace('"machine": "', '"machine": "elsewhere_'))
    return lock.path


def test_the_lock_of_a_controller_killed_on_another_machine_lapses(tmp_path, monkeypatch):
    monkeypatch.setattr("calandria.search.controller.CONTROLLER_STALE_SECONDS", 1.0)
    monkeypatch.setattr("calandria.search.controller.CONTROLLER_PATIENCE_SECONDS", 0.5)
    foreign_controller(tmp_path / "s")
    _, trials = search_here(tmp_path / "s", search={"n_trials": 1})
    assert [trial.state.name for trial in trials] == ["COMPLETE"]


def test_a_controller_alive_on_another_machine_is_told_without_long_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr("calandria.search.controller.CONTROLLER_PATIENCE_SECONDS", 0.7)
    with alive(foreign_controller(tmp_path / "s")), pytest.raises(SearchError, match=r"on elsewhere_.* already runs the search"):
        search_here(tmp_path / "s", search={"n_trials": 1})


def test_a_folder_that_cannot_be_written_ends_the_search(tmp_path, monkeypatch):
    def full(*words):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("calandria.search.controller.os.fsync", full)
    with pytest.raises(SearchError, match="cannot be written: No space left on device"):
        _check_room(StudyFolder(tmp_path))
    assert not list(tmp_path.iterdir())
