import base64
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

from tests.helpers.reporting import METRICS, evaluation, frame_rows, metric_row, phases_record, solution, transport_rows
from tests.helpers.series import pressed_film
from workflow_scripts.common.errors import InputFileError, SettingsError
from workflow_scripts.common.records import read_table, write_json, write_table
from workflow_scripts.common.volumes import write_labelled
from workflow_scripts.report import draw_surrogate, tabulate_results, write_page
from workflow_scripts.report.figures import against_degree, by_run, loss_curves, phase_volumes, r2_per_frame, slices
from workflow_scripts.report.page import Grid, Picture, pivot, render
from workflow_scripts.report.tables import COLUMNS

LOSSES = [{"epoch": str(n), "training_loss": str(0.5 / n), "validation_loss": "" if n == 1 else "0.4"} for n in (1, 2, 3)]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def _figures_are_closed():
    yield
    plt.close("all")


@pytest.fixture
def settings(tmp_path):
    write_json(tmp_path / "report.json", {"figure_dpi": 50, "significant_digits": 3})
    return str(tmp_path / "report.json")


def test_runs_are_sorted_by_film_and_degree():
    assert list(by_run(METRICS[::-1])) == [("f3", 20), ("f3", 35)]


def test_losses_are_drawn_over_their_epochs():
    (axis,) = loss_curves({"press_unet": LOSSES}).axes
    training, validation = axis.get_lines()
    assert training.get_xdata().tolist() == [1, 2, 3] and training.get_ydata().tolist() == pytest.approx([0.5, 0.25, 0.5 / 3])
    assert np.isnan(validation.get_ydata()[0]) and axis.get_yscale() == "log" and axis.get_title() == "press_unet"


def test_r2_has_a_panel_per_mode_and_run_and_a_line_per_predictor():
    figure = r2_per_frame(METRICS)
    assert [axis.get_title() for axis in figure.axes][:2] == ["f3, 20 %, one-step", "f3, 35 %, one-step"]
    assert len(figure.axes) == 4 and all(len(axis.get_lines()) == 2 for axis in figure.axes)
    line = figure.axes[0].get_lines()[0]
    assert list(line.get_xdata()) == [3, 4] and list(line.get_ydata()) == [1.0, 0.8]


def test_phase_volumes_are_true_and_predicted_in_1000_um3():
    figure = phase_volumes(METRICS, 0.064)
    assert len(figure.axes) == 6
    truth, copy, _ = figure.axes[0].get_lines()
    assert list(truth.get_ydata()) == pytest.approx([50 * 0.064 / 1e3] * 2)
    assert copy.get_ydata()[0] == pytest.approx(45 * 0.064 / 1e3)


def test_quantities_stand_against_the_degree_at_the_last_frame():
    (axis,) = against_degree(METRICS, {"porosity": "porosity"}).axes
    truth, copy, _ = axis.get_lines()
    assert list(truth.get_xdata()) == [20, 35] and list(truth.get_ydata()) == [0.4, 0.4]
    assert list(copy.get_ydata()) == pytest.approx([0.34, 0.34]) and axis.get_ylabel() == "porosity"


def test_slices_show_the_middle_with_the_collector_at_the_bottom():
    labels = pressed_film().labels[-1]
    figure = slices({"true": labels, "model": labels}, 0.5, "last frame")
    images = [axis.get_images()[0] for axis in figure.axes]
    assert all(np.array_equal(image.get_array(), labels[:, 6]) and image.origin == "lower" for image in images)
    assert list(images[0].get_extent()) == [0, 6, 0, 8]


def row(subject, quantity, value, reference=""):
    return {"subject": subject, "quantity": quantity, "value": value, "reference": reference}


def test_pivot_puts_subjects_down_and_quantities_across():
    rows = [row("a", "p", "0.12345", "0.2"), row("b", "q", "7"), row("b", "p", ""), row("a", "other", "1")]
    grid = pivot(rows, "T", "n", {"q": "Q", "p": "P", "never": "N"}, 3)
    assert grid.header == ["", "Q", "P"] and grid.rows == [["a", "", "0.123 [0.2]"], ["b", "7", "–"]]


def page(**changed):
    part = {"anchor": "search", "title": "S", "text": "t", "grids": [Grid("<g>", "n", ["", "q"], [["<b>", "1"]])]}
    part["pictures"] = [Picture(PNG, 'a "<caption>"')]
    context = {"title": "<script>x</script>", "subtitle": "s", "parts": [part], "numbers": {"search": [["a & b"] * 7]}}
    return render({**context, "software": "python 3", **changed})


def test_the_page_escapes_what_it_shows():
    text = page()
    assert "<script" not in text and "&lt;script&gt;x" in text and "&lt;b&gt;" in text and "a &amp; b" in text
    assert "&lt;caption&gt;" in text and "<caption>" not in text


