"""Contact laws: how two spheres, or a sphere and a plane, push, stick, slide and roll on each other."""

import ctypes
import math
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..base.errors import ContractError

Adhesion = Literal["none", "jkr", "dmt"]
Tangential = Literal["linear", "mindlin"]

ADHESIONS: tuple[Adhesion, ...] = ("none", "jkr", "dmt")
TANGENTIALS: tuple[Tangential, ...] = ("linear", "mindlin")
KPA_PER_GPA = 1e6
NN_UM_PER_N_M = 1e3
ROLLING_LENGTH_UM = {"cbd": 0.9, "am_cbd": 1.3, "am": 2.5}
"""Radii by which the rolling stiffness of the project's DEM is scaled, um."""


@dataclass(frozen=True)
class ContactLaw:
    """A contact law of active material (AM) and carbon-binder domain (CBD); only ratios of forces decide a quasi-static path.

    The elastic force is Hertz's, with adhesion after Johnson, Kendall and Roberts (``jkr``) or Derjaguin, Muller and Toporov (``dmt``).
    Friction keeps springs that remember how two surfaces slid (Mindlin's stiffness, or a constant one) and rolled, as in LAMMPS's
    ``granular`` (Luding 2008 for rolling). From the turn on, contacts hold springs of their own, and the film sticks to the foil.

    Parameters
    ----------
    am_modulus_gpa, cbd_modulus_gpa
        Young's moduli. Contacts of unlike spheres have the harmonic mean; planes are as stiff as the active material.
    am_am_surface_energy_mj_m2, am_cbd_surface_energy_mj_m2, cbd_cbd_surface_energy_mj_m2
        Surface energies of each side; the foil has that of AM-CBD contacts, the press has none.
    friction, press_friction, foil_friction
        Coefficients of sliding friction, between spheres and with the planes.
    rolling_friction
        Coefficient of rolling friction between spheres; 0 for contacts that roll freely.
    am_am_set_stiffness_n_m, am_cbd_set_stiffness_n_m, cbd_cbd_set_stiffness_n_m, foil_set_stiffness_n_m
        Springs that contacts get at the turn.
    poisson_ratio
        Of both materials.
    adhesion, tangential
        Forms of the law.
    linear_radius_um
        For ``linear`` springs: the contact radius at which Mindlin's stiffness equals theirs.
    """

    am_modulus_gpa: float = 5.0
    cbd_modulus_gpa: float = 0.2
    am_am_surface_energy_mj_m2: float = 200.0
    am_cbd_surface_energy_mj_m2: float = 3000.0
    cbd_cbd_surface_energy_mj_m2: float = 3000.0
    friction: float = 0.3
    press_friction: float = 0.2
    foil_friction: float = 0.3
    rolling_friction: float = 0.1
    am_am_set_stiffness_n_m: float = 3000.0
    am_cbd_set_stiffness_n_m: float = 300.0
    cbd_cbd_set_stiffness_n_m: float = 150.0
    foil_set_stiffness_n_m: float = 2000.0
    poisson_ratio: float = 0.3
    adhesion: Adhesion = "jkr"
    tangential: Tangential = "mindlin"
    linear_radius_um: float = 0.1

    def __post_init__(self) -> None:
        """Raise ContractError where a constant is no number of its range, or a form is unknown."""
        for name, forms in (("adhesion", ADHESIONS), ("tangential", TANGENTIALS)):
            if getattr(self, name) not in forms:
                raise ContractError(f"{name} is {getattr(self, name)!r}", hint=f"choose one of {', '.join(forms)}")
        positive = ("am_modulus_gpa", "cbd_modulus_gpa", "linear_radius_um")
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, str):
                continue
            good = math.isfinite(value) and (value > 0 if entry.name in positive else value >= 0)
            if not good or (entry.name == "poisson_ratio" and value > 0.5):
                raise ContractError(
                    f"{entry.name} of a contact law is {value}; expected a finite number {'above' if entry.name in positive else 'from'} 0"
                    + (" to 0.5" if entry.name == "poisson_ratio" else ""),
                    hint="correct the law",
                )

    def of_pairs(self) -> dict[str, NDArray[np.float64]]:
        """Return the constants of pairs as (2, 2) matrices, CBD first, in kPa, um, nN and mJ/m2.

        ``modulus`` and ``shear`` are the effective ones of a contact; ``rolling`` and ``linear`` stiffnesses are in nN/um.
        """
        young = _pairs(self.cbd_modulus_gpa, self.mixed_modulus_gpa, self.am_modulus_gpa) * KPA_PER_GPA
        energies = (self.cbd_cbd_surface_energy_mj_m2, self.am_cbd_surface_energy_mj_m2, self.am_am_surface_energy_mj_m2)
        return {
            "modulus": young / (2 * (1 - self.poisson_ratio**2)),
            "shear": (shear := young / (4 * (2 - self.poisson_ratio) * (1 + self.poisson_ratio))),
            "energy": _pairs(*energies) * (self.adhesion != "none"),
            "rolling": 2.25 * self.rolling_friction**2 * young * _pairs(*ROLLING_LENGTH_UM.values()),
            "linear": 8 * shear * self.linear_radius_um,
        }

    @property
    def mixed_modulus_gpa(self) -> float:
        """Young's modulus of contacts of unlike spheres: the harmonic mean."""
        return 1 / (0.5 / self.am_modulus_gpa + 0.5 / self.cbd_modulus_gpa)

    def of_planes(self) -> dict[str, float]:
        """Return the constants of a sphere on a plane: effective moduli (kPa), the foil's energy (mJ/m2), linear stiffness (nN/um)."""
        pairs = self.of_pairs()
        return {
            "modulus": float(pairs["modulus"][1, 1]),
            "shear": float(pairs["shear"][1, 1]),
            "foil_energy": float(pairs["energy"][0, 1]),
            "linear": float(pairs["linear"][1, 1]),
        }

    def set_stiffness(self) -> NDArray[np.float64]:
        """Return the stiffness of the springs that pairs get at the turn, (2, 2), CBD first, nN/um."""
        return NN_UM_PER_N_M * _pairs(self.cbd_cbd_set_stiffness_n_m, self.am_cbd_set_stiffness_n_m, self.am_am_set_stiffness_n_m)


def _pairs(cbd: float, mixed: float, am: float) -> NDArray[np.float64]:
    return np.array([[cbd, mixed], [mixed, am]])


class CLaw(ctypes.Structure):
    """``Law`` of _mechanics.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n_types", "adhesion", "tangential")),
        *((name, ctypes.c_void_p) for name in ("modulus", "shear", "energy", "rolling", "linear")),
        *((name, ctypes.c_double) for name in ("friction", "rolling_friction", "damping", "cundall", "inertia", "largest_step")),
    )
