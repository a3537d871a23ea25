"""The contact law of the films (contact.lmp, run by LAMMPS) on two spheres, and on a sphere on foil and press, against the formulas.

Units are LAMMPS's micro: um, us, pg, nN, kPa, mJ/m2. The JKR reference is the parametric form of Johnson, Kendall and Roberts (1971)
with the surface energy of each side; LAMMPS solves for the contact radius in closed form instead.
"""

import functools
from dataclasses import dataclass

import numpy as np
import pytest

from calandria.calendering.films import Film, bond_commands, data_text, touching_pairs
from calandria.calendering.lammps import contact_law, set_springs, simulation
from calandria.calendering.settings import CalenderingSettings

CBD, AM = 1, 2
RADIUS = {CBD: 0.9, AM: 2.4}
DENSITY = {CBD: 3.8e4, AM: 4.7e4}
PAIRS = {"AM-AM": (AM, AM), "AM-CBD": (AM, CBD), "CBD-CBD": (CBD, CBD)}
PLANES = {"foil": AM, "press": AM}
SETTINGS = {
    "default": CalenderingSettings(),
    "other": CalenderingSettings.from_mapping(
        {
            "contact": {
                "am_modulus_gpa": 3.1,
                "cbd_modulus_gpa": 0.45,
                "poisson_ratio": 0.21,
                "am_am_surface_energy_mj_m2": 900.0,
                "am_cbd_surface_energy_mj_m2": 1700.0,
                "cbd_cbd_surface_energy_mj_m2": 2500.0,
                "friction": 0.45,
                "press_friction": 0.12,
                "normal_damping_per_us": 0.6,
                "am_am_set_stiffness_n_m": 2100.0,
                "am_cbd_set_stiffness_n_m": 410.0,
                "cbd_cbd_set_stiffness_n_m": 90.0,
            }
        },
        "a test",
    ),
}
STEP_US = 0.5
OVERLAP_UM = 0.05
APART_UM = 40.0


@dataclass(frozen=True)
class Law:
    """What the formulas need of one contact: moduli in kPa, lengths in um, masses in pg, surface energy in mJ/m2."""

    modulus: float
    shear: float
    radius: float
    mass: float
    energy: float
    friction: float
    plane: bool

    @property
    def pull_off(self) -> float:
        """Largest tension, 3 pi gamma R."""
        return 3 * np.pi * self.energy * self.radius

    @property
    def last_overlap(self) -> float:
        """Overlap at which the contact ends: of spheres where the largest tension is reached; LAMMPS's planes never pull beyond 0."""
        if self.plane:
            return 0.0
        return -(np.cbrt(9 * np.pi * self.energy * self.radius**2 / (4 * self.modulus)) ** 2) / (3 * self.radius)

    def contact_radius(self, overlap: np.ndarray) -> np.ndarray:
        """Solve overlap = a2 / R - 2 sqrt(pi gamma a / E) for its larger root by bisection."""
        low = np.full_like(overlap, np.cbrt(np.pi * self.energy * self.radius**2 / (4 * self.modulus)))
        high = np.full_like(overlap, 3 * self.radius)
        for _ in range(80):
            middle = (low + high) / 2
            above = middle**2 / self.radius - 2 * np.sqrt(np.pi * self.energy * middle / self.modulus) > overlap
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        return (low + high) / 2

    def force(self, overlap: np.ndarray) -> np.ndarray:
        """Return the elastic and adhesive force of a contact that exists; Hertz's where the surface energy is 0."""
        a = self.contact_radius(overlap)
        adhesion = 4 * np.sqrt(np.pi * self.energy * self.modulus * a**3)
        return 4 * self.modulus * a**3 / (3 * self.radius) - adhesion

    def stored(self, overlap: np.ndarray) -> np.ndarray:
        """Return the energy stored by overlaps, counted from an overlap of 0: the integral of the force."""
        nodes, weights = np.polynomial.legendre.leggauss(60)
        values = self.force((np.asarray(overlap)[..., None] * (nodes + 1) / 2).ravel()).reshape(*np.shape(overlap), -1)
        return np.asarray(overlap) / 2 * (values @ weights)

    def resting_overlap(self) -> float:
        """Overlap at which elastic and adhesive force balance: a3 = 9 pi gamma R2 / E."""
        a = np.cbrt(9 * np.pi * self.energy * self.radius**2 / self.modulus)
        return float(a**2 / self.radius - 2 * np.sqrt(np.pi * self.energy * a / self.modulus))


def mass_of(kind: int) -> float:
    return 4 / 3 * np.pi * RADIUS[kind] ** 3 * DENSITY[kind]


