"""Rows of results of each kind of source, from small files of the programs' own form."""

import math
from dataclasses import replace

import numpy as np
import pytest

from calandria.base.errors import ContractError, InputFileError
from calandria.base.results import Fact, Result
from calandria.base.volumes import Labelled
from calandria.calendering.results import SECTION as FILMS
from calandria.report.gather import reader_of, rows_of
from calandria.report.results import published_table
from tests.helpers.reporting import (
    METRICS,
    best,
    evaluation,
    frame_rows,
    made,
    metric_row,
    phases_record,
    rows_by,
    series_record,
    solution,
    source_files,
    split_record,
    transport_rows,
)
from tests.helpers.series import pressed_film


def read(folder, source, nanoporosity=0.47):
    rows = list(rows_of(source, folder, nanoporosity))
    return [row for row in rows if isinstance(row, Result)], {
        (row.fact, row.item): row.text for row in rows if isinstance(row, Fact)
    }


def image(label_map="0=pore 1=cbd 2=am", **attributes):
    film = pressed_film()
    return Labelled(film.labels[0], 0.5, (False, False, False), "made", {}, {"label_map": label_map, **attributes})


def series(**attributes):
    film = pressed_film()
    losses = {
        "overlap_loss_cbd": np.zeros(9),
        "overlap_loss_am": np.linspace(0, 0.25, 9),
        "cut_loss": np.full(9, 0.01),
        "grown_cbd": np.full(9, 0.3),
    }
    return Labelled(film.labels, 0.5, film.periodic, "made", film.frames | losses, film.attributes | attributes)


def test_a_sample_has_both_porosities_and_says_what_the_total_assumes(tmp_path):
    source = source_files(
        tmp_path, "tomography", "phases", {"record": phases_record(), "volume": image(state="calendered")}, sample="one"
    )
    rows, facts = read(tmp_path, source, 0.5)
    found = rows_by(rows, "quantity", "phase")
    assert found["porosity_free", ""].value == 0.5 and found["porosity_total", ""].value == pytest.approx(0.5 + 0.2 * 0.5)
    assert "assumes that 0.5 of the binder domain is pore" in found["porosity_total", ""].note
    assert found["phase_fraction", "cbd"].value == 0.2 and found["thickness", ""].unit == "um"
    assert facts == {("state", ""): "calendered"}
    row = found["thickness", ""]
    assert (row.sample, row.stage, row.rule, row.file) == (
        "one",
        "tomography",
        "a_rule",
        "tomography/tomography_phases_one_record.json",
    )
    assert len(row.digest) == 64


def test_a_phase_that_no_label_names_is_unknown_and_so_is_the_total_porosity(tmp_path):
    source = source_files(
        tmp_path, "tomography", "phases", {"record": phases_record(), "volume": image("0=pore 2=am")}, sample="one"
    )
    found = rows_by(read(tmp_path, source)[0], "quantity", "phase")
    assert found["phase_fraction", "cbd"].value is None and "not resolved" in found["phase_fraction", "cbd"].note
    assert found["porosity_total", ""].value is None and "not known" in found["porosity_total", ""].note
    assert found["porosity_free", ""].value == 0.5 and found["phase_fraction", "am"].value == 0.3


def test_a_solved_volume_has_numbers_and_evidence(tmp_path):
    files = {"record": solution(), "volume": image()}
    source = source_files(tmp_path, "transport", "volume", files, sample="one", case="pore_cbd", axis="z")
    rows, facts = read(tmp_path, source)
    found = rows_by(rows, "quantity")
    assert found["tortuosity_factor"].value == 1.6 and found["effective_diffusivity"].value == 1e-10
    assert found["connected_share"].value == pytest.approx(0.75) and found["error_estimate"].value == 2e-6
    assert {(row.sample, row.case, row.axis) for row in rows} == {("one", "pore_cbd", "z")}
    assert facts["conducting phases", ""] == "pore 1, cbd 1" and facts["sides", ""] == "x no-flux, y no-flux"


def test_a_blocked_volume_has_no_factor_and_says_why(tmp_path):
    blocked = solution(percolates=False, relative_diffusivity=0.0, tortuosity_factor=None, conducting_fraction=0.0)
    source = source_files(tmp_path, "transport", "volume", {"record": blocked, "volume": image("0=pore 2=am")}, sample="one")
    found = rows_by(read(tmp_path, source)[0], "quantity")
    assert found["tortuosity_factor"].value is None and found["relative_diffusivity"].value == 0
    assert "blocked" in found["tortuosity_factor"].note and "cbd is not resolved" in found["tortuosity_factor"].note
    assert found["connected_share"].value is None and found["error_estimate"].value is None


