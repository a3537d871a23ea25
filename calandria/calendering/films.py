"""Films of spheres: random packings, their LAMMPS data files, contacts."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..base.errors import InputFileError, SettingsError
from ..base.phases import AM, CBD
from .settings import FilmSettings, MotionSettings

INSERTION_GAP_UM = 0.02
TRIALS, BATCH = 20_000, 50
MARGIN_UM = (2.0, 4.0)
FORMS = {"sphere": "{id} {kind} {diameter:.12g} {density:.9g} {x:.12g} {y:.12g} {z:.12g}"}
FORMS["hybrid"] = "{id} {kind} {x:.12g} {y:.12g} {z:.12g} {diameter:.12g} {density:.9g} 1"


@dataclass(frozen=True)
class Film:
    """Spheres above a foil at z = 0 in a box that is periodic in x and y; sphere i has id i + 1.

    Parameters
    ----------
    position
        (n, 3) centres in um.
    diameter
        (n) in um.
    density
        (n) in g/cm3, scaled.
    kind
        (n) LAMMPS type, which is the phase code: 1 CBD, 2 AM.
    box
        (3, 2) bounds in um.
    """

    position: NDArray[np.float64]
    diameter: NDArray[np.float64]
    density: NDArray[np.float64]
    kind: NDArray[np.int64]
    box: NDArray[np.float64]

    @property
    def top_um(self) -> float:
        """Height of the highest sphere."""
        return float((self.position[:, 2] + self.diameter / 2).max())


def insert_film(film: FilmSettings, motion: MotionSettings, rng: np.random.Generator) -> Film:
    """Pack spheres at random without overlap into a box higher than the film (random sequential addition, largest first).

    The sum of sphere volumes is (1 - porosity_free) of the film's volume, split by the mass fraction; diameters are rescaled by a hair to meet it exactly.

    Raises SettingsError where the spheres find no room.
    """
    am_volume, cbd_volume = phase_volumes(film)
    am = _fill(am_volume, lambda: _cut_lognormal(film, rng))
    cbd = _fill(cbd_volume, lambda: rng.uniform(film.cbd_diameters.minimum_um, film.cbd_diameters.maximum_um))
    diameter = np.concatenate([am, cbd])
    kind = np.repeat([AM, CBD], [am.size, cbd.size]).astype(np.int64)
    density = np.where(kind == AM, film.am_density_g_cm3, film.cbd_density_g_cm3 * motion.cbd_mass_scale) * motion.mass_scale
    height = film.thickness_um * film.suspension_height
    if diameter.max() > min(film.width_um, height):
        raise SettingsError(
            f"the largest sphere ({diameter.max():.4g} um) does not fit a box {film.width_um:g} um wide",
            hint="raise film.width_um, or lower film.am_diameters.maximum_um",
        )
    position = _add_randomly(diameter, film.width_um, height, rng)
    box = np.array([[0, film.width_um], [0, film.width_um], [-MARGIN_UM[0], height + MARGIN_UM[1]]])
    return Film(position, diameter, density, kind, box)


def phase_volumes(film: FilmSettings) -> tuple[float, float]:
    """Return the volumes (um3) of active material and carbon-binder domain in a film.

    >>> am, cbd = phase_volumes(FilmSettings())
    >>> round(am, 2), round(cbd, 2)
    (2490.19, 513.33)
    """
    solid = (1 - film.porosity_free) * film.width_um**2 * film.thickness_um
    am, cbd = film.am_mass_fraction / film.am_density_g_cm3, (1 - film.am_mass_fraction) / film.cbd_density_g_cm3
    return solid * am / (am + cbd), solid * cbd / (am + cbd)


def _cut_lognormal(film: FilmSettings, rng: np.random.Generator) -> float:
    sizes = film.am_diameters
    while True:
        diameter = float(rng.lognormal(np.log(sizes.median_um), sizes.sigma))
        if sizes.minimum_um <= diameter <= sizes.maximum_um:
            return diameter


def _fill(volume: float, draw: Callable[[], float]) -> NDArray[np.float64]:
    diameters: list[float] = []
    total = 0.0
    while total < volume:
        diameters.append(draw())
        total += np.pi / 6 * diameters[-1] ** 3
    return np.array(diameters) * (volume / total) ** (1 / 3)


def _add_randomly(diameter: NDArray[np.float64], width: float, height: float, rng: np.random.Generator) -> NDArray[np.float64]:
    position = np.empty((diameter.size, 3))
    placed = np.empty((0, 3))
    radii = np.empty(0)
    for index in np.argsort(-diameter, kind="stable"):
        radius = diameter[index] / 2
        for _ in range(TRIALS // BATCH):
            trials = rng.random((BATCH, 3)) * [width, width, height - 2 * radius] + [0, 0, radius]
            apart = trials[:, None, :] - placed[None]
            apart[..., :2] -= width * np.round(apart[..., :2] / width)
            free = np.flatnonzero(((apart**2).sum(-1) > (radii + radius + INSERTION_GAP_UM) ** 2).all(axis=1))
            if free.size:
                break
        else:
            raise SettingsError(
                f"sphere {len(placed) + 1} of {diameter.size} found no room in {TRIALS} trials",
                hint="raise film.suspension_height",
            )
        position[index] = trials[free[0]]
        placed, radii = np.vstack([placed, position[index]]), np.append(radii, radius)
    return position


def perturbed(film: Film, largest_um: float, rng: np.random.Generator) -> Film:
    """Return the film with every coordinate moved by up to ``largest_um``, uniformly."""
    position = film.position + rng.uniform(-largest_um, largest_um, film.position.shape)
    low, length = film.box[:2, 0], film.box[:2, 1] - film.box[:2, 0]
    position[:, :2] = low + np.mod(position[:, :2] - low, length)
    return replace(film, position=position)


def data_text(film: Film, style: str, comment: str) -> str:
    """Return a film as a LAMMPS data file; ``style`` is ``sphere`` or ``hybrid`` (atom style hybrid sphere bond, with room for bonds)."""
    bonds = ["3 bond types"] if style == "hybrid" else []
    bounds = [f"{low:.12g} {high:.12g} {axis}lo {axis}hi" for axis, (low, high) in zip("xyz", film.box.tolist(), strict=True)]
    columns = zip(film.kind.tolist(), film.diameter.tolist(), film.density.tolist(), *film.position.T.tolist(), strict=True)
    atoms = [
        FORMS[style].format(id=number, kind=kind, diameter=diameter, density=density, x=x, y=y, z=z)
        for number, (kind, diameter, density, x, y, z) in enumerate(columns, 1)
    ]
    head = [
        f"# {' '.join(comment.split())}",
        "",
        f"{len(atoms)} atoms",
        "2 atom types",
        *bonds,
        "",
        *bounds,
        "",
        f"Atoms # {style}",
        "",
    ]
    return "\n".join([*head, *atoms, ""])


def read_data(text: str, where: str) -> Film:
    """Read a film from a LAMMPS data file of atom style sphere or hybrid sphere bond; raises InputFileError."""
    lines = text.splitlines()
    try:
        bounds = {
            words[2][0]: words[:2] for line in lines if len(words := line.split()) == 4 and words[2] in ("xlo", "ylo", "zlo")
        }
        box = np.array([bounds[axis] for axis in "xyz"], dtype=np.float64)
        start = next(number for number, line in enumerate(lines) if line.startswith("Atoms"))
        style = lines[start].partition("#")[2].strip()
        x, diameter = {"sphere": (4, 2), "hybrid": (2, 5)}[style]
        count = next(int(line.split()[0]) for line in lines if line.endswith(" atoms"))
        table = np.array(
            [line.split()[:8] if style == "hybrid" else line.split()[:7] for line in lines[start + 2 : start + 2 + count]],
            dtype=np.float64,
        )
        table = table[np.argsort(table[:, 0])]
        if table.shape[0] != count or not np.array_equal(table[:, 0], np.arange(1, count + 1)) or not np.isfinite(table).all():
            raise ValueError(f"expected ids 1 to {count}")
    except (StopIteration, KeyError, ValueError, IndexError) as error:
        raise InputFileError(
            f"{where} is no film of spheres ({type(error).__name__}: {error})",
            hint="make it by calendering.insert_particles or dry_film",
        ) from error
    return Film(table[:, x : x + 3], table[:, diameter], table[:, diameter + 1], table[:, 1].astype(np.int64), box)


def touching_pairs(position: NDArray[np.float64], radius: NDArray[np.float64], lengths: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the pairs (m, 2) of spheres that overlap, smaller index first; x and y are periodic with ``lengths`` (2).

    >>> touching_pairs(np.array([[0.5, 0, 0], [9.5, 0, 0], [5, 5, 5.0]]), np.array([0.6, 0.6, 1.0]), np.array([10.0, 10.0])).tolist()
    [[0, 1]]
    """
    pairs: list[NDArray[np.int64]] = []
    for index in range(radius.size - 1):
        apart = position[index + 1 :] - position[index]
        apart[:, :2] -= lengths * np.round(apart[:, :2] / lengths)
        near = index + 1 + np.flatnonzero((apart**2).sum(axis=1) < (radius[index + 1 :] + radius[index]) ** 2)
        pairs.append(np.stack([np.full(near.size, index), near], axis=1))
    return np.concatenate(pairs) if pairs else np.empty((0, 2), np.int64)


def bond_commands(pairs: NDArray[np.int64], identity: NDArray[np.int64], kind: NDArray[np.int64]) -> Iterable[str]:
    """Yield the LAMMPS commands that bind pairs; bond types: 1 CBD-CBD, 2 AM-CBD, 3 AM-AM."""
    for i, j in pairs.tolist():
        yield f"create_bonds single/bond {kind[i] + kind[j] - 1} {identity[i]} {identity[j]} special no"
