"""The contact mechanics on two spheres and on a sphere on a plane, force by force and torque by torque against LAMMPS.

Both are driven along one path: spheres so heavy that no force changes their velocities and spins. Units are LAMMPS's micro.
"""

import functools

import numpy as np
import pytest

from calandria.base.phases import AM, CBD
from calandria.calendering.films import Film, data_text
from calandria.calendering.lammps import contact_law, simulation
from calandria.calendering.settings import CalenderingSettings
from calandria.mechanics.law import ContactLaw
from calandria.mechanics.packing import Packing, Relaxation

RADIUS = {CBD: 0.9, AM: 2.4}
PAIRS = {"AM-AM": (AM, AM), "AM-CBD": (AM, CBD), "CBD-CBD": (CBD, CBD)}
PRESS_UM, APART_UM, STEP_US, STEPS = 60.0, 20.0, 0.05, 400
HEAVY = 1e16
OVERLAP_UM = 0.06
LAWS = {
    "jkr": ContactLaw(),
    "other jkr": ContactLaw(
        am_modulus_gpa=3.1,
        cbd_modulus_gpa=0.45,
        am_am_surface_energy_mj_m2=900.0,
        am_cbd_surface_energy_mj_m2=1700.0,
        cbd_cbd_surface_energy_mj_m2=2500.0,
        friction=0.45,
        press_friction=0.12,
        foil_friction=0.45,
        rolling_friction=0.03,
        poisson_ratio=0.21,
    ),
    "dmt, linear": ContactLaw(adhesion="dmt", tangential="linear", linear_radius_um=0.13, friction=0.5, rolling_friction=0.06),
    "no adhesion": ContactLaw(adhesion="none", rolling_friction=0.0),
}

SCRIPT = """units micro
atom_style sphere
atom_modify map array
newton off
boundary p p f
include parameters.lmp
read_data spheres.data
neighbor 1.0 multi
comm_modify mode multi vel yes
neigh_modify every 1 delay 0 check yes
{contacts}
timestep {step}
region foil plane 0 0 0 0 0 1 side in
region press plane 0 0 {press} 0 0 -1 side in
fix foil all wall/gran/region {foil} region foil contacts
fix press all wall/gran/region {pressing} region press contacts
{motions}
fix motion all nve/sphere
dump frames all custom 1 frames.txt id x y z vx vy vz omegax omegay omegaz fx fy fz tqx tqy tqz
dump_modify frames sort id format float %.17g
run {steps}
"""


def spheres() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return centres, radii and phases: one pair of each kind, askew, then a sphere on the foil and one below the press."""
    rows = []
    for number, kinds in enumerate(PAIRS.values()):
        low = np.array([10.0 + APART_UM * number, 10.0, 30.0])
        axis = np.array([0.48, 0.36, 0.8])
        rows += [(kinds[0], low), (kinds[1], low + axis * (RADIUS[kinds[0]] + RADIUS[kinds[1]] - OVERLAP_UM))]
    rows += [
        (AM, np.array([10.0, 10.0, RADIUS[AM] - OVERLAP_UM])),
        (CBD, np.array([30.0, 10.0, PRESS_UM - RADIUS[CBD] + OVERLAP_UM])),
    ]
    phase = np.array([row[0] for row in rows])
    return np.array([row[1] for row in rows]), np.array([RADIUS[kind] for kind in phase.tolist()]), phase


def motions() -> tuple[np.ndarray, np.ndarray]:
    """Return velocities (um/us) and spins (1/us): small for the first of each pair, so that contacts close, slide and roll."""
    draw = np.random.default_rng(7)
    velocity = draw.uniform(-1, 1, (8, 3)) * 1.2e-3
    spin = draw.uniform(-1, 1, (8, 3)) * 1.5e-3
    return velocity, spin


def styles(law: ContactLaw) -> tuple[str, str, str]:
    """Return LAMMPS's commands of the pairs, and the contacts of foil and press."""
    pairs, planes, nu = law.of_pairs(), law.of_planes(), law.poisson_ratio
    young = {(0, 0): law.cbd_modulus_gpa, (0, 1): law.mixed_modulus_gpa, (1, 1): law.am_modulus_gpa}
    energy = pairs["energy"]

    def normal(modulus_gpa: float, energy: float) -> str:
        material = f"{modulus_gpa * 1e6!r} 0 {nu!r}"
        return f"hertz/material {material}" if law.adhesion == "none" or energy == 0 else f"{law.adhesion} {material} {energy!r}"

    def sideways(friction: float, linear: float) -> str:
        return f"mindlin NULL 0.0 {friction!r}" if law.tangential == "mindlin" else f"linear_history {linear!r} 0.0 {friction!r}"

    lines = ["pair_style granular"]
    for (i, j), modulus in young.items():
        rolling = f"rolling sds {float(pairs['rolling'][i, j])!r} 0.0 {law.rolling_friction!r}" if law.rolling_friction else ""
        lines.append(
            f"pair_coeff {i + 1} {j + 1} {normal(modulus, float(energy[i, j]))} tangential {sideways(law.friction, float(pairs['linear'][i, j]))} {rolling} damping mass_velocity"
        )
    foil = f'"granular {normal(law.am_modulus_gpa, planes["foil_energy"])} tangential {sideways(law.foil_friction, planes["linear"])} damping mass_velocity"'
    press = f'"granular {normal(law.am_modulus_gpa, 0.0)} tangential {sideways(law.press_friction, planes["linear"])} damping mass_velocity"'
    return "\n".join(lines), foil.strip('"'), press.strip('"')


