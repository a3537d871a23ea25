"""Settings of the calendering stage: the films, how they are pressed, how dumps are read and voxelized."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from ..base.errors import SettingsError
from ..base.phases import phase_code
from ..base.settings import Section, is_partial, read_sheet
from ..base.stage import Rule

if TYPE_CHECKING:
    from ..study.study import Study

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Degree = Annotated[int, Field(ge=1, le=80)]
Solid = Literal["cbd", "am"]


class FilmRow(Section):
    """A row of the films sheet: one film that LAMMPS makes."""

    film: Name
    """Name of the film."""
    seed: int = Field(ge=0, lt=2**31)
    """Seed of its random packing (of its random shifts where it is a replicate)."""
    replicate_of: Name | None = None
    """Film whose dried particles are moved by rounding-size amounts instead of packing new ones."""


def _pairs(cell: object) -> object:
    """Turn a cell such as ``1:cbd,2:am`` into a mapping."""
    if not isinstance(cell, str):
        return cell
    pairs = [pair.split(":") for pair in cell.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("expected pairs such as 1:cbd,2:am")
    return {key.strip(): value.strip() for key, value in pairs}


PhaseOfType = Annotated[dict[int, Solid], Field(min_length=1)]
RadiusOfType = dict[int, Annotated[float, Field(gt=0)]]


class RunRow(Section):
    """A row of the runs sheet: one DEM run of the user; empty cells keep what the section ``dumps`` says."""

    film: Name
    """Name of the film."""
    compression_degree_percent: Degree
    """Label of the compression degree in per cent."""
    dumps: str = Field(min_length=1)
    """Dump file, folder of dump files, or glob pattern."""
    press: str | None = None
    """CSV of the press (columns step or time_us, and z_press or press_position_um); without it the press is estimated."""
    replicate_of: Name | None = None
    """Film of which this one is a replicate (a run that differs by chance only); it is kept out of training. The same in all lines of a film."""
    phase_of_type: Annotated[PhaseOfType | None, BeforeValidator(_pairs)] = None
    """Phase of each particle type, e.g. 1:cbd,2:am."""
    radius_of_type_um: Annotated[RadiusOfType | None, BeforeValidator(_pairs)] = None
    """Radius (um) of each type for dumps that hold none, e.g. 1:0.9,2:2.6."""
    length_unit_um: float | None = Field(None, gt=0)
    """Length of one unit of the dump in um."""
    frame_interval_us: float | None = Field(None, gt=0)
    """Time between frames in us."""
    collector_z_um: float | None = None
    """Height of the current collector's surface in the dump, in um."""
    expected_frames: int | None = Field(None, ge=1)
    """Number of frames that must be found."""

    def overrides(self) -> dict[str, object]:
        """Return the fields of :class:`DumpSettings` that this row states."""
        return {name: value for name in DumpSettings.model_fields if (value := getattr(self, name, None)) is not None}


class LognormalDiameters(Section):
    """Diameters of the active-material spheres: log-normal, cut at both ends."""

    median_um: float = Field(5.2, gt=0, le=100)
    """Median of the distribution before cutting, um."""
    sigma: float = Field(0.30, gt=0, le=2)
    """Standard deviation of the logarithm."""
    minimum_um: float = Field(3.0, gt=0)
    """Smaller spheres are drawn again, um."""
    maximum_um: float = Field(10.0, gt=0)
    """Larger spheres are drawn again, um."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.minimum_um <= self.median_um <= self.maximum_um:
            raise ValueError("expected minimum_um <= median_um <= maximum_um")
        return self


class UniformDiameters(Section):
    """Diameters of the carbon-binder spheres: uniform."""

    minimum_um: float = Field(1.5, gt=0)
    """Smallest diameter, um."""
    maximum_um: float = Field(2.0, gt=0)
    """Largest diameter, um."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.minimum_um > self.maximum_um:
            raise ValueError("expected minimum_um <= maximum_um")
        return self