def film(tmp_path, thickness=(10.0, 8.0, 9.0), attributes=None, **facts):
    files = {"table": (frame_rows(list(thickness)), series_record(**facts)), "series": series(**(attributes or {}))}
    return source_files(tmp_path, "transport", "frames", files, film="f1", degree_percent=20)


def test_a_film_has_its_first_thinnest_and_last_frame_and_every_frame(tmp_path):
    rows, _ = read(tmp_path, film(tmp_path))
    whole = rows_by([row for row in rows if not row.of_frames], "quantity", "moment", "phase")
    assert whole["compression_degree", "", ""].value == pytest.approx(0.2) and whole["frames", "", ""].value == 3
    assert whole["spring_back", "", ""].value == pytest.approx(0.125)
    assert [whole["thickness", when, ""].value for when in ("first", "thinnest", "last")] == [10, 8, 9]
    assert [whole["porosity_free", when, ""].value for when in ("first", "thinnest", "last")] == [0.5, 0.4, 0.3]
    assert whole["porosity_total", "last", ""].value == pytest.approx(0.3 + 0.2 * 0.47)
    assert whole["contact_area", "last", "pore_am"].value == 3 and whole["contact_area", "last", "pore_am"].unit == "um2"
    assert whole["phase_fraction", "first", "am"].value == pytest.approx(0.3)
    frames = rows_by([row for row in rows if row.of_frames], "quantity", "frame", "phase")
    assert [frames["porosity_free", number, ""].value for number in range(3)] == [0.5, 0.4, 0.3]
    assert {(row.film, row.degree_percent) for row in rows} == {("f1", 20)}


def test_the_press_may_turn_between_two_frames(tmp_path):
    found = rows_by(
        [row for row in read(tmp_path, film(tmp_path, lowest_thickness_um=7.5))[0] if not row.of_frames],
        "quantity",
        "moment",
        "phase",
    )
    assert found["thickness", "thinnest", ""].value == 7.5 and found["compression_degree", "", ""].value == pytest.approx(0.25)


def test_what_the_label_alone_says_is_marked(tmp_path):
    source = film(tmp_path, attributes={"deepest_compression_degree_source": "label"})
    notes = {row.quantity: row.note for row in read(tmp_path, source)[0] if not row.of_frames and row.moment in ("", "thinnest")}
    assert (
        all("by label" in notes[name] for name in ("compression_degree", "spring_back", "thickness"))
        and not notes["porosity_free"]
    )


def test_the_transport_of_a_film_has_first_and_last_frame_and_every_frame(tmp_path):
    files = {"table": (transport_rows(), series_record())}
    rows, _ = read(
        tmp_path, source_files(tmp_path, "transport", "series", files, film="f1", degree_percent=20, case="pore", axis="z")
    )
    whole = rows_by([row for row in rows if not row.of_frames], "quantity", "moment")
    assert whole["effective_diffusivity", "first"].value == 1e-10 and whole["tortuosity_factor", "first"].value == 1.5
    assert whole["tortuosity_factor", "last"].value is None and "blocked" in whole["tortuosity_factor", "last"].note
    assert len([row for row in rows if row.of_frames]) == 3 * 3 and {row.case for row in rows} == {"pore"}


def test_how_a_run_was_read_and_voxelized(tmp_path):
    attributes = {
        "press_is_estimated": True,
        "deepest_compression_degree_source": "label",
        "time_source": "settings: frame_interval_us",
    }
    measured = made("transport", inputs_sha256={"true": "d1" * 32})
    files = {"series": series(**attributes, box_misfit=1e-12), "measured": measured}
    rows, facts = read(tmp_path, source_files(tmp_path, "calendering", "series", files, film="f1", degree_percent=20))
    found = rows_by(rows, "quantity", "phase")
    assert found["voxel_edge", ""].value == 0.5 and found["box_stretch", ""].value == 0, "rounding is no stretch"
    assert found["overlap_loss", "am"].value == 0.25 and found["cut_loss", ""].value == pytest.approx(0.01)
    assert found["grown", "cbd"].value == pytest.approx(0.3) and ("grown", "am") not in found
    assert facts["solid volume", ""] == "lost in overlaps" and ("volume missing", "") not in facts
    assert facts["press", ""].startswith("estimated, as deep as") and facts["times from", ""] == "settings: frame_interval_us"
    assert {row.digest for row in rows} == {"d1" * 32}, "the record of measure_frames has the digest of the series"


