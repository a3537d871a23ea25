import json
import os
import subprocess
import sys
import time
from datetime import timedelta

import pytest
from optuna.trial import TrialState, create_trial

from calandria.base.errors import InputFileError
from calandria.cli.main import main as calandria
from calandria.search.launch import local_processes
from calandria.search.status import find_studies, study_status
from tests.helpers.searching import ROOT, prepared, start_worker, work_here


def contents(folder):
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def finished(tmp_path, **options):
    folder, _ = prepared(tmp_path / "s", **options)
    return folder, work_here(folder).study


def test_a_finished_study_is_told_as_optuna_knows_it(tmp_path):
    search = {"n_trials": 9, "pruner": "median", "n_startup_trials": 2, "n_warmup_steps": 1}
    folder, study = finished(tmp_path, search=search, steps=4, fail_in=[2])
    status = study_status(folder.directory)
    states = [trial.state.name for trial in study.trials]
    assert (status.complete, status.pruned, status.failed) == tuple(states.count(word) for word in ("COMPLETE", "PRUNED", "FAIL"))
    assert (status.running, status.stale, status.workers, status.left_s, status.is_finished) == (0, 0, [], 0.0, True)
    assert (status.best_value, status.best_trial) == (study.best_value, study.best_trial.number)
    assert status.last_failure == "trial 2: RuntimeError: trial 2 broke" and status.remark is None
    spent = sum(trial.user_attrs["spent_s"] for trial in study.trials)
    assert status.worker_hours == pytest.approx(spent / 3600, abs=1e-4) and status.gpu_hours == 0


def test_running_and_stale_trials_are_told_apart_and_nothing_is_written(tmp_path):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 4}, steps=3)
    study = folder.open_study(definition)
    for number in range(3):
        study.ask()
        folder.lease(definition.study_name, number, 60, f"worker_{number}").acquire()
    dead = folder.directory / "leases" / definition.study_name / "trial_1.lease"
    dead.write_text(dead.read_text().replace('"started": "', '"started": "0'))
    elsewhere = folder.directory / "leases" / definition.study_name / "trial_2.lease"
    elsewhere.write_text(elsewhere.read_text().replace('"machine": "', '"machine": "elsewhere_'))
    done = study.ask()
    done.set_user_attr("spent_s", 1.0)
    study.tell(done, 0.5)
    with open(folder.journal_path, "ab") as stream:
        stream.write(b'{"op_code": 6, "trial_id": 0, "st')
    before = contents(folder.directory)
    status = study_status(folder.directory)
    assert (status.running, status.stale, status.complete, status.budget) == (2, 1, 1, 4)
    assert status.workers == ["worker_0", "worker_2"] and status.left_s is not None and status.remark is None
    late = study_status(folder.directory, time.time() + 3600)
    assert (late.running, late.stale) == (0, 3) and late.left_s is None
    assert contents(folder.directory) == before


def test_two_studies_in_one_journal_are_told_apart_and_a_broken_line_is_counted(tmp_path):
    finished(tmp_path, search={"n_trials": 2}, steps=1)
    folder, study = finished(tmp_path, search={"n_trials": 3}, steps=2)
    with open(folder.journal_path, "ab") as stream:
        stream.write(b"\0\0\0\n")
    status = study_status(folder.directory)
    assert (status.complete + status.pruned, status.study) == (3, study.study_name)
    assert status.remark == "1 lines of the journal cannot be read"


def test_the_time_left_follows_from_the_mean_of_finished_trials(tmp_path):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 5}, direction="maximize")
    study = folder.open_study(definition)
    for value in (1.0, 3.0):
        trial = study.ask()
        trial.set_user_attr("spent_s", 100.0)
        study.tell(trial, value)
    study.ask()
    folder.lease(definition.study_name, 2, 1e6, "w").acquire()
    now = time.time()
    status = study_status(folder.directory, now + 40)
    assert status.best_value == 3.0 and status.left_s == pytest.approx(3 * 100 - 40, abs=2)
    assert status.worker_hours == pytest.approx(240 / 3600, abs=1e-3)


