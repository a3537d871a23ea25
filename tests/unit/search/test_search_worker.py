import errno
import json
import os
import signal
import threading
import time
from dataclasses import asdict, replace

import optuna
import pytest
from sqlalchemy.exc import OperationalError

from calandria.base.errors import DeviceError, InputFileError
from calandria.base.processes import machine_name
from calandria.search.locks import OwnedLock, Owner
from calandria.search.objective import StopRequested
from calandria.search.presence import Presence
from calandria.search.study import JournalError, MendedJournal, StudyFolder
from calandria.search.worker import EXIT_FAILING, EXIT_NO_ANSWER, EXIT_STOPPED, StudyFailingError, Worker, places
from tests.helpers import toy_objective
from tests.helpers.searching import check_diary, diary, prepared, start_worker, toy_definition, wait_for, work_here
from workflow_scripts.search.run_worker import main


@pytest.fixture
def threads_given_back(monkeypatch):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        monkeypatch.setenv(name, "1")


def states(study):
    return [trial.state.name for trial in study.get_trials()]


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_one_worker_meets_the_budget_and_repeats_exactly(tmp_path, sampler):
    found = []
    for turn in "ab":
        search = {"n_trials": 7, "sampler": sampler, "pruner": "none"}
        folder, definition = prepared(tmp_path / turn, search=search, x_step=0.5, diary=str(tmp_path / "shared"))
        study = work_here(folder).study
        assert states(study) == ["COMPLETE"] * 7
        assert not list((folder.directory / "leases" / definition.study_name).iterdir())
        found.append([(trial.params, trial.value, trial.user_attrs["work"]["seed"]) for trial in study.get_trials()])
    assert found[0] == found[1]
    assert len({seed for _, _, seed in found[0]}) == 7


def test_a_study_killed_in_between_gives_the_same_trials(tmp_path):
    search = {"n_trials": 6, "sampler": "tpe", "n_startup_trials": 2, "pruner": "none"}
    whole, _ = prepared(tmp_path / "whole", search=search)
    parts, _ = prepared(tmp_path / "parts", search=search)
    expected = [trial.params for trial in work_here(whole).study.get_trials()]
    for n_trials in (2, 3, 6):
        prepared(tmp_path / "parts", search={**search, "n_trials": n_trials})
        study = work_here(parts).study
        assert len(study.get_trials()) == n_trials
    assert [trial.params for trial in study.get_trials()] == expected


def test_a_grid_ends_where_its_points_end(tmp_path):
    folder, _ = prepared(tmp_path / "s", search={"n_trials": 100, "sampler": "grid", "pruner": "none"}, x_step=2.0)
    trials = work_here(folder).study.get_trials()
    assert len(trials) == 12 == len({str(trial.params) for trial in trials})


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_pruned_trials_are_recorded_with_their_step_and_no_finished_trial_leaves_a_checkpoint(tmp_path, pruner):
    search = {"n_trials": 16, "pruner": pruner, "n_startup_trials": 2, "n_warmup_steps": 1, "sampler": "random"}
    folder, definition = prepared(tmp_path / "s", search=search, steps=6)
    trials = work_here(folder).study.get_trials()
    pruned = [trial for trial in trials if trial.state.name == "PRUNED"]
    assert 0 < len(pruned) < len(trials) == 16
    assert list(folder.checkpoint_path(definition.study_name, 0).parent.iterdir()) == []
    assert all(trial.user_attrs["reason"].startswith("pruned at step") for trial in pruned)


def test_what_a_worker_killed_after_its_trial_left_is_deleted_by_the_next_one(tmp_path):
    """Killed between the end of a trial and the deletion of its checkpoint, or while it wrote one."""
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 2, "pruner": "none"})
    work_here(folder)
    place = folder.checkpoint_path(definition.study_name, 0).parent
    for name in ("trial_1.pt", ".unfinished-x1-trial_0.pt", "trial_7.pt"):
        (place / name).write_text("left")
    work_here(folder)
    assert [path.name for path in place.iterdir()] == ["trial_7.pt"], "a trial that has not ended may be resumed"


def test_failed_trials_are_recorded_with_their_reason_and_the_study_goes_on(tmp_path):
    folder, _ = prepared(tmp_path / "s", search={"n_trials": 6}, fail_in=[1], nan_in=[3])
    study = work_here(folder).study
    assert states(study) == ["COMPLETE", "FAIL", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert study.trials[1].user_attrs["reason"] == "RuntimeError: trial 1 broke"
    assert study.trials[3].user_attrs["reason"] == "its value is nan, not a finite number"


def test_a_study_in_which_most_fail_stops_early_and_says_why(tmp_path):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 50, "workers": 1}, fail_always=True)
    with pytest.raises(StudyFailingError, match=r"3 of 3 finished trials failed.*trial 2 broke"):
        work_here(folder)
    assert len(folder.open_study(definition).trials) == 3
    assert start_worker(folder).wait() == EXIT_FAILING