def test_frames_whose_pores_are_full_are_a_warning(tmp_path):
    attributes = {"conserve_volume": True, "volume_missing": "CBD lacks up to 20.0 % of its volume in 1 of 9 frames"}
    files = {"series": series(**attributes), "measured": made("transport", inputs_sha256={"true": "d1" * 32})}
    rows = list(rows_of(source_files(tmp_path, "calendering", "series", files, film="f1", degree_percent=50), tmp_path, 0.47))
    facts = [row for row in rows if isinstance(row, Fact)]
    assert [row.text for row in facts if row.fact == "solid volume"] == ["conserved"]
    assert "Pores full: f1 at 50 % (CBD lacks up to 20.0 %" in FILMS.warning(facts)
    assert FILMS.warning([row for row in facts if row.fact != "volume missing"]) == ""


def surrogate(tmp_path, rows=METRICS, leaking=False, degree=20):
    kept = [row for row in rows if row["compression_degree_percent"] == str(degree)]
    files = {"table": (kept, made("surrogate")), "split": split_record(leaking)}
    return source_files(tmp_path, "surrogate", "metrics", files, film="f3", degree_percent=degree)


def test_predictions_have_means_over_frames_worst_and_last_frame(tmp_path):
    rows, facts = read(tmp_path, surrogate(tmp_path))
    whole = rows_by([row for row in rows if not row.of_frames], "quantity", "predictor", "mode", "moment", "phase", "case")
    key = ("copy", "rollout", "", "", "")
    assert whole["r2_with_void", *key].value == pytest.approx(0.9) and whole["r2_with_void", *key].n == 2
    assert whole["r2_with_void_worst", *key].value == 0.8 and whole["r2_film", *key].n == 1, "an empty cell is no number"
    assert whole["porosity_free_relative_error", *key].value == pytest.approx((0.1 + 0.15) / 2)
    last = whole["porosity_free", "copy", "rollout", "last", "", ""]
    assert (last.value, last.reference, last.reference_source) == (pytest.approx(0.34), 0.4, "true frame")
    assert whole["tortuosity_factor", "copy", "rollout", "last", "", "pore"].axis == "z"
    assert whole["frames_predicted", *key].value == 2 and whole["frames_given", *key].value == 3
    assert {row.leaking for row in rows} == {False} and facts == {}
    assert not [row for row in rows if row.moment and row.quantity.endswith("_relative_error")], (
        "a mean over rows counts no frame twice"
    )


def test_total_porosity_of_predictions_follows_from_their_voxels(tmp_path):
    rows, _ = read(tmp_path, surrogate(tmp_path))
    (last,) = [
        row
        for row in rows
        if (row.quantity, row.predictor, row.mode, row.moment) == ("porosity_total", "copy", "rollout", "last")
    ]
    pore, cbd, am = 50 * 0.85, 20 * 0.85, 31
    assert last.value == pytest.approx((pore + 0.47 * cbd) / (pore + cbd + am)) and last.reference == pytest.approx(
        0.5 + 0.2 * 0.47
    )


def test_a_blocked_frame_is_left_out_of_the_mean_of_errors(tmp_path):
    rows = [metric_row("f3", 20, "rollout", "copy", frame, 0.9) for frame in (3, 4)]
    rows[1]["tortuosity_factor_pore_z_predicted"] = ""
    found, _ = read(tmp_path, surrogate(tmp_path, rows))
    (mean,) = [row for row in found if row.quantity == "tortuosity_factor_relative_error" and not row.of_frames]
    assert mean.n == 1 and mean.value == pytest.approx(0.1)
    (last,) = [row for row in found if row.quantity == "tortuosity_factor" and row.moment == "last"]
    assert last.value is None and "blocked" in last.note and last.reference == 1.5


def test_thickness_that_is_counted_from_voxels_says_so(tmp_path):
    rows = [{**row, "predictor": "paper", "thickness_source": "voxels"} for row in METRICS if row["predictor"] == "copy"]
    found, _ = read(tmp_path, surrogate(tmp_path, rows))
    assert all("whole slices" in row.note for row in found if row.quantity == "thickness")


def test_a_leaking_run_says_so_in_each_row_and_why_once(tmp_path):
    rows = [{**row, "leaking": "true"} for row in METRICS]
    found, facts = read(tmp_path, surrogate(tmp_path, rows, leaking=True))
    assert {row.leaking for row in found} == {True} and "is used for train" in facts["leaking because", ""]
    unknown, _ = read(tmp_path, surrogate(tmp_path, [{**row, "leaking": ""} for row in METRICS]))
    assert {row.leaking for row in unknown} == {True}, "a run of which nothing is known counts as leaking"


def test_predictors_are_explained(tmp_path):
    words = {"copy": {"sentence": "repeats", "sort": "baseline"}}
    source = source_files(tmp_path, "surrogate", "predictors", {"split": split_record()})
    rows = list(rows_of(replace(source, keys={"predictors": words, "frames_given": 3, "not_searched": ["net"]}), tmp_path, 0.47))
    assert [(row.fact, row.predictor, row.text) for row in rows] == [
        ("predictor", "copy", "repeats"),
        ("sort of predictor", "copy", "baseline"),
        ("no search", "net", "its hyper-parameters are those of the settings"),
        ("frames given", "", "3"),
    ]