def test_a_trial_that_was_given_up_adds_no_time_in_which_nobody_worked(tmp_path):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 3})
    study = folder.open_study(definition)
    failed = create_trial(state=TrialState.FAIL)  # its workers died, and an hour passed before anybody noticed
    failed.datetime_start -= timedelta(hours=1)
    study.add_trial(failed)
    trial = study.ask()
    trial.set_user_attr("spent_s", 100.0)
    study.tell(trial, 1.0)
    study.ask()
    folder.lease(definition.study_name, 2, 60, "w").acquire()
    status = study_status(folder.directory, time.time())
    assert status.worker_hours == pytest.approx(100 / 3600, abs=0.05) and status.left_s == pytest.approx(100, abs=60)


def test_gpu_hours_count_what_the_array_asked_for(tmp_path):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 1})
    study = folder.open_study(definition)
    trial = study.ask()
    trial.set_user_attr("spent_s", 3600.0)
    study.tell(trial, 1.0)
    assert study_status(folder.directory).gpu_hours == 0.0
    (folder.directory / "cluster").mkdir()
    (folder.directory / "cluster" / "array.json").write_text('{"gpus_per_worker": 2}')
    assert study_status(folder.directory).gpu_hours == 2.0
    local_processes(folder, definition)
    assert study_status(folder.directory).gpu_hours == 0.0


def test_a_grid_smaller_than_its_budget_is_finished(tmp_path):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 100, "sampler": "grid", "pruner": "none"}, x_step=4.0)
    study = folder.open_study(definition)
    study.set_user_attr("budget", 8)
    work_here(folder)
    assert study_status(folder.directory).is_finished


def test_a_database_is_read_too(tmp_path):
    storage = f"sqlite:///{tmp_path}/trials.db"
    folder, study = finished(tmp_path, search={"n_trials": 3, "storage": storage})
    status = study_status(folder.directory)
    assert (status.complete + status.pruned, status.best_value) == (3, study.best_value)
    (tmp_path / "trials.db").unlink()
    assert study_status(folder.directory).remark.startswith("storage 'sqlite://")
    assert not (tmp_path / "trials.db").exists()


def test_the_command_finds_studies_below_a_folder_while_one_runs(tmp_path, monkeypatch, capsys):
    folder, _ = prepared(tmp_path / "results/demo/scratch/search_toy", search={"n_trials": 2}, steps=100, sleep_s=0.05)
    worker = start_worker(folder)
    monkeypatch.chdir(tmp_path)
    try:
        deadline = time.monotonic() + 300
        while not os.path.exists(folder.journal_path) or study_status(folder.directory).running == 0:  # noqa: PTH110
            assert time.monotonic() < deadline
            time.sleep(0.05)
        calandria(["status", "--json"])
        found = json.loads(capsys.readouterr().out)
        (record,) = found["searches"]
        assert [study["folder"] for study in found["studies"]] == ["results/demo"]
        assert (record["folder"], record["running"], record["budget"]) == ("results/demo/scratch/search_toy", 1, 2)
        calandria(["status", "results/demo"])
        header, line, *sizes = capsys.readouterr().out.splitlines()
        assert sizes[1].split() == ["study", "results", "scratch", "logs"]
        assert header.split()[:6] == ["search", "done", "pruned", "running", "stale", "failed"]
        assert line.split()[:7] == ["results/demo/scratch/search_toy", "0", "0", "1", "0", "0", "2"]
    finally:
        worker.kill()
        worker.wait()
    assert study_status(folder.directory).stale == 1


def test_places_without_a_search_are_told(tmp_path):
    with pytest.raises(InputFileError, match="holds no search"):
        find_studies([tmp_path])
    (tmp_path / "search.json").write_text('{"study_name": "x"}')
    with pytest.raises(InputFileError, match="is not the definition of a search"):
        study_status(tmp_path)


def test_the_status_needs_no_optuna():
    program = "import sys; sys.modules['optuna'] = sys.modules['torch'] = None; import calandria.search.status"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