def test_a_database_serves_as_well(tmp_path):
    storage = f"sqlite:///{tmp_path}/trials.db"
    folder, _ = prepared(tmp_path / "s", search={"n_trials": 3, "storage": storage})
    assert states(work_here(folder).study) == ["COMPLETE"] * 3
    assert not folder.journal_path.exists()


def test_a_released_trial_is_taken_over_with_its_parameters_and_reports(tmp_path):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 2, "pruner": "none"}, steps=3)
    study = folder.open_study(definition)
    trial = study.ask()
    trial.suggest_categorical("kind", ["plain", "shifted"])
    x = trial.suggest_float("x", -2, 2)
    trial.report(123.0, 0)
    trials = work_here(folder).study.get_trials()
    assert [t.number for t in trials] == [0, 1]
    assert trials[0].params["x"] == x and trials[0].state.name == "COMPLETE"
    assert trials[0].intermediate_values[0] == 123.0  # reported once, not again by the resumed run
    assert sorted(trials[0].intermediate_values) == [0, 1, 2]


def test_an_asked_trial_whose_worker_died_before_its_lease_counts_once(tmp_path):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 3})
    folder.open_study(definition).ask()
    assert states(work_here(folder).study) == ["COMPLETE"] * 3


def test_leases_of_finished_trials_go_with_their_dead_owners_and_no_other(tmp_path):
    folder, _ = prepared(tmp_path / "s")
    place = folder.lease("study", 0, 60.0).path.parent
    place.mkdir(parents=True, exist_ok=True)
    dead = Owner(machine_name(), os.getpid(), "another start", "token")
    for number, owner in ((0, dead), (1, Owner.me()), (2, dead)):
        (place / f"trial_{number}.lease").write_text(json.dumps(asdict(owner)))
    folder.discard_finished("study", {0, 1})
    assert sorted(path.name for path in place.iterdir()) == ["trial_1.lease", "trial_2.lease"], (
        "of the living, and of a trial at work"
    )


def test_a_living_lease_is_left_alone_and_waited_for(tmp_path):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 2})
    study = folder.open_study(definition)
    trial, lease = study.ask(), folder.lease(definition.study_name, 0, 60)
    lease.acquire()
    assert states(work_here(folder, wait_for_others=False).study) == ["RUNNING", "COMPLETE"]
    waiter = threading.Thread(target=work_here, args=(folder,))
    waiter.start()
    time.sleep(0.3)
    assert waiter.is_alive()
    study.tell(trial, 1.0)
    waiter.join(10)
    assert not waiter.is_alive() and states(study) == ["COMPLETE"] * 2


def test_a_worker_that_lost_the_studys_lock_makes_no_trial(tmp_path, monkeypatch):
    """It hung while it counted the trials, and another one has counted and made them since."""
    folder, _ = prepared(tmp_path / "s", search={"n_trials": 1})
    with Presence(0.5, None, lambda: None) as presence:
        one, two = [Worker(folder, presence, name=name) for name in ("one", "two")]
        count = one.study.get_trials

        def counted_long_ago(**options):
            monkeypatch.setattr(one.study, "get_trials", count)
            trials = count(**options)
            one._claim_lock.path.unlink()
            two.claim()
            return trials

        monkeypatch.setattr(one.study, "get_trials", counted_long_ago)
        monkeypatch.setattr(one, "_catch_up", lambda: None)
        assert one.claim() == (None, False)
        assert len(one.study.trials) == 1
        two.release_all()


def test_a_silent_worker_elsewhere_loses_its_trial(tmp_path):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 1, "lease_seconds": 1.0})
    folder.open_study(definition).ask()
    lease = folder.lease(definition.study_name, 0, 60)
    lease.acquire()
    lease.path.write_text(lease.path.read_text().replace('"machine": "', '"machine": "elsewhere_'))
    begin = time.monotonic()
    study = work_here(folder).study
    assert states(study) == ["COMPLETE"] and time.monotonic() - begin > 1.0


