"""The page: tables of rows alone, at most 1,000 lines, findings that say first where a simple method wins."""

import re

import pytest

from calandria.base.results import Fact, FilmMeans, Result
from calandria.base.showing import SOME, StageSection, Table
from calandria.report.page import Page, Picture, markdown, plain_section, render
from calandria.study.stages import STAGES
from workflow_scripts.report.write_page import section_of

PNG = b"\x89PNG\r\n\x1a\n"
SIZE = Table(
    "Size",
    {"stage": "calendering", "film": SOME},
    ("film", "degree_percent", "case"),
    ("thickness", "porosity_free"),
    ("moment",),
)


def number(film, value, quantity="thickness", **more):
    base = {"stage": "calendering", "film": film, "degree_percent": 20, "rule": "measure_frames", "file": f"{film}.csv"}
    return Result(**base | more, quantity=quantity, value=value)


def shown_page(rows, sections, facts=(), pictures=None, **options):
    page = Page(sections, 3, **options)
    for row in rows:
        page.add(row)
    context = page.context(facts, pictures or {}) | {"title": "A <study>", "subtitle": "s", "software": "python"}
    return context, render(context)


def one(table=SIZE, **more):
    return {"calendering": StageSection("Films", lambda facts: "All <films>.", (table,), **more)}


def test_keys_run_down_and_quantities_across_with_units_and_origin():
    rows = [number("f1", 9.87654, moment="last"), number("f1", 10.0, moment="first"), number("f2", 8.0, moment="first")]
    rows += [number("f1", 0.5, "porosity_free", moment="first"), number("f1", 1.0, "accuracy"), number("", 3.0, moment="first")]
    context, text = shown_page(rows, one())
    (grid,) = context["parts"][0]["grids"]
    assert grid.header == ["film", "degree / %", "L, first / µm", "L, last / µm", "ε free, first"], (
        "an empty key column is left out"
    )
    assert [[cell.text for cell in cells] for cells, _ in grid.lines] == [
        ["f1", "20", "10", "9.88", "0.5"],
        ["f2", "20", "8", "", ""],
    ]
    assert grid.lines[0][1] == [("measure_frames", "f1.csv")] and '<a href="../f1.csv">f1.csv</a>' in text


def test_what_is_shown_is_escaped_and_the_page_stands_alone():
    facts = [Fact(stage="calendering", fact="x", text="<b>")]
    section = one(warning=lambda facts: "w <!>", terms=lambda facts: [("copy", f"<repeats> {facts[0].text}")])
    _, text = shown_page([number("f1", 1.0, note="<i>")], section, facts, {"calendering": [Picture(PNG, "<caption>")]})
    assert "A &lt;study&gt;" in text and "&lt;films&gt;" in text and "w &lt;!&gt;" in text and "&lt;repeats&gt; &lt;b&gt;" in text
    assert "&lt;caption&gt;" in text and "<i>" not in text and "<script" not in text
    assert not re.search(r"https?://|<link|@import|url\(", text)
    links = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert all(link.startswith(("#", "data:image/png;base64,", "../")) or link.endswith((".csv", ".parquet")) for link in links)


def test_a_table_has_at_most_so_many_lines_and_says_how_many_it_leaves_out():
    rows = [number(f"f{place}", float(place), moment=moment) for place in range(30) for moment in ("first", "last")]
    context, text = shown_page(rows, one(), limit=10)
    (grid,) = context["parts"][0]["grids"]
    assert len(grid.lines) == 10 and grid.left_out == 20 and "20 more lines are left out here" in text
    assert all(cells[3].text for cells, _ in grid.lines), "lines that are shown are complete"
    assert "50 more rows are left out here" in text, "60 numbers, of which the list of all shows 10"


