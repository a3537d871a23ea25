from typing import Literal

import pytest
from pydantic import Field

from calandria.base.errors import InputFileError, SettingsError
from calandria.base.settings import Section, read_sheet, read_yaml


class Grid(Section):
    """Inner section."""

    voxel_edge_um: float = Field(0.4, gt=0)
    """Edge in um."""


class Row(Section):
    """A row, or a section with one inside."""

    film: str = Field(pattern="^[a-z]+$")
    """Name."""
    seed: int = Field(1, ge=0)
    """Seed."""
    kind: Literal["a", "b"] = "a"
    """Kind."""
    grid: Grid = Grid()
    """Section."""


def test_all_mistakes_are_told_at_once_with_key_and_what_was_found():
    with pytest.raises(SettingsError) as caught:
        Row.from_mapping({"seed": -1, "kind": "c", "grid": {"voxel_edge": 1, "voxel_edge_um": 0}, "sead": 2}, "config.yaml")
    message = caught.value.message
    assert message.startswith("config.yaml: ") and "\n" not in message
    for told in (
        "film is missing",
        "seed: expected a value greater than or equal to 0, found -1",
        "kind: expected 'a' or 'b', found 'c'",
        "grid.voxel_edge is unknown (did you mean 'voxel_edge_um'?)",
        "grid.voxel_edge_um: expected a value greater than 0, found 0",
        "sead is unknown (did you mean 'seed'?)",
    ):
        assert told in message
    assert message.count(";") == 5


def test_an_unknown_key_far_from_all_known_ones_gets_no_advice():
    with pytest.raises(SettingsError) as caught:
        Row.from_mapping({"film": "a", "qqqqqq": 1}, "config.yaml")
    assert caught.value.message == "config.yaml: qqqqqq is unknown"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_settings_are_finite(value):
    with pytest.raises(SettingsError, match="finite"):
        Grid.from_mapping({"voxel_edge_um": value}, "config.yaml")


def test_settings_cannot_be_changed_in_passing():
    with pytest.raises(ValueError, match="frozen"):
        Row(film="a").seed = 2


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("a: [1", SettingsError, "is not YAML"),
        ("- 1\n", SettingsError, "holds list; expected a mapping"),
        ("", SettingsError, "holds NoneType"),
        (None, InputFileError, "settings file .* does not exist"),
    ],
)
def test_what_is_no_settings_file_is_named(tmp_path, text, error, match):
    if text is not None:
        (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(error, match=match):
        read_yaml(tmp_path / "config.yaml")


def test_read_yaml(tmp_path):
    (tmp_path / "config.yaml").write_text("a: {b: [1, x]}\n")
    assert read_yaml(tmp_path / "config.yaml") == {"a": {"b": [1, "x"]}}


def sheet(folder, text, encoding="utf-8"):
    (folder / "films.tsv").write_bytes(text.encode(encoding))
    return folder / "films.tsv"


def test_a_sheet_leaves_empty_cells_to_the_defaults_and_passes_over_comments(tmp_path):
    path = sheet(tmp_path, "# note\nfilm\tseed\tkind\n\nab\t\tb\n# c\tc\tc\n cd \t7\t\n")
    assert read_sheet(path, Row) == [Row(film="ab", kind="b"), Row(film="cd", seed=7)]


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "film\tseed\n"])
def test_a_sheet_without_rows_is_empty(tmp_path, text):
    assert read_sheet(sheet(tmp_path, text), Row) == []


def test_sheets_of_spreadsheet_programs_are_read(tmp_path):
    """They begin with a byte order mark and end their lines the DOS way."""
    assert read_sheet(sheet(tmp_path, "film\tseed\r\nab\t3\r\n", "utf-8-sig"), Row) == [Row(film="ab", seed=3)]


def test_all_mistakes_of_a_sheet_are_told_with_their_lines(tmp_path):
    path = sheet(tmp_path, "# note\nfilm\tseed\nab\t-2\n\ncd\nef\t1\nGH\tx\n")
    with pytest.raises(SettingsError) as caught:
        read_sheet(path, Row)
    message = caught.value.message
    assert "line 3: seed: " in message and "found '-2'" in message
    assert "line 5 has 1 cells; expected 2, separated by tabs" in message
    assert "line 7: film: " in message and "found 'GH'" in message and "found 'x'" in message
    assert "line 6" not in message and caught.value.hint.startswith("columns are film, seed, kind")


def test_an_unknown_column_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"line 2: sed is unknown \(did you mean 'seed'\?\)"):
        read_sheet(sheet(tmp_path, "film\tsed\nab\t1\n"), Row)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"film\tseed\nk\xe4fer\t1\n", r"sample sheet .* is not UTF-8 text \(byte 0xe4 at position 11\)"),
        (None, "sample sheet .* is a folder; expected a file"),
        (b"film\tseed\tseed\nab\t1\t2\n", "column 'seed' occurs twice"),
    ],
)
def test_what_is_no_sheet_is_told(tmp_path, content, match):
    path = tmp_path / "films.tsv"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises((InputFileError, SettingsError), match=match) as caught:
        read_sheet(path, Row)
    assert caught.value.hint