class FilmSettings(Section):
    """Size and composition of the films that LAMMPS makes."""

    width_um: float = Field(15.2, gt=1, le=1000)
    """Width and depth of the periodic box, um (the calendering paper: 30.4)."""
    thickness_um: float = Field(25.0, gt=1, le=1000)
    """Height to which drying takes the film, um (the calendering paper: 47)."""
    porosity_free: float = Field(0.48, gt=0.2, lt=0.9)
    """Volume outside all spheres over film volume at that height, overlaps not counted; a fraction. Binder spheres count as solid, nanopores included."""
    am_mass_fraction: float = Field(0.96, gt=0, lt=1)
    """Mass of active material over mass of solid."""
    am_density_g_cm3: float = Field(4.7, gt=0)
    """Density of the active material, g/cm3."""
    cbd_density_g_cm3: float = Field(0.95, gt=0)
    """Density of the (nanoporous) carbon-binder domain, g/cm3."""
    am_diameters: LognormalDiameters = LognormalDiameters()
    """Active-material spheres."""
    cbd_diameters: UniformDiameters = UniformDiameters()
    """Carbon-binder spheres."""
    suspension_height: float = Field(2.2, ge=1.3, le=20)
    """Height in which the spheres are inserted without overlap, in units of ``thickness_um``."""


class ContactSettings(Section):
    """Contacts: JKR adhesion with sliding and rolling friction; springs that are set at the turn make unloading stiffer."""

    am_modulus_gpa: float = Field(5.0, gt=0)
    """Contact modulus of the active material, GPa (softer than the oxide: the spheres stand for porous secondary particles)."""
    cbd_modulus_gpa: float = Field(0.2, gt=0)
    """Contact modulus of the carbon-binder domain, GPa."""
    poisson_ratio: float = Field(0.3, ge=0, lt=0.5)
    """Poisson's ratio of both."""
    am_am_surface_energy_mj_m2: float = Field(200.0, ge=0)
    """Surface energy of AM-AM contacts, mJ/m2."""
    am_cbd_surface_energy_mj_m2: float = Field(3000.0, ge=0)
    """Surface energy of AM-CBD contacts and of the foil, mJ/m2."""
    cbd_cbd_surface_energy_mj_m2: float = Field(3000.0, ge=0)
    """Surface energy of CBD-CBD contacts, mJ/m2."""
    friction: float = Field(0.3, ge=0, le=2)
    """Sliding friction between particles, and with the foil."""
    press_friction: float = Field(0.2, ge=0, le=2)
    """Sliding friction with the press."""
    rolling_friction: float = Field(0.1, ge=0, le=2)
    """Rolling friction between particles."""
    normal_damping_per_us: float = Field(1.0, ge=0)
    """Damping rate of contacts, 1/us."""
    am_am_set_stiffness_n_m: float = Field(3000.0, ge=0)
    """Stiffness of the spring that an AM-AM contact gets at the turn, N/m."""
    am_cbd_set_stiffness_n_m: float = Field(300.0, ge=0)
    """The same for AM-CBD contacts, N/m."""
    cbd_cbd_set_stiffness_n_m: float = Field(150.0, ge=0)
    """The same for CBD-CBD contacts, N/m."""
    foil_set_stiffness_n_m: float = Field(2000.0, ge=0)
    """Stiffness of the springs that hold the particles on the foil after the turn, N/m."""


