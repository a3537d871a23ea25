"""Rollouts of films that the mechanics itself pressed: what is read, the turn, the surface, and a law that is learned back."""

import functools
from dataclasses import replace

import numpy as np
import pytest

from calandria.base.errors import ContractError
from calandria.base.phases import AM, CBD
from calandria.calendering.dumps import Particles
from calandria.calendering.particles import Run
from calandria.mechanics.film import Film, film_of_run
from calandria.mechanics.fit import Constant, Stage, fit, loading_loss, release_loss, windows_of
from calandria.mechanics.law import ContactLaw
from calandria.mechanics.packing import Packing, Relaxation
from calandria.mechanics.rollout import one_steps, roll_out

LAW = ContactLaw(adhesion="none", friction=0.4, press_friction=0.1, foil_friction=0.6)
RELAXATION = Relaxation(substeps=40)
BOX = np.array([[0.0, 10.0], [0.0, 10.0]])
TURN, LOWEST_UM = 5, 8.35


@functools.cache
def film() -> Film:
    """Return a small film that was pressed and released by the mechanics; the press turns between frames 5 and 6."""
    draw = np.random.default_rng(3)
    side = np.arange(5) * 2.0 + 1
    centres = np.stack(np.meshgrid(side, side, side, indexing="ij"), axis=-1).reshape(-1, 3)
    centres += draw.uniform(-0.1, 0.1, centres.shape)
    radius, phase = draw.uniform(0.95, 1.04, len(centres)), np.where(draw.random(len(centres)) < 0.3, AM, CBD)
    press = np.array([10.1, 9.8, 9.5, 9.2, 8.9, 8.6, 8.6, 8.9, 9.2])
    packing = Packing(centres, radius, phase, BOX, (True, True), float(press[0]), LAW, RELAXATION)
    packing.move_press(packing.press_um, 400)
    frames = [packing.centres.copy()]
    for index, height in enumerate(press[1:], 1):
        if index == TURN + 1:
            packing.move_press(LOWEST_UM, 20)
            packing.set_contacts()
            packing.move_press(float(height), 20)
        else:
            packing.move_press(float(height), 40)
        frames.append(packing.centres.copy())
    return Film(np.array(frames), radius, phase, BOX, (True, True), press, TURN, LOWEST_UM)


def away(first, second, frames):
    """Return the mean distance of two predictions over frames, um."""
    return np.linalg.norm(film().motion(first[frames], second[frames]), axis=-1).mean()


def test_the_law_that_pressed_a_film_predicts_it_and_others_do_not():
    predicted = roll_out(film(), 3, LAW, RELAXATION)
    still = np.repeat(film().centres_um[2:3], film().n_frames, axis=0)
    rest = slice(3, None)
    own = away(predicted.centres_um, film().centres_um, rest)
    assert own < 0.1 * away(still, film().centres_um, rest)
    slippery = roll_out(film(), 3, replace(LAW, friction=0.0, foil_friction=0.0), RELAXATION)
    assert away(slippery.centres_um, film().centres_um, rest) > 3 * own
    np.testing.assert_array_equal(predicted.centres_um[:3], film().centres_um[:3])
    assert np.isnan(predicted.surface_um[:3]).all() and np.isfinite(predicted.surface_um[3:]).all()


@pytest.mark.parametrize("n_given", [1, 2, 4])
def test_a_rollout_reads_the_given_frames_and_the_press_alone(n_given):
    centres = film().centres_um.copy()
    centres[n_given:] = np.nan
    blind = replace(film(), centres_um=centres)
    seen, unseen = (roll_out(each, n_given, LAW, RELAXATION) for each in (film(), blind))
    np.testing.assert_array_equal(seen.centres_um[n_given:], unseen.centres_um[n_given:])
    np.testing.assert_array_equal(seen.surface_um, unseen.surface_um)


def test_a_step_reads_no_frame_from_its_target_on():
    whole = one_steps(film(), 3, LAW, RELAXATION)
    for target in (4, 6, 8):
        centres = film().centres_um.copy()
        centres[target:] = np.nan
        blind = one_steps(
            replace(film(), centres_um=centres[: target + 1], press_um=film().press_um[: target + 1]), 3, LAW, RELAXATION
        )
        np.testing.assert_array_equal(blind.centres_um[target], whole.centres_um[target])
        assert blind.surface_um[target] == whole.surface_um[target]


def test_a_step_from_true_frames_is_nearer_than_a_rollout():
    other = replace(LAW, friction=0.2)
    steps, rollout = one_steps(film(), 3, other, RELAXATION), roll_out(film(), 3, other, RELAXATION)
    rest = slice(5, None)
    assert away(steps.centres_um, film().centres_um, rest) < 0.7 * away(rollout.centres_um, film().centres_um, rest)