def test_a_note_that_all_share_stands_once_and_others_have_signs():
    rows = [number("f1", 1.0, note="by label"), number("f2", 2.0)]
    (grid,) = shown_page(rows, one())[0]["parts"][0]["grids"]
    assert [cells[-1].mark for cells, _ in grid.lines] == ["a", ""] and grid.footnotes == [("a", "by label")]
    (grid,) = shown_page([number("f1", 1.0, note="by label")], one())[0]["parts"][0]["grids"]
    assert grid.notes == ["By label."] and grid.footnotes == [] and grid.lines[0][0][-1].mark == ""
    many = [number(f"f{place}", 1.0, note=f"note {place}") for place in range(20)]
    (grid,) = shown_page(many, one())[0]["parts"][0]["grids"]
    assert len(grid.footnotes) == 13 and grid.footnotes[-1] == ("", "8 more notes are in the column note of results.csv")


def test_references_stand_in_brackets_with_their_sources_and_means_with_their_interval():
    rows = [number("f1", 1.0, reference=1.25, reference_source="A 2020"), number("f2", None)]
    (grid,) = shown_page(rows, one())[0]["parts"][0]["grids"]
    assert [cells[-1].text for cells, _ in grid.lines] == ["1 [1.25]", "–"] and grid.notes == ["In brackets: A 2020."]
    mean = number("m", 0.5, low=0.4, high=0.6, n=7, note=FilmMeans.NOTE)
    (grid,) = shown_page([mean], one())[0]["parts"][0]["grids"]
    assert (grid.lines[0][0][-1].text, grid.lines[0][0][-1].more) == ("0.5", "0.4 to 0.6; n 7") and grid.notes == []


def test_a_stage_without_section_shows_all_its_numbers_in_one_table():
    rows = [
        Result(stage="toy", sample="one", quantity="thickness", value=2.0),
        Result(stage="toy", sample="one", quantity="porosity_free", value=0.5),
    ]
    context, text = shown_page(rows, {"toy": plain_section("toy")})
    (grid,) = context["parts"][0]["grids"]
    assert grid.header == ["sample", "ε free", "L / µm"] and '<section id="toy">' in text


def test_every_stage_of_the_workflow_with_sources_has_a_section_of_its_own():
    for stage in STAGES:
        if stage.name != "report":
            assert section_of(stage.name).tables, stage.name


def score(predictor, value, film="f1", leaking=False, mode="rollout", quantity="r2_film", **more):
    base = {"stage": "surrogate", "film": film, "degree_percent": 20, "predictor": predictor, "mode": mode, "leaking": leaking}
    return Result(**base | more, quantity=quantity, value=value)


SORTS = [
    Fact(stage="surrogate", predictor=name, fact="sort of predictor", text=sort)
    for name, sort in (("copy", "baseline"), ("affine", "baseline"), ("net", "network"), ("again", "ceiling"))
]
SURROGATE = {"surrogate": section_of("surrogate")}


def test_a_simple_method_that_wins_is_said_first():
    rows = [score("copy", 0.2), score("affine", 0.9), score("net", 0.7), score("net", 0.9, film="f2"), score("again", 1.0)]
    context, text = shown_page(rows, SURROGATE, SORTS)
    (finding,) = context["findings"]
    assert (
        finding.value == "0.8"
        and finding.warning == "no network beats affine in R² film"
        and "0.9" in finding.text
        and "1" in finding.text
    )
    assert text.index("no network beats affine") < text.index('<section id="surrogate">')


def test_a_network_that_wins_is_praised_by_runs_that_do_not_leak():
    rows = [
        score("affine", 0.5),
        score("net", 0.7),
        score("affine", 0.99, film="f2", leaking=True),
        score("net", 0.1, mode="one_step"),
    ]
    rows += [score("net", 0.1, frame=4), score("net", 0.1, film="")]
    (finding,) = shown_page(rows, SURROGATE, SORTS)[0]["findings"]
    assert (finding.value, finding.praise, finding.warning) == ("0.7", "beats every simple method", "")
    (finding,) = shown_page([score("affine", 0.5, leaking=True), score("net", 0.7, leaking=True)], SURROGATE, SORTS)[0][
        "findings"
    ]
    assert finding.warning == "these runs leak"