def law(settings: CalenderingSettings, contact: str) -> Law:
    """Return the law of a pair of spheres, or of a sphere on a plane of the same stiffness, from the settings alone."""
    values = settings.contact
    moduli = {AM: values.am_modulus_gpa * 1e6, CBD: values.cbd_modulus_gpa * 1e6}
    energies = {
        (AM, AM): values.am_am_surface_energy_mj_m2,
        (AM, CBD): values.am_cbd_surface_energy_mj_m2,
        (CBD, CBD): values.cbd_cbd_surface_energy_mj_m2,
    }
    if contact in PAIRS:
        kinds = PAIRS[contact]
        radius = 1 / sum(1 / RADIUS[kind] for kind in kinds)
        mass = 1 / sum(1 / mass_of(kind) for kind in kinds)
        energy, friction = energies[kinds], values.friction
    else:
        kinds, radius, mass = (AM, AM), RADIUS[AM], mass_of(AM)
        energy = energies[AM, CBD] if contact == "foil" else 0.0
        friction = values.friction if contact == "foil" else values.press_friction
    nu = values.poisson_ratio
    modulus = 1 / sum((1 - nu**2) / moduli[kind] for kind in kinds)
    shear = 1 / sum(2 * (2 - nu) * (1 + nu) / moduli[kind] for kind in kinds)
    return Law(modulus, shear, radius, mass, energy, friction, contact in PLANES)


def two_spheres(overlaps: dict[str, float]) -> Film:
    """Return pairs of spheres on top of each other, far apart from other pairs, and a sphere on the foil and one below the press.

    Sphere 2 k is the lower one of pair k and does not move; the two last ones touch the foil at z = 0 and the press at z = 60.
    """
    rows = []
    for number, (name, kinds) in enumerate(PAIRS.items()):
        x, low = 20.0 + APART_UM * number, 30.0
        rows += [(kinds[0], x, low), (kinds[1], x, low + RADIUS[kinds[0]] + RADIUS[kinds[1]] - overlaps[name])]
    rows.append((AM, 20.0, RADIUS[AM] - overlaps["foil"]))
    rows.append((AM, 20.0 + APART_UM, 60.0 - RADIUS[AM] + overlaps["press"]))
    kind = np.array([row[0] for row in rows], np.int64)
    position = np.array([[x, 20.0, z] for _, x, z in rows])
    diameter = np.array([2 * RADIUS[k] for k in kind.tolist()])
    density = np.array([DENSITY[k] for k in kind.tolist()])
    box = np.array([[0.0, APART_UM * 3 + 20], [0.0, APART_UM], [-5.0, 70.0]])
    return Film(position, diameter, density, kind, box)


HEAD = """units micro
atom_style {style}
atom_modify map array
newton off
boundary p p f
include parameters.lmp
read_data spheres.data {room}
neighbor 1.0 multi
comm_modify mode multi vel yes
neigh_modify every 1 delay 0 check yes
{bonds}
include contact.lmp
timestep {step}
region foil plane 0 0 0 0 0 1 side in
region press plane 0 0 60 0 0 -1 side in
fix foil all wall/gran/region ${{foil_contact}} region foil contacts
fix press all wall/gran/region ${{press_contact}} region press contacts
group upper id 2 4 6 7
group lowered id 8
group moving union upper lowered
"""
TAIL = """
dump forces all custom 1 forces.txt id x y z vx vy vz fx fy fz
dump_modify forces sort id format float %.17g
run {steps}
"""


@dataclass(frozen=True)
class Motion:
    """Positions, velocities and forces (t, n, 3) of the spheres at every step."""

    x: np.ndarray
    v: np.ndarray
    f: np.ndarray


def run(
    settings: CalenderingSettings, film: Film, steps: int, commands: str, step_us: float = STEP_US, bonds: str = ""
) -> Motion:
    """Let LAMMPS run a film of a few spheres with our contact law and further commands."""
    style = "hybrid" if bonds else "sphere"
    head = HEAD.format(
        style="hybrid sphere bond" if bonds else "sphere",
        room="extra/bond/per/atom 20" if bonds else "",
        bonds="special_bonds lj/coul 1 1 1" if bonds else "",
        step=repr(step_us),
    )
    files = {"spheres.data": data_text(film, style, "a test"), "two.lmp": head + bonds + commands + TAIL.format(steps=steps)}
    variables = contact_law(settings.contact) | set_springs(settings.contact)
    with simulation("two.lmp", variables, files, "two spheres", steps) as folder:
        lines = (folder / "forces.txt").read_text().splitlines()
    count = film.kind.size
    table = np.array([line.split() for line in lines if not line.startswith("ITEM:") and len(line.split()) == 10], np.float64)
    table = table.reshape(steps + 1, count, 10)
    return Motion(table[..., 1:4], table[..., 4:7], table[..., 7:10])


