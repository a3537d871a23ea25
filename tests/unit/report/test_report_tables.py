import math

import pytest

from tests.helpers.reporting import METRICS, evaluation, frame_rows, phases_record, solution, transport_rows
from workflow_scripts.report.tables import (
    COLUMNS,
    Entry,
    autoencoder_entries,
    cathode_entries,
    diffusion_entries,
    film_entries,
    markdown,
    mean,
    pair_columns,
    published_entries,
    search_entries,
    shown,
    surrogate_entries,
)

PUBLISHED = {"porosity_percent": "49.1", "am_percent": "39.7", "cbd_percent": "11.2", "thickness_um": "160", "tau_factor": "1.47"}


def by_quantity(entries):
    found = {entry.quantity: entry for entry in entries}
    assert len(found) == len(entries)
    return found


def test_an_entry_is_a_row_of_the_table():
    assert tuple(Entry("s", "t", "q", 1.0).row()) == COLUMNS


def test_cathode_stands_beside_its_published_row_as_fractions():
    rows = by_quantity(cathode_entries("one", phases_record(), PUBLISHED))
    assert rows["porosity"].value == 0.5 and rows["porosity"].reference == pytest.approx(0.491)
    assert rows["AM fraction"].value == 0.3 and rows["AM fraction"].reference == pytest.approx(0.397)
    assert rows["CBD fraction"].value == 0.2 and rows["CBD fraction"].reference == pytest.approx(0.112)
    assert (rows["thickness"].value, rows["thickness"].unit, rows["thickness"].reference) == (8.0, "um", 160.0)
    assert all("Table 1" in row.source and "20x4x4 voxels of 0.4 um" in row.how_made for row in rows.values())


def test_cathode_without_or_with_part_of_a_published_row():
    assert all(row.reference is None and row.source == "" for row in cathode_entries("one", phases_record(), None))
    rows = by_quantity(cathode_entries("one", phases_record(), {**PUBLISHED, "porosity_percent": ""}))
    assert rows["porosity"].reference is None and rows["porosity"].source == "" and rows["AM fraction"].source


def test_diffusion_has_the_published_factor_only_where_it_is_the_same_quantity():
    rows = by_quantity(diffusion_entries("one", solution(), PUBLISHED))
    assert rows["tortuosity factor"].value == 1.6 and rows["tortuosity factor"].reference == 1.47
    assert rows["relative diffusivity"].reference is None and rows["relative diffusivity"].subject == "one, pore_cbd, z"
    assert rows["connected fraction of the conducting phase"].value == pytest.approx(0.75)
    for part in ("12 iterations on 2 ranks", "relative residual 1.0e-05", "flux in 0.5, out 0.499999", "pore 1, cbd 1"):
        assert part in rows["relative diffusivity"].how_made
    for other in (solution(axis="x"), solution(case="pore")):
        assert by_quantity(diffusion_entries("one", other, PUBLISHED))["tortuosity factor"].reference is None
    assert by_quantity(diffusion_entries("one", solution(), None))["tortuosity factor"].reference is None


def test_a_blocked_volume_is_a_result():
    blocked = solution(tortuosity_factor=None, relative_diffusivity=0.0, conducting_fraction=0.0, connected_fraction=0.0)
    rows = by_quantity(diffusion_entries("one", blocked, PUBLISHED))
    assert rows["tortuosity factor"].value is None and rows["relative diffusivity"].value == 0.0
    assert rows["connected fraction of the conducting phase"].value is None


def test_film_is_told_at_its_first_frame_lowest_point_and_last_frame():
    rows = by_quantity(film_entries("f1", "20", frame_rows([10.0, 8.0, 9.0]), transport_rows(), "v"))
    assert {row.subject for row in rows.values()} == {"f1, 20 %"}
    assert rows["frames"].value == 3 and rows["compression degree reached"].value == pytest.approx(0.2)
    assert rows["spring-back"].value == pytest.approx(1 / 8)
    assert [rows[f"thickness, {when}"].value for when in ("first frame", "lowest point", "last frame")] == [10.0, 8.0, 9.0]
    assert [rows[f"porosity, {when}"].value for when in ("first frame", "lowest point", "last frame")] == [0.5, 0.4, 0.3]
    assert rows["contact area pore-am, last frame"].value == 3.0 and rows["contact area pore-am, last frame"].unit == "um2"
    assert rows["effective diffusivity, pore, z, first frame"].value == 1e-10
    assert rows["effective diffusivity, pore, z, last frame"].unit == "m2/s"
    assert rows["tortuosity factor, pore, z, last frame"].value is None
    assert not any("frame 1" in name for name in rows), "frames between are left to the series table"