def test_the_surface_is_the_press_down_and_rises_with_those_that_carried_it():
    predicted = roll_out(film(), 3, LAW, RELAXATION)
    np.testing.assert_array_equal(predicted.surface_um[3 : TURN + 1], film().press_um[3 : TURN + 1])
    risen = predicted.surface_um[TURN + 1 :]
    assert (risen >= LOWEST_UM - 1e-9).all() and (risen <= film().press_um[TURN + 1 :]).all()
    lowest = roll_out(film(), TURN + 1, LAW, RELAXATION)  # the turn is close
    carriers = lowest.centres_um[TURN, :, 2] + film().radius_um > LOWEST_UM
    rise = (lowest.centres_um[-1] - lowest.centres_um[TURN + 1])[carriers, 2].mean()
    assert lowest.surface_um[-1] - lowest.surface_um[TURN + 1] == pytest.approx(rise, abs=0.02)


@pytest.mark.parametrize("n_given", [0, TURN + 2])
@pytest.mark.parametrize("predict", [roll_out, one_steps])
def test_given_frames_end_before_the_turn(predict, n_given):
    with pytest.raises(ContractError, match=f"{n_given} frames .* expected 1 to {TURN + 1}") as raised:
        predict(film(), n_given, LAW, RELAXATION)
    assert raised.value.hint


def test_a_run_of_particles_becomes_a_film_and_one_whose_box_changes_does_not():
    frames, radius = film().centres_um, np.tile(film().radius_um, (film().n_frames, 1))
    box = np.tile(np.vstack([BOX, [0.0, 12.0]]), (film().n_frames, 1, 1))
    particles = Particles(
        *(np.ascontiguousarray(frames[..., axis]) for axis in range(3)),
        radius=radius,
        phase=film().phase,
        box=box,
        step=np.arange(film().n_frames),
        identity=np.arange(len(film().radius_um)),
        molecule=None,
        periodic=(True, True),
        time_us=None,
    )
    facts = {"turn_frame": TURN, "lowest_thickness_um": LOWEST_UM}
    columns = {name: film().press_um for name in ("press_position_um", "thickness_um", "compression_degree", "time_us")}
    found = film_of_run(Run(particles, **columns, attributes=facts))
    np.testing.assert_array_equal(found.centres_um, film().centres_um)
    assert (found.turn, found.lowest_um, found.periodic) == (TURN, LOWEST_UM, (True, True))
    for name, changed in (
        ("box", box * np.linspace(1, 1.01, len(box))[:, None, None]),
        ("radius", radius * np.linspace(1, 1.01, len(box))[:, None]),
    ):
        with pytest.raises(ContractError, match=r"change during the run by up to 1\.00%"):
            film_of_run(Run(replace(particles, **{name: changed}), **columns, attributes=facts))


CONSTANTS = (Constant("friction", 0.1, 0.01, 1.5, 0.4), Constant("foil_friction", 0.2, 0.01, 1.5, 0.4))
STAGES = (Stage(2, 2, 6, 1.0, 40), Stage(3, None, 5, 0.4, 40, (0.4,)))


def loss(law, stage, generation):
    relaxation = Relaxation(substeps=stage.substeps)
    return float(
        np.mean([loading_loss(*window, stage.horizon, law, relaxation) for window in windows_of([film()], stage, generation, 1)])
    )


def test_friction_is_learned_back_from_frames_and_a_search_that_was_cut_short_resumes_to_the_same_law():
    found, state = fit(loss, replace(LAW, friction=0.1, foil_friction=0.2), CONSTANTS, STAGES, seed=1)
    assert found.friction == pytest.approx(LAW.friction, rel=0.15)
    before = loss(replace(LAW, friction=0.1, foil_friction=0.2), STAGES[1], 0)
    assert loss(found, STAGES[1], 0) < 0.3 * before
    assert [(row[0], row[1]) for row in state.history] == [(0, k) for k in range(6)] + [(1, k) for k in range(5)]

    class Killed(Exception):
        pass

    kept = []

    def keep(state):
        kept.append(state.to_bytes())
        if len(kept) in (4, 8):
            raise Killed

    resumed = None
    for _ in range(3):
        try:
            resumed, _ = fit(loss, replace(LAW, friction=0.1, foil_friction=0.2), CONSTANTS, STAGES, 1, restored(kept), keep)
        except Killed:
            continue
    assert resumed == found


def restored(kept):
    import pickle

    return pickle.loads(kept[-1]) if kept else None


def test_a_scan_leaves_a_valley_that_is_far_from_the_right_one():
    far = (Constant("friction", 1.4, 0.05, 1.5, 0.05), CONSTANTS[1])
    stage = Stage(3, None, 0, 1.0, 40, (0.4,), ("friction",))
    found, state = fit(loss, LAW, far, [stage], seed=1)
    assert abs(np.log10(found.friction / LAW.friction)) < 0.15 and found.foil_friction == pytest.approx(CONSTANTS[1].start)
    assert state.history == []


def test_another_seed_draws_others_and_the_release_is_judged_by_its_own_springs():
    first, second = (fit(loss, LAW, CONSTANTS, STAGES[:1], seed=seed)[0] for seed in (1, 2))
    assert first != second
    weak = replace(LAW, **{f"{pair}_set_stiffness_n_m": 1.0 for pair in ("am_am", "am_cbd", "cbd_cbd", "foil")})
    assert release_loss(film(), LAW, RELAXATION) < 0.7 * release_loss(film(), weak, RELAXATION)
