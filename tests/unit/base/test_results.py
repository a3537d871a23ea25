"""Tidy rows: typed, streamed, read back; references beside them; means over films with intervals."""

import math
import random

import pandas
import pyarrow.parquet
import pytest
from scipy import stats

from calandria.base.errors import InputFileError, SettingsError
from calandria.base.records import write_table
from calandria.base.results import (
    COLUMNS,
    FACT_COLUMNS,
    KEYS,
    Fact,
    FilmMeans,
    References,
    Result,
    TableWriter,
    describe,
    mean_and_interval,
    read_facts,
    read_references,
    read_results,
    t_quantile,
)

ISSUE = [
    "stage",
    "sample",
    "film",
    "degree_percent",
    "frame",
    "predictor",
    "mode",
    "case",
    "axis",
    "phase",
    "quantity",
    "value",
    "unit",
    "low",
    "high",
    "n",
    "reference",
    "reference_source",
    "rule",
    "file",
    "digest",
]
BLOCKED = Result(
    stage="transport",
    film="film_1",
    degree_percent=20,
    frame=3,
    moment="last",
    case="pore",
    axis="z",
    quantity="tortuosity_factor",
    value=None,
    rule="solve_series",
    file="transport/a.csv",
    digest="ab",
    note="blocked, as said",
)
THICK = Result(stage="tomography", sample="one", quantity="thickness", value=0.1 + 0.2, low=0.25, high=0.5, n=3, leaking=False)


def test_the_columns_are_those_of_the_contract_in_their_order():
    assert list(COLUMNS[: len(ISSUE)]) == ISSUE and set(KEYS) < set(COLUMNS)
    assert set(FACT_COLUMNS) - set(COLUMNS) == {"fact", "item", "text"}


def test_rows_come_back_from_csv_as_they_were(tmp_path):
    with TableWriter(tmp_path / "r.csv") as table:
        table.write(THICK)
        table.write(BLOCKED)
    assert list(read_results(tmp_path / "r.csv")) == [THICK, BLOCKED]


def test_the_value_column_is_numeric_for_pandas_in_both_files(tmp_path):
    with TableWriter(tmp_path / "r.csv", tmp_path / "r.parquet", chunk=1) as table:
        table.write(THICK)
        table.write(BLOCKED)
    for frame in (pandas.read_csv(tmp_path / "r.csv"), pandas.read_parquet(tmp_path / "r.parquet")):
        assert list(frame.columns) == list(COLUMNS) and frame.value.dtype == "float64"
        assert frame.value[0] == 0.1 + 0.2 and math.isnan(frame.value[1])
        assert frame.unit[0] == "um" and pandas.isna(frame.film[0]) and frame.degree_percent[1] == 20
    assert pyarrow.parquet.ParquetFile(tmp_path / "r.parquet").num_row_groups == 2, "a row group per chunk bounds the memory"


def test_a_table_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), TableWriter(tmp_path / "r.csv", tmp_path / "r.parquet", chunk=1) as table:
        table.write(THICK)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_finite_number_does_not_exist_and_unknown_quantities_are_errors():
    assert Result(stage="a", quantity="thickness", value=math.inf, low=math.nan).value is None
    with pytest.raises(SettingsError, match="quantity 'porosity' is unknown"):
        Result(stage="a", quantity="porosity", value=0.3)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"unit": "mm"}, "line 2: thickness has the unit 'mm'; expected 'um'"),
        ({"value": "thick"}, "line 2: could not convert"),
        ({"quantity": "thicknes"}, "line 2: quantity 'thicknes' is unknown"),
        ({"leaking": "perhaps"}, "line 2: leaking is 'perhaps'"),
    ],
)
def test_a_table_with_a_wrong_cell_names_the_line(tmp_path, change, what):
    write_table(tmp_path / "r.csv", [THICK.row() | change], COLUMNS)
    with pytest.raises(InputFileError) as caught:
        list(read_results(tmp_path / "r.csv"))
    assert what in caught.value.message


def test_a_table_with_other_columns_is_refused(tmp_path):
    write_table(tmp_path / "r.csv", [{"a": 1}], ["a"])
    with pytest.raises(InputFileError, match="has other columns"):
        list(read_results(tmp_path / "r.csv"))


def test_facts_come_back_as_they_were(tmp_path):
    facts = [Fact(stage="calendering", film="f", degree_percent=20, fact="press", text="estimated, with a comma")]
    facts.append(Fact(stage="autoencoder", case="c", window=4, stride=2, fact="split", text="blocks"))
    write_table(tmp_path / "f.csv", [fact.row() for fact in facts], FACT_COLUMNS)
    assert read_facts(tmp_path / "f.csv") == facts


@pytest.mark.parametrize("freedom", [1, 2, 5, 17, 30, 31, 60, 1000])
def test_t_quantiles_are_those_of_scipy(freedom):
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-5)


def test_the_interval_of_a_mean_is_students():
    values = [random.Random(3).gauss(2, 0.5) for _ in range(8)] + [2.0, 2.5]
    mean, low, high = mean_and_interval(values)
    expected = stats.t.interval(0.95, len(values) - 1, loc=mean, scale=stats.sem(values))
    assert (low, high) == pytest.approx(expected, rel=1e-4) and mean == pytest.approx(sum(values) / len(values))
    assert mean_and_interval([3.0]) == (3.0, None, None)


def of_film(film, value, **more):
    base = {"stage": "surrogate", "film": film, "degree_percent": 20, "predictor": "copy", "quantity": "r2_film", "value": value}
    return Result(**{**base, "file": f"{film}.csv", "digest": "d", "rule": "evaluate_predictions", **more})


