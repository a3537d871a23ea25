"""From sources to tables and page, by the programs; in bounded memory and size however many films there are."""

import re

import pandas
import pyarrow.parquet
import pytest

from calandria.base.records import write_json
from calandria.base.results import Result, TableWriter, read_facts, read_results
from calandria.base.stage import Source
from calandria.report import gather as gathering
from calandria.report.gather import Outputs, gather
from tests.helpers.reporting import (
    METRICS,
    best,
    evaluation,
    frame_rows,
    made,
    phases_record,
    series_record,
    solution,
    source_files,
    split_record,
    transport_rows,
)
from tests.unit.report.test_report_readers import image, series
from workflow_scripts.report import tabulate_results, write_page

ERRORS = ["predictor", "mode", "degree_percent"]
SECTIONS = ["calendering", "tomography", "transport", "surrogate", "autoencoder"]


def outputs(folder):
    return Outputs(folder / "results.csv", folder / "results.parquet", folder / "frames.parquet", folder / "facts.csv")


def small_study(folder):
    """Write files of every kind and return the sources in plain form, as a settings file has them."""
    run = {"film": "f3", "degree_percent": 20}
    split = split_record()
    found = [
        source_files(
            folder, "tomography", "phases", {"record": phases_record(), "volume": image(state="calendered")}, sample="one"
        ),
        source_files(
            folder, "transport", "volume", {"record": solution(), "volume": image()}, sample="one", case="pore_cbd", axis="z"
        ),
        source_files(
            folder, "transport", "frames", {"table": (frame_rows([10.0, 8.0, 9.0]), series_record()), "series": series()}, **run
        ),
        source_files(folder, "transport", "series", {"table": (transport_rows(), series_record())}, **run, case="pore", axis="z"),
        source_files(
            folder, "calendering", "series", {"series": series(), "measured": made("t", inputs_sha256={"true": "d1"})}, **run
        ),
        source_files(folder, "autoencoder", "evaluation", {"record": evaluation()}, case="c", window=4, stride=2),
        source_files(folder, "autoencoder", "search", {"best": best()}, case="c"),
        source_files(folder, "report", "published_contacts", {}),
    ]
    for degree in (20, 35):
        rows = [row for row in METRICS if row["compression_degree_percent"] == str(degree)]
        files = {"table": (rows, made("surrogate")), "split": split}
        found.append(source_files(folder, "surrogate", "metrics", files, film="f3", degree_percent=degree))
    return [{"stage": s.stage, "kind": s.kind, "rule": s.rule, "files": dict(s.files), "keys": dict(s.keys)} for s in found]


def tabulate(folder, **given):
    write_json(folder / "tables.json", {"settings": {"cbd_nanoporosity": 0.5}, **given})
    words = ["--settings", str(folder / "tables.json"), "--folder", str(folder)]
    for name, file in (
        ("csv", "results.csv"),
        ("parquet", "results.parquet"),
        ("frames", "frames.parquet"),
        ("facts", "facts.csv"),
    ):
        words += [f"--output-{name}", str(folder / "report" / file)]
    tabulate_results.main(words)
    return folder / "report"


def show(folder, **given):
    write_json(
        folder / "page.json",
        {"settings": {"significant_digits": 3}, "title": "A <study>", "sections": SECTIONS, "figures": [], **given},
    )
    report = folder / "report"
    words = ["--settings", str(folder / "page.json"), "--folder", str(folder), "--results", str(report / "results.csv")]
    words += [
        "--facts",
        str(report / "facts.csv"),
        "--output",
        str(report / "index.html"),
        "--output-markdown",
        str(report / "results.md"),
    ]
    write_page.main(words)
    return (report / "index.html").read_text()