def test_a_simple_method_that_is_given_the_truth_is_named_as_such():
    sorts = [*SORTS, Fact(stage="surrogate", predictor="told", fact="sort of predictor", text="informed")]
    rows = [score("copy", 0.2), score("told", 0.9), score("net", 0.7)]
    (finding,) = shown_page(rows, SURROGATE, sorts)[0]["findings"]
    assert finding.warning == "no network beats told, which is given the true thickness, in R² film" and finding.praise == ""
    assert "best simple method (copy): 0.2" in finding.text and "given the true thickness (told): 0.9" in finding.text


def test_a_network_is_praised_only_if_it_wins_by_every_measure():
    rows = [score("affine", 0.5), score("net", 0.7)]
    error = "porosity_free_relative_error"
    rows += [score("affine", 0.01, quantity=error), score("net", 0.02, quantity=error)]
    (finding,) = shown_page(rows, SURROGATE, SORTS)[0]["findings"]
    assert finding.warning == "no network beats affine in error of ε free" and finding.praise == ""
    (finding,) = shown_page([score("affine", -0.5), score("net", -0.1)], SURROGATE, SORTS)[0]["findings"]
    assert finding.warning.startswith("R² is not above 0") and finding.praise == "", "better than bad is not good"


def test_leaking_runs_are_named_in_a_warning():
    facts = [
        Fact(stage="surrogate", film=f"f{place}", degree_percent=20, fact="leaking because", text="x") for place in range(25)
    ]
    (part,) = shown_page([score("net", 0.5, leaking=True)], SURROGATE, facts)[0]["parts"]
    assert part["warning"].startswith("Leaking: f0 at 20 %; f1 at 20 %") and "and 5 more" in part["warning"]


def encoder(quantity, value, case="c"):
    keys = {"stage": "autoencoder", "case": case, "window": 4, "stride": 2, "part": "validation", "leaking": False}
    return Result(**keys, quantity=quantity, value=value)


def test_an_auto_encoder_that_principal_components_beat_says_so():
    rows = [encoder("reconstruction_mse", 0.4), encoder("linear_mse", 0.3), encoder("mean_predictor_mse", 0.5)]
    rows += [encoder("reconstruction_r2", 0.2), encoder("linear_r2", 0.4)]
    (finding,) = shown_page(rows, {"autoencoder": section_of("autoencoder")})[0]["findings"]
    assert finding.value == "0.2" and finding.warning == "does not beat as many principal components" and "0.4" in finding.text


@pytest.mark.parametrize(("value", "verdict"), [(1.857, "agrees within 1 %"), (2.5, "differs by 34 %"), (None, "blocked")])
def test_a_factor_beside_a_reference_is_a_finding(value, verdict):
    row = Result(
        stage="transport",
        sample="one",
        case="pore_cbd",
        axis="z",
        quantity="tortuosity_factor",
        value=value,
        reference=1.87,
        reference_source="A",
    )
    (finding,) = shown_page([row], {"transport": section_of("transport")})[0]["findings"]
    assert verdict in (finding.praise, finding.warning) and "1.87" in finding.text


def test_markdown_has_the_same_tables_and_no_broken_rows():
    rows = [number("f|1", 1.0, note="one|two"), number("f2", 2.0, low=1.5, high=2.5)]
    context, _ = shown_page(rows, one())
    lines = markdown(context).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert lines[0] == "# A <study>" and len({line.count("|") for line in table}) == 1
    assert (
        "| f/1 | 20 | 1 (a) | measure_frames | f/1.csv |" in table
        and "| f2 | 20 | 2 (1.5 to 2.5) | measure_frames | f2.csv |" in table
    )


def test_a_table_of_unknown_columns_is_a_mistake():
    with pytest.raises(ValueError, match="'film_name'"):
        Table("T", {"film_name": "x"}, (), ())
