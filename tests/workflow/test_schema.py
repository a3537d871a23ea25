import json

import jsonschema
import pytest
import yaml

from calandria.base.errors import SettingsError
from calandria.cli.program import run
from calandria.study.stages import STAGES
from calandria.study.study import StudySettings, schema_text
from tests.helpers.workflow import REPOSITORY
from workflow_scripts.study.write_schema import main

SCHEMA = REPOSITORY / "config/schema.json"
STUDIES = [REPOSITORY / "config/config.yaml", *sorted((REPOSITORY / "config/studies").glob("*.yaml"))]


def test_the_schema_in_the_repository_is_that_of_the_settings():
    assert SCHEMA.read_text() == schema_text(), "run python -m workflow_scripts.study.write_schema"
    main(["--output", str(SCHEMA), "--check"])


def test_a_stale_or_missing_schema_is_an_error_and_writing_mends_it(tmp_path, capsys):
    path = tmp_path / "schema.json"
    with pytest.raises(SettingsError, match="differs"):
        main(["--output", str(path), "--check"])
    main(["--output", str(path)])
    main(["--output", str(path), "--check"])
    path.write_text(path.read_text().replace("lag_window", "lag_windows"))
    assert run(main, ["--output", str(path), "--check"]) == 2
    assert capsys.readouterr().err.count("\n") == 2


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_schema_and_typed_settings_accept_every_study(path):
    content = yaml.safe_load(path.read_text())
    jsonschema.validate(_with_text_keys(content), json.loads(SCHEMA.read_text()))
    StudySettings.from_mapping(content, path.name)


@pytest.mark.parametrize(
    "wrong",
    [
        {"surrogate": {"lag_window": 1}},
        {"surrogate": {"lag_windows": 3}},
        {"report": {"figure_dpi": "many"}},
        {"name": "Demo"},
        {"transport": {"tomography": {"axes": ["w"]}}},
    ],
)
def test_schema_refuses_what_the_typed_settings_refuse(wrong):
    content = {"name": "demo", "title": "demo", **wrong}
    with pytest.raises(SettingsError):
        StudySettings.from_mapping(content, "settings")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, json.loads(SCHEMA.read_text()))


def test_every_setting_is_described():
    schema = json.loads(SCHEMA.read_text())
    sections = {"StudySettings": schema, **schema["$defs"]}
    bare = [
        f"{section}.{name}"
        for section, content in sections.items()
        for name, field in content.get("properties", {}).items()
        if len(field.get("description") or sections[field["$ref"].rpartition("/")[2]].get("description", "")) < 8
    ]
    assert bare == []
    assert {stage.name for stage in STAGES} <= set(schema["properties"])


def _with_text_keys(content):
    """Return the content as JSON has it: YAML keys may be numbers, and a JSON reader sees them as text."""
    return json.loads(json.dumps(content))
