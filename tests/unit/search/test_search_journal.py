import resource

import optuna
import pytest
from optuna.storages import JournalStorage

from calandria.search.study import JournalError, MendedJournal, mend_journal


def make_study(path, n_trials=2):
    study = optuna.create_study(storage=JournalStorage(MendedJournal(path)), study_name="s", load_if_exists=True)
    for _ in range(n_trials):
        trial = study.ask()
        study.tell(trial, trial.suggest_float("x", 0, 1))
    return study


def test_a_journal_torn_at_any_byte_of_its_last_line_is_mended(tmp_path):
    make_study(tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    start = whole.rfind(b"\n", 0, -1) + 1
    torn = tmp_path / "torn"
    for end in range(start, len(whole)):
        torn.write_bytes(whole[:end])
        assert mend_journal(torn) == start and torn.read_bytes() == whole[:start]
        torn.write_bytes(whole[:end])
        study = optuna.load_study(storage=JournalStorage(MendedJournal(torn)), study_name="s")
        assert [trial.state.name for trial in study.trials] == ["COMPLETE", "RUNNING"]
    study.tell(1, 0.5)
    assert [trial.state.name for trial in make_study(torn, 1).trials] == ["COMPLETE"] * 3


def test_a_line_torn_while_the_journal_is_open_is_mended_before_the_next_write(tmp_path):
    study = make_study(tmp_path / "j")
    with open(tmp_path / "j", "ab") as stream:
        stream.write(b'{"op_code":4,"worker_id":"killed')
    study.tell(study.ask(), 1.0)
    assert len(make_study(tmp_path / "j", 0).trials) == 3


@pytest.mark.parametrize(
    ("content", "kept"), [(b"", b""), (b"torn", b""), (b"{}\n", b"{}\n"), (b"{}\n" + b"x" * 200_000, b"{}\n")]
)
def test_mending_keeps_whole_lines_only(tmp_path, content, kept):
    (tmp_path / "j").write_bytes(content)
    assert mend_journal(tmp_path / "j") == len(kept)
    assert (tmp_path / "j").read_bytes() == kept


def test_a_full_disk_leaves_no_torn_line_and_says_so(tmp_path):
    study = make_study(tmp_path / "j")
    before = (tmp_path / "j").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
    try:
        with pytest.raises(JournalError, match="cannot be written"):
            study.ask()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "j").read_bytes() == before
    assert not (tmp_path / "j.lock").exists()
    study.tell(study.ask(), 1.0)
    assert len(make_study(tmp_path / "j", 0).trials) == 3


@pytest.mark.parametrize("is_overwritten", [True, False])
def test_a_writer_that_lost_the_lock_writes_again_what_did_not_arrive(tmp_path, monkeypatch, is_overwritten):
    """Cut off from the file server for minutes, it finds its lock broken and, perhaps, lines of others where it wrote."""
    path, append = tmp_path / "j", MendedJournal._append
    study = make_study(path, 1)
    theirs = b'{"op_code":2,"worker_id":"other","study_id":0,"user_attr":{"k":"' + b"x" * 500 + b'"}}\n'

    def cut_off(self, handle, lines):
        size = path.stat().st_size
        append(self, handle, lines)
        if is_overwritten:
            with open(path, "r+b") as stream:
                stream.truncate(size)
                stream.seek(size)
                stream.write(theirs)
        (tmp_path / "j.lock").unlink()
        monkeypatch.setattr(MendedJournal, "_append", append)

    monkeypatch.setattr(MendedJournal, "_append", cut_off)
    study.set_user_attr("a", "b")
    assert path.read_bytes().count(b'"a":"b"') == 1 and (theirs in path.read_bytes()) == is_overwritten
    assert not (tmp_path / "j.lock").exists()
    assert make_study(path, 0).user_attrs == {"a": "b"} | ({"k": "x" * 500} if is_overwritten else {})
