"""Figures of the surrogate, and the program that draws them."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from calandria.base.records import write_json, write_table
from calandria.base.volumes import write_labelled
from calandria.report.figures import LOWEST_R2, against_degree, by_run, loss_curves, phase_volumes, r2_per_frame, slices
from tests.helpers.reporting import METRICS, metric_row
from tests.helpers.series import pressed_film
from workflow_scripts.report import draw_surrogate

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