class MotionSettings(Section):
    """Time steps, scaled masses and damping of the particle simulation."""

    mass_scale: float = Field(1e4, ge=1)
    """All masses are multiplied by it, so that time steps can be long; the path is quasi-static, its times are labels."""
    cbd_mass_scale: float = Field(4.0, ge=1)
    """Further factor for the light carbon-binder spheres."""
    drying_timestep_us: float = Field(0.06, gt=0, le=1)
    """Time step while drying, us."""
    drying_speed_um_us: float = Field(0.15, gt=0)
    """Speed of the sinking liquid surface, um/us."""
    relaxation_steps: int = Field(4000, ge=1)
    """Steps of rest under the surface, and again without it."""
    timestep_us: float = Field(0.05, gt=0, le=1)
    """Time step while pressing and releasing, us."""
    settling_steps: int = Field(1500, ge=0)
    """Steps of rest under the standing press before it moves."""
    press_gap_um: float = Field(0.02, ge=0)
    """Gap between the film's top and the press at the start, um."""
    release_speed: float = Field(1.0, gt=0, le=10)
    """Speed of the rising press in units of the sinking press's."""
    drying_damping: float = Field(0.3, ge=0, lt=1)
    """Cundall damping while drying."""
    loading_damping: float = Field(0.2, ge=0, lt=1)
    """Cundall damping while loading."""
    release_damping: float = Field(0.4, ge=0, lt=1)
    """Cundall damping while releasing."""
    neighbor_skin_um: float = Field(0.5, gt=0)
    """Skin of the neighbour lists, um; it changes the run time, not the physics."""
    perturbation_um: float = Field(1e-6, gt=0, le=0.1)
    """Largest shift of a coordinate in a replicate, um: the size of rounding in a written file."""


class DumpSettings(Section):
    """How particle dumps become particles in um, us and phases."""

    phase_of_type: PhaseOfType = {1: "cbd", 2: "am"}
    """Phase (cbd or am) of each particle type of the dump; a single entry also serves dumps without types."""
    radius_of_type_um: RadiusOfType = {}
    """Radius of each type, um; used only where the dump holds neither radius nor diameter."""
    length_unit_um: float | None = Field(None, gt=0)
    """Length of one unit of the dump in um; null takes it from ITEM: UNITS, and 1 where the dump has none."""
    frame_interval_us: float | None = Field(None, gt=0)
    """Time between frames, us; null takes ITEM: TIME, else the press CSV, else steps times ``timestep_us``."""
    collector_z_um: float = 0.0
    """Height of the current collector's surface in the dump, um; all heights are counted from it."""
    expected_frames: int | None = Field(None, ge=1)
    """Number of frames that a run must have; null accepts what is there."""
    periodic_if_unsaid: bool = True
    """Whether the sides x and y wrap around where the dump's BOX BOUNDS carry no flags."""


class VoxelSettings(Section):
    """The voxel grid."""

    voxel_edge_um: float = Field(0.4, gt=0.01, le=10)
    """Edge of the cubic voxels, um; changed a little where a periodic box is no multiple of it (the files state the edge that came out)."""
    grid_height_voxels: int | None = Field(None, ge=1)
    """Slices of every run's grid, so that all films share one grid (the calendering paper: 125); null takes what the thickest frame of a run needs."""
    grid_height_multiple: int = Field(24, ge=1, le=64)
    """Where the height is not fixed it is rounded up to a multiple of this, so that films of nearly one thickness share a grid."""
    largest_misfit: float = Field(0.02, ge=0, lt=0.5)
    """Relative change of the voxel edge up to which whole voxels are made to fill a periodic box; a fraction."""
    largest_stretch: float = Field(0.005, ge=0, lt=0.1)
    """Stretch of positions (not radii) up to which sides x and y share an edge that fits neither quite, or a box may change during a run; a fraction."""
    conserve_volume: bool = False
    """Whether each phase is grown evenly into the pores until it has the volume of its spheres, in every frame; else what overlaps or is cut off is lost."""