def test_a_trial_that_kills_its_workers_is_given_up(tmp_path):
    folder, _ = prepared(tmp_path / "s", search={"n_trials": 3, "max_attempts": 2}, kill_in=[1])
    assert [start_worker(folder).wait() for _ in range(2)] == [-signal.SIGKILL] * 2
    study = work_here(folder).study
    assert states(study) == ["COMPLETE", "FAIL", "COMPLETE"]
    assert study.trials[1].user_attrs["reason"].startswith("2 workers died in it after step -1")


def test_a_worker_whose_lease_was_lost_does_not_finish_the_trial(tmp_path):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 1}, steps=50, sleep_s=0.02)
    study = folder.open_study(definition)
    thief = folder.lease(definition.study_name, 0, 60, "thief")

    def steal():
        wait_for(lambda: len(diary(folder)) > 3)
        thief.path.unlink()
        thief.acquire()

    thread = threading.Thread(target=steal)
    thread.start()
    work_here(folder, wait_for_others=False)
    thread.join()
    assert states(study) == ["RUNNING"] and thief.is_mine()
    assert not [entry for entry in diary(folder) if entry["word"] == "end"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_leaves_the_trial_to_another_worker(tmp_path, number):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 1}, steps=12, sleep_s=0.05)
    worker = start_worker(folder)
    wait_for(lambda: len(diary(folder)) > 3)
    worker.send_signal(number)
    assert worker.wait() == EXIT_STOPPED
    assert not [entry for entry in diary(folder) if entry["word"] == "end"], "it stopped between two steps"
    assert not list((folder.directory / "leases" / definition.study_name).iterdir())
    study = folder.open_study(definition)
    assert states(study) == ["RUNNING"]
    work_here(folder)
    assert states(study) == ["COMPLETE"] and "deaths" not in study.trials[0].user_attrs
    check_diary(folder, study.trials)
    assert [entry["first"] for entry in diary(folder) if entry["word"] == "start"][1] >= 3


def test_a_step_that_does_not_end_is_left_where_it_stands(tmp_path, monkeypatch):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 1}, deaf_s=1.0)
    overdue = []
    monkeypatch.setattr("calandria.search.presence.STOP_SECONDS", 0.2)
    with Presence(0.5, None, lambda: overdue.append(worker.release_all())) as presence:
        worker = Worker(folder, presence, name="deaf")
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(StopRequested):
            worker.work()
        assert presence.reason == "SIGTERM"
    assert overdue and not list((folder.directory / "leases" / definition.study_name).iterdir())


def test_handlers_are_given_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with Presence(1.0, None, lambda: None):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_end_of_the_parent_is_a_stop_signal():
    with Presence(1.0, os.getpid(), lambda: None) as presence:
        assert presence.stop.wait(5) and presence.reason == "the controller has ended"


def test_a_device_that_is_not_there_is_no_failed_trial(tmp_path):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 2})
    with pytest.raises(DeviceError):
        work_here(folder, device="cuda:99")
    assert folder.open_study(definition).trials == []


def begun_and_failed(folder, definition, *work):
    """Tell of each (worker, machine, state) a trial."""
    study = folder.open_study(definition)
    for worker, machine, state in work:
        trial = study.ask()
        trial.set_user_attr("work", {"worker": worker, **({"machine": machine} if machine else {})})
        trial.set_user_attr("reason", "no such library")
        if state:
            study.tell(trial, 1.0 if state == "COMPLETE" else None, state=optuna.trial.TrialState[state])


HERE = os.uname().nodename


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ([], f"worker here leaves {HERE}: trials fail nowhere else"),  # none has begun, but there are to be others
        ([("other", HERE, None)], f"worker here leaves {HERE}"),
        ([("other", "elsewhere", None)], f"worker here leaves {HERE}"),
        ([("other", HERE, "FAIL")], "4 of 4 finished trials failed"),
        ([("other", "elsewhere", "FAIL")], "4 of 4 finished trials failed"),
    ],
)
def test_one_sick_machine_or_worker_does_not_sink_the_study(tmp_path, others, words):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 20})
    begun_and_failed(folder, definition, *[("here", HERE, "FAIL")] * 3, *others)
    with pytest.raises(StudyFailingError, match=words):
        work_here(folder)
    assert len(folder.open_study(definition).trials) == 3 + len(others), "no more of them fails here"


def test_trials_that_fail_elsewhere_only_keep_nobody_from_working(tmp_path):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 6})
    begun_and_failed(folder, definition, *[("other", "elsewhere", "FAIL")] * 4)
    assert states(work_here(folder).study) == ["FAIL"] * 4 + ["COMPLETE"] * 2