def test_means_over_films_are_rows_with_n_and_interval():
    means = FilmMeans()
    for film, value in (("a", 0.1), ("b", 0.3)):
        means.add(of_film(film, value))
        means.add(of_film(film, value + 1, predictor="model"))
        means.add(of_film(film, 9.0, frame=4))
    means.add(of_film("c", None))
    means.add(of_film("d", 0.9, leaking=True))
    means.add(Result(stage="tomography", sample="one", quantity="thickness", value=1.0))
    copy, model, leaking = means.rows("tabulate_results")
    assert (copy.value, copy.n, copy.film, copy.predictor, copy.degree_percent) == (pytest.approx(0.2), 2, "", "copy", 20)
    assert copy.low < 0.1 < 0.3 < copy.high and (copy.file, copy.digest, copy.rule) == ("", "", "tabulate_results")
    assert model.value == pytest.approx(1.2) and model.predictor == "model"
    assert (leaking.leaking, leaking.n, leaking.low) == (True, 1, None), "leaking runs are apart from the others"


def test_means_of_predicted_values_have_the_mean_of_the_true_ones_beside_them():
    means = FilmMeans()
    for film, true in (("a", 0.2), ("b", 0.4)):
        means.add(
            of_film(film, 0.5, quantity="porosity_free", moment="last", frame=7, reference=true, reference_source="true frame")
        )
    means.add(of_film("c", 0.5, reference=0.9, reference_source="a book"))
    predicted, other = means.rows("r")
    assert (predicted.reference, predicted.reference_source, predicted.frame) == (pytest.approx(0.3), "true frame", None)
    assert (other.reference, other.reference_source) == (None, ""), "a book's value of one film is not that of a mean"


def sheet(tmp_path, *lines):
    (tmp_path / "references.tsv").write_text("\n".join([*lines, ""]))
    return tmp_path / "references.tsv"


def test_references_stand_beside_the_rows_that_match_all_their_keys(tmp_path):
    path = sheet(
        tmp_path,
        "# a comment",
        "quantity\tvalue\tunit\tsource\tsample\tcase\tdegree_percent\tmoment",
        "tortuosity_factor\t1.9\t\tA 2020\t\tpore\t20\t",
        "thickness\t100\tum\tB 2021\tone\t\t\t-",
        "thickness\t7\tum\tC 2022\tnobody\t\t\t",
    )
    beside = References(read_references(path))
    assert (beside.beside(BLOCKED).reference, beside.beside(BLOCKED).reference_source) == (1.9, "A 2020")
    assert beside.beside(THICK).reference == 100
    assert beside.beside(Result(stage="x", sample="one", quantity="thickness", value=1.0, moment="last")).reference is None
    (left,) = beside.unmatched
    assert (left.line, left.keys) == (5, {"sample": "nobody"})


def test_a_row_that_has_its_true_value_keeps_it(tmp_path):
    path = sheet(tmp_path, "quantity\tvalue\tunit\tsource", "r2_film\t0.9\t\tA")
    row = of_film("a", 0.5, reference=0.4, reference_source="true frame")
    assert References(read_references(path)).beside(row) == row


def test_two_references_of_one_number_are_an_error(tmp_path):
    path = sheet(tmp_path, "quantity\tvalue\tunit\tsource\tsample", "thickness\t1\tum\tA\tone", "thickness\t2\tum\tB\t")
    with pytest.raises(SettingsError, match=r"rows 2 and 3 .* both match thickness of sample one"):
        References(read_references(path)).beside(THICK)


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (["quantity\tvalue\tunit\tsource", "porosity\t1\t\tA"], "line 2: quantity 'porosity' is unknown; did you mean"),
        (["quantity\tvalue\tunit\tsource", "thickness\t1\tmm\tA"], "line 2: thickness is in mm; expected um"),
        (
            ["quantity\tvalue\tunit\tsource", "thickness\tthick\tum\tA"],
            "line 2: could not convert string to float: 'thick'; expected a number",
        ),
        (["quantity\tvalue\tunit\tsource", "thickness\tnan\tum\tA"], "line 2: value is nan; expected a finite number"),
        (["quantity\tvalue\tunit\tsource", "thickness\t1\tum\t"], "line 2: source is empty"),
        (["quantity\tvalue\tunit\tsource", "thickness\t1\tum"], "line 2 has 3 cells; expected 4"),
        (["quantity\tvalue\tsource"], "column 'unit' is missing"),
        (["quantity\tvalue\tunit\tsource\tfilms"], "column 'films' is unknown"),
        (
            ["quantity\tvalue\tunit\tsource", "thickness\t1\tum\tA", "thickness\t2\tum\tB"],
            "line 3 has the quantity and keys of line 2",
        ),
        (["quantity\tvalue\tunit\tsource\tdegree_percent", "thickness\t1\tum\tA\tlow"], "line 2: invalid literal"),
    ],
)
def test_mistakes_of_the_sheet_of_references_are_reported_in_two_lines(tmp_path, lines, what):
    with pytest.raises(SettingsError) as caught:
        read_references(sheet(tmp_path, *lines))
    assert what in caught.value.message and "separate cells by tabs" in caught.value.hint


def test_a_missing_sheet_is_an_input_error_and_an_empty_one_has_no_references(tmp_path):
    with pytest.raises(InputFileError, match=r"sheet of references .* does not exist"):
        read_references(tmp_path / "none.tsv")
    assert read_references(sheet(tmp_path, "# nothing")) == []


def test_a_row_says_what_it_is_about():
    assert describe(BLOCKED) == "film film_1, degree_percent 20, frame 3, moment last, case pore, axis z"
    assert describe(Result(stage="report", quantity="thickness", value=1.0)) == "the whole study"