class CalenderingSettings(Section):
    """Settings of the stage ``calendering``."""

    films_sheet: str | None = None
    """Sheet (TSV) of the films that LAMMPS makes: film, seed, replicate_of; null makes none."""
    runs_sheet: str | None = None
    """Sheet (TSV) of the user's own DEM runs: film, compression_degree_percent, dumps, press and overrides; null where there are none."""
    compression_degrees_percent: list[Degree] = Field([20, 35, 50], min_length=1)
    """Compression degrees to which each made film is pressed, per cent of its first thickness."""
    restart_degrees_percent: list[Degree] = Field([20, 35, 50], min_length=1)
    """Degrees at which the loading keeps a restart, per cent; it ends at the last of them. A run to another degree resumes the
    loading from the restart below, so a new compression degree costs only its own run."""
    steps_per_frame: int = Field(500, ge=1)
    """Simulation steps per frame (the calendering paper's frames of 75 us: 1500); fewer steps press faster."""
    frames_per_percent: float = Field(0.5, gt=0, le=10)
    """Frames per per cent of compression while loading."""
    frames_by_degree: dict[Degree, Annotated[int, Field(ge=2)]] = {20: 14, 25: 18, 30: 21, 35: 24, 40: 28, 45: 31, 50: 35}
    """Frames of a run by compression degree (the calendering paper's); other degrees are interpolated, or extrapolated by its slope."""
    film: FilmSettings = FilmSettings()
    """Size and composition."""
    contact: ContactSettings = ContactSettings()
    """Contact law."""
    motion: MotionSettings = MotionSettings()
    """Time steps and damping."""
    dumps: DumpSettings = DumpSettings()
    """Reading of dumps."""
    voxels: VoxelSettings = VoxelSettings()
    """Voxel grid."""

    @model_validator(mode="after")
    def _whole(self, info: ValidationInfo) -> Self:
        if is_partial(info):
            return self
        for name, listed in (
            ("compression_degrees_percent", self.compression_degrees_percent),
            ("restart_degrees_percent", self.restart_degrees_percent),
        ):
            if sorted(set(listed)) != listed:
                raise ValueError(f"{name} must rise and hold each degree once")
        degrees = self.compression_degrees_percent
        frames = [self.frames_by_degree[degree] for degree in sorted(self.frames_by_degree)]
        if len(frames) < 2 or frames != sorted(frames):
            raise ValueError("frames_by_degree needs two degrees or more, and frames that do not fall with the degree")
        for degree in degrees:
            if (self.frames(degree) - 1) * self.steps_per_frame <= self.turn_step(degree):
                raise ValueError(
                    f"{self.frames(degree)} frames at {degree} % end before the press turns; raise frames_by_degree or lower frames_per_percent"
                )
        return self

    def frames(self, degree_percent: int) -> int:
        """Return the number of frames of a run that LAMMPS makes.

        >>> CalenderingSettings().frames(45), CalenderingSettings().frames(42)
        (31, 29)
        """
        known = sorted(self.frames_by_degree)
        if degree_percent in self.frames_by_degree:
            return self.frames_by_degree[degree_percent]
        upper = next((index for index, degree in enumerate(known) if degree > degree_percent), len(known) - 1)
        low, high = known[max(upper - 1, 0)], known[max(upper, 1)]
        slope = (self.frames_by_degree[high] - self.frames_by_degree[low]) / (high - low)
        return max(2, round(self.frames_by_degree[low] + slope * (degree_percent - low)))

    def turn_step(self, degree_percent: int) -> int:
        """Return the step at which the press of a made film turns."""
        return math.floor(degree_percent * self.frames_per_percent * self.steps_per_frame + 0.5)

    def film_rows(self) -> list[FilmRow]:
        """Read the films sheet; a replicate must name a film of the sheet that is no replicate itself."""
        rows: list[FilmRow] = read_sheet(self.films_sheet, FilmRow) if self.films_sheet else []
        packed = {row.film for row in rows if row.replicate_of is None}
        told = [f"film {name!r} occurs twice" for name, count in sorted(Counter(row.film for row in rows).items()) if count > 1]
        told += [
            f"film {row.film!r} replicates {row.replicate_of!r}, which is no film of the sheet that is packed itself"
            for row in rows
            if row.replicate_of is not None and row.replicate_of not in packed
        ]
        if told:
            raise SettingsError(f"{self.films_sheet}: {'; '.join(told)}", hint="give every film one line and a name of its own")
        return rows

    def run_rows(self) -> list[RunRow]:
        """Read the runs sheet; a film and degree may occur once."""
        rows: list[RunRow] = read_sheet(self.runs_sheet, RunRow) if self.runs_sheet else []
        keys = Counter((row.film, row.compression_degree_percent) for row in rows)
        twice = sorted(key for key, count in keys.items() if count > 1)
        if twice:
            raise SettingsError(
                f"{self.runs_sheet}: {', '.join(f'{film} at {degree} %' for film, degree in twice)} occurs twice",
                hint="give every run one line",
            )
        relations = {(row.film, row.replicate_of) for row in rows}
        torn = sorted(film for film, count in Counter(film for film, _ in relations).items() if count > 1)
        if torn:
            raise SettingsError(
                f"{self.runs_sheet}: {', '.join(torn)} is a replicate in some lines only, or of several films",
                hint="give all lines of a film the same replicate_of",
            )
        return rows


