"""Packings between foil and press: pairs, equilibrium, conservation, determinism, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calandria.base.errors import ContractError
from calandria.base.phases import AM, CBD, PORE
from calandria.mechanics.law import ContactLaw
from calandria.mechanics.packing import Packing, Relaxation

BOX = np.array([[3.0, 15.0], [3.0, 16.0]])


LAW, RELAXATION = ContactLaw(), Relaxation()


def random_packing(seed=0, periodic=(True, True), law=LAW, lift=0.0, press=12.1, relaxation=RELAXATION):
    """Return spheres near the places of a lattice, most of them touching some of their neighbours a little."""
    draw = np.random.default_rng(seed)
    sides = [np.arange(count) * 2.0 + 1 for count in (6, 6, 6)]
    centres = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 3) * [1, 13 / 12, 1]
    centres += draw.uniform(-0.06, 0.06, centres.shape) + [3, 3, lift]
    n = len(centres)
    radius, phase = draw.uniform(0.93, 1.02, n), np.where(draw.random(n) < 0.3, AM, CBD)
    return Packing(centres, radius, phase, BOX, periodic, press, law, relaxation)


def relaxed(packing, substeps=400):
    """Let a packing settle under a press that stands still."""
    packing.move_press(packing.press_um, substeps)
    return packing


@given(st.integers(0, 10_000), st.tuples(st.booleans(), st.booleans()), st.floats(0.0, 1.0), st.booleans())
def test_pairs_are_all_that_are_near_in_order(seed, periodic, gap, scattered):
    draw = np.random.default_rng(seed)
    n = int(draw.integers(1, 120))
    radius = np.where(draw.random(n) < 0.2, draw.uniform(1.0, 5.4, n), draw.uniform(0.3, 0.5, n))
    place = draw.uniform(-1, 2, (n, 2)) if scattered else draw.uniform(0, 1, (n, 2))  # images of spheres count, too
    centres = np.column_stack([3 + 12 * place, draw.uniform(0, 20, n)])
    packing = Packing(centres, radius, np.full(n, AM), np.array([[3.0, 15.0], [3.0, 15.0]]), periodic, 30.0, ContactLaw())
    packing.find_pairs(gap)
    expected = []
    images = [range(-6, 7) if side else [0] for side in periodic]
    for u in images[0]:
        for v in images[1]:
            apart = centres[None] - centres[:, None] - [12.0 * u, 12.0 * v, 0]
            near = (apart**2).sum(axis=-1) < (radius[:, None] + radius + gap) ** 2
            expected += [(i, j, u, v) for i, j in np.argwhere(np.triu(near, 1)).tolist()]
    assert [tuple(pair) for pair in packing.pairs.tolist()] == sorted(expected)


@pytest.mark.parametrize("adhesion", ["jkr", "dmt"])
def test_two_spheres_come_to_rest_where_elasticity_and_adhesion_balance(adhesion):
    law = ContactLaw(adhesion=adhesion, cbd_cbd_surface_energy_mj_m2=800.0)
    radius = 0.8
    packing = Packing(np.array([[6.0, 6, 10], [6, 7.5, 10]]), np.full(2, radius), np.full(2, CBD), BOX, (True, True), 30.0, law)
    relaxed(packing)
    modulus, energy, effective = law.of_pairs()["modulus"][0, 0], 800.0, radius / 2
    if adhesion == "jkr":
        a = np.cbrt(9 * np.pi * energy * effective**2 / modulus)
        expected = a**2 / effective - 2 * np.sqrt(np.pi * energy * a / modulus)
    else:
        expected = (3 * np.pi * energy * np.sqrt(effective) / modulus) ** (2 / 3)
    assert 2 * radius - np.linalg.norm(packing.centres[1] - packing.centres[0]) == pytest.approx(expected, rel=1e-6)
    assert np.abs(packing.velocity).max() < 1e-9


def test_pairs_push_each_other_alike():
    packing = random_packing(lift=10.0, press=40.0)  # far from both planes
    packing.velocity[:] = np.random.default_rng(1).normal(size=packing.velocity.shape) * 1e-3
    packing.spin[:] = np.random.default_rng(2).normal(size=packing.spin.shape) * 1e-3
    force, torque, pressed = packing.forces()
    assert np.abs(force).max() > 1e3 and np.abs(torque).max() > 10 and not pressed.any()
    np.testing.assert_allclose(force.sum(axis=0), 0, atol=1e-9 * np.abs(force).sum())


def test_angular_momentum_of_a_pair_is_kept():
    """Torques and the couple of the forces cancel but for the lever arms, which meet in the middle of the overlap."""
    packing = Packing(
        np.array([[6.0, 6, 10], [7.1, 6.9, 10.4]]), np.array([0.8, 0.9]), np.full(2, CBD), BOX, (True, True), 30.0, ContactLaw()
    )
    packing.velocity[:] = [[0.001, -0.002, 0.0], [0.0, 0.001, 0.002]]
    packing.spin[:] = [[0.002, 0.0, 0.001], [-0.001, 0.001, 0.0]]
    force, torque, _ = packing.forces()
    assert np.abs(torque).max() > 1
    couple = np.cross(packing.centres, force).sum(axis=0) + torque.sum(axis=0)
    np.testing.assert_allclose(couple, 0, atol=1e-9 * np.abs(torque).max())


def pressed(**given):
    packing = relaxed(random_packing(**given))
    packing.move_press(10.8, 300)
    return packing


def test_same_bits_twice():
    first, second = pressed(), pressed()
    assert first.centres.tobytes() == second.centres.tobytes() and first.spin.tobytes() == second.spin.tobytes()


@pytest.mark.parametrize("periodic", [(True, True), (True, False), (False, False)])
def test_press_and_foil_bear_the_same_load_and_no_sphere_leaves(periodic):
    packing = pressed(periodic=periodic, relaxation=Relaxation(substeps=50))
    relaxed(packing, 3000)
    foil, press = packing.pressed_nn
    assert press > 1e4
    assert foil == pytest.approx(press, rel=1e-3)
    for axis in range(2):
        if not periodic[axis]:
            inside = packing.centres[:, axis] - BOX[axis, 0]
            assert (inside > 0).all() and (inside < np.diff(BOX[axis])).all()


def test_length_of_lists_changes_no_path():
    one, other = (random_packing(relaxation=Relaxation(skin_um=skin)) for skin in (0.05, 0.9))
    for packing in (one, other):
        packing.move_press(12.0, 15)
    np.testing.assert_allclose(one.centres, other.centres, atol=1e-8)


def test_shifted_and_turned_films_follow_the_same_path():
    """Along periodic sides nothing marks a place; x and y are alike."""
    film = random_packing(relaxation=Relaxation(cundall=0))  # which doubts about the sign of a velocity of 0
    shifted = Packing(
        film.centres + [5.0, -4.0, 0], film.radius, film.phase, BOX, (True, True), film.press_um, film.law, film.relaxation
    )
    turned = Packing(
        film.centres[:, [1, 0, 2]], film.radius, film.phase, BOX[::-1], (True, True), film.press_um, film.law, film.relaxation
    )
    for packing in (film, shifted, turned):
        packing.move_press(12.0, 15)
    np.testing.assert_allclose(shifted.centres - [5.0, -4.0, 0], film.centres, atol=1e-8)
    np.testing.assert_allclose(turned.centres[:, [1, 0, 2]], film.centres, atol=1e-8)


@pytest.mark.parametrize(("phases", "stiffness"), [((CBD, CBD), 110.0), ((CBD, AM), 220.0), ((AM, AM), 330.0)])
def test_contacts_that_are_set_hold_their_length(phases, stiffness):
    law = ContactLaw(
        cbd_cbd_set_stiffness_n_m=110.0,
        am_cbd_set_stiffness_n_m=220.0,
        am_am_set_stiffness_n_m=330.0,
        foil_set_stiffness_n_m=440.0,
    )
    centres = np.array([[6.0, 6, 10], [6, 7.5, 10], [12, 12, 0.99]])
    pulled = centres + [[0, 0, 0], [0, 0.02, 0], [0.01, 0, 0.03]]
    forces = []
    for sets in (False, True):
        packing = Packing(centres, np.array([0.8, 0.8, 1.0]), np.array([*phases, AM]), BOX, (True, True), 30.0, law)
        packing.velocity[:], packing.spin[:] = 1e-3, 1e-3
        packing.forces()
        if sets:
            packing.set_contacts()
            assert not packing.velocity.any() and not packing.spin.any()
        else:
            packing.velocity[:], packing.spin[:] = 0, 0
        packing.place(pulled)
        forces.append(packing.forces()[0])
    expected = np.array([[0, 0.02 * stiffness, 0], [0, -0.02 * stiffness, 0], [-0.01 * 440, 0, -0.03 * 440]]) * 1e3
    np.testing.assert_allclose(forces[1] - forces[0], expected, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"centres_um": np.zeros((2, 2))}, r"shape \(2, 2\)"),
        ({"radius_um": np.array([1.0, 0.0])}, "not above 0"),
        ({"centres_um": np.array([[1.0, 1, 1], [np.nan, 2, 2]])}, "no finite numbers"),
        ({"phase": np.array([AM, PORE])}, "phases"),
        ({"box_um": np.array([[0.0, 2.0], [0, 12.0]])}, "side x .* 2 um"),
    ],
)
def test_what_is_no_packing_is_refused(change, found):
    given = {
        "centres_um": np.array([[1.0, 1, 1], [4, 4, 2]]),
        "radius_um": np.array([1.0, 1.0]),
        "phase": np.array([AM, CBD]),
        "box_um": np.array([[0.0, 12.0], [0, 12.0]]),
        "periodic": (True, True),
        "press_um": 10.0,
        "law": ContactLaw(),
    }
    Packing(**given)
    with pytest.raises(ContractError, match=found) as raised:
        Packing(**(given | change))
    assert raised.value.hint


@pytest.mark.parametrize("change", [{"friction": -0.1}, {"am_modulus_gpa": 0.0}, {"poisson_ratio": 0.6}, {"adhesion": "glue"}])
def test_what_is_no_law_is_refused(change):
    with pytest.raises(ContractError, match=next(iter(change))):
        replace(ContactLaw(), **change)
