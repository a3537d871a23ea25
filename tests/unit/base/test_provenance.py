import hashlib
import platform

import numpy as np
import pytest

from calandria import __version__
from calandria.base.errors import InputFileError, SettingsError
from calandria.base.provenance import operating_system, provenance, software_versions
from calandria.base.records import (
    canonical_json,
    content_digest,
    file_digest,
    read_table,
    read_table_record,
    write_recorded_table,
    write_table,
)
from calandria.base.seeds import derived_seed, generator


def test_a_purpose_has_one_stream():
    assert np.array_equal(generator(1, "insert", "film_1").random(8), generator(1, "insert", "film_1").random(8))


def test_other_seeds_purposes_and_orders_have_other_streams():
    keys = [(1, "a", "b"), (1, "b", "a"), (1, "ab"), (2, "a", "b"), (1,), (1, "a", 1), (1, "a", 2)]
    assert len({generator(seed, *purpose).random() for seed, *purpose in keys}) == len(keys)


def test_streams_do_not_shift_between_versions():
    """The number of a seed is part of every result that names it."""
    assert generator(1, "insert", "film_1").integers(2**32) == np.random.default_rng(
        np.random.SeedSequence([1, 3318521589, 2790197681])
    ).integers(2**32)


def test_derived_seeds_suit_programs_that_take_a_positive_integer():
    seeds = [derived_seed(7, "trial", number) for number in range(300)]
    assert len(set(seeds)) == 300 and all(type(seed) is int and 1 <= seed < 2**31 for seed in seeds)
    assert derived_seed(7, "trial", 5) == seeds[5] != derived_seed(8, "trial", 5)


def test_provenance_says_how_a_number_was_made(tmp_path):
    (tmp_path / "labels").write_text("abc")
    settings = {"b": 1, "a": 0.5}
    record = provenance("transport", settings=settings, inputs={"volume": tmp_path / "labels"}, seed=3)
    assert record["stage"] == "transport" and record["version"] is None
    assert record["rule"] is None and record["settings"] == settings
    assert record["settings_sha256"] == content_digest({"a": 0.5, "b": 1})
    assert record["inputs_sha256"] == {"volume": hashlib.sha256(b"abc").hexdigest()}
    assert record["seed"] == 3
    assert record["software"]["python"] == platform.python_version() and record["software"]["calandria"] == __version__
    assert record["software"]["numpy"] == np.__version__


def test_equal_work_has_equal_provenance_without_clock_or_place(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).write_text("same")
    first, second = (canonical_json(provenance("report", inputs={"file": tmp_path / name})) for name in ("one", "two"))
    assert first == second and str(tmp_path) not in first


def test_a_table_and_its_record_belong_together(tmp_path):
    table = tmp_path / "frames.csv"
    write_recorded_table(table, [{"a": 1}], ["a"], provenance("transport"))
    record = read_table_record(table)
    assert read_table(table) == [{"a": "1"}] and record["table_sha256"] == file_digest(table)
    assert {**record, "table_sha256": None} == {**provenance("transport"), "table_sha256": None}
    write_table(table, [{"a": 2}], ["a"])
    with pytest.raises(InputFileError, match=r"frames.json.* is not the record of the table"):
        read_table_record(table)
    (tmp_path / "frames.json").unlink()
    with pytest.raises(InputFileError, match="does not exist"):
        read_table_record(table)


def test_a_table_is_not_written_over_its_record(tmp_path):
    with pytest.raises(SettingsError, match="would lie where its record does"):
        write_recorded_table(tmp_path / "frames.json", [], ["a"], {})
    assert not list(tmp_path.iterdir())


def test_provenance_without_settings_and_inputs():
    record = provenance("report")
    assert record["settings_sha256"] is None and record["inputs_sha256"] == {} and record["seed"] is None


def test_provenance_of_a_missing_input_is_an_error(tmp_path):
    with pytest.raises(InputFileError):
        provenance("report", inputs={"file": tmp_path / "gone"})


def test_packages_that_are_not_installed_are_left_out():
    assert set(software_versions(["numpy", "no-such-package-as-this"])) == {"python", "calandria", "numpy"}


def test_operating_system_has_a_name_also_without_its_release_file(monkeypatch):
    assert operating_system().strip('" ')

    def absent(self, encoding=None):
        raise FileNotFoundError

    monkeypatch.setattr("pathlib.Path.read_text", absent)
    assert operating_system() == platform.platform(terse=True)
