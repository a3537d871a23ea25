import json
import math
import os
import stat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calandria.base.errors import ContractError, InputFileError
from calandria.base.files import existing_file, replacing, write_text
from calandria.base.records import (
    canonical_json,
    content_digest,
    file_digest,
    number,
    read_json,
    read_table,
    write_json,
    write_table,
)


class Crash(BaseException):
    """What no except clause catches by accident."""


def test_a_crash_inside_leaves_neither_target_nor_scraps(tmp_path):
    with pytest.raises(Crash), replacing(tmp_path / "new/result.txt") as unfinished:
        unfinished.write_text("half")
        raise Crash
    assert list((tmp_path / "new").iterdir()) == []


def test_a_crash_inside_leaves_the_former_file_as_it_was(tmp_path):
    write_text(tmp_path / "result.txt", "former")
    with pytest.raises(Crash), replacing(tmp_path / "result.txt") as unfinished:
        unfinished.write_text("half")
        raise Crash
    assert [path.name for path in tmp_path.iterdir()] == ["result.txt"]
    assert (tmp_path / "result.txt").read_text() == "former"


def test_the_target_is_untouched_until_the_end_and_suffixes_are_kept(tmp_path):
    target = tmp_path / "labels.zarr.zip"
    with replacing(target) as unfinished:
        assert not target.exists() and unfinished.parent == tmp_path and unfinished.suffixes[-2:] == [".zarr", ".zip"]
        unfinished.write_text("whole")
    assert target.read_text() == "whole" and [path.name for path in tmp_path.iterdir()] == ["labels.zarr.zip"]


def test_a_link_stays_and_a_long_name_and_a_new_folder_are_no_trouble(tmp_path):
    (tmp_path / "link.json").symlink_to("real.json")
    write_text(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink() and (tmp_path / "real.json").read_text() == "new"
    write_text(tmp_path / "a" / "b" / ("c" * 250 + ".json"), "long")
    assert [path.read_text() for path in (tmp_path / "a" / "b").iterdir()] == ["long"]


def test_a_device_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputFileError, match="is a device or a pipe"):
        write_text(tmp_path / "pipe", "new")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    """The child of a killed run may write what the next run writes, too."""
    target = tmp_path / "model.pt"
    with replacing(target) as first:
        first.write_text("first")
        with replacing(target) as second:
            assert second != first
            second.write_text("second")
        assert target.read_text() == "second" and first.read_text() == "first"
    assert target.read_text() == "first" and [path.name for path in tmp_path.iterdir()] == ["model.pt"]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_new_files_have_the_rights_that_the_user_gives_new_files(tmp_path, umask):
    former = os.umask(umask)
    try:
        write_text(tmp_path / "result.txt", "x")
        assert os.umask(umask) == umask  # reading the mask left it as it was
    finally:
        os.umask(former)
    assert stat.S_IMODE((tmp_path / "result.txt").stat().st_mode) == 0o666 & ~umask


def test_a_missing_file_is_named_with_what_it_is(tmp_path):
    with pytest.raises(InputFileError, match=r"sample sheet '.*films\.tsv' does not exist"):
        existing_file(tmp_path / "films.tsv", "sample sheet")
    assert existing_file(tmp_path) == tmp_path


def test_json_is_canonical_and_knows_numpy_and_paths(tmp_path):
    content = {"b": np.float64(0.1), "a": [np.int32(2), np.bool_(True)], "c": np.arange(3), "d": tmp_path}
    text = canonical_json(content)
    assert text == canonical_json(dict(reversed(content.items()))) and text.endswith("}\n")
    assert json.loads(text) == {"a": [2, True], "b": 0.1, "c": [0, 1, 2], "d": str(tmp_path)}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_json_holds_no_number_that_json_does_not_have(tmp_path, value):
    with pytest.raises(ContractError, match="JSON does not have"):
        write_json(tmp_path / "record.json", {"tortuosity_factor": value})
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_place_in_a_record_is_refused():
    with pytest.raises(TypeError, match="object has no place"):
        canonical_json({"a": object()})


def test_a_cut_record_is_named(tmp_path):
    write_json(tmp_path / "record.json", {"a": 1})
    assert read_json(tmp_path / "record.json") == {"a": 1}
    (tmp_path / "record.json").write_text('{"a": ')
    with pytest.raises(InputFileError, match="is not JSON"):
        read_json(tmp_path / "record.json")


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_floats_go_through_a_table_unchanged(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "float.csv"
    write_table(path, [{"x": value, "y": np.float64(value)}], ["x", "y"])
    (row,) = read_table(path)
    assert number(row["x"]) == number(row["y"]) == value


def test_tables_keep_order_and_leave_empty_what_does_not_exist(tmp_path):
    rows = [{"b": True, "a": "x, y", "c": None}, {"a": 'say "z"', "b": np.int64(3), "c": math.nan, "extra": 1}]
    write_table(tmp_path / "table.csv", rows, ["a", "b", "c"])
    assert (tmp_path / "table.csv").read_bytes() == b'a,b,c\n"x, y",true,\n"say ""z""",3,\n'
    assert read_table(tmp_path / "table.csv") == [{"a": "x, y", "b": "true", "c": ""}, {"a": 'say "z"', "b": "3", "c": ""}]
    assert math.isnan(number("")) and math.isnan(number(None)) and number("1e-3") == 1e-3


def test_a_row_that_fails_leaves_no_table(tmp_path):
    def rows():
        yield {"a": 1}
        raise Crash

    with pytest.raises(Crash):
        write_table(tmp_path / "table.csv", rows(), ["a"])
    assert list(tmp_path.iterdir()) == []


def test_comments_of_a_table_are_passed_over(tmp_path):
    (tmp_path / "table.csv").write_text("# source\na,b\n1,2\n# note\n3,4\n")
    assert read_table(tmp_path / "table.csv") == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


def test_digest_of_a_file_is_its_sha256(tmp_path):
    (tmp_path / "abc").write_text("abc")
    assert file_digest(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_digest_of_a_folder_sees_names_and_contents_and_not_the_folder_itself(tmp_path):
    def folder(name, files):
        for file, text in files.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return file_digest(tmp_path / name)

    first = folder("a", {"x.txt": "1", "sub/y.txt": "2"})
    assert first == folder("b", {"sub/y.txt": "2", "x.txt": "1"})
    assert len({first, folder("c", {"x.txt": "1", "sub/z.txt": "2"}), folder("d", {"x.txt": "3", "sub/y.txt": "2"})}) == 3


def test_digest_of_content_is_blind_to_order_only():
    assert content_digest({"a": 1, "b": 2}) == content_digest({"b": 2, "a": 1}) != content_digest({"a": 1, "b": 3})
