import argparse
import json
import traceback
from dataclasses import replace

import pytest

from calandria.base.errors import InputFileError, SettingsError
from calandria.base.records import read_table, write_json
from calandria.learning.settings import RUN_CONTROL, SearchSettings
from calandria.search.controller import run_search
from calandria.search.objective import load_objective
from calandria.search.study import JournalError, SearchDefinition, StudyFolder, open_database
from tests.helpers.searching import prepared
from workflow_scripts.search.options import add_search_options, with_run_control


@pytest.fixture
def definition(tmp_path):
    (tmp_path / "film.txt").write_text("film")
    data = {"films": [str(tmp_path / "film.txt")]}
    return SearchDefinition("toy", "tests.helpers.toy_objective", {"steps": 2}, data, SearchSettings())


def named(definition, **changes):
    return replace(definition, **changes).identified().study_name


def test_what_matters_to_a_value_makes_another_study(definition, tmp_path):
    (tmp_path / "other.txt").write_text("other")
    names = [
        named(definition),
        named(definition, settings={"steps": 3}),
        named(definition, objective="calandria.search.objective"),
        named(definition, data={"films": [str(tmp_path / "other.txt")]}),
        named(definition, search=SearchSettings(seed=2)),
        named(definition, search=SearchSettings(sampler="random")),
        named(definition, direction="maximize"),
    ]
    assert len(set(names)) == len(names)


def test_run_control_and_places_do_not(definition, tmp_path):
    more = SearchSettings(
        n_trials=50, workers=9, lease_seconds=5, storage="sqlite://", max_failed_fraction=1, threads_per_worker=2, max_attempts=1
    )
    (tmp_path / "moved.txt").write_text("film")
    assert set(SearchSettings.model_fields) >= RUN_CONTROL
    assert named(definition, search=more, device="cuda", data={"films": [str(tmp_path / "moved.txt")]}) == named(definition)


def run_control(text):
    parser = argparse.ArgumentParser()
    add_search_options(parser)
    required = [f"--{name}=x" for name in ("directory", "output-trials", "output-best", "output-importance")]
    return parser.parse_args([*required, *([] if text is None else [f"--run-control={text}"])])


def test_run_control_reaches_the_search_by_an_option_and_nothing_else_does():
    given = SearchSettings(n_trials=50, lease_seconds=5, sampler="grid", workers=3)
    assert with_run_control(run_control(None), given) == given
    bare = given.model_copy(update={"lease_seconds": 120.0, "workers": 2})
    assert with_run_control(run_control(json.dumps(given.run_control())), bare) == given


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "--run-control is '{'; expected a JSON object"),
        ("3", "expected a JSON object"),
        ('{"n_trials": 9, "seed": 2}', "--run-control names n_trials, seed; expected some of lease_seconds"),
        ('{"lease_seconds": 0}', "lease_seconds"),
    ],
)
def test_wrong_run_control_is_told(text, words):
    with pytest.raises(SettingsError, match=words):
        with_run_control(run_control(text), SearchSettings())


def test_a_definition_survives_its_file(definition, tmp_path):
    folder = StudyFolder(tmp_path / "s")
    identified = definition.identified()
    folder.write_definition(identified)
    assert folder.read_definition() == identified == identified.identified()


def test_bad_definitions_are_told(definition, tmp_path):
    with pytest.raises(SettingsError, match="'up'; expected minimize or maximize"):
        replace(definition, direction="up")
    folder = StudyFolder(tmp_path)
    with pytest.raises(InputFileError, match=r"search.json' does not exist"):
        folder.read_definition()
    for content in ({"search": {}}, {}, []):
        write_json(folder.definition_path, content)
        with pytest.raises(InputFileError, match="is not the definition of a search"):
            folder.read_definition()


def test_a_missing_input_file_is_told(definition, tmp_path):
    with pytest.raises(InputFileError, match="gone"):
        replace(definition, data={"films": [str(tmp_path / "gone")]}).identified()


def test_objectives_are_checked():
    with pytest.raises(SettingsError, match="lacks suggest and run"):
        load_objective("calandria.search.locks")
    with pytest.raises(SettingsError, match="cannot be imported"):
        load_objective("workflow_scripts.nothing")


@pytest.mark.parametrize(
    "url", ["postgresql://me:secret@host/name", "postgresql:///name?user=me&password=secret", "mysql://:secret@host/n"]
)
def test_a_password_in_a_url_is_refused_and_not_repeated(url):
    with pytest.raises(SettingsError, match="storage: holds a password") as caught:
        SearchSettings.from_mapping({"storage": url}, "study")
    assert "secret" not in str(caught.value)


def test_a_storage_that_is_no_url_is_refused():
    with pytest.raises(SettingsError, match="expected a database URL"):
        SearchSettings.from_mapping({"storage": "trials.db"}, "study")


def test_a_bad_storage_is_told_without_its_password(definition, tmp_path, monkeypatch):
    bad = replace(definition, search=SearchSettings(storage="nosuchbase://me:${TOY_PASSWORD}@host/name"))
    with pytest.raises(JournalError, match="needs the environment variable TOY_PASSWORD"):
        StudyFolder(tmp_path).open_storage(bad)
    monkeypatch.setenv("TOY_PASSWORD", "hush-hush")
    with pytest.raises(JournalError, match="'nosuchbase://host/name' cannot be opened") as caught:
        StudyFolder(tmp_path).open_storage(bad)
    assert "hush-hush" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("scheme", ["postgresql", "mysql+pymysql"])
def test_databases_of_the_guide_have_their_drivers(scheme):
    """Nobody listens at the address, which only a driver finds out."""
    with pytest.raises(JournalError, match="refused"):
        open_database(f"{scheme}://user@127.0.0.1:1/name")


def test_a_password_from_the_environment_reaches_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_PASSWORD", "hush-hush")
    storage = f"sqlite:///{tmp_path}/trials.db?nothing=${{TOY_PASSWORD}}"
    folder, _ = prepared(tmp_path / "s", search={"n_trials": 2, "storage": storage})
    run_search(
        tmp_path / "s",
        folder.read_definition(),
        workers=1,
        trials_path=tmp_path / "trials.csv",
        best_path=tmp_path / "best.json",
        importance_path=tmp_path / "importance.png",
    )
    assert len(read_table(tmp_path / "trials.csv")) == 2 and list((tmp_path / "s" / "logs").iterdir())
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"hush-hush" not in path.read_bytes()
