"""What a study no longer needs is listed and, when asked for, deleted; everything else stays."""

import fcntl
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from calandria.base.errors import InputFileError
from calandria.base.files import lock_folder, write_text
from calandria.base.provenance import provenance
from calandria.base.records import write_json
from calandria.base.settings import read_yaml
from calandria.base.stage import Rule, file_name, read_given
from calandria.base.volumes import Labelled, write_labelled
from calandria.cli.main import main as calandria
from calandria.search.pruning import discard_finished_trainings, model_of, sizes, study_folder, unneeded
from calandria.study.study import read_study
from calandria.tomography.settings import TomographySettings
from tests.helpers.searching import ROOT, prepared, work_here

RULES = {"measure_phases": Rule(version=3), "import_volume": Rule(("median_filter",), version=3)}
HOUR = 3600


def settings_file(folder, rule, **settings):
    """Write settings of a rule as the workflow does; return what a program is given of them and their path."""
    content = {"stage": "tomography", "rule": rule, "version": 3, "settings": settings}
    path = folder / "settings" / file_name(content)
    write_json(path, content)
    return read_given(path, TomographySettings, RULES, rule) if rule in RULES else None, path


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A finished study with some of everything; returns its folder and the paths that may go."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results/demo"
    search, _ = prepared(folder / "scratch/search_toy", search={"n_trials": 3}, steps=2)
    work_here(search)
    definition = search.read_definition()
    for number in (0, 2, 7):  # the last one is not recorded
        path = search.checkpoint_path(definition.study_name, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)
    for name in ("conv", "late"):
        write_text(folder / f"scratch/train_surrogate_{name}/{name}.pt", "x" * 100)
        write_text(folder / f"surrogate/{name}.pt", "model")
    os.utime(folder / "scratch/train_surrogate_late/late.pt", (time.time() + 60,) * 2)  # training again
    write_text(folder / "scratch/train_autoencoder_c_w4_s2/c.pt", "resumable")  # no model yet
    (folder / "scratch/train_surrogate_bare").mkdir()  # its checkpoint went when it ended
    write_text(folder / "surrogate/bare.pt", "model")
    given, old_import = settings_file(folder, "import_volume", median_filter=5)
    given, used_import = settings_file(folder, "import_volume", median_filter=3)
    volume = Labelled(np.zeros((2, 2, 2), np.uint8), 1.0, (False,) * 3, "made", attributes={"provenance": provenance(given)})
    write_labelled(folder / "tomography/a/labels.zarr.zip", volume)
    given, used = settings_file(folder, "measure_phases")
    write_json(folder / "tomography/a/phases.json", {"provenance": provenance(given)})
    settings_file(folder, "other_rule")  # no record of it is known
    write_text(tmp_path / "logs/demo/tomography/import_volume/a.log", "said")
    abandoned, fresh = (
        folder / "tomography/a/.unfinished-abc-labels.zarr.zip",
        folder / "tomography/a/.unfinished-new-labels.zarr.zip",
    )
    for path in (abandoned, fresh):
        path.write_bytes(b"half")
    left = folder / "tomography/a/.unfinished-folder"
    write_text(left / "packed.zip", "half")
    for path in (abandoned, left / "packed.zip", left):
        os.utime(path, (time.time() - 2 * HOUR,) * 2)
    gone = {
        search.checkpoint_path(definition.study_name, 0),
        search.checkpoint_path(definition.study_name, 2),
        folder / "scratch/train_surrogate_conv",
        old_import,
        abandoned,
        left,
    }
    assert used_import.exists() and used.exists()
    return folder, gone


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_listing_names_what_may_go_with_sizes_and_changes_nothing(study, capsys):
    folder, gone = study
    before = everything(folder.parent.parent)
    assert {item.path for item in unneeded(folder)} == gone
    calandria(["prune", "demo", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert {row["path"] for row in rows} == {str(os.path.relpath(path)) for path in gone}
    assert sum(row["size"] for row in rows if "trial" in row["why"]) == 2000
    calandria(["prune", str(folder)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7 and lines[-1].endswith("in 6 files and folders are not needed; --yes deletes them")
    assert everything(folder.parent.parent) == before


def test_freeing_deletes_those_and_nothing_else(study, capsys):
    folder, gone = study
    before = everything(folder.parent.parent)
    calandria(["prune", "demo", "--yes"])
    assert "freed" in capsys.readouterr().out
    kept = {path: content for path, content in before.items() if not any(path == g or g in path.parents for g in gone)}
    after = everything(folder.parent.parent)
    assert after.pop(folder / ".lock") == b"" and after == kept
    assert unneeded(folder) == []
    calandria(["prune", "demo"])
    assert capsys.readouterr().out == "results/demo: nothing is unneeded\n"


def test_the_end_of_a_run_deletes_checkpoints_of_trainings_whose_model_is_there_and_nothing_else(study):
    folder, _ = study
    finished = {item.path for item in unneeded(folder) if "finished training" in item.why}
    before = everything(folder)
    with lock_folder(folder, "token"):  # the run's own
        discard_finished_trainings(folder)
    after = everything(folder)
    after.pop(folder / ".lock")
    gone = before.keys() - after.keys()
    assert len(finished) >= 1 and gone and all(any(place in path.parents for place in finished) for path in gone)
    assert any("train_" in str(path) for path in after), "a training whose model is not there can be resumed"


def test_logs_go_only_where_they_are_named(study):
    folder, gone = study
    log = folder.parent.parent / "logs/demo/tomography/import_volume/a.log"
    assert log in {item.path for item in unneeded(folder, logs=True)} and log not in gone


def test_a_journal_that_cannot_be_read_as_a_whole_proves_no_trial_finished(study):
    folder, _ = study
    journal = folder / "scratch/search_toy/journal.log"
    journal.write_text("no JSON\n" + journal.read_text())
    assert not [item for item in unneeded(folder) if "trial" in item.why]


def test_a_result_that_cannot_be_read_keeps_all_settings(study):
    folder, _ = study
    (folder / "tomography/a/phases.json").write_text("{")
    assert not [item for item in unneeded(folder) if "settings" in item.why]


def test_a_study_at_work_is_left_alone(study):
    folder, _ = study
    before = everything(folder)
    held = lock_folder(folder, "token")
    with pytest.raises(InputFileError, match="is being worked on by process"):
        calandria(["prune", "demo", "--yes"])
    fcntl.flock(held, fcntl.LOCK_UN)
    held.close()  # as after a kill: the lock is gone, what it says is not
    with pytest.raises(InputFileError, match="or that run was killed") as caught:
        calandria(["prune", "demo", "--yes"])
    assert "snakemake" in caught.value.hint
    (folder / ".lock").unlink()
    assert everything(folder) == before


def test_a_place_that_is_no_study_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/empty").mkdir(parents=True)
    for name in ("empty", "nowhere", "results"):
        with pytest.raises(InputFileError, match="is no folder of a study's results"):
            study_folder(name)


def test_models_of_trainings_are_artefacts_of_the_study():
    """The demo's: each scratch folder of a training leads to a model that the stages name."""
    study = read_study(read_yaml(ROOT / "config/config.yaml"))
    models = {path for path in study.artefacts if path.endswith(".pt")}
    found = set()
    for path in models:
        stage, *parts, name = Path(path).relative_to("<results>").parts
        scratch = f"train_{stage}_" + ("_".join(parts) if parts else name.removesuffix(".pt"))
        found.add(str(model_of(Path("<results>"), scratch)))
    assert found == models and len(models) >= 2
    assert model_of(Path("r"), "search_surrogate_a") is None


def test_status_shows_sizes_of_studies_with_and_without_a_search(study, capsys):
    folder, _ = study
    write_text(folder.parent / "second/report/index.html", "x" * 2048)
    calandria(["status"])
    text = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line}
    assert rows["results/demo/scratch/search_toy"][1] == "3"
    assert rows["study"] == ["study", "results", "scratch", "logs"]
    assert rows["results/second"][1:] == ["2.05", "kB", "0", "B", "0", "B"]
    calandria(["status", "results/second", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found == {"searches": [], "studies": [{"folder": "results/second", "results": 2048, "scratch": 0, "logs": 0}]}
    part = sizes(folder)
    assert part.logs == 4 and part.scratch > 3000
    assert part.results + part.scratch == sum(len(content) for content in everything(folder).values())


def test_a_trial_that_runs_or_waits_to_be_resumed_keeps_its_checkpoint(tmp_path):
    folder = tmp_path / "results/demo"
    search, definition = prepared(folder / "scratch/search_toy", search={"n_trials": 4}, steps=2)
    study = search.open_study(definition)
    for number in range(3):
        study.ask()
        path = search.checkpoint_path(definition.study_name, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    lease = search.lease(definition.study_name, 0, 60, "worker")
    lease.acquire()  # runs; trial 1 lost its worker; trial 2 is finished
    study.tell(2, 1.0)
    assert [item.path.name for item in unneeded(folder)] == ["trial_2.pt"]
    lease.release()
