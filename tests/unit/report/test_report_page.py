import base64
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

from calandria.base.errors import InputFileError, SettingsError
from calandria.base.records import read_table, write_json, write_recorded_table, write_table
from calandria.base.volumes import Labelled, write_labelled
from calandria.report.figures import LOWEST_R2, against_degree, by_run, loss_curves, phase_volumes, r2_per_frame, slices
from calandria.report.page import Grid, Picture, pivot, render
from calandria.report.tables import COLUMNS
from calandria.surrogate.networks import NETWORKS
from calandria.surrogate.predictors import BASELINES
from tests.helpers.published import FOLDER
from tests.helpers.reporting import (
    METRICS,
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
from tests.helpers.series import pressed_film
from workflow_scripts.report import draw_surrogate, tabulate_results, write_page

LOSSES = [{"epoch": str(n), "loss_train": str(0.9 / n**2), "loss_validation": "" if n == 1 else "0.4"} for n in (1, 2, 3)]
VOXELS_UM3 = {("f3", 20): 0.064, ("f3", 35): 0.125}
PNG = b"\x89PNG\r\n\x1a\n"

LOOK = ({"copy": "#999999", "model": "#D55E00"}, ("model",))


@pytest.fixture(autouse=True)
def _figures_are_closed():
    yield
    plt.close("all")


@pytest.fixture
def settings(tmp_path):
    look = {"colours": LOOK[0], "losses": {"press_unet": "cross-entropy"}}
    settings = {"figure_dpi": 50, "significant_digits": 3}
    write_json(tmp_path / "report.json", {"settings": settings, "title": "A <study>", **look})
    return str(tmp_path / "report.json")


def test_runs_are_sorted_by_film_and_degree():
    assert list(by_run(METRICS[::-1])) == [("f3", 20), ("f3", 35)]


def test_losses_are_drawn_over_their_epochs():
    (axis,) = loss_curves({"press_unet": LOSSES}, {"press_unet": "cross-entropy and thickness"}).axes
    training, validation = axis.get_lines()
    assert training.get_xdata().tolist() == [1, 2, 3] and training.get_ydata().tolist() == pytest.approx([0.9, 0.225, 0.1])
    assert np.isnan(validation.get_ydata()[0]) and axis.get_yscale() == "log" and axis.get_title() == "press_unet"
    assert axis.get_ylabel() == "cross-entropy and thickness" and training.get_label() == "train"
    (axis,) = loss_curves({"paper": LOSSES[1:]}, {"paper": "error"}).axes
    assert axis.get_yscale() == "linear", "a narrow range needs no logarithm"


def test_a_single_epoch_is_seen_and_epochs_are_whole_numbers():
    for losses, network in ((LOSSES[:1], "paper"), (LOSSES, "paper")):
        figure = loss_curves({network: losses}, {network: "error"})
        (axis,) = figure.axes
        figure.canvas.draw()
        assert all(line.get_marker() != "None" and line.get_markersize() > 0 for line in axis.get_lines())
        ticks = axis.get_xticks()
        assert len(ticks) and all(float(tick).is_integer() for tick in ticks)


def test_r2_has_a_panel_per_mode_and_run_and_a_line_per_predictor():
    figure = r2_per_frame(METRICS, *LOOK)
    assert [axis.get_title() for axis in figure.axes][:2] == ["f3, 20 %, one-step", "f3, 35 %, one-step"]
    assert len(figure.axes) == 4 and all(len(axis.get_lines()) == 2 for axis in figure.axes)
    line = figure.axes[0].get_lines()[0]
    assert list(line.get_xdata()) == [3, 4] and list(line.get_ydata()) == [1.0, 0.8]


def test_bad_scores_do_not_squeeze_the_others():
    worse = [{**row, "r2_with_void": "-20"} if row["predictor"] == "copy" else row for row in METRICS]
    assert {axis.get_ylim()[0] for axis in r2_per_frame(worse, *LOOK).axes} == {LOWEST_R2}
    assert all(axis.get_ylim()[0] > LOWEST_R2 for axis in r2_per_frame(METRICS, *LOOK).axes)


def test_panels_of_many_runs_are_wrapped():
    metrics = [{**row, "compression_degree_percent": str(d)} for d in (20, 25, 30, 35, 40, 45) for row in METRICS[:8]]
    figure = r2_per_frame(metrics, *LOOK)
    assert len([axis for axis in figure.axes if axis.get_visible()]) == 12 and figure.get_figwidth() < 16
    titles = [axis.get_title() for axis in figure.axes if axis.get_visible()]
    assert titles[0] == "f3, 20 %, one-step" and titles[4] == "f3, 20 %, rollout" and titles[8] == "f3, 40 %, one-step"


def test_panels_of_leaking_runs_say_so():
    metrics = [{**row, "leaking": "true" if row["compression_degree_percent"] == "35" else "false"} for row in METRICS]
    titles = [axis.get_title() for axis in r2_per_frame(metrics, *LOOK).axes]
    assert titles[:2] == ["f3, 20 %, one-step", "f3, 35 % (leaking), one-step"]
    assert phase_volumes(metrics, VOXELS_UM3, *LOOK).axes[1].get_title() == "f3, 35 % (leaking)"


def test_phase_volumes_are_true_and_predicted_in_1000_um3():
    figure = phase_volumes(METRICS, VOXELS_UM3, *LOOK)
    assert len(figure.axes) == 6
    truth, copy, _ = figure.axes[0].get_lines()
    assert list(truth.get_ydata()) == pytest.approx([50 * 0.064 / 1e3] * 2)
    assert copy.get_ydata()[0] == pytest.approx(45 * 0.064 / 1e3)
    assert list(figure.axes[1].get_lines()[0].get_ydata()) == pytest.approx([50 * 0.125 / 1e3] * 2), (
        "each run has voxels of its own"
    )


def test_quantities_stand_against_the_degree_at_the_last_frame():
    (axis,) = against_degree(METRICS, {"porosity_free": "free porosity"}, *LOOK).axes
    truth, copy, _ = axis.get_lines()
    assert list(truth.get_xdata()) == [20, 35] and list(truth.get_ydata()) == [0.4, 0.4]
    assert list(copy.get_ydata()) == pytest.approx([0.34, 0.34]) and axis.get_ylabel() == "free porosity"


def test_slices_show_the_middle_with_the_collector_at_the_bottom():
    labels = pressed_film().labels[-1]
    figure = slices({"true": labels, "model": labels}, 0.5, "last frame")
    images = [axis.get_images()[0] for axis in figure.axes]
    assert all(np.array_equal(image.get_array(), labels[:, 6]) and image.origin == "lower" for image in images)
    assert list(images[0].get_extent()) == [0, 6, 0, 8]


def row(subject, quantity, value, reference="", unit=""):
    return {"subject": subject, "quantity": quantity, "value": value, "unit": unit, "reference": reference}


def test_pivot_puts_subjects_down_and_quantities_across():
    rows = [row("a", "p", "0.12345", "0.2", "um2"), row("b", "q", "7"), row("b", "p", ""), row("a", "other", "1")]
    rows += [row("a", "leaking", "true"), row("b", "leaking", "false")]
    grid = pivot(rows, "T", "n", {"leaking": "L", "q": "Q", "p": "P", "never": "N"}, 3)
    assert grid.header == ["", "L", "Q", "P / µm²"]
    assert grid.rows == [["a", "yes", "", "0.123 [0.2]"], ["b", "no", "7", "–"]]


def test_the_text_of_the_surrogate_follows_its_rows():
    rows = [row("f3, 20 %, one-step, copy", "leaking", "false"), row("f3, 20 %, one-step, copy", "frames given", "5")]
    assert "the 5 true frames before" in write_page.text_of("surrogate", rows) and "first 5 frames" in write_page.text_of(
        "surrogate", rows
    )
    assert write_page.warning_of("surrogate", rows) == ""
    assert [name for name, _ in write_page.terms_of("surrogate", rows)] == ["copy"]
    rows += [row(f"f1, 45 %, {mode}, press_unet", "leaking", "true") for mode in ("one-step", "rollout")]
    warning = write_page.warning_of("surrogate", rows)
    assert (
        warning.startswith("Leaking: f1, 45 %: these runs share their film, or frames")
        and "not evidence of generalisation" in warning
    )
    assert [name for name, _ in write_page.terms_of("surrogate", rows)] == ["copy", "press_unet"]


def test_training_and_validation_of_an_auto_encoder_have_a_line_each():
    rows = [row("a", "leaking", "true"), row("a", "MSE, train", "0.1"), row("a", "MSE, validation", "0.2")]
    rows += [row("a", "MSE of predicting the mean, train", "0.5"), row("a", "shift of the mean, p-value, train", "0.04")]
    rows += [row("a", "MSE, validation less train", "0.1"), row("a", "MSE, validation less train: p-value", "0.03")]
    errors, shifts, difference = write_page.grids("autoencoder", rows, 3)
    assert errors.header == ["", "leaking", "MSE", "MSE of predicting the mean"]
    assert errors.rows == [["a, train", "yes", "0.1", "0.5"], ["a, validation", "yes", "0.2", ""]]
    assert (shifts.header, shifts.rows) == (["", "p-value"], [["a, train", "0.04"]])
    assert (difference.header, difference.rows) == (["", "MSE, validation less train", "p-value"], [["a", "0.1", "0.03"]])


def test_thickness_counted_from_voxels_is_said_to_be_so():
    def note(source):
        rows = [{**row("f3, 20 %, rollout, paper", "thickness, last frame", "8.4", "8.0", "um"), "source": source}]
        return next(grid.note for grid in write_page.grids("surrogate", rows, 3) if "thickness" in grid.title)

    assert note("true frame, measured alike: surface of the film") == "True values in brackets."
    assert "paper: thickness, predicted and true, is counted in whole slices" in note("true frame: whole slices of voxels")


def test_leaking_mini_volumes_are_named():
    rows = [row("a, window 4, stride 1", "leaking", "true"), row("b, window 4, stride 1", "leaking", "false")]
    warning = write_page.warning_of("autoencoder", rows)
    assert (
        warning.startswith("Leaking: a, window 4, stride 1: these validation mini-volumes share slices") and "b, " not in warning
    )


def test_runs_whose_degree_is_the_label_are_marked():
    rows = [row("a, 20 %", "compression degree reached", "0.2"), row("a, 20 %", "press", "estimated, degree by label")]
    rows += [row("b, 20 %", "compression degree reached", "0.19"), row("b, 20 %", "press", "press table")]
    size, *_ = write_page.grids("calendering", rows, 3)
    assert size.rows == [["a, 20 %", "0.2 †"], ["b, 20 %", "0.19"]] and "† By label" in size.note
    size, *_ = write_page.grids("calendering", rows[2:], 3)
    assert size.rows == [["b, 20 %", "0.19"]] and size.note == ""


def test_losses_and_assumed_times_are_shown_where_there_are_any():
    def reading(**changed):
        values = {
            "press": "press table",
            "times from": "press table",
            "stretch of the box": "1e-16",
            "AM lost in overlaps": "0.0",
        }
        rows = [row("a, 20 %", quantity, value) for quantity, value in (values | changed).items()]
        return write_page.grids("calendering", rows, 3)[-1]

    assert (reading().header, reading().note) == (["", "press", "times from"], "")
    found = reading(**{"AM lost in overlaps": "0.07", "stretch of the box": "0.001", "times from": "settings: frame_interval_us"})
    assert found.header == ["", "press", "times from", "stretch of the box", "AM lost in overlaps"]
    assert "are assumed" in found.note and "spheres" in found.note and found.rows[0][2] == "settings: frame_interval_us"


def test_every_predictor_is_explained():
    assert set(write_page.PREDICTORS) == {*BASELINES, *NETWORKS}


def test_brackets_are_explained_only_where_there_are_any():
    assert "In brackets" not in write_page.text_of("transport", [row("a", "tortuosity factor", "1.8")])
    assert "In brackets: the printed factor" in write_page.text_of("transport", [row("a", "tortuosity factor", "1.8", "1.87")])


def page(**changed):
    part = {"anchor": "search", "title": "S", "text": "t", "grids": [Grid("<g>", "n", ["", "q"], [["<b>", "1"]])]}
    part |= {"warning": "w <!>", "terms": [("copy", "<repeats>")]}
    part["pictures"] = [Picture(PNG, 'a "<caption>"')]
    context = {"title": "<script>x</script>", "subtitle": "s", "parts": [part], "numbers": {"search": [["a & b"] * 7]}}
    return render({**context, "software": "python 3", **changed})


def test_the_page_escapes_what_it_shows():
    text = page()
    assert "<script" not in text and "&lt;script&gt;x" in text and "&lt;b&gt;" in text and "a &amp; b" in text
    assert '<p class="warning">w &lt;!&gt;</p>' in text and "<dt>copy</dt><dd>&lt;repeats&gt;.</dd>" in text
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

    def recorded(name, rows, record):
        write_recorded_table(tmp_path / name, rows, list(rows[0]), record)
        return f"={tmp_path / name}"

    best = {"number": 0, "value": 0.1, "value_name": "cross-entropy", "direction": "minimize", "parameters": {"dropout": 0.1}}
    labels = pressed_film()
    image = {"state": "calendered", "label_map": "0=pore 2=am"}
    write_labelled(tmp_path / "labels.zarr.zip", Labelled(labels.labels[0] // 2 * 2, 0.5, labels.periodic, "made", {}, image))
    losses = labels.frames | {"overlap_loss_am": np.linspace(0, 0.25, len(labels.labels))}
    read = labels.attributes | {"time_source": "settings: frame_interval_us", "deepest_compression_degree_source": "label"}
    write_labelled(tmp_path / "series.zarr.zip", Labelled(labels.labels, 0.5, labels.periodic, "made", losses, read))
    words = {
        "volumes": f"one={tmp_path / 'labels.zarr.zip'}",
        "series": f"f3,20={tmp_path / 'series.zarr.zip'}",
        "phases": "one" + record("phases.json", phases_record()),
        "published-samples": "one=1 CAL",
        "diffusion": "one,pore_cbd,z" + record("solution.json", solution()),
        "frames": "f3,20" + recorded("frames.csv", frame_rows([10.0, 8.0, 9.0]), series_record(press_is_estimated=True)),
        "transport": "f3,20,pore_z" + recorded("transport.csv", transport_rows(), series_record()),
        "metrics": "f3,20" + recorded("metrics.csv", METRICS, made("surrogate")),
        "evaluations": "c,window 4" + record("evaluation.json", evaluation()),
        "trials": "surrogate" + recorded("trials.csv", [{"state": "COMPLETE"}], made("search")),
        "best": "surrogate" + record("best.json", best),
        "not-searched": "autoencoder c",
        "split": record("split.json", split_record())[1:],
    }
    options = [word for name, value in words.items() for word in (f"--{name}", value)]
    outputs = ["--output-csv", str(tmp_path / "results.csv"), "--output-markdown", str(tmp_path / "results.md")]
    tabulate_results.main(["--settings", settings, "--published", str(FOLDER), *options, *outputs])
    rows = read_table(tmp_path / "results.csv")
    assert tuple(rows[0]) == COLUMNS
    sections = {"autoencoder", "calendering", "search", "surrogate", "tomography", "transport"}
    assert {entry["section"] for entry in rows} == sections
    (porosity,) = [entry for entry in rows if (entry["subject"], entry["quantity"]) == ("one", "porosity_free")]
    assert (porosity["value"], porosity["reference"]) == ("0.5", "0.368")
    values = {(entry["subject"], entry["quantity"]): entry["value"] for entry in rows}
    assert (values["one", "state"], values["one", "CBD fraction"]) == ("calendered", "")
    assert (
        values["f3, 20 %", "AM lost in overlaps"] == "0.25" and values["f3, 20 %", "times from"] == "settings: frame_interval_us"
    )
    assert values["f3, 20 %", "voxel edge"] == "0.5"
    assert values["f3, 20 %", "press"] == "estimated, degree by label"
    assert (tmp_path / "results.md").read_text().startswith("# A <study>")

    (tmp_path / "figure.png").write_bytes(PNG)
    figures = ["--figures", f"search:How it went.={tmp_path / 'figure.png'}"]
    base = ["--settings", settings, "--table", str(tmp_path / "results.csv")]
    write_page.main([*base, *figures, "--output", str(tmp_path / "index.html")])
    text = (tmp_path / "index.html").read_text()
    assert all(f'<section id="{section}">' in text for section in sections) and "0.5 [0.368]" in text
    assert "0.2 †" in text and "† By label" in text and "<td>calendered</td>" in text
    assert "<td>search</td><td>no search</td>" in text and "<td>best cross-entropy</td><td>0.1</td>" in text
    assert (
        "Free rollout: last frame, volumes and thickness" in text and "thickness / µm" in text and 'class="warning"' not in text
    )
    write_table(tmp_path / "metrics.csv", METRICS[:-1], list(METRICS[0]))
    with pytest.raises(InputFileError, match=r"metrics\.json.* is not the record of the table"):
        tabulate_results.main(["--settings", settings, "--published", str(FOLDER), *options, *outputs])
    assert f"{len(rows)} numbers from 6 stages" in text and "How it went." in text
    with pytest.raises(InputFileError, match=r"figure .* does not exist"):
        write_page.main([*base, "--figures", f"search:x={tmp_path / 'gone.png'}", "--output", str(tmp_path / "other.html")])
    with pytest.raises(SettingsError, match="does not name a file"):
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
    arguments += ["--runs", *(f"f3,{degree}={tmp_path / 'true.zarr.zip'}" for degree in (20, 35))]
    draw_surrogate.main([*arguments, "--losses", f"press_unet={tmp_path / 'losses.csv'}", *outputs])
    drawn = [(tmp_path / f"{name}.png").read_bytes() for name in names]
    assert all(picture.startswith(PNG) for picture in drawn) and len(set(drawn)) == len(names)
    assert plt.get_fignums() == []
