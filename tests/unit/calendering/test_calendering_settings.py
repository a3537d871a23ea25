import pytest

from calandria.base.errors import SettingsError
from calandria.calendering import settings as calendering
from calandria.calendering.settings import CalenderingSettings, DumpSettings, FilmRow, RunRow


def test_frames_of_the_paper_and_between_and_beyond():
    frames = CalenderingSettings().frames
    assert [frames(degree) for degree in (20, 25, 30, 35, 40, 45, 50)] == [14, 18, 21, 24, 28, 31, 35]
    assert [frames(degree) for degree in (22, 33, 55, 15)] == [16, 23, 39, 10]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"compression_degrees_percent": [50, 20]}, "must rise"),
        ({"compression_degrees_percent": []}, "compression_degrees_percent"),
        ({"frames_by_degree": {20: 14}}, "two degrees"),
        ({"frames_per_percent": 2.0}, "before the press turns"),
        ({"film": {"am_diameters": {"median_um": 20}}}, "minimum_um <= median_um"),
        ({"voxels": {"voxel_edge": 0.4}}, "did you mean 'voxel_edge_um'"),
        ({"dumps": {"phase_of_type": {1: "void"}}}, "phase_of_type"),
    ],
)
def test_mistakes_are_named(changed, told):
    with pytest.raises(SettingsError, match=told):
        CalenderingSettings.from_mapping(changed, "settings")


def test_every_field_is_described():
    def check(section):
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"
            if hasattr(field.annotation, "model_fields"):
                check(field.annotation)

    check(CalenderingSettings)


def films(tmp_path, *rows):
    sheet = tmp_path / "films.tsv"
    sheet.write_text("\n".join(["film\tseed\treplicate_of", *rows, ""]))
    return CalenderingSettings(films_sheet=str(sheet)).film_rows()


def test_films_sheet(tmp_path):
    rows = films(tmp_path, "one\t1\t", "two\t2\tone")
    assert [(row.film, row.seed, row.replicate_of) for row in rows] == [("one", 1, None), ("two", 2, "one")]
    assert CalenderingSettings(films_sheet=None).film_rows() == []
    for bad, told in (
        (("one\t1\t", "one\t2\t"), "occurs twice"),
        (("one\t1\ttwo",), "replicates 'two'"),
        (("one\t1\tone",), "replicates 'one'"),
        (("One\t1\t",), "line 2"),
        (("one\t-1\t",), "line 2"),
    ):
        with pytest.raises(SettingsError, match=told):
            films(tmp_path, *bad)


def runs(tmp_path, *rows):
    sheet = tmp_path / "runs.tsv"
    header = "film\tcompression_degree_percent\tdumps\tphase_of_type\tradius_of_type_um\tlength_unit_um\texpected_frames"
    sheet.write_text("\n".join([header, *rows, ""]))
    return CalenderingSettings(runs_sheet=str(sheet))


def test_rows_of_the_runs_sheet_override_the_section(tmp_path):
    settings = runs(tmp_path, "mine\t30\truns/*.gz\t1:am, 2:cbd\t1:2.5,2:0.5\t1e6\t12", "mine\t40\truns/b\t\t\t\t")
    first, second = settings.run_rows()
    assert DumpSettings(**first.overrides()) == DumpSettings(
        phase_of_type={1: "am", 2: "cbd"}, radius_of_type_um={1: 2.5, 2: 0.5}, length_unit_um=1e6, expected_frames=12
    )
    assert second.overrides() == {} and first.press is None
    for bad, told in (
        (("mine\t30\ta\t\t\t\t", "mine\t30\tb\t\t\t\t"), "mine at 30 %"),
        (("mine\t30\ta\t1=am\t\t\t",), "1:cbd,2:am"),
        (("mine\t30\ta\t\t1:-1\t\t",), "greater than 0"),
        (("mine\t0\ta\t\t\t\t",), "line 2"),
    ):
        with pytest.raises(SettingsError, match=told):
            runs(tmp_path, *bad).run_rows()


class Counted(str):
    """A film's name that counts how often it is compared."""

    comparisons = 0
    __hash__ = str.__hash__

    def __eq__(self, other):
        Counted.comparisons += 1
        return str.__eq__(self, other)


@pytest.mark.parametrize("sheet", ["runs", "films"])
def test_looking_for_doubled_lines_compares_no_line_with_all_others(sheet, monkeypatch):
    def comparisons(number):
        if sheet == "runs":
            rows = [
                RunRow.model_construct(film=Counted(f"f{i // 7}"), compression_degree_percent=i % 7, dumps="d")
                for i in range(number)
            ]
        else:
            rows = [FilmRow.model_construct(film=Counted(f"f{i}"), seed=i) for i in range(number)]
        monkeypatch.setattr(calendering, "read_sheet", lambda *_: rows)
        settings = CalenderingSettings(films_sheet="films.tsv", runs_sheet="runs.tsv")
        Counted.comparisons = 0
        found = settings.run_rows() if sheet == "runs" else settings.film_rows()
        assert found == rows
        return Counted.comparisons

    few, many = comparisons(700), comparisons(2800)
    assert many <= 6 * max(few, 700)  # 16 times as many were every line compared with every other
