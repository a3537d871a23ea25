import math

import pytest

from calandria.report.tables import (
    COLUMNS,
    Entry,
    autoencoder_entries,
    cathode_entries,
    diffusion_entries,
    film_entries,
    made_by,
    markdown,
    mean,
    no_search_entries,
    pair_columns,
    published_entries,
    published_factor,
    quantity_of,
    scaled,
    search_entries,
    shown,
    surrogate_entries,
)
from tests.helpers.published import published_table
from tests.helpers.reporting import (
    METRICS,
    SCORES,
    evaluation,
    frame_rows,
    made,
    metric_row,
    phases_record,
    series_record,
    solution,
    split_record,
    transport_rows,
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
    assert rows["porosity_free"].value == 0.5 and rows["porosity_free"].reference == pytest.approx(0.491)
    assert rows["AM fraction"].value == 0.3 and rows["AM fraction"].reference == pytest.approx(0.397)
    assert rows["CBD fraction"].value == 0.2 and rows["CBD fraction"].reference == pytest.approx(0.112)
    assert (rows["thickness"].value, rows["thickness"].unit, rows["thickness"].reference) == (8.0, "um", 160.0)
    assert all("Table 1" in row.source and "20x4x4 voxels of 0.4 um" in row.how_made for row in rows.values())
    assert all(row.how_made.startswith("tomography 3, settings 5e775e775e77: ") for row in rows.values())


def test_cathode_without_or_with_part_of_a_published_row():
    assert all(row.reference is None and row.source == "" for row in cathode_entries("one", phases_record(), None))
    rows = by_quantity(cathode_entries("one", phases_record(), {**PUBLISHED, "porosity_percent": ""}))
    assert rows["porosity_free"].reference is None and rows["porosity_free"].source == "" and rows["AM fraction"].source


CATHODES = {"1 CAL": {"tau_factor": "1.87"}, "2 CAL": {"tau_factor": ""}}
VOLUMES = [{"sample": "1", "state": "CAL", "shape": "20x4x4", "labels_sha256": "c0de"}]


def test_the_printed_factor_stands_beside_the_same_quantity_of_the_same_voxels():
    assert published_factor(solution(), phases_record(), VOLUMES, CATHODES) == 1.87
    assert published_factor(solution(diffusivities={"0": 1.0, "1": 1.0, "2": 0.0}), phases_record(), VOLUMES, CATHODES) == 1.87
    assert published_factor(solution(case="any_name"), phases_record(), VOLUMES, CATHODES) == 1.87


@pytest.mark.parametrize(
    ("record", "phases"),
    [
        ({"axis": "x"}, {}),
        ({"diffusivities": {"0": 1.0}}, {}),
        ({"diffusivities": {"0": 1.0, "1": 0.05}}, {}),
        ({"diffusivities": {"0": 1.0, "1": 1.0, "2": 0.1}}, {}),
        ({"sides": {"y": "periodic", "x": "no-flux"}}, {}),
        ({"shape": [10, 4, 4]}, {}),
        ({"provenance": made("transport", inputs_sha256={"volume": "other"})}, {}),
        ({}, {"labels_sha256": "of a crop"}),
        ({"shape": [20, 2, 8]}, {"shape": [20, 2, 8]}),
    ],
)
def test_no_printed_factor_stands_beside_anything_else(record, phases):
    assert published_factor(solution(**record), phases_record() | phases, VOLUMES, CATHODES) is None


def test_published_volumes_are_rows_of_the_published_cathodes():
    cathodes = {f"{row['sample']} {row['state']}": row for row in published_table("cathodes_nmc532")}
    assert [cathodes[f"{row['sample']} {row['state']}"]["tau_factor"] for row in published_table("volumes")] == ["1.87"]


def test_diffusion_tells_phases_and_evidence():
    rows = by_quantity(diffusion_entries("one", solution(), 1.47))
    assert rows["tortuosity factor"].value == 1.6 and rows["tortuosity factor"].reference == 1.47
    assert rows["relative diffusivity"].reference is None and rows["relative diffusivity"].subject == "one, pore_cbd, z"
    assert rows["connected fraction of the conducting phase"].value == pytest.approx(0.75)
    for part in (
        "transport 3, settings 5e775e775e77: conducting pore 1, CBD 1, along z, sides y no-flux, x no-flux",
        "12 iterations on 2 ranks",
        "relative residual 1.0e-05, estimated error 2.0e-06",
        "flux in 0.5, out 0.499999",
    ):
        assert part in rows["relative diffusivity"].how_made
    without = by_quantity(diffusion_entries("one", solution(), None))["tortuosity factor"]
    assert without.reference is None and without.source == ""


def test_a_blocked_volume_is_a_result():
    nothing = {"tortuosity_factor": None, "relative_diffusivity": 0.0, "conducting_fraction": 0.0, "connected_fraction": 0.0}
    rows = by_quantity(diffusion_entries("one", solution(**nothing, percolates=False, relative_residual=0.0), None))
    assert rows["tortuosity factor"].value is None and rows["relative diffusivity"].value == 0.0
    assert rows["connected fraction of the conducting phase"].value is None
    assert all("blocked" in row.how_made and "residual" not in row.how_made for row in rows.values())


def test_references_have_the_digits_that_are_printed():
    rows = by_quantity(cathode_entries("one", phases_record(), {**PUBLISHED, "cbd_percent": "13.7"}))
    assert repr(rows["CBD fraction"].reference) == "0.137" and scaled("", "0.01") is None


def test_the_state_of_a_sample_is_told():
    assert by_quantity(cathode_entries("one", phases_record(), None, "calendered"))["state"].value == "calendered"
    assert "state" not in by_quantity(cathode_entries("one", phases_record(), None))


def test_a_phase_that_no_label_stands_for_is_no_measured_zero():
    record = phases_record() | {"phase_fractions": {"pore": 0.5, "am": 0.5, "cbd": 0.0}}
    rows = by_quantity(cathode_entries("one", record, None, None, {"pore", "am"}))
    assert rows["CBD fraction"].value is None and "not resolved" in rows["CBD fraction"].how_made
    assert rows["AM fraction"].value == 0.5 and "not resolved" not in rows["AM fraction"].how_made
    assert by_quantity(cathode_entries("one", record, None))["CBD fraction"].value == 0.0, (
        "a label without voxels is a measured 0"
    )
    both = by_quantity(diffusion_entries("one", solution(), None, {"pore", "am"}))["tortuosity factor"]
    assert "CBD is not resolved in this image and conducts nothing" in both.how_made
    pores = by_quantity(diffusion_entries("one", solution(diffusivities={"0": 1.0, "1": 0.0}), None, {"pore", "am"}))
    assert "not resolved" not in pores["tortuosity factor"].how_made


def film(facts=None, **record):
    records = series_record(**record), series_record()
    return by_quantity(film_entries("f1", "20", frame_rows([10.0, 8.0, 9.0]), transport_rows(), records, facts or {}))


def test_what_the_label_alone_says_is_no_measured_degree():
    known = {"deepest_compression_degree_source": "press table", "time_source": "dump: ITEM: TIME", "box_misfit": 0.0}
    rows = film(known, press_is_estimated=False)
    assert rows["press"].value == "press table" and "by label" not in rows["compression degree reached"].how_made
    assert rows["times from"].value == "dump: ITEM: TIME" and rows["stretch of the box"].value == 0.0
    rows = film({"deepest_compression_degree_source": "label", "overlap_loss_cbd": 0.4}, press_is_estimated=True)
    assert rows["press"].value == "estimated, degree by label" and rows["CBD lost in overlaps"].value == 0.4
    assert "degree by label: the estimated press goes as deep" in rows["compression degree reached"].how_made
    assert film({"deepest_compression_degree_source": "frames"}, press_is_estimated=True)["press"].value == "estimated"


def test_film_is_told_at_its_first_frame_lowest_point_and_last_frame():
    rows = film()
    assert {row.subject for row in rows.values()} == {"f1, 20 %"}
    assert rows["frames"].value == 3 and rows["compression degree reached"].value == pytest.approx(0.2)
    assert rows["spring-back"].value == pytest.approx(1 / 8) and "lowest point from the frames" in rows["spring-back"].how_made
    assert [rows[f"thickness, {when}"].value for when in ("first frame", "lowest point", "last frame")] == [10.0, 8.0, 9.0]
    assert [rows[f"porosity_free, {when} frame"].value for when in ("first", "thinnest", "last")] == [0.5, 0.4, 0.3]
    assert rows["contact area pore-am, last frame"].value == 3.0 and rows["contact area pore-am, last frame"].unit == "um2"
    assert rows["effective diffusivity, pore, z, first frame"].value == 1e-10
    assert "relative residual 1.0e-05" in rows["effective diffusivity, pore, z, first frame"].how_made
    assert rows["effective diffusivity, pore, z, last frame"].unit == "m2/s"
    assert rows["tortuosity factor, pore, z, last frame"].value is None
    blocked = rows["tortuosity factor, pore, z, last frame"].how_made
    assert "blocked" in blocked and "residual" not in blocked
    assert not any("frame 1" in name for name in rows), "frames between are left to the series table"
    assert all("calendering 2; transport 3" in row.how_made and "table 7ab1e7ab1e7a" in row.how_made for row in rows.values())


def test_the_press_may_turn_between_two_frames():
    rows = film(lowest_thickness_um=7.5, lowest_thickness_source="press table", press_is_estimated=False)
    assert rows["thickness, lowest point"].value == 7.5 and rows["compression degree reached"].value == pytest.approx(0.25)
    assert rows["spring-back"].value == pytest.approx(0.2) and "lowest point from the press table" in rows["spring-back"].how_made
    assert "estimated" not in rows["spring-back"].how_made
    assert "position of the press estimated" in film(press_is_estimated=True)["spring-back"].how_made


def test_means_leave_out_what_does_not_exist():
    assert mean([1.0, math.nan, 3.0]) == 2.0 and mean([math.nan]) is None and mean([]) is None


def test_pairs_need_both_columns():
    assert pair_columns(["a_true", "a_predicted", "b_true", "c_predicted", "true"]) == ["a"]


def test_quantities_have_names_and_units():
    columns = ("thickness_um", "voxels_cbd", "spring_back", "relative_diffusivity_pore_cbd_resistive_z", "porosity_free")
    assert [quantity_of(column) for column in columns] == [
        ("thickness", "um"),
        ("volume of CBD", "voxels"),
        ("spring-back", ""),
        ("relative diffusivity, pore_cbd_resistive, z", ""),
        ("porosity free", ""),
    ]


def surrogate(metrics=METRICS, leaking=False):
    record = made("surrogate", table_sha256="7ab1e" * 12)
    metrics = [{**row, "leaking": str(leaking).lower()} for row in metrics]
    entries = surrogate_entries(metrics, record, split_record(leaking), SCORES)
    rows = {(row.subject, row.quantity): row for row in entries}
    assert len(rows) == len(entries)
    return rows


def test_surrogate_means_worst_and_last_frame():
    rows = surrogate()
    model = "f3, 20 %, one-step, model"
    assert rows[model, "R2, void included, mean"].value == pytest.approx(0.9)
    assert rows[model, "R2, void included, worst"].value == pytest.approx(0.8)
    assert rows[model, "R2 of the film, worst"].value == pytest.approx(0.4), "a frame without a score is left out"
    assert rows[model, "MSE, mean"].value == pytest.approx(0.1) and (model, "MSE, worst") not in rows
    last = rows[model, "porosity free, last frame"]
    assert (last.value, last.reference) == (0.34, 0.4), "rows come unsorted, frame 4 is the last"
    assert "surrogate 3, settings 5e775e775e77, table 7ab1e7ab1e7a: 2 frames predicted, the first 3 given" in last.how_made
    assert rows[model, "frames given"].value == 3
    assert (
        rows[model, "contact area pore-am, mean relative error"].value,
        rows[model, "contact area pore-am, last frame"].unit,
    ) == (
        0.25,
        "voxel faces",
    )
    assert rows[model, "thickness, last frame"].unit == "um" and rows[model, "volume of pore, last frame"].unit == "voxels"
    assert rows[model, "thickness, last frame"].source.endswith("surface of the film")


def test_relative_errors_leave_out_blocked_frames():
    metrics = [metric_row("f3", 20, "rollout", "model", frame, 0.5) for frame in (3, 4, 5)]
    factor = "tortuosity_factor_pore_z"
    for row, truth, predicted in zip(metrics, ("2.0", "", "4.0"), ("1.0", "2.0", "")):
        row |= {f"{factor}_true": truth, f"{factor}_predicted": predicted}
    rows = surrogate(metrics)
    subject = "f3, 20 %, rollout, model"
    assert rows[subject, "tortuosity factor, pore, z, mean relative error"].value == pytest.approx(0.5)
    assert rows[subject, "porosity free, mean relative error"].value == pytest.approx((0.1 + 0.15 + 0.2) / 3)
    assert (subject, "volume of pore, mean relative error") not in rows


def test_the_printed_score_stands_beside_one_steps_of_the_papers_network_alone():
    metrics = [
        metric_row("f3", 20, mode, name, 3, 0.5) for mode in ("one_step", "rollout") for name in ("conv1d_lags", "model", "copy")
    ]
    rows = surrogate(metrics)
    (row,) = [row for row in rows.values() if row.quantity.startswith("R2") and row.reference is not None]
    assert (row.subject, row.quantity, row.reference) == ("f3, 20 %, one-step, conv1d_lags", "R2, void included, mean", 0.95)
    assert rows["f3, 20 %, rollout, conv1d_lags", "thickness, last frame"].source.endswith("whole slices of voxels")
    (published,) = [{key: row[key] for key in SCORES[0]} for row in published_table("calendering_scores")]
    assert published == SCORES[0]


def test_rows_of_a_leaking_run_say_so_and_why():
    assert not any("LEAKING" in row.how_made for row in surrogate().values())
    assert {row.value for (_, quantity), row in surrogate().items() if quantity == "leaking"} == {False}
    rows = surrogate(leaking=True)
    assert {row.value for (_, quantity), row in rows.items() if quantity == "leaking"} == {True}
    assert all("LEAKING, no evidence of generalisation: f3 at 45 % is used for train" in row.how_made for row in rows.values())


def test_a_run_of_which_nothing_is_known_counts_as_leaking():
    metrics = [{**row, "leaking": ""} for row in METRICS]
    entries = surrogate_entries(metrics, made("surrogate"), split_record(), SCORES)
    assert {row.value for row in entries if row.quantity == "leaking"} == {True} and "not said how" in entries[0].how_made


def test_autoencoder_errors_stand_with_baselines_tests_and_how_they_were_split():
    rows = by_quantity(autoencoder_entries("case c", evaluation()))
    assert rows["weights"].value == 99 and rows["MSE, train"].value == 0.1 and rows["MSE, validation"].value == 0.2
    assert rows["MSE of predicting the mean, validation"].value == 0.5
    difference = "MSE, validation less train"
    low = rows[f"{difference}: low end of its interval"]
    assert low.value == 0.05 and low.how_made == "bootstrap" and rows[difference].value == 0.1
    assert rows[f"{difference}: Cohen's d"].value == 0.6 and rows[f"{difference}: p-value"].value == 0.03
    assert rows["shift of the mean, p-value, train"].value == 0.4
    assert "split by blocks, 8 + 2 mini-volumes, best epoch 3 of 5" in rows["weights"].how_made
    assert "LEAKING" not in rows["weights"].how_made and rows["leaking"].value is False
    random = by_quantity(autoencoder_entries("c", evaluation("random", True)))
    assert "split by random, LEAKING, " in random["weights"].how_made and random["leaking"].value is True


def test_a_p_value_below_floating_point_is_no_zero():
    record = evaluation()
    record["mse_difference"]["p_value_mse"] = 0.0
    assert by_quantity(autoencoder_entries("c", record))["MSE, validation less train: p-value"].value == "< 1e-300"


def test_search_counts_how_trials_ended():
    trials = [{"state": state} for state in ("COMPLETE", "PRUNED", "COMPLETE", "FAIL")]
    best = {"number": 2, "value": 0.25, "value_name": "cross-entropy", "parameters": {"dropout": 0.1, "activation": "relu"}}
    record = made("search", table_sha256="7ab1e" * 12)
    rows = by_quantity(search_entries("surrogate", trials, record, best | {"direction": "minimize"}))
    assert [rows[f"trials {state}"].value for state in ("complete", "pruned", "fail")] == [2, 1, 1]
    assert rows["best cross-entropy"].value == 0.25 and rows["best dropout"].value == 0.1
    how = rows["best dropout"].how_made
    assert rows["best activation"].value == "relu" and "4 trials, minimize; best is trial 2" in how
    assert how.startswith(made_by(record)) and "table 7ab1e7ab1e7a" in how


def test_what_was_not_searched_is_said():
    (row,) = no_search_entries(["surrogate"])
    assert (row.section, row.subject, row.value) == ("search", "surrogate", "no search")


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
