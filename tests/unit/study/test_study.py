import json
import os
import re

import pytest

from calandria.base.errors import InputFileError, SettingsError
from calandria.base.inputs import write_inputs
from calandria.base.records import file_digest
from calandria.base.stage import read_given, write_contents
from calandria.report.gather import reader_of
from calandria.study.stages import RULES, STAGES
from calandria.study.study import read_study, schema_text
from calandria.surrogate.stage import prediction_files, predictors

FILMS = "film\tseed\treplicate_of\nf1\t1\t\nf2\t2\t\nf3\t3\t\nf3_again\t4\tf3\n"
RUNS = "film\tcompression_degree_percent\tdumps\tpress\tlength_unit_um\nmine\t30\tdumps/*.dump\tpress.csv\t1e6\nmine\t20\tdumps\t\t\n"
SAMPLES = "sample\tpath\tvoxel_edge_um\tlabels\none\tone.tif\t0.4\t0=pore 1=am 2=cbd\n"


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Return a reader of studies whose sheets lie in the working directory; sections are given over the defaults."""
    monkeypatch.chdir(tmp_path)

    def read(films=FILMS, runs=None, samples=SAMPLES, **sections):
        content = {"name": "test", "title": "Test", "calendering": {}, "autoencoder": {"cases": {}}}
        for name, text in (("films", films), ("runs", runs)):
            content["calendering"][f"{name}_sheet"] = f"{name}.tsv" if text is not None else None
            if text is not None:
                (tmp_path / f"{name}.tsv").write_text(text)
        (tmp_path / "samples.tsv").write_text(samples)
        content["tomography"] = {"samples_sheet": "samples.tsv"}
        content["surrogate"] = {"split": {"test_films": ["f3"]}}
        return read_study({**content, **sections})

    return read


def mistake(read, **options):
    with pytest.raises(SettingsError) as caught:
        read(**options)
    assert "\n" not in caught.value.message and caught.value.hint
    return caught.value.message


def cases(**named):
    return {"cases": {name: {"samples": samples} for name, samples in named.items()}}


def test_an_unknown_film_of_the_split_is_named_with_the_nearest(study):
    split = {"test_films": ["f33"], "validation_films": ["qq"]}
    message = mistake(study, surrogate={"split": split})
    assert "surrogate.split names film 'f33': did you mean 'f3'?" in message
    assert "surrogate.split names film 'qq': known: f1, f2, f3" in message


def test_a_replicate_is_no_film_to_split(study):
    assert "names film 'f3_again'" in mistake(study, surrogate={"split": {"test_films": ["f3_again"]}})


def test_a_degree_that_is_held_out_must_be_pressed(study):
    held_out = [{"film": "f1", "compression_degrees_percent": [20, 40]}]
    split = {"kind": "degrees", "test_films": ["f3"], "held_out": held_out}
    message = mistake(study, surrogate={"split": split})
    assert "holds out f1 at 40 %, which is never pressed" in message and "at 20 %" not in message


def test_some_film_must_be_left_to_train_on(study):
    split = {"test_films": ["f3"], "validation_films": ["f1", "f2"]}
    assert "surrogate.split leaves no film to train on" in mistake(study, surrogate={"split": split})


def test_a_sample_of_a_case_must_be_in_the_sheet(study):
    message = mistake(study, autoencoder=cases(c=["one"], d=["onee"]))
    assert "autoencoder.cases.d names sample 'onee': did you mean 'one'?" in message and "cases.c" not in message


def test_a_sample_occurs_once(study):
    row = SAMPLES.splitlines()[1]
    assert "sample 'one' occurs twice" in mistake(study, samples=f"{SAMPLES}{row}\n")


def test_a_film_is_made_or_read_but_not_both(study):
    assert "film 'f1' is in the films sheet and in the runs sheet" in mistake(study, runs=RUNS.replace("mine", "f1"))


def test_mistakes_of_the_sheet_of_references_are_among_those_of_the_settings(study, tmp_path):
    (tmp_path / "references.tsv").write_text("quantity\tvalue\tunit\tsource\tsample\nporosity\t0.5\t\tA\tone\n")
    message = mistake(study, report={"references_sheet": "references.tsv"})
    assert "report.references_sheet: references.tsv: line 2: quantity 'porosity' is unknown" in message
    assert "sheet of references 'none.tsv' does not exist" in mistake(study, report={"references_sheet": "none.tsv"})
    (tmp_path / "references.tsv").write_text("quantity\tvalue\tunit\tsource\tsample\nporosity_free\t0.5\t\tA\tone\n")
    found = study(report={"references_sheet": "references.tsv"})
    (reference,) = found.contents([found.settings_file("tabulate_results", {})]).popitem()[1]["references"]
    assert reference == {
        "line": 1,
        "quantity": "porosity_free",
        "value": 0.5,
        "unit": "",
        "source": "A",
        "keys": {"sample": "one"},
    }


def test_every_source_has_a_reader_and_reads_files_that_the_study_makes(study):
    found = study(autoencoder=cases(c=["one"]))
    kinds = {(source.stage, source.kind) for source in found.sources}
    assert {stage for stage, _ in kinds} == {stage.name for stage in STAGES}
    for source in found.sources:
        assert reader_of(source) and set(source.files.values()) <= set(found.artefacts) and source.rule in RULES
    (again,) = {source.keys["replicate_of"] for source in found.sources if source.keys.get("film") == "f3_again"}
    assert again == "f3", "a replicate is marked, so that means over films leave it out"


def test_all_contradictions_are_told_at_once(study):
    message = mistake(
        study,
        runs=RUNS.replace("mine", "f1"),
        autoencoder=cases(c=["two"]),
        surrogate={"split": {"test_films": ["f9"]}},
    )
    assert all(part in message for part in ("'f1' is in the films sheet", "sample 'two'", "film 'f9'"))


@pytest.mark.parametrize(
    ("films", "match"),
    [
        (FILMS + "f1\t9\t\n", "film 'f1' occurs twice"),
        (FILMS + "f4\t9\tf9\n", "film 'f4' replicates 'f9'"),
        (FILMS + "f4\t9\tf3_again\n", "film 'f4' replicates 'f3_again'"),
        (FILMS + "F4\t9\t\n", "line 6: film"),
        (FILMS.replace("f1\t1", "f1\t-1"), "line 2: seed"),
    ],
)
def test_films_sheet(study, films, match):
    assert match in mistake(study, films=films)


def test_a_run_occurs_once(study):
    assert "mine at 20 % occurs twice" in mistake(study, films=None, runs=RUNS + "mine\t20\tdumps\t\t\n")


def test_settings_of_all_sections_are_checked_together(study):
    message = mistake(study, report={"figure_dpi": 1}, transport={"toleranc": 1})
    assert "report.figure_dpi" in message and "transport.toleranc is unknown (did you mean 'tolerance'?)" in message


def test_a_lag_window_longer_than_the_shortest_series_is_refused(study):
    assert "needs more than 14 frames" in mistake(study, surrogate={"lag_window": 14, "split": {"test_films": ["f3"]}})
    assert study(surrogate={"lag_window": 13, "split": {"test_films": ["f3"]}}).settings.surrogate.lag_window == 13


def test_what_the_rules_look_up(study):
    found = study(runs=RUNS, autoencoder=cases(c=["one"]))
    assert found.packed_films == ["f1", "f2", "f3"] and found.replicates == ["f3_again"]
    assert found.surrogate_films == ["f1", "f2", "f3", "mine"]
    assert found.degrees("f1") == [20, 35, 50] and found.degrees("mine") == [20, 30]
    assert len(found.surrogate_runs) == 11 and found.test_runs == [("f3", 20), ("f3", 35), ("f3", 50)]
    assert found.replicate_of("f3") == "f3_again" and found.replicate_of("f1") is None
    assert found.run_overrides("mine", 30) == {"length_unit_um": 1e6} and found.run_overrides("f1", 20) == {}
    assert found.mini_volume_sets == [("c", 16, 2)]
    assert (found.alternatives(["a", "b"]), found.alternatives([])) == ("a|b", "(?!)")


def test_replicates_of_the_users_runs_are_no_training(study):
    header, *lines = RUNS.splitlines()
    again = [line.replace("mine", "again") for line in lines]
    rows = [f"{header}\treplicate_of", *(f"{line}\t" for line in lines), *(f"{line}\tmine" for line in again)]
    found = study(runs="\n".join(rows))
    assert found.replicates == ["f3_again", "again"] and found.surrogate_films == ["f1", "f2", "f3", "mine"]
    assert found.original("again") == "mine" and found.original("f3_again") == "f3" and found.original("mine") is None
    assert found.replicate_of("mine") == "again"
    assert study(runs="\n".join(rows[:-1])).replicate_of("mine") is None  # not pressed to all degrees
    assert "is a replicate in some lines only" in mistake(study, runs="\n".join([*rows[:-1], f"{again[-1]}\t"]))
    assert "film 'again' replicates 'nobody'" in mistake(study, runs="\n".join(rows).replace("\tmine", "\tnobody"))


def test_replicate_is_asked_for_only_where_there_is_one(study):
    found = study(surrogate={"split": {"test_films": ["f3"]}, "predictors": ["copy", "replicate"]})
    assert predictors(found, "f3") == ["copy", "replicate"] and predictors(found, "f1") == ["copy"]
    assert list(prediction_files(found, "f3", 20)) == ["copy:one_step", "copy:rollout", "replicate:rollout"]


def test_held_out_degrees_of_trained_films_are_tested_too(study):
    held_out = [{"film": "f1", "compression_degrees_percent": [35]}]
    found = study(surrogate={"split": {"kind": "degrees", "test_films": ["f3"], "held_out": held_out}})
    assert found.test_runs == [("f1", 35), ("f3", 20), ("f3", 35), ("f3", 50)]


def test_the_stride_window_is_resolved(study):
    case = {"samples": ["one"], "slice_windows": [4, 8], "strides": [1, "window"]}
    found = study(autoencoder={"cases": {"c": case}})
    assert found.mini_volume_sets == [("c", 4, 1), ("c", 4, 4), ("c", 8, 1), ("c", 8, 8)]
    case["strides"] = [4, "window"]
    found = study(autoencoder={"cases": {"c": case}})
    assert found.mini_volume_sets == [("c", 4, 4), ("c", 8, 4), ("c", 8, 8)], "a set is made once, however often it is said"


def token(read):
    return read(films=None, runs=RUNS, surrogate={"split": {"test_films": []}}).inputs_of_run("mine", 30)


def test_the_token_of_a_run_changes_with_the_content_of_its_files_and_not_with_their_times(study, tmp_path):
    absent = token(study)
    (tmp_path / "dumps").mkdir()
    dump, press = tmp_path / "dumps/d1.dump", tmp_path / "press.csv"
    dump.write_text("ITEM: TIMESTEP\n0\n")
    press.write_text("step,z_press\n0,1\n")
    first = token(study)
    assert first != absent and token(study) == first
    record = tmp_path / "results/test/inputs/read_dumps/mine_cd30.json"
    files = {"dumps_0": "dumps/d1.dump", "press": "press.csv"}
    write_inputs(record, first, files, {role: file_digest(path) for role, path in files.items()})
    os.utime(dump, ns=(1, 1))
    assert token(study) == first, "another time, the same content"
    before = dump.stat()
    dump.write_text("ITEM: TIMESTEP\n5\n")
    os.utime(dump, ns=(before.st_atime_ns, before.st_mtime_ns - 10**9))
    changed = token(study)
    assert changed != first, "an older file of the same size and another content"
    write_inputs(record, changed, files, {role: file_digest(path) for role, path in files.items()})
    assert token(study) == changed
    (tmp_path / "dumps/d2.dump").write_text("ITEM: TIMESTEP\n9\n")
    assert token(study) != changed, "one file more"


def test_the_token_of_a_sample_is_that_of_its_image(study, tmp_path):
    (tmp_path / "slices").mkdir()
    for name in ("s1.tif", "s2.tif"):
        (tmp_path / "slices" / name).write_text(name)
    found = [study(samples=SAMPLES.replace("one.tif", "slices")).inputs_of_sample("one") for _ in range(2)]
    (tmp_path / "slices/s2.tif").write_text("other content")
    assert found[0] == found[1] != study(samples=SAMPLES.replace("one.tif", "slices")).inputs_of_sample("one")


def test_a_slice_that_is_replaced_by_an_older_one_of_its_size_is_noticed(study, tmp_path):
    (tmp_path / "slices").mkdir()
    for name in ("s1.tif", "s2.tif"):
        (tmp_path / "slices" / name).write_text(name)
    before = study(samples=SAMPLES.replace("one.tif", "slices")).inputs_of_sample("one")
    (tmp_path / "slices/s1.tif").write_text("S1.TIF")
    os.utime(tmp_path / "slices/s1.tif", ns=(1, 10**18))
    assert study(samples=SAMPLES.replace("one.tif", "slices")).inputs_of_sample("one") != before


def test_what_planning_saw_is_remembered_so_that_a_touched_file_is_read_once(study, tmp_path, monkeypatch):
    (tmp_path / "one.tif").write_text("image")
    record = tmp_path / "results/test/inputs/import_volume/one.json"
    first = study().inputs_of_sample("one")
    write_inputs(record, first, {"source": "one.tif"}, {"source": file_digest(tmp_path / "one.tif")})
    os.utime(tmp_path / "one.tif", ns=(1, 10**18))
    found = study()
    assert found.inputs_of_sample("one") == first
    found.remember_inputs()
    monkeypatch.setattr("calandria.base.inputs.file_digest", lambda path: pytest.fail("read again"))
    assert study().inputs_of_sample("one") == first


def test_the_files_of_a_run_are_part_of_what_read_dumps_is_given(study):
    job = {"film": "mine", "degree": "20"}
    lines = [RUNS, RUNS.replace("20\tdumps\t", "20\tdumps\tpress.csv"), RUNS.replace("20\tdumps", "20\tother")]
    names = {study(films=None, runs=text, surrogate=None).settings_file("read_dumps", job) for text in lines}
    assert len(names) == 3


def test_types_of_particles_with_names_of_unlike_length_are_read_back(study, tmp_path):
    runs = "film\tcompression_degree_percent\tdumps\tphase_of_type\nmine\t20\tdumps\t2:am,10:cbd\n"
    found = study(films=None, runs=runs, surrogate=None)
    path = found.settings_file("read_dumps", {"film": "mine", "degree": "20"})
    write_contents(tmp_path, found.contents([path]))
    stage = RULES["read_dumps"]
    given = read_given(tmp_path / path.rpartition("/")[2], stage.settings, stage.rules, "read_dumps")
    assert given.settings.dumps.phase_of_type == {2: "am", 10: "cbd"}


def test_the_order_in_which_a_case_stacks_its_samples_counts(study):
    sheet = SAMPLES + "two\ttwo.tif\t0.4\t0=pore 1=am 2=cbd\n"
    job = {"case": "c", "window": "16", "stride": "2"}
    rules = ("list_mini_volumes", "train_autoencoder", "encode_mini_volumes", "evaluate_autoencoder")
    one, other = (
        {rule: study(samples=sheet, autoencoder=cases(c=order)).settings_file(rule, job) for rule in rules}
        for order in (["one", "two"], ["two", "one"])
    )
    assert all(one[rule] != other[rule] for rule in rules)


def test_a_settings_file_that_was_edited_is_written_again(study, tmp_path):
    found = study()
    path = found.settings_file("load_film", JOB)
    write_contents(tmp_path, found.contents([path]))
    file = tmp_path / path.rpartition("/")[2]
    before = file.read_text()
    file.write_text("{}")
    write_contents(tmp_path, found.contents([path]))
    assert file.read_text() == before


def test_a_study_without_films_or_without_samples_is_one(study):
    assert study(films=None).surrogate_films == [] and study(samples="sample\tpath\tvoxel_edge_um\n").mini_volume_sets == []


def test_a_study_takes_nothing_of_the_demo(study):
    found = study(surrogate=None, autoencoder=None)
    assert (
        found.test_runs == [] and found.mini_volume_sets == [] and found.settings == study(surrogate={}, autoencoder={}).settings
    )
    assert found.settings.calendering.films_sheet == "films.tsv"
    with pytest.raises(SettingsError, match=r"no sheet has a line; a study names films in calendering\.films_sheet"):
        read_study({"name": "bare", "title": "Bare"})


def test_a_stage_that_is_asked_for_says_on_what_it_works(study):
    assert "surrogate.split names no film to test; name some of f1, f2, f3" in mistake(study, surrogate={"lag_window": 4})
    assert "autoencoder.cases names no case study" in mistake(study, autoencoder={"image_size": 32})
    assert study(surrogate={"lag_window": 4}, films=None).test_runs == []
    one = FILMS[: FILMS.index("f2")]
    assert study(films=one, surrogate=None).surrogate_films == ["f1"], "one film alone is measured, not learned from"


JOB = {"film": "f1", "degree": "20", "sample": "one", "case": "pore", "axis": "z", "window": "16", "stride": "2"}
JOB |= {"network": "press_unet", "predictor": "copy"}
SEARCHED = {
    "surrogate": {
        "split": {"test_films": ["f3"]},
        "networks": {"press_unet": {"kind": "press_unet", "learning": {"search": {}}}},
    },
    "autoencoder": {"cases": {"pore": {"samples": ["one"]}}, "learning": {"search": {}}},
}


def files_of(found):
    """Return the settings file of each rule for one job."""
    return {rule: found.settings_file(rule, JOB) for stage in STAGES for rule in stage.rules}


def test_a_settings_file_is_named_by_its_content_so_that_it_never_holds_other_settings(study):
    before, edited, back = (files_of(study(**SEARCHED, **sections)) for sections in ({}, {"report": {"figure_dpi": 200}}, {}))
    assert [rule for rule in before if before[rule] != edited[rule]] == ["draw_surrogate"]
    assert before == back and len(before) >= 20
    assert re.fullmatch(r"results/test/settings/draw_surrogate-[0-9a-f]{16}\.json", before["draw_surrogate"])


def test_a_program_gets_back_what_the_study_says(study, tmp_path):
    found = study(**SEARCHED)
    paths = files_of(found)
    write_contents(tmp_path, found.contents(paths.values()))
    for rule, path in paths.items():
        stage = RULES[rule]
        given = read_given(tmp_path / path.rpartition("/")[2], stage.settings, stage.rules, rule)
        assert (given.stage, given.rule, given.version) == (stage.name, rule, stage.rules[rule].version)
        for key in stage.rules[rule].keys:
            value, whole = given.settings, getattr(found.settings, stage.name)
            for name in key.split("."):
                value, whole = getattr(value, name), getattr(whole, name)
            assert value == whole


def test_a_setting_that_a_rule_does_not_declare_cannot_be_read(study, tmp_path):
    found = study()
    path = found.settings_file("voxelize_frames", JOB)
    write_contents(tmp_path, found.contents([path]))
    stage = RULES["voxelize_frames"]
    given = read_given(tmp_path / path.rpartition("/")[2], stage.settings, stage.rules, "voxelize_frames")
    assert given.settings.voxels.voxel_edge_um == 0.4
    with pytest.raises(SettingsError, match="the rule voxelize_frames reads the setting 'film' of CalenderingSettings"):
        given.settings.film  # noqa: B018
    with pytest.raises(SettingsError, match="lack 'row'"):
        given["row"]


def test_a_settings_file_that_was_edited_or_is_another_rule_s_is_refused(study, tmp_path):
    found = study()
    stage, path = RULES["load_film"], found.settings_file("load_film", JOB)
    write_contents(tmp_path, found.contents([path]))
    file = tmp_path / path.rpartition("/")[2]
    content = json.loads(file.read_text())
    with pytest.raises(SettingsError, match="was written for the rule load_film; expected dry_film"):
        read_given(file, stage.settings, stage.rules, "dry_film")
    content["settings"]["steps_per_frame"] = 700
    file.write_text(json.dumps(content))
    with pytest.raises(InputFileError, match="has another digest than its name says"):
        read_given(file, stage.settings, stage.rules, "load_film")
    (tmp_path / "mine.json").write_text(json.dumps(content))
    assert read_given(tmp_path / "mine.json", stage.settings, stage.rules, "load_film").settings.steps_per_frame == 700


def test_the_schema_does_not_depend_on_the_run():
    assert schema_text() == schema_text() and '"lag_window"' in schema_text()


def test_a_study_of_many_films_is_checked_without_comparing_each_with_all(study, monkeypatch):
    """Look-ups are by digest: the number of comparisons of names grows as the number of lines does."""
    from calandria.calendering.settings import RunRow
    from calandria.study.study import Study

    class Counted(str):
        comparisons = 0
        __hash__ = str.__hash__

        def __eq__(self, other):
            Counted.comparisons += 1
            return str.__eq__(self, other)

    settings = study().settings

    def comparisons(films):
        runs = []
        for number in range(films):
            name, original = Counted(f"f{number}"), Counted(f"f{number - 1}") if number % 2 else None
            runs.append(
                RunRow.model_construct(film=name, compression_degree_percent=30, dumps="d", press=None, replicate_of=original)
            )
        found = Study(settings, {"films": [], "runs": runs, "samples": []})
        Counted.comparisons = 0
        assert len(found.replicates) == films // 2 and len(found.surrogate_films) == films - films // 2
        assert [found.replicate_of(f"f{number}") for number in range(2)] == ["f1", None]
        assert sum("replicate" in predictors(found, f"f{number}") for number in range(films)) in (0, films // 2)
        return Counted.comparisons

    few, many = comparisons(50), comparisons(400)
    assert many <= 10 * few  # 64 times as many were each compared with all