def phase_codes(phase_of_type: dict[int, Solid]) -> dict[int, int]:
    """Return the phase code of each particle type.

    >>> phase_codes({1: "cbd", 2: "am"})
    {1: 1, 2: 2}
    """
    return {kind: phase_code(name) for kind, name in phase_of_type.items()}


CONTACT_LAW = tuple(
    f"contact.{name}"
    for name in (
        "am_modulus_gpa",
        "cbd_modulus_gpa",
        "poisson_ratio",
        "am_am_surface_energy_mj_m2",
        "am_cbd_surface_energy_mj_m2",
        "cbd_cbd_surface_energy_mj_m2",
        "friction",
        "press_friction",
        "rolling_friction",
        "normal_damping_per_us",
    )
)
SET_SPRINGS = tuple(f"contact.{pair}_set_stiffness_n_m" for pair in ("am_am", "am_cbd", "cbd_cbd", "foil"))
PRESSING = (*CONTACT_LAW, "motion.timestep_us", "motion.neighbor_skin_um", "steps_per_frame", "frames_per_percent")


def _seed(study: "Study", wildcards: Mapping[str, str]) -> dict[str, Any]:
    return {"seed": study.films[wildcards["film"]].seed}


def _frames(study: "Study", wildcards: Mapping[str, str]) -> dict[str, Any]:
    return {"frames": study.settings.calendering.frames(int(wildcards["degree"]))}


def _row_of_run(study: "Study", wildcards: Mapping[str, str]) -> dict[str, Any]:
    film, degree = wildcards["film"], int(wildcards["degree"])
    row = study.runs.get((film, degree))
    return {
        "files": {"dumps": row.dumps, "press": row.press} if row else None,
        "settings": {f"dumps.{name}": value for name, value in study.run_overrides(film, degree).items()},
        "replicate_of": study.original(film),
        "inputs": study.inputs_of_run(film, degree),
    }


RULES: dict[str, Rule] = {
    "insert_particles": Rule(("film", "motion.mass_scale", "motion.cbd_mass_scale"), version=4, given=_seed),
    "dry_film": Rule(
        (
            *CONTACT_LAW,
            "film.thickness_um",
            "film.suspension_height",
            *(
                f"motion.{name}"
                for name in (
                    "drying_timestep_us",
                    "drying_speed_um_us",
                    "drying_damping",
                    "relaxation_steps",
                    "neighbor_skin_um",
                )
            ),
        ),
        version=4,
    ),
    "perturb_film": Rule(("motion.perturbation_um",), version=4, given=_seed),
    "load_film": Rule(
        (*PRESSING, "restart_degrees_percent", "motion.settling_steps", "motion.loading_damping", "motion.press_gap_um"),
        version=4,
    ),
    "release_film": Rule(
        (*PRESSING, *SET_SPRINGS, "motion.loading_damping", "motion.release_damping", "motion.release_speed"),
        version=4,
        given=_frames,
    ),
    "read_dumps": Rule(("dumps", "motion.timestep_us"), version=4, given=_row_of_run),
    "voxelize_frames": Rule(("voxels",), version=5),
}
"""What the programs of the stage's rules read."""