def of_contact(motion: Motion, contact: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return overlap (t), unit vector to the moving sphere (t, 3), force on that sphere (t, 3) and its velocity (t, 3)."""
    number = [*PAIRS, *PLANES].index(contact)
    if contact in PAIRS:
        lower, upper = 2 * number, 2 * number + 1
        apart = motion.x[:, upper] - motion.x[:, lower]
        distance = np.linalg.norm(apart, axis=1)
        radii = sum(RADIUS[kind] for kind in PAIRS[contact])
        return radii - distance, apart / distance[:, None], motion.f[:, upper], motion.v[:, upper]
    index = 6 + list(PLANES).index(contact)
    z = motion.x[:, index, 2]
    up = 1.0 if contact == "foil" else -1.0
    overlap = RADIUS[AM] - z if contact == "foil" else z + RADIUS[AM] - 60.0
    return overlap, np.tile([0.0, 0.0, up], (len(z), 1)), motion.f[:, index], motion.v[:, index]


SPEED_UM_US, SLIDING_UM_US = 1e-3, 3e-4
COLLISION_STEP_US = 0.002


@functools.cache
def pulled_apart(name: str) -> Motion:
    """Pull all contacts from an overlap to far beyond their end."""
    far = max(-law(SETTINGS[name], contact).last_overlap for contact in PAIRS)
    steps = int((OVERLAP_UM + 1.3 * far) / (SPEED_UM_US * STEP_US))
    up, down = (
        f"fix {group} {group} move linear 0 0 {sign * SPEED_UM_US!r}\n" for group, sign in (("upper", 1), ("lowered", -1))
    )
    return run(SETTINGS[name], two_spheres(dict.fromkeys([*PAIRS, *PLANES], OVERLAP_UM)), steps, up + down)


@pytest.mark.parametrize("contact", [*PAIRS, *PLANES])
@pytest.mark.parametrize("name", SETTINGS)
def test_normal_force_is_jkr_with_damping_at_every_overlap_up_to_the_pull_off(name, contact):
    expected = law(SETTINGS[name], contact)
    overlap, normal, force, velocity = of_contact(pulled_apart(name), contact)
    measured = np.einsum("tk,tk->t", force, normal)
    speed = np.einsum("tk,tk->t", velocity, normal)
    last = expected.last_overlap
    inside = overlap > last + 1e-9
    assert inside.sum() >= 100 and (~inside).sum() > 20
    damping = SETTINGS[name].contact.normal_damping_per_us * expected.mass * speed
    scale = expected.pull_off or expected.force(np.array([OVERLAP_UM]))[0]
    assert np.abs(damping[1:]).max() > 1e-3 * scale
    np.testing.assert_allclose(measured[inside], (expected.force(overlap) - damping)[inside], rtol=1e-6, atol=1e-6 * scale)
    assert (measured[overlap < last - 1e-9] == 0).all()
    np.testing.assert_allclose(force - measured[:, None] * normal, 0, atol=1e-9 * scale)


@pytest.mark.parametrize("contact", PAIRS)
@pytest.mark.parametrize("name", SETTINGS)
def test_contact_ends_at_the_largest_tension_of_3_pi_gamma_r(name, contact):
    expected = law(SETTINGS[name], contact)
    overlap, normal, force, velocity = of_contact(pulled_apart(name), contact)
    elastic = np.einsum("tk,tk->t", force, normal)
    elastic += SETTINGS[name].contact.normal_damping_per_us * expected.mass * np.einsum("tk,tk->t", velocity, normal)
    held = np.einsum("tk,tk->t", force, normal) != 0
    last = int(np.flatnonzero(held).max())
    assert abs(overlap[last] - expected.last_overlap) <= SPEED_UM_US * STEP_US
    assert elastic[held].min() == pytest.approx(-expected.pull_off, rel=5e-3)


@functools.cache
def slid(name: str) -> Motion:
    """Move the upper sphere of each contact sideways at a fixed height."""
    sideways = f"fix moving moving move linear {SLIDING_UM_US!r} 0 0\n"
    return run(SETTINGS[name], two_spheres(dict.fromkeys([*PAIRS, *PLANES], OVERLAP_UM)), 1500, sideways)


@pytest.mark.parametrize("contact", [*PAIRS, *PLANES])
@pytest.mark.parametrize("name", SETTINGS)
def test_friction_sticks_by_mindlin_and_slides_at_its_limit(name, contact):
    expected = law(SETTINGS[name], contact)
    overlap, normal, force, velocity = of_contact(slid(name), contact)
    along = np.einsum("tk,tk->t", force, normal)
    sideways = force - along[:, None] * normal
    measured = np.linalg.norm(sideways, axis=1)
    elastic = expected.force(overlap)
    # JKR counts the pull-off force twice; without adhesion the whole normal force, damping included, limits friction
    limit = expected.friction * (np.abs(elastic + 2 * expected.pull_off) if expected.energy else np.abs(along))
    path = SLIDING_UM_US * STEP_US * np.arange(len(overlap))
    stick = 8 * expected.shear * expected.contact_radius(overlap) * path
    stick += SETTINGS[name].contact.normal_damping_per_us * expected.mass * SLIDING_UM_US
    sticking = (stick < 0.8 * limit) & (path > 0)
    sliding = stick > 1.2 * limit
    assert sticking.sum() >= 5 and sliding.sum() >= 100
    np.testing.assert_allclose(measured[sticking], stick[sticking], rtol=2e-3)
    np.testing.assert_allclose(measured[sliding], limit[sliding], rtol=1e-6)
    opposed = np.einsum("tk,tk->t", sideways, velocity)[1:]
    assert (opposed < 0).all()


@functools.cache
def collided(name: str, damped: bool) -> tuple[Motion, CalenderingSettings]:
    """Let the pairs collide centrally, with the energy of an overlap of 0.03 um and four times what their adhesion takes."""
    settings = SETTINGS[name]
    if not damped:
        contact = settings.contact.model_copy(update={"normal_damping_per_us": 0.0})
        settings = settings.model_copy(update={"contact": contact})
    commands = "fix motion all nve/sphere\n"
    for number, (contact, kinds) in enumerate(PAIRS.items()):
        expected = law(settings, contact)
        lost = float(expected.stored(np.array(expected.last_overlap)))
        speed = np.sqrt(2 * (4 * lost + float(expected.stored(np.array(0.03)))) / expected.mass)
        for index, sign in ((0, 1), (1, -1)):
            own = float(sign * speed * expected.mass / mass_of(kinds[index]))
            commands += f"set atom {2 * number + index + 1} vz {own!r}\n"
    film = two_spheres(dict.fromkeys(PAIRS, -0.001) | dict.fromkeys(PLANES, -1.0))
    return run(settings, film, 8000, commands, step_us=COLLISION_STEP_US), settings


@dataclass(frozen=True)
class Energies:
    """Overlap, kinetic, stored and dissipated energy at some of the steps; ``jump`` bounds what a step loses where the contact begins or ends."""

    overlap: np.ndarray
    kinetic: np.ndarray
    stored: np.ndarray
    dissipated: np.ndarray
    jump: float


def energies(motion: Motion, settings: CalenderingSettings, contact: str, step_us: float, every: int = 20) -> Energies:
    """Return the energies of a pair at every so many steps; energy is stored only where the spheres touch."""
    expected = law(settings, contact)
    number = list(PAIRS).index(contact)
    overlap, normal, force, _ = of_contact(motion, contact)
    kinetic = sum(
        0.5 * mass_of(kind) * (motion.v[:, 2 * number + index] ** 2).sum(axis=1) for index, kind in enumerate(PAIRS[contact])
    )
    touches = np.abs(force).sum(axis=1) > 0
    relative = np.einsum("tk,tk->t", motion.v[:, 2 * number + 1] - motion.v[:, 2 * number], normal)
    power = np.where(touches, settings.contact.normal_damping_per_us * expected.mass * relative**2, 0.0)
    dissipated = np.concatenate([[0.0], np.cumsum((power[1:] + power[:-1]) / 2) * step_us])
    kept = np.unique(np.append(np.arange(0, len(overlap), every), len(overlap) - 1))
    stored = np.zeros(len(kept))
    stored[touches[kept]] = expected.stored(overlap[kept][touches[kept]])
    jump = 2 * expected.pull_off * float(np.abs(relative).max()) * step_us
    return Energies(overlap[kept], kinetic[kept], stored, dissipated[kept], jump)


@pytest.mark.parametrize("contact", PAIRS)
@pytest.mark.parametrize("name", SETTINGS)
def test_collision_without_damping_loses_only_what_adhesion_takes(name, contact):
    motion, settings = collided(name, False)
    found, expected = energies(motion, settings, contact, COLLISION_STEP_US), law(settings, contact)
    assert (found.dissipated == 0).all()
    total = found.kinetic + found.stored
    before, within = found.overlap <= 0, found.overlap > expected.last_overlap
    first = int(np.argmax(~before)) + 1
    last = int(np.flatnonzero(within).max())
    assert found.overlap.max() > 0.02 and last - first > 20 and last < len(total) - 1, "the spheres touch and part again"
    assert np.ptp(found.kinetic[: first - 1]) <= 1e-12 * found.kinetic[0], "nothing acts before they touch"
    assert total[first] == pytest.approx(found.kinetic[0], abs=found.jump)
    np.testing.assert_allclose(total[first : last + 1], total[first], rtol=2e-6)
    taken = float(expected.stored(np.array(expected.last_overlap)))
    assert taken > 10 * found.jump
    assert found.kinetic[0] - found.kinetic[-1] == pytest.approx(taken, abs=2 * found.jump)


@pytest.mark.parametrize("contact", PAIRS)
@pytest.mark.parametrize("name", SETTINGS)
def test_damped_collision_loses_what_the_damping_force_takes(name, contact):
    motion, settings = collided(name, True)
    found = energies(motion, settings, contact, COLLISION_STEP_US)
    within = found.overlap > law(settings, contact).last_overlap
    total = (found.kinetic + found.stored + found.dissipated)[within]
    assert found.dissipated[-1] > 0.2 * found.kinetic[0] > 20 * found.jump
    # a step's damping force is that of the velocity half a step before
    np.testing.assert_allclose(total, found.kinetic[0], atol=found.jump + 2e-3 * found.dissipated[-1])


@pytest.mark.parametrize("name", SETTINGS)
def test_spheres_at_their_resting_overlap_stay_at_rest(name):
    settings = SETTINGS[name]
    resting = {contact: law(settings, contact).resting_overlap() for contact in PAIRS}
    motion = run(settings, two_spheres(resting | dict.fromkeys(PLANES, -1.0)), 2000, "fix motion all nve/sphere\n", step_us=0.02)
    for contact in PAIRS:
        expected = law(settings, contact)
        assert energies(motion, settings, contact, 0.02).kinetic.max() < 1e-12 * expected.pull_off * -expected.last_overlap
    np.testing.assert_allclose(motion.x, motion.x[:1].repeat(len(motion.x), axis=0), atol=1e-8)


@pytest.mark.parametrize("name", SETTINGS)
def test_damped_spheres_come_to_rest_where_elasticity_and_adhesion_balance(name):
    settings = SETTINGS[name]
    laws = {contact: law(settings, contact) for contact in PAIRS}
    start = {contact: each.resting_overlap() - each.last_overlap for contact, each in laws.items()} | dict.fromkeys(PLANES, -1.0)
    motion = run(settings, two_spheres(start), 3000, "fix motion all nve/sphere\n", step_us=0.05)
    for contact, expected in laws.items():
        found = energies(motion, settings, contact, 0.05)
        assert found.overlap[-1] == pytest.approx(expected.resting_overlap(), abs=1e-6)
        assert found.kinetic[-1] < 1e-9 * found.kinetic.max()


@pytest.mark.parametrize("name", SETTINGS)
def test_springs_that_are_set_at_the_turn_add_their_stiffness_to_the_contact(name):
    settings = SETTINGS[name]
    film = two_spheres(dict.fromkeys([*PAIRS, *PLANES], OVERLAP_UM))
    pairs = touching_pairs(film.position, film.diameter / 2, film.box[:2, 1] - film.box[:2, 0])
    assert pairs.tolist() == [[0, 1], [2, 3], [4, 5]]
    commands = "\n".join(["include set_springs.lmp", *bond_commands(pairs, np.arange(1, 9), film.kind), ""])
    up = f"fix upper upper move linear 0 0 {SPEED_UM_US!r}\n"
    motion = run(settings, film, 150, up, bonds=commands)
    values = settings.contact
    stiffness = {
        "AM-AM": values.am_am_set_stiffness_n_m,
        "AM-CBD": values.am_cbd_set_stiffness_n_m,
        "CBD-CBD": values.cbd_cbd_set_stiffness_n_m,
    }
    for contact in PAIRS:
        expected = law(settings, contact)
        overlap, normal, force, velocity = of_contact(motion, contact)
        measured = np.einsum("tk,tk->t", force, normal)
        damping = values.normal_damping_per_us * expected.mass * np.einsum("tk,tk->t", velocity, normal)
        spring = measured - (expected.force(overlap) - damping)
        inside = overlap > expected.last_overlap
        stretch = (OVERLAP_UM - overlap)[inside]
        assert stretch.max() > 0.03
        np.testing.assert_allclose(spring[inside], -1e3 * stiffness[contact] * stretch, rtol=1e-4, atol=1e-5 * expected.pull_off)