def test_an_auto_encoder_has_errors_baselines_tests_and_intervals(tmp_path):
    files = {"record": evaluation()}
    source = source_files(tmp_path, "autoencoder", "evaluation", files, case="c", window=4, stride=2, searched=False)
    rows, facts = read(tmp_path, source)
    found = rows_by(rows, "quantity", "part")
    assert found["reconstruction_mse", "train"].value == 0.1 and found["reconstruction_mse", "validation"].value == 0.2
    assert found["linear_mse", "validation"].value == 0.3 and found["mean_predictor_mse", "validation"].value == 0.5
    difference = found["mse_difference", ""]
    assert (difference.value, difference.low, difference.high) == (0.1, 0.05, 0.15) and difference.note == "bootstrap"
    assert found["mini_volumes", "validation"].value == 2 and {(row.case, row.window, row.stride) for row in rows} == {
        ("c", 4, 2)
    }
    assert facts["split", ""] == "blocks" and ("no search", "") in facts and {row.leaking for row in rows} == {False}


def test_a_leaking_auto_encoder_and_a_tiny_p_value_say_so(tmp_path):
    record = evaluation("random", True)
    record["train"]["p_value_mean"] = 0.0
    rows, facts = read(tmp_path, source_files(tmp_path, "autoencoder", "evaluation", {"record": record}, case="c"))
    found = rows_by(rows, "quantity", "part")
    assert {row.leaking for row in rows} == {True} and "share slices" in facts["leaking because", ""]
    assert (
        "below 1e-300" in found["mean_shift_p_value", "train"].note
        and "below" not in found["mean_shift_p_value", "validation"].note
    )


@pytest.mark.parametrize("stage", ["surrogate", "autoencoder"])
def test_a_search_counts_its_trials_and_names_the_best(tmp_path, stage):
    rows, facts = read(tmp_path, source_files(tmp_path, stage, "search", {"best": best()}, case="c"))
    found = rows_by(rows, "quantity")
    assert [found[f"trials_{state}"].value for state in ("complete", "pruned", "failed")] == [3, 2, 1]
    assert found["best_loss"].value == 0.1 and "cross-entropy; trial 3" in found["best_loss"].note
    assert facts["best parameter", "activation"] == "mish" and facts["best parameter", "dropout"] == "0.1"


def test_published_numbers_are_references_without_a_value(tmp_path):
    for kind, quantity in (
        ("published_autoencoder", "reconstruction_mse"),
        ("published_contacts", "contact_faces_relative_error"),
    ):
        rows, _ = read(tmp_path, source_files(tmp_path, "report", kind, {}))
        assert rows and all(row.value is None and row.quantity == quantity and row.reference is not None for row in rows)
        assert all(row.reference_source and row.note.startswith("printed") and row.rule == "" for row in rows)
    assert rows[0].reference == 0.0801, "with the digits that are printed"


def test_published_tables_are_part_of_the_package():
    assert {row["state"] for row in published_table("cathodes_nmc532")} == {"CAL", "UNCAL"}


def test_a_table_of_another_record_is_refused(tmp_path):
    source = film(tmp_path)
    path = tmp_path / source.files["table"].removeprefix("<results>/")
    path.write_text(path.read_text().replace("10.0", "11.0"))
    with pytest.raises(InputFileError, match="is not the record of the table"):
        list(rows_of(source, tmp_path, 0.47))


def test_a_kind_without_reader_and_a_missing_file_are_two_lines(tmp_path):
    source = film(tmp_path)
    with pytest.raises(ContractError, match="has no reader of the kind 'shape'"):
        reader_of(replace(source, kind="shape"))
    (tmp_path / source.files["table"].removeprefix("<results>/")).unlink()
    with pytest.raises(InputFileError, match="does not exist"):
        list(rows_of(source, tmp_path, 0.47))


def test_numbers_that_are_not_there_stay_away(tmp_path):
    rows = frame_rows([10.0, 8.0])
    for row in rows:
        row.update(pore_voxels="0", cbd_voxels="0", am_voxels="0", porosity_free="")
    source = source_files(
        tmp_path, "transport", "frames", {"table": (rows, series_record()), "series": series()}, film="f", degree_percent=1
    )
    found = [row for row in read(tmp_path, source)[0] if row.quantity in ("porosity_free", "porosity_total", "phase_fraction")]
    assert found and all(row.value is None for row in found) and not any(math.isnan(row.value or 0) for row in found)