def test_the_page_stands_alone():
    text = page()
    assert not re.search(r"https?://|<link|@import|url\(", text)
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert all(source.startswith(("#", "data:image/png;base64,")) for source in sources)
    (data,) = [source for source in sources if source.startswith("data:")]
    assert base64.b64decode(data.partition(",")[2]) == PNG


def test_a_page_without_its_numbers_is_refused():
    with pytest.raises(Exception, match="undefined"):
        render({"title": "t"})


def test_programs_end_to_end(tmp_path, settings):
    def table(name, rows):
        write_table(tmp_path / name, rows, list(rows[0]))
        return f"={tmp_path / name}"

    def record(name, content):
        write_json(tmp_path / name, content)
        return f"={tmp_path / name}"

    published = tmp_path / "published"
    published.mkdir()
    table("published/cathodes_nmc532.csv", [{"sample": "1", "state": "CAL", "porosity_percent": "37", "tau_factor": "2"}])
    table(
        "published/calendering_contact_area.csv",
        [{"electrode": "I", "cd_percent": "45", "interface": "pore-am", "error_percent": "8"}],
    )
    table(
        "published/autoencoder_results.csv",
        [{"case": "1", "samples": "CAL", "stride": "1", "mse_train": "0.1", "mse_val": "0.2"}],
    )
    words = {
        "phases": "one" + record("phases.json", phases_record()),
        "published-samples": "one=1 CAL",
        "diffusion": "one,pore_cbd,z" + record("solution.json", solution()),
        "frames": "f3,20" + table("frames.csv", frame_rows([10.0, 8.0, 9.0])),
        "transport": "f3,20" + table("transport.csv", transport_rows()),
        "metrics": "f3,20" + table("metrics.csv", METRICS),
        "evaluations": "c,window 4" + record("evaluation.json", evaluation()),
        "trials": "surrogate" + table("trials.csv", [{"state": "COMPLETE"}]),
        "best": "surrogate" + record("best.json", {"number": 0, "value": 0.1, "parameters": {"dropout": 0.1}}),
    }
    options = [word for name, value in words.items() for word in (f"--{name}", value)]
    outputs = ["--output-csv", str(tmp_path / "results.csv"), "--output-markdown", str(tmp_path / "results.md")]
    tabulate_results.main(["--settings", settings, "--title", "A <study>", "--published", str(published), *options, *outputs])
    rows = read_table(tmp_path / "results.csv")
    assert tuple(rows[0]) == COLUMNS
    sections = {"autoencoder", "calendering", "search", "surrogate", "tomography", "transport"}
    assert {entry["section"] for entry in rows} == sections
    (porosity,) = [entry for entry in rows if (entry["subject"], entry["quantity"]) == ("one", "porosity")]
    assert (porosity["value"], porosity["reference"]) == ("0.5", "0.37")
    assert (tmp_path / "results.md").read_text().startswith("# A <study>")

    (tmp_path / "figure.png").write_bytes(PNG)
    figures = ["--figures", f"search:How it went.={tmp_path / 'figure.png'}"]
    base = ["--settings", settings, "--title", "A <study>", "--table", str(tmp_path / "results.csv")]
    write_page.main([*base, *figures, "--output", str(tmp_path / "index.html")])
    text = (tmp_path / "index.html").read_text()
    assert all(f'<section id="{section}">' in text for section in sections) and "0.5 [0.37]" in text
    assert f"{len(rows)} numbers from 6 stages" in text and "How it went." in text
    with pytest.raises(InputFileError, match=r"figure .* does not exist"):
        write_page.main([*base, "--figures", f"search:x={tmp_path / 'gone.png'}", "--output", str(tmp_path / "other.html")])
    with pytest.raises(SettingsError, match="is not name=path"):
        write_page.main([*base, "--figures", "search", "--output", str(tmp_path / "other.html")])
    assert not (tmp_path / "other.html").exists()


def test_draw_surrogate_end_to_end(tmp_path, settings):
    write_table(tmp_path / "metrics.csv", METRICS, list(metric_row("f", 1, "rollout", "copy", 3, 1)))
    write_table(tmp_path / "losses.csv", LOSSES, list(LOSSES[0]))
    write_labelled(tmp_path / "true.zarr.zip", pressed_film())
    names = ("losses", "r2", "r2-film", "phases", "degrees", "slices")
    outputs = [word for name in names for word in (f"--output-{name}", str(tmp_path / f"{name}.png"))]
    series = ["--series", *(f"{name}={tmp_path / 'true.zarr.zip'}" for name in ("true", "model"))]
    arguments = ["--settings", settings, "--metrics", str(tmp_path / "metrics.csv"), *series, "--run-name", "f3 at 20 %"]
    draw_surrogate.main([*arguments, "--losses", f"press_unet={tmp_path / 'losses.csv'}", *outputs])
    drawn = [(tmp_path / f"{name}.png").read_bytes() for name in names]
    assert all(picture.startswith(PNG) for picture in drawn) and len(set(drawn)) == len(names)
    assert plt.get_fignums() == []
