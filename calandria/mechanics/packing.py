"""A packing of spheres between foil and press: its state, and how it follows the press."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..base.compiled import library
from ..base.errors import ContractError
from ..base.phases import AM, CBD
from .law import ADHESIONS, TANGENTIALS, CLaw, ContactLaw

KERNELS = "calandria.mechanics._mechanics"
FOIL_REACH_UM = 0.02
PRESS = 1
"""Its index among the walls; the foil is the first."""


@dataclass(frozen=True)
class Relaxation:
    """How a packing relaxes while the press moves: damped motion in substeps, with inertia that follows the stiffness of contacts.

    Parameters
    ----------
    substeps
        Substeps from one frame to the next.
    inertia
        Inertia of a sphere over the stiffness of its contacts; below 0.7 a film trembles at rest.
    damping
        Damping of contacts over the critical one.
    cundall
        Share by which forces are lowered that speed a sphere up, and raised that slow it down.
    largest_step_um
        Longest motion of a coordinate in one substep.
    skin_um
        Gap up to which pairs are listed; it changes the run time, not the path.
    """

    substeps: int = 100
    inertia: float = 0.8
    damping: float = 0.2
    cundall: float = 0.15
    largest_step_um: float = 0.08
    skin_um: float = 0.6


DEFAULT = Relaxation()


class CWall(ctypes.Structure):
    """``Wall`` of _mechanics.c."""

    _fields_ = (
        ("axis", ctypes.c_int64),
        *(
            (name, ctypes.c_double)
            for name in ("side", "position", "velocity", "friction", "modulus", "shear", "energy", "linear")
        ),
    )


class CState(ctypes.Structure):
    """``State`` of _mechanics.c."""

    _fields_ = (
        ("n", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("x", "v", "w", "radius", "type")),
        ("length", ctypes.c_double * 3),
        ("periodic", ctypes.c_int64 * 3),
        ("n_pairs", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("first", "second", "image", "touching", "slip", "roll")),
        ("n_walls", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("walls", "wall_touching", "wall_slip")),
        ("n_bonds", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("bond_first", "bond_second", "bond_image", "bond_length", "bond_stiffness")),
        ("n_tethers", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("tethered", "anchor")),
        ("tether_stiffness", ctypes.c_double),
    )


class Packing:
    """Spheres on the foil (z = 0) below the press, with the memory of their contacts.

    Parameters
    ----------
    centres_um
        (n, 3) x, y, z; heights are counted from the foil.
    radius_um
        (n) radii.
    phase
        (n) ``CBD`` or ``AM``.
    box_um
        (2, 2) lower and upper bounds of x and y.
    periodic
        Whether x and y wrap around; a side that does not is a smooth wall as stiff as the active material.
    press_um
        Height of the press.
    law
        The contact law.
    relaxation
        How it relaxes.

    Raises
    ------
    ContractError
        Shapes differ, a number is not finite, a phase is no solid, or a periodic side is so short that a sphere touches its own image.
    """

    def __init__(
        self,
        centres_um: NDArray[np.float64],
        radius_um: NDArray[np.float64],
        phase: NDArray[np.integer],
        box_um: NDArray[np.float64],
        periodic: Sequence[bool],
        press_um: float,
        law: ContactLaw,
        relaxation: Relaxation = DEFAULT,
    ) -> None:
        n = len(radius_um)
        self.radius = np.array(radius_um, np.float64)
        self.phase = np.array(phase)
        self.type = (self.phase == AM).astype(np.int32)
        self.low = np.array([*np.asarray(box_um, np.float64)[:, 0], 0.0])
        self.length = np.array([*np.diff(np.asarray(box_um, np.float64), axis=1)[:, 0], np.inf])
        self.periodic = (bool(periodic[0]), bool(periodic[1]), False)
        self._check(np.asarray(centres_um), press_um, relaxation)
        self.centres = np.array(centres_um, np.float64, order="C")
        self.velocity, self.spin = np.zeros((n, 3)), np.zeros((n, 3))
        self.relaxation = relaxation
        self.pressed_nn = np.zeros(2)
        self._inertia, self._rotary = np.zeros(n), np.zeros(n)
        self._first = self._second = np.zeros(0, np.int32)
        self._image = np.zeros((0, 2), np.int32)
        self._touching = np.zeros(0, np.uint8)
        self._slip = self._roll = np.zeros((0, 3))
        self._bonds = (np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros((0, 2), np.int32), np.zeros(0), np.zeros(0))
        self._tethers = (np.zeros(0, np.int32), np.zeros((0, 3)))
        self._kernels = library(KERNELS)
        self._kernels.advance.restype = self._kernels.neighbours.restype = self._kernels.forces.restype = ctypes.c_int64
        self._set_law(law, press_um)
        self._wall_touching = np.zeros((len(self._walls), n), np.uint8)
        self._wall_slip = np.zeros((len(self._walls), n, 3))

    def _check(self, centres: NDArray, press_um: float, relaxation: Relaxation) -> None:
        n = len(self.radius)
        if centres.shape != (n, 3) or self.phase.shape != (n,) or n == 0:
            raise ContractError(
                f"a packing of {n} radii has centres of shape {centres.shape} and phases of shape {self.phase.shape}; expected ({n}, 3) and ({n},)",
                hint="give a centre (x, y, z), a radius and a phase of each sphere",
            )
        numbers = (*centres.ravel(), *self.radius, press_um, *self.length[:2])
        if not np.isfinite(numbers).all() or (self.radius <= 0).any() or (self.length <= 0).any():
            raise ContractError(
                "a packing has centres, radii or sides that are no finite numbers, or not above 0",
                hint="look at its spheres and its box",
            )
        if not np.isin(self.phase, (CBD, AM)).all():
            raise ContractError(
                f"a packing has spheres of the phases {sorted(set(np.unique(self.phase).tolist()))}; expected {CBD} (CBD) and {AM} (AM)",
                hint="check dumps.phase_of_type",
            )
        widest = 2 * self.radius.max() + relaxation.skin_um
        for axis in range(2):
            if self.periodic[axis] and self.length[axis] < widest:
                raise ContractError(
                    f"side {'xy'[axis]} of a periodic packing is {self.length[axis]:g} um long; expected {widest:.4g} um or more, so that no sphere touches its own image",
                    hint="take a larger film, or one with smaller spheres",
                )

    def _set_law(self, law: ContactLaw, press_um: float) -> None:
        self.law = law
        pairs, plane, relaxation = law.of_pairs(), law.of_planes(), self.relaxation
        self._matrices = {name: np.ascontiguousarray(matrix) for name, matrix in pairs.items()}
        self._law = CLaw(
            n_types=2,
            adhesion=ADHESIONS.index(law.adhesion),
            tangential=TANGENTIALS.index(law.tangential),
            **{name: matrix.ctypes.data for name, matrix in self._matrices.items()},
            friction=law.friction,
            rolling_friction=law.rolling_friction,
            damping=relaxation.damping,
            cundall=relaxation.cundall,
            inertia=relaxation.inertia,
            largest_step=relaxation.largest_step_um,
        )
        common = {"modulus": plane["modulus"], "shear": plane["shear"], "linear": plane["linear"], "velocity": 0.0}
        walls = [
            CWall(axis=2, side=-1, position=0.0, friction=law.foil_friction, energy=plane["foil_energy"], **common),
            CWall(axis=2, side=1, position=press_um, friction=law.press_friction, energy=0.0, **common),
        ]
        for axis in range(2):
            if not self.periodic[axis]:
                walls += [
                    CWall(
                        axis=axis,
                        side=side,
                        position=self.low[axis] + end * self.length[axis],
                        friction=0.0,
                        energy=0.0,
                        **common,
                    )
                    for end, side in enumerate((-1, 1))
                ]
        self._walls = (CWall * len(walls))(*walls)

    @property
    def pairs(self) -> NDArray[np.int32]:
        """The pairs that are listed, (m, 4): two spheres, and the periodic sides x and y that lie between them, in order."""
        return np.column_stack([self._first, self._second, self._image])

    @property
    def press_um(self) -> float:
        """Height of the press."""
        return float(self._walls[PRESS].position)

    def _state(self) -> CState:
        bonds, tethers = self._bonds, self._tethers
        return CState(
            n=len(self.radius),
            **{
                name: array.ctypes.data
                for name, array in (
                    ("x", self.centres),
                    ("v", self.velocity),
                    ("w", self.spin),
                    ("radius", self.radius),
                    ("type", self.type),
                    ("first", self._first),
                    ("second", self._second),
                    ("image", self._image),
                    ("touching", self._touching),
                    ("slip", self._slip),
                    ("roll", self._roll),
                    ("wall_touching", self._wall_touching),
                    ("wall_slip", self._wall_slip),
                    *zip(("bond_first", "bond_second", "bond_image", "bond_length", "bond_stiffness"), bonds, strict=True),
                    *zip(("tethered", "anchor"), tethers, strict=True),
                )
            },
            length=(ctypes.c_double * 3)(*np.where(self.periodic, self.length, 1.0)),
            periodic=(ctypes.c_int64 * 3)(*self.periodic),
            n_pairs=len(self._first),
            n_walls=len(self._walls),
            walls=ctypes.addressof(self._walls),
            n_bonds=len(bonds[0]),
            n_tethers=len(tethers[0]),
            tether_stiffness=self.law.foil_set_stiffness_n_m * 1e3,
        )

    def find_pairs(self, gap_um: float) -> None:
        """List all pairs with a gap below ``gap_um``; contacts keep their memory."""
        n, capacity = len(self.radius), max(len(self._first) * 5 // 4, 16 * len(self.radius))
        length = np.where(self.periodic, self.length, 1.0)
        periodic = np.array(self.periodic, np.int64)
        while True:
            first, second, image = (np.empty(shape, np.int32) for shape in (capacity, capacity, (capacity, 2)))
            found = self._kernels.neighbours(
                ctypes.c_int64(n),
                *(_pointer(array) for array in (self.centres, self.radius)),
                ctypes.c_double(gap_um),
                *(_pointer(array) for array in (length, periodic)),
                ctypes.c_int64(capacity),
                *(_pointer(array) for array in (first, second, image)),
            )
            if found < 0:
                raise MemoryError(f"no memory for the neighbours of {n} spheres")
            if found <= capacity:
                break
            capacity = found
        first, second, image = first[:found].copy(), second[:found].copy(), image[:found].copy()
        touching, slip, roll = np.empty(found, np.uint8), np.empty((found, 3)), np.empty((found, 3))
        old = (self._first, self._second, self._image, self._touching, self._slip, self._roll)
        self._kernels.carry(
            ctypes.c_int64(len(self._first)),
            *(_pointer(array) for array in old),
            ctypes.c_int64(found),
            *(_pointer(array) for array in (first, second, image, touching, slip, roll)),
        )
        self._first, self._second, self._image = first, second, image
        self._touching, self._slip, self._roll = touching, slip, roll

    def move_press(self, to_um: float, substeps: int) -> None:
        """Move the press to a height in equal substeps, and let the spheres follow.

        Raises ContractError when a sphere's position is no number any more.
        """
        begin, done = self.press_um, 0
        velocity = (to_um - begin) / substeps if substeps else 0.0
        while done < substeps:
            self.find_pairs(self.relaxation.skin_um)
            self._walls[PRESS].velocity = velocity
            self._walls[PRESS].position = begin + velocity * done
            state, pressed = self._state(), np.zeros(len(self._walls))
            advanced = self._kernels.advance(
                ctypes.byref(state),
                ctypes.byref(self._law),
                *(_pointer(array) for array in (self._inertia, self._rotary)),
                ctypes.c_int64(substeps - done),
                ctypes.c_double(self.relaxation.skin_um),
                _pointer(pressed),
            )
            if advanced < 0:
                raise MemoryError(f"no memory for the forces on {len(self.radius)} spheres")
            done += advanced
            self.pressed_nn = pressed[:2]
        self._walls[PRESS].position, self._walls[PRESS].velocity = to_um, 0.0
        if not np.isfinite(self.centres).all():
            raise ContractError(
                "the spheres of a packing flew apart",
                hint="raise relaxation.inertia or the number of substeps; look at the contact law",
            )

    def forces(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return forces (n, 3) in nN, torques (n, 3) in nN um, and what foil and press bear, nN, at the state as it is.

        The springs of friction advance by the velocities, as in a substep; spheres without inertia are not damped.
        """
        self.find_pairs(self.relaxation.skin_um)
        n = len(self.radius)
        force, torque, pressed = np.zeros((n, 3)), np.zeros((n, 3)), np.zeros(len(self._walls))
        state = self._state()
        if self._kernels.forces(ctypes.byref(state), ctypes.byref(self._law), *map(_pointer, (force, torque, pressed))) < 0:
            raise MemoryError(f"no memory for the forces on {n} spheres")
        return force, torque, pressed[:2]

    def place(self, centres_um: NDArray[np.float64], velocity: NDArray[np.float64] | None = None) -> None:
        """Put the spheres where they were seen, and let contacts keep their memory; ``velocity`` (n, 3) in um a substep replaces theirs."""
        self.centres[:] = centres_um
        if velocity is not None:
            self.velocity[:] = velocity

    def set_contacts(self) -> None:
        """Let all stand still, give each contact a spring at its present length, and tether what touches the foil."""
        self.velocity[:] = 0
        self.spin[:] = 0
        self.find_pairs(0.0)
        i, j = self._first, self._second
        distance = self.centres[j] - self.centres[i]
        distance[:, :2] -= self._image * np.where(self.periodic[:2], self.length[:2], 0.0)
        stiffness = self.law.set_stiffness()[self.type[i], self.type[j]]
        self._bonds = (i.copy(), j.copy(), self._image.copy(), np.linalg.norm(distance, axis=1), np.ascontiguousarray(stiffness))
        near = np.flatnonzero(self.centres[:, 2] - self.radius < FOIL_REACH_UM).astype(np.int32)
        self._tethers = (near, self.centres[near].copy())


def _pointer(array: NDArray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