@functools.cache
def by_lammps(name: str) -> np.ndarray:
    """Return LAMMPS's table (t, 8, 15): positions, velocities, spins, forces and torques at every step."""
    centres, radius, phase = spheres()
    velocity, spin = motions()
    film = Film(
        centres, 2 * radius, np.full(8, HEAVY), np.where(phase == AM, 2, 1), np.array([[0.0, 60.0], [0.0, 20.0], [-5.0, 70.0]])
    )
    lines = []
    for index in range(8):
        vx, vy, vz = velocity[index].tolist()
        lines.append(f"set atom {index + 1} vx {vx!r} vy {vy!r} vz {vz!r}")
        lines.append("set atom {} omega {!r} {!r} {!r}".format(index + 1, *spin[index].tolist()))
    contacts, foil, press = styles(LAWS[name])
    script = SCRIPT.format(
        contacts=contacts, step=STEP_US, press=PRESS_UM, foil=foil, pressing=press, motions="\n".join(lines), steps=STEPS
    )
    files = {"spheres.data": data_text(film, "sphere", "a test"), "two.lmp": script}
    with simulation("two.lmp", contact_law(CalenderingSettings().contact), files, "two spheres", STEPS) as folder:
        lines = (folder / "frames.txt").read_text().splitlines()
    table = np.array([line.split() for line in lines if not line.startswith("ITEM:") and len(line.split()) == 16], np.float64)
    return table.reshape(STEPS + 1, 8, 16)[..., 1:]


@functools.cache
def by_us(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return forces and torques (t, 8, 3) of our mechanics along LAMMPS's path."""
    table = by_lammps(name)
    _, radius, phase = spheres()
    packing = Packing(
        table[0, :, :3],
        radius,
        phase,
        np.array([[0.0, 60.0], [0.0, 20.0]]),
        (True, True),
        PRESS_UM,
        LAWS[name],
        Relaxation(skin_um=0.5),
    )
    forces, torques = [], []
    for row in table[1:]:  # LAMMPS advances no springs when it sets up
        packing.place(row[:, :3], row[:, 3:6] * STEP_US)
        packing.spin[:] = row[:, 6:9] * STEP_US
        force, torque, _ = packing.forces()
        forces.append(force)
        torques.append(torque)
    return np.array(forces), np.array(torques)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("index", range(8))
def test_forces_and_torques_are_those_of_lammps(name, index):
    table = by_lammps(name)
    forces, torques = by_us(name)
    for measured, expected in ((forces, table[..., 9:12]), (torques, table[..., 12:15])):
        scale = np.abs(expected[:, index]).max()
        assert scale > 0
        np.testing.assert_allclose(measured[:, index], expected[1:, index], atol=1e-6 * scale)
