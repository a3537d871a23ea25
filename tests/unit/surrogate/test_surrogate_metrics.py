"""Metrics and baselines, against what can be said by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from calandria.base.errors import ContractError
from calandria.base.volumes import Labelled
from calandria.calendering.dumps import Particles
from calandria.calendering.particles import Run as ParticleRun
from calandria.calendering.voxels import Grid, paint_frame
from calandria.surrogate import baselines
from calandria.surrogate.baselines import predict_by_replicate, predict_by_steps, squeeze_voxels
from calandria.surrogate.metrics import frame_row, is_release, label_errors, phase_scores, porosity_free, r2_film, spring_back
from calandria.surrogate.predicted import predicted_series, voxel_thickness
from tests.helpers.series import EDGE_UM, pressed_film
from workflow_scripts.surrogate.evaluate_predictions import compare


def frame(*slices):
    return np.array(slices, np.uint8)[:, None, None]


def test_label_errors_by_hand():
    errors = label_errors(frame(0, 1, 2, 4), frame(0, 2, 2, 0))
    assert errors["mse"] == 17 / 4 and errors["mae"] == 5 / 4
    assert errors["r2_with_void"] == pytest.approx(1 - 17 / 8.75)


def test_r2_film_leaves_out_common_void_and_charges_a_wrong_thickness():
    assert r2_film(frame(0, 2, 4, 4), frame(0, 2, 4, 4)) == 1
    assert r2_film(frame(0, 2, 4), frame(0, 2, 2)) == pytest.approx(1 - 4 / (8 / 3))
    assert r2_film(frame(0, 2, 4), frame(0, 4, 4)) == pytest.approx(1 - 4 / 2)
    assert math.isnan(r2_film(frame(0, 0, 4), frame(0, 0, 4)))


def test_scores_and_counts_by_hand():
    row = frame_row(frame(0, 1, 2, 4), frame(0, 2, 2, 4))
    assert (row["accuracy"], row["iou_pore"], row["iou_cbd"], row["iou_am"], row["iou_void"]) == (0.75, 1, 0, 0.5, 1)
    assert (row["voxels_cbd_true"], row["voxels_cbd_predicted"], row["voxels_am_predicted"]) == (1, 0, 2)
    assert row["porosity_free_true"] == pytest.approx(1 / 3)
    assert math.isnan(phase_scores(frame(0), frame(0))["iou_am"]) and math.isnan(porosity_free(frame(4)))


def test_release_and_spring_back():
    assert is_release(np.array([3.0, 2.0, 1.0, 2.0])).tolist() == [False, False, False, True]
    assert is_release(np.array([3.0, 1.1, 1.0, 2.0]), turn_frame=1).tolist() == [False, False, True, True]
    assert spring_back(np.array([4.0, 2.0, 3.0, 1.0])).tolist() == [0, 0, 0.5, 0]
    released = np.array([False, False, True, True])
    assert spring_back(np.array([4.0, 2.0, 2.0, 3.0]), released, 1.0).tolist() == [0, 0, 1, 2], (
        "the press turned between two frames"
    )
    assert spring_back(np.array([4.0, 2.0, 0.5, 1.0]), released, 1.0).tolist() == [0, 0, 0, 1]


def turned_between_frames(source="press table"):
    """Return a series of four frames of which the last two come after a turn at 2 um, and its copy with other heights."""
    labels = np.full((4, 8, 2, 2), 4, np.uint8)
    for labelled, slices in zip(labels, (8, 5, 5, 6)):
        labelled[:slices] = 2
    columns = {"press_position_um": np.array([4.0, 2.6, 2.6, 4.0]), "thickness_um": np.array([4.0, 2.6, 2.4, 2.8])}
    facts = {"turn_frame": 1, "lowest_thickness_um": 2.0, "lowest_thickness_source": source}
    true = Labelled(labels, EDGE_UM, (False, True, True), "", columns, facts)
    stated = predicted_series(true, (labels, np.array([4.0, 2.6, 2.2, 3.0])), "model", "rollout", 1)
    return true, stated


def test_spring_back_counts_from_the_lowest_press_between_two_frames():
    true, predicted = turned_between_frames()
    rows = compare(true, predicted)
    assert [row["is_release"] for row in rows] == [False, True, True]
    assert [row["spring_back_true"] for row in rows] == pytest.approx([0, 0.2, 0.4])
    assert [row["spring_back_predicted"] for row in rows] == pytest.approx([0, 0.1, 0.5])
    step = predicted_series(true, (true.labels, predicted.frames["thickness_um"]), "model", "one_step", 1)
    assert [row["spring_back_predicted"] for row in compare(true, step)] == pytest.approx([0, 0.1, 0.5])


def test_a_lowest_thickness_that_is_the_film_s_own_is_not_told_to_predictions():
    rows = compare(*turned_between_frames(source="frames"))
    assert [row["spring_back_predicted"] for row in rows] == pytest.approx([0, 0, 3.0 / 2.2 - 1])
    assert [row["spring_back_true"] for row in rows] == pytest.approx([0, 0, 2.8 / 2.4 - 1])


def test_thickness_that_is_not_stated_is_counted_alike_on_both_sides():
    true, _ = turned_between_frames()
    blind = predicted_series(true, (true.labels, voxel_thickness(true.labels, EDGE_UM)), "paper", "rollout", 1, "voxels")
    for row in compare(true, blind):
        assert row["thickness_source"] == "voxels"
        assert (
            row["thickness_um_true"] == row["thickness_um_predicted"] and row["spring_back_true"] == row["spring_back_predicted"]
        )
    assert [row["thickness_um_true"] for row in compare(true, blind)] == [2.5, 2.5, 3.0]
    assert {row["thickness_source"] for row in compare(*turned_between_frames())} == {"stated"}


def predict_by_baseline(name, series, n_given, mode, particles=None):
    """Return labels and thickness of a baseline; affine_spheres moves particles."""
    needed = () if name != "affine_spheres" else (particles,)
    return predict_by_steps(getattr(baselines, f"{name}_steps")(series, *needed), series, n_given, mode)


def test_squeeze_to_half_takes_every_second_slice():
    old = frame(0, 1, 2, 0, 1, 2, 4, 4)
    assert squeeze_voxels(old, 3.0, 1.5, 0.5).ravel().tolist() == [1, 0, 2, 4, 4, 4, 4, 4]
    assert np.array_equal(squeeze_voxels(old, 3.0, 3.0, 0.5), old)
    assert squeeze_voxels(old, 3.0, 4.0, 0.5).ravel().tolist() == [0, 1, 1, 2, 0, 1, 1, 2]


def test_copy_modes():
    series = pressed_film()
    labels, thickness = predict_by_baseline("copy", series, 3, "one_step")
    assert np.array_equal(labels[3:], series.labels[2:-1]) and np.array_equal(labels[:3], series.labels[:3])
    assert np.array_equal(thickness[3:], series.frames["thickness_um"][2:-1])
    labels, _ = predict_by_baseline("copy", series, 3, "rollout")
    assert all(np.array_equal(one, series.labels[2]) for one in labels[3:])


def test_affine_voxels_know_the_thickness_and_affine_press_does_not():
    series = pressed_film()
    true = series.frames["thickness_um"]
    assert np.array_equal(predict_by_baseline("affine_voxels", series, 3, "rollout")[1], true)
    followed = predict_by_baseline("affine_press", series, 3, "rollout")[1]
    turn = int(np.argmin(series.frames["press_position_um"]))
    assert np.array_equal(followed[: turn + 1], true[: turn + 1]) and (followed[turn:] == true[turn]).all()


def particles_of(centres, radii, phases, thickness):
    n = len(thickness)
    z = np.outer(thickness / thickness[0], centres[:, 0])
    across = [np.tile(centres[:, axis], (n, 1)) for axis in (2, 1)]
    box = np.tile([[0.0, 6.0], [0.0, 6.0], [0.0, 20.0]], (n, 1, 1))
    count = len(radii)
    dem = Particles(
        *across, z, np.tile(radii, (n, 1)), phases.astype(np.uint8), np.arange(count), None, box, (True, True), np.arange(n), None
    )
    return ParticleRun(dem, thickness, thickness, 1 - thickness / thickness[0], np.arange(n) * 1.0, {})


def affine_film():
    random = np.random.default_rng(3)
    film = pressed_film()
    from tests.helpers.series import paint

    centres, radii = random.random((10, 3)) * [8, 6, 6], random.uniform(0.7, 1.4, 10)
    phases = np.where(np.arange(10) < 5, 1, 2)
    true = np.array(film.frames["thickness_um"])
    labels = np.stack([paint(centres * [h / true[0], 1, 1], radii, phases, film.labels.shape[1:], h) for h in true])
    return type(film)(labels, EDGE_UM, film.periodic, "", film.frames, film.attributes), particles_of(
        centres, radii, phases, true
    )


@pytest.mark.parametrize("mode", ["one_step", "rollout"])
def test_affine_spheres_are_exact_where_spheres_move_affinely(mode):
    series, dem = affine_film()
    assert np.array_equal(predict_by_baseline("affine_spheres", series, 3, mode, dem)[0], series.labels)


@pytest.mark.parametrize(("periodic", "length"), [((True, True), 6.2), ((False, False), 6.0)])
def test_affine_spheres_take_the_grid_of_the_series_whatever_the_settings_were(periodic, length):
    """A box that misfits its voxels by more than the default allows, and walls that move: the grid is that of all frames."""
    series, dem = affine_film()
    box = np.array(dem.particles.box)
    box[:, :2, 1] = length
    if not periodic[0]:
        box[3:, :2, 0] = -0.5  # a wall steps back after the given frames
        box[:, :2, 1] = length - 0.5
    moved = replace(dem.particles, box=box, periodic=periodic)
    labels = np.stack([
        paint_frame(replace(moved, **{name: getattr(moved, name)[:1] for name in ("x", "y", "radius", "box", "step")},
                            z=moved.z[frame : frame + 1]), 0, dem.thickness_um[frame],
                    Grid(series.labels.shape[1:], EDGE_UM, periodic, 0.04, (0.0, 0.0) if periodic[0] else (-0.5, -0.5))).labels
        for frame in range(len(series.labels))
    ])  # fmt: skip
    stretched = replace(series, labels=labels, periodic=(False, *periodic))
    found = predict_by_baseline("affine_spheres", stretched, 3, "rollout", replace(dem, particles=moved))[0]
    assert np.array_equal(found, labels)


@pytest.mark.parametrize("attributes", [{}, {"conserve_volume": False}, {"conserve_volume": True}])
def test_affine_spheres_conserve_volume_where_the_series_does(attributes):
    series, dem = affine_film()
    conserve = attributes.get("conserve_volume", False)
    grid = Grid(series.labels.shape[1:], EDGE_UM, (True, True), 0.0, conserve_volume=conserve)
    painted = [paint_frame(dem.particles, frame, dem.thickness_um[frame], grid).labels for frame in range(len(series.labels))]
    own = replace(series, labels=np.stack(painted), attributes=series.attributes | attributes)
    assert np.array_equal(own.labels, series.labels) != conserve, "the spheres overlap, so it matters"
    assert np.array_equal(predict_by_baseline("affine_spheres", own, 3, "rollout", dem)[0], own.labels)


def test_affine_spheres_need_their_own_particles():
    series, dem = affine_film()
    other = ParticleRun(dem.particles, dem.press_position_um, dem.thickness_um * 0.9, dem.compression_degree, dem.time_us, {})
    with pytest.raises(ContractError, match="the particles have 9 frames"):
        predict_by_baseline("affine_spheres", series, 3, "rollout", other)


def test_no_baseline_reads_the_frame_that_it_predicts():
    series, dem = affine_film()
    spoilt = series.labels.copy()
    spoilt[5] = 0
    changed = type(series)(spoilt, EDGE_UM, series.periodic, "", series.frames, series.attributes)
    for name in ("copy", "affine_voxels", "affine_press", "affine_spheres"):
        one = predict_by_baseline(name, changed, 3, "one_step", dem)[0][5]
        assert np.array_equal(one, predict_by_baseline(name, series, 3, "one_step", dem)[0][5])
        free = predict_by_baseline(name, changed, 3, "rollout", dem)[0]
        assert np.array_equal(free, predict_by_baseline(name, series, 3, "rollout", dem)[0])


def test_replicate_of_another_shape_is_refused():
    with pytest.raises(ContractError, match="replicate"):
        predict_by_replicate(pressed_film(), pressed_film(n_frames=8), 3)


def test_predicted_series_says_what_is_given():
    series = pressed_film()
    result = predicted_series(series, predict_by_baseline("copy", series, 3, "rollout"), "copy", "rollout", 3)
    assert result.attributes["n_given_frames"] == 3 and result.attributes["mode"] == "rollout"
    assert set(result.frames) == {"press_position_um", "time_us", "thickness_um", "compression_degree"}
