"""calandria trace: file, rule, program, settings of a number."""

import json

import pytest

from calandria.base.errors import InputFileError, SettingsError
from calandria.base.records import file_digest, write_json, write_recorded_table
from calandria.base.results import FilmMeans, Result, TableWriter
from calandria.base.volumes import Labelled, write_labelled
from calandria.cli.main import main
from tests.helpers.series import pressed_film

RECORD = {
    "stage": "transport",
    "rule": "measure_frames",
    "version": 7,
    "settings": {"settings": {"tolerance": 0.01}},
    "inputs_sha256": {"true": "cafe"},
    "seed": None,
    "software": {"python": "3.11"},
    "image": None,
}


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "results/mine"
    file = "transport/calendering/f1/cd20/frames.csv"
    write_recorded_table(folder / file, [{"frame": 0}], ["frame"], RECORD)
    write_json(folder / "tomography/one/phases.json", {"porosity_free": 0.5, "provenance": {**RECORD, "rule": "measure_phases"}})
    keys = {"stage": "transport", "rule": "measure_frames", "file": file, "digest": file_digest(folder / file)}
    sample = folder / "tomography/one/phases.json"
    rows = [
        Result(**keys, film="f1", degree_percent=20, moment="last", frame=8, quantity="porosity_free", value=0.25, note="a note"),
        Result(**keys, film="f1", degree_percent=35, moment="last", frame=9, quantity="porosity_free", value=0.2),
        Result(
            stage="transport",
            rule="tabulate_results",
            quantity="porosity_free",
            degree_percent=20,
            value=0.25,
            n=2,
            low=0.2,
            high=0.3,
            note=FilmMeans.NOTE,
        ),
        Result(
            stage="tomography",
            sample="one",
            quantity="porosity_free",
            value=0.5,
            reference=0.6,
            reference_source="A",
            rule="measure_phases",
            file="tomography/one/phases.json",
            digest=file_digest(sample),
        ),
        Result(
            stage="surrogate",
            film="e",
            predictor="published",
            quantity="contact_faces_relative_error",
            value=None,
            file="calandria/report/x.csv",
        ),
    ]
    with (
        TableWriter(folder / "report/results.csv") as table,
        TableWriter(parquet_path=folder / "report/frames.parquet") as frames,
    ):
        for row in rows:
            table.write(row)
        for frame in range(9):
            frames.write(
                Result(**keys, film="f1", degree_percent=20, frame=frame, quantity="porosity_free", value=0.5 - frame / 100)
            )
    return folder


def traced(capsys, *words):
    main(["trace", *map(str, words)])
    return capsys.readouterr().out


def test_a_number_is_traced_to_file_rule_program_settings_inputs_and_software(study, capsys):
    text = traced(capsys, "porosity_free", "--film", "f1", "--degree", 20, "--moment", "last", study)
    assert text.startswith("porosity_free of film f1, degree_percent 20, frame 8, moment last: 0.25\n")
    assert "transport/calendering/f1/cd20/frames.csv (unchanged; SHA-256 " in text and "a note" in text
    assert "measure_frames, version 7" in text and "workflow_scripts/transport/measure_frames.py" in text
    assert '"tolerance": 0.01' in text and '"true": "cafe"' in text and '"python": "3.11"' in text


def test_a_number_of_a_sample_is_traced_to_its_record_with_its_reference(study, capsys):
    text = traced(capsys, "porosity free", study, "--sample", "one")
    assert "measure_phases, version 7" in text and "reference  0.6: A" in text


def test_a_changed_file_is_reported(study, capsys):
    path = study / "tomography/one/phases.json"
    path.write_text(path.read_text() + "\n")
    assert "CHANGED since the tables were made" in traced(capsys, "porosity_free", study, "--sample", "one")


def test_a_frame_is_found_in_the_table_of_frames(study, capsys):
    (found,) = json.loads(traced(capsys, "porosity_free", study, "--film", "f1", "--frame", 3, "--json"))
    assert (
        found["value"] == pytest.approx(0.47)
        and found["frame"] == 3
        and found["unchanged"]
        and found["provenance"]["version"] == 7
    )


def test_a_mean_names_no_file_and_a_published_number_none_of_the_study(study, capsys):
    text = traced(capsys, "porosity_free", study, "--degree", 20, "--stage", "transport")
    assert "it is formed from rows of results.csv" in text and "0.2 to 0.3, n 2" in text
    text = traced(capsys, "contact_faces_relative_error", study)
    assert "does not exist" in text and "not in the study's folder" in text and "rule" not in text


def test_more_numbers_than_wanted_are_counted(study, capsys):
    assert "3 more numbers match; choose by options, or raise --most" in traced(capsys, "porosity_free", study, "--most", 1)


def test_a_number_of_a_volume_is_traced_to_its_attributes(study, capsys):
    film = pressed_film()
    path = study / "calendering/f1/cd20/frames.zarr.zip"
    write_labelled(
        path,
        Labelled(film.labels, 0.5, film.periodic, "made", film.frames, {"provenance": {**RECORD, "rule": "voxelize_frames"}}),
    )
    with TableWriter(study / "report/results.csv") as table:
        about = {"rule": "voxelize_frames", "file": "calendering/f1/cd20/frames.zarr.zip", "digest": file_digest(path)}
        table.write(Result(stage="calendering", film="f1", quantity="voxel_edge", value=0.5, **about))
    text = traced(capsys, "voxel_edge", study)
    assert "0.5 um" in text and "voxelize_frames, version 7" in text and "(unchanged" in text


@pytest.mark.parametrize(
    ("words", "error", "what"),
    [
        (["porosty", "results"], SettingsError, "quantity 'porosty' is unknown"),
        (["thickness", "STUDY", "--film", "f1"], InputFileError, "no thickness of film f1 is in"),
        (["thickness", "gone"], InputFileError, "table of results .* does not exist"),
    ],
)
def test_what_cannot_be_traced_is_said_in_two_lines(study, words, error, what):
    with pytest.raises(error, match=what):
        main(["trace", *(str(study) if word == "STUDY" else word for word in words)])