def test_means_leave_out_what_does_not_exist():
    assert mean([1.0, math.nan, 3.0]) == 2.0 and mean([math.nan]) is None and mean([]) is None


def test_pairs_need_both_columns():
    assert pair_columns(["a_true", "a_predicted", "b_true", "c_predicted", "true"]) == ["a"]


def test_surrogate_means_worst_and_last_frame():
    entries = surrogate_entries(METRICS, 0.95, "7")
    rows = {(row.subject, row.quantity): row for row in entries}
    assert len(rows) == len(entries)
    model = "f3, 20 %, one-step, model"
    assert rows[model, "R2, void included, mean"].value == pytest.approx(0.9)
    assert rows[model, "R2, void included, worst"].value == pytest.approx(0.8)
    assert rows[model, "R2, void included, mean"].reference == 0.95
    assert rows["f3, 20 %, one-step, copy", "R2, void included, mean"].reference is None
    assert rows[model, "R2 of the film, worst"].value == pytest.approx(0.4), "a frame without a score is left out"
    assert rows[model, "MSE, mean"].value == pytest.approx(0.1) and (model, "MSE, worst") not in rows
    last = rows[model, "porosity, last frame"]
    assert (last.value, last.reference) == (0.34, 0.4), "rows come unsorted, frame 4 is the last"
    assert "surrogate 7: 2 predicted frames" in last.how_made


def test_autoencoder_errors_stand_with_baselines_tests_and_how_they_were_split():
    rows = by_quantity(autoencoder_entries("case c", evaluation()))
    assert rows["weights"].value == 99 and rows["MSE, train"].value == 0.1 and rows["MSE, validation"].value == 0.2
    assert rows["MSE of predicting the mean, validation"].value == 0.5
    assert rows["its interval, low"].value == 0.05 and rows["its interval, low"].how_made == "bootstrap"
    assert rows["its effect size (Cohen's d)"].value == 0.6 and rows["its p-value"].value == 0.03
    assert "split by blocks, 8 + 2 mini-volumes, best epoch 3 of 5" in rows["weights"].how_made
    assert "leaking" not in rows["weights"].how_made
    assert "split by random, leaking, " in by_quantity(autoencoder_entries("c", evaluation("random", True)))["weights"].how_made


def test_search_counts_how_trials_ended():
    trials = [{"state": state} for state in ("COMPLETE", "PRUNED", "COMPLETE", "FAIL")]
    best = {"number": 2, "value": 0.25, "parameters": {"dropout": 0.1, "activation": "relu"}}
    rows = by_quantity(search_entries("surrogate", trials, best))
    assert [rows[f"trials {state}"].value for state in ("complete", "pruned", "fail")] == [2, 1, 1]
    assert rows["best value (MSE)"].value == 0.25 and rows["best dropout"].value == 0.1
    assert rows["best activation"].value == "relu" and "4 trials; best is trial 2" in rows["best dropout"].how_made


def test_published_numbers_are_rows_with_their_source():
    results = [{"case": "1", "samples": "CAL", "stride": "1", "mse_train": "0.111", "mse_val": "0.110"}]
    contact = [{"electrode": "I", "cd_percent": "45", "interface": "pore-cbd", "error_percent": "8.01"}]
    train, validation, area = published_entries(results, contact)
    assert (train.value, validation.value, area.value) == (0.111, 0.110, pytest.approx(0.0801))
    assert all(row.source and row.subject.startswith("published: ") for row in (train, validation, area))
    assert published_entries([], []) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        ("", "–"),
        (True, "yes"),
        (False, "no"),
        (0.123456, "0.1235"),
        (1.5e-11, "1.5e-11"),
        (2.0, "2"),
        (123456, "123456"),
        (1e9, "1e+09"),
        (-0.5, "-0.5"),
        ("relu", "relu"),
        (0.0, "0"),
    ],
)
def test_shown(value, text):
    assert shown(value, 4) == text


def test_markdown_has_a_table_per_section_and_no_broken_rows():
    entries = [Entry("a", "x|y", "q", 0.12345, "um", how_made="one|two"), Entry("b", "z", "r", None), Entry("a", "w", "s", 3)]
    text = markdown(entries, "Title", 3)
    assert text.startswith("# Title\n") and text.count("## ") == 2
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {8} and len(rows) == 3 + 2 * 2
    assert "| x/y | q | 0.123 | um |" in text and "| z | r | – |" in text