def test_programs_end_to_end(tmp_path, capsys):
    references = [
        {"line": 2, "quantity": "porosity_free", "value": 0.368, "unit": "", "source": "A 2020", "keys": {"sample": "one"}},
        {"line": 3, "quantity": "thickness", "value": 1.0, "unit": "um", "source": "B", "keys": {"sample": "two"}},
    ]
    report = tabulate(tmp_path, sources=small_study(tmp_path), references=references)
    told = capsys.readouterr().err
    assert (
        "warning: row 3 of the sheet of references matches no number: thickness (sample two): 1 um" in told and "hint: " in told
    )
    rows = list(read_results(report / "results.csv"))
    assert {row.stage for row in rows} == set(SECTIONS)
    for row in rows:
        if row.file and not row.file.startswith("calandria/"):
            assert (tmp_path / row.file).exists() and row.rule and row.digest, "each number names its rule, file and digest"
    (porosity,) = [row for row in rows if (row.sample, row.quantity) == ("one", "porosity_free")]
    assert (porosity.value, porosity.reference, porosity.reference_source) == (0.5, 0.368, "A 2020")
    (total,) = [row for row in rows if (row.sample, row.quantity) == ("one", "porosity_total")]
    assert total.value == pytest.approx(0.6), "with the nanoporosity of the settings"
    assert ("reference without a number", "row 3") in {(fact.fact, fact.item) for fact in read_facts(report / "facts.csv")}

    (tmp_path / "figure.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    figure = {"path": "<results>/figure.png", "section": "autoencoder", "caption": "How it <went>."}
    text = show(tmp_path, figures=[figure])
    assert all(f'<section id="{section}">' in text for section in SECTIONS) and "0.5 [0.368]" in text
    assert "Reference of row 3 matches no number" in text and "How it &lt;went&gt;." in text and "A &lt;study&gt;" in text
    assert (report / "results.md").read_text().startswith("# A <study>")


def test_one_line_of_pandas_gives_the_mean_relative_error_per_predictor_mode_and_degree(tmp_path):
    report = tabulate(tmp_path, sources=small_study(tmp_path))
    r = pandas.read_csv(report / "results.csv")
    found = r[r.quantity == "porosity_free_relative_error"].groupby(ERRORS).value.mean()
    assert set(found.index) == {(p, m, d) for p in ("copy", "model") for m in ("one_step", "rollout") for d in (20, 35)}
    assert found["copy", "rollout", 20] == pytest.approx((0.1 + 0.15) / 2)


def test_equal_files_give_equal_bytes(tmp_path):
    sources = small_study(tmp_path)
    first = {path.name: path.read_bytes() for path in tabulate(tmp_path, sources=sources).iterdir()}
    show(tmp_path)
    page = (tmp_path / "report/index.html").read_bytes()
    assert {name: (tabulate(tmp_path, sources=sources) / name).read_bytes() for name in first} == first
    show(tmp_path)
    assert (tmp_path / "report/index.html").read_bytes() == page


def test_replicates_are_no_films_of_their_own(tmp_path):
    sources = []
    for film, porosity in (("a", 0.4), ("b", 0.6), ("again", 0.9)):
        keys = {"film": film, "degree_percent": 20} | ({"replicate_of": "b"} if film == "again" else {})
        rows = [{**row, "porosity_free": str(porosity)} for row in frame_rows([10.0, 9.0])]
        sources.append(
            source_files(tmp_path, "transport", "frames", {"table": (rows, series_record()), "series": series()}, **keys)
        )
    gather(sources, tmp_path, outputs(tmp_path), cbd_nanoporosity=0.47)
    rows = [row for row in read_results(tmp_path / "results.csv") if (row.quantity, row.moment) == ("porosity_free", "last")]
    assert [row.film for row in rows] == ["a", "b", "again", ""] and (rows[-1].value, rows[-1].n) == (pytest.approx(0.5), 2)


FILMS, DEGREES, FRAMES = 2000, (20, 25, 30, 35, 40, 45, 50), 2


def generated(source):
    """Rows of a run, made from nothing: of each kind that a real one has, but fewer frames, axes and phases."""
    keys = dict(source.keys)
    file = f"transport/calendering/{keys['film']}/cd{keys['degree_percent']}/frames.csv"
    about = {
        "stage": "transport",
        **keys,
        "rule": source.rule,
        "file": file,
        "digest": "ab" * 32,
        "value": len(keys["film"]) / 10,
    }
    for frame in range(FRAMES):
        yield Result(**about, frame=frame, quantity="porosity_free")
    for quantity in ("thickness", "porosity_free"):
        yield Result(**about, moment="last", frame=1, quantity=quantity)
    yield Result(**about, moment="last", frame=1, quantity="contact_area", phase="pore_am")
    yield Result(**about, moment="last", frame=1, quantity="tortuosity_factor", case="pore", axis="z")


@pytest.mark.slow
def test_two_thousand_films_make_a_page_that_opens(tmp_path, monkeypatch):
    monkeypatch.setattr(gathering, "rows_of", lambda source, folder, cbd_nanoporosity: generated(source))
    sources = (
        Source("transport", "frames", "measure_frames", {}, {"film": f"film_{film}", "degree_percent": degree})
        for film in range(FILMS)
        for degree in DEGREES
    )
    report, runs = tmp_path / "report", FILMS * len(DEGREES)
    report.mkdir()
    gather(sources, tmp_path, outputs(report), cbd_nanoporosity=0.47)
    text = show(tmp_path)
    assert pyarrow.parquet.ParquetFile(report / "frames.parquet").metadata.num_rows == runs * FRAMES
    assert pyarrow.parquet.ParquetFile(report / "results.parquet").metadata.num_rows == (runs + len(DEGREES)) * 4
    assert len(text) < 3e6 and max(text.count("<tr>", *part) for part in tables(text)) == 1001, "1,000 lines and a header"
    assert f"{runs - 1000} more lines are left out here" in text and "results.csv" in text
    assert f"n {FILMS}" in text, "means over films come first"


def tables(text):
    return [(found.start(), found.end()) for found in re.finditer(r"<table>.*?</table>", text, re.DOTALL)]


def test_a_writer_without_rows_still_makes_both_tables(tmp_path):
    with TableWriter(tmp_path / "r.csv", tmp_path / "r.parquet"):
        pass
    assert list(read_results(tmp_path / "r.csv")) == [] and pandas.read_parquet(tmp_path / "r.parquet").empty