def test_a_gpu_that_stops_computing_fails_no_trial_until_it_has_done_so_again_and_again(tmp_path, monkeypatch):
    answers = []

    def device(name):
        if answers.pop(0) == "sick":
            raise DeviceError("device 'cuda' does not compute", hint="x")

    monkeypatch.setattr("calandria.learning.devices.working_device", device)
    folder, definition = prepared(tmp_path / "s", device="cuda", search={"n_trials": 2, "max_attempts": 2}, fail_in=[0])
    answers[:] = ["sick"]
    with pytest.raises(DeviceError):
        work_here(folder)
    study = folder.open_study(definition)
    assert study.trials == [], "looked at before the first trial"
    for expected in ("RUNNING", "FAIL"):
        answers[:] = ["well", "sick"]
        with pytest.raises(DeviceError):
            work_here(folder)
        assert states(study) == [expected] and not list((folder.directory / "leases" / definition.study_name).iterdir())
    assert study.trials[0].user_attrs["reason"] == "2 workers died in it after step -1 (device 'cuda' does not compute)"
    answers[:] = ["well"]
    work_here(folder)
    assert states(study) == ["FAIL", "COMPLETE"]


def test_data_that_this_machine_does_not_see_fail_no_trial(tmp_path, monkeypatch):
    film = tmp_path / "film.txt"
    film.write_text("film")
    folder, run = StudyFolder(tmp_path / "s"), toy_objective.run
    definition = replace(toy_definition(tmp_path / "s", search={"n_trials": 2}), data={"films": [str(film)]}).identified()
    folder.write_definition(definition)

    def run_without_data(parameters, context):
        film.unlink()
        raise FileNotFoundError(film)

    monkeypatch.setattr(toy_objective, "run", run_without_data)
    for expected in (["RUNNING"], ["RUNNING"]):  # in a trial, and before the next
        with pytest.raises(InputFileError, match=f"film.txt' of the search cannot be read on {HERE}: No such file"):
            work_here(folder)
        assert states(folder.open_study(definition)) == expected
    film.write_text("film")
    monkeypatch.setattr(toy_objective, "run", run)
    assert states(work_here(folder).study) == ["COMPLETE"] * 2


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EROFS])
@pytest.mark.usefixtures("threads_given_back")
def test_a_file_system_that_does_not_answer_fails_no_trial(tmp_path, monkeypatch, number):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 1})
    refresh = OwnedLock.refresh

    def away(self):
        if threading.current_thread() is threading.main_thread():
            raise OSError(number, os.strerror(number))
        return refresh(self)

    with monkeypatch.context() as patch:
        patch.setattr(OwnedLock, "refresh", away)
        with pytest.raises(SystemExit) as end:
            main(["--directory", str(folder.directory)])
    assert end.value.code == EXIT_NO_ANSWER and states(folder.open_study(definition)) == ["RUNNING"]
    assert states(work_here(folder).study) == ["COMPLETE"]


def test_a_trial_that_always_meets_a_file_system_away_is_recorded_as_failed(tmp_path, monkeypatch):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 2, "max_attempts": 2})
    run = toy_objective.run

    def bad_sector(parameters, context):
        if context.number == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return run(parameters, context)

    monkeypatch.setattr(toy_objective, "run", bad_sector)
    for expected in ("RUNNING", "FAIL"):
        with pytest.raises(JournalError, match="does not answer"):
            work_here(folder)
        assert states(folder.open_study(definition)) == [expected]
    assert states(work_here(folder).study) == ["FAIL", "COMPLETE"]


def test_trials_from_before_machines_were_recorded_tell_nothing_of_this_one(tmp_path):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 24, "max_failed_fraction": 0.5})
    begun_and_failed(folder, definition, *[("former", None, "COMPLETE")] * 20, *[("here", HERE, "FAIL")] * 3)
    trials = folder.open_study(definition).trials
    assert set(places(trials).values()) == {"former", "here"}


def test_a_database_that_cannot_be_opened_is_no_wrong_input(tmp_path):
    (tmp_path / "trials.db").write_bytes(b"garbage" * 1000)
    folder, _ = prepared(tmp_path / "s", search={"n_trials": 1, "storage": f"sqlite:///{tmp_path}/trials.db"})
    assert start_worker(folder).wait() == EXIT_NO_ANSWER
    folder, _ = prepared(tmp_path / "t", search={"n_trials": 1, "storage": "nosuchbase://host/name"})
    assert start_worker(folder).wait() == 2


@pytest.mark.usefixtures("threads_given_back")
def test_the_program_needs_a_definition_and_runs_in_this_process(tmp_path, capsys):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 2})
    main(["--directory", str(folder.directory), "--worker-name", "inline", "--threads", "1"])
    study = folder.open_study(definition)
    assert [trial.user_attrs["work"]["worker"] for trial in study.trials] == ["inline"] * 2
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "75 stopped by SIGTERM" in capsys.readouterr().out


def test_a_full_disk_fails_no_trial(tmp_path):
    flag = tmp_path / "full"
    flag.touch()
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 2}, no_room_while=str(flag))
    with pytest.raises(JournalError, match=r"trial 0 cannot write to .*the checkpoint cannot be saved"):
        work_here(folder)
    study = folder.open_study(definition)
    assert states(study) == ["RUNNING"]
    assert not list((folder.directory / "leases" / definition.study_name).iterdir())
    flag.unlink()
    work_here(folder)
    assert states(study) == ["COMPLETE"] * 2 and "deaths" not in study.trials[0].user_attrs


def test_a_database_that_fails_in_a_trial_fails_no_trial(tmp_path, monkeypatch):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 1, "storage": f"sqlite:///{tmp_path}/trials.db"})

    def report(self, value, step):
        raise OperationalError("UPDATE", {}, Exception("server closed the connection"))

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Trial, "report", report)
        with pytest.raises(OperationalError):
            work_here(folder)
    study = folder.open_study(definition)
    assert states(study) == ["RUNNING"]
    work_here(folder)
    assert states(study) == ["COMPLETE"]


def foreign_lease(folder, definition, number):
    lease = folder.lease(definition.study_name, number, 60)
    lease.acquire()
    lease.path.write_text(lease.path.read_text().replace('"machine": "', '"machine": "elsewhere_'))
    return lease.path


def test_an_idle_worker_leaves_once_all_others_have_given_a_sign_of_life(tmp_path):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 1, "lease_seconds": 30})
    study = folder.open_study(definition)
    study.ask()
    lease = foreign_lease(folder, definition, 0)
    idle = threading.Thread(target=work_here, args=(folder,), kwargs={"wait_for_others": False})
    idle.start()
    time.sleep(0.8)
    assert idle.is_alive(), "whether that worker lives is not known yet"
    os.utime(lease)
    idle.join(10)
    assert not idle.is_alive() and states(study) == ["RUNNING"]


def test_an_idle_worker_takes_over_what_gives_no_sign_of_life(tmp_path):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 1, "lease_seconds": 1})
    study = folder.open_study(definition)
    study.ask()
    foreign_lease(folder, definition, 0)
    work_here(folder, wait_for_others=False)
    assert states(study) == ["COMPLETE"]


@pytest.mark.parametrize(
    "other", [{"sleep_s": 0.02}, {"sleep_s": 0.01, "search": {"n_trials": 1000, "storage": "sqlite:///x.db"}}]
)
def test_workers_leave_when_another_study_or_storage_takes_the_place_of_theirs(tmp_path, monkeypatch, other):
    monkeypatch.setattr("calandria.search.worker.LOOK_SECONDS", 0.05)
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 1000}, sleep_s=0.01)
    worker = threading.Thread(target=work_here, args=(folder,))
    worker.start()
    wait_for(lambda: len(diary(folder)) > 10)
    prepared(tmp_path / "s", **{"search": {"n_trials": 1000}, **other})
    worker.join(10)
    trials = folder.open_study(definition).trials
    assert not worker.is_alive() and len(trials) < 1000 and {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED"}


def test_a_trial_of_one_step_takes_four_writes(tmp_path, monkeypatch):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 5, "sampler": "random", "pruner": "none"}, steps=1)
    folder.open_study(definition)
    writes, write = [], MendedJournal._append
    monkeypatch.setattr(MendedJournal, "_append", lambda self, *words: (writes.append(1), write(self, *words)))
    assert states(work_here(folder).study) == ["COMPLETE"] * 5
    assert len(writes) == 5 * 4  # made, begun, reported, told


def test_the_time_of_all_attempts_is_recorded(tmp_path):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 1}, steps=10, sleep_s=0.1)
    worker = start_worker(folder)
    wait_for(lambda: len(diary(folder)) > 5)
    worker.terminate()
    worker.wait()
    study = folder.open_study(definition)
    before = study.trials[0].user_attrs["spent_s"]
    time.sleep(1.0)
    work_here(folder)
    assert 0.4 < before < study.trials[0].user_attrs["spent_s"] < 30
    assert study.trials[0].user_attrs["spent_s"] - before < study.trials[0].duration.total_seconds() - before - 0.9
