"""Settings of the transport stage: which phases conduct, along which axes, between which sides, and how exactly."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from ..base.phases import PHASES, phase_code
from ..base.settings import Section
from ..base.stage import Rule

if TYPE_CHECKING:
    from ..study.study import Study

Axis = Literal["z", "y", "x"]
Side = Literal["periodic", "no-flux", "file"]
Case = dict[str, Annotated[float, Field(ge=0, le=1000)]]


class PartSettings(Section):
    """What is solved on one kind of volume."""

    cases: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Case] = Field(min_length=1)
    """Per case name, the diffusivity of each conducting phase over the bulk diffusivity (no unit); other phases block."""
    axes: tuple[Axis, ...] = Field(("z",), min_length=1)
    """Directions of transport; z runs from the current collector to the separator."""
    sides: dict[Axis, Side] = {}
    """Sides per lateral axis: `periodic`, `no-flux`, or `file` for what the volume's file says; axes not named are `file`."""

    @field_validator("cases")
    @classmethod
    def _phases_exist(cls, cases: dict[str, Case]) -> dict[str, Case]:
        for name, case in cases.items():
            for phase in case:
                if phase not in PHASES or phase == "void":
                    raise ValueError(f"case {name!r} names the phase {phase!r}; known: pore, cbd, am")
            if not any(case.values()):
                raise ValueError(f"case {name!r} has no conducting phase")
        return cases

    @field_validator("axes")
    @classmethod
    def _axes_once(cls, axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        if len(set(axes)) != len(axes):
            raise ValueError("an axis is named twice")
        return axes


def diffusivities_by_code(case: Mapping[str, float]) -> dict[int, float]:
    """Return a case by phase code.

    >>> diffusivities_by_code({"pore": 1.0, "cbd": 0.05})
    {0: 1.0, 1: 0.05}
    """
    return {phase_code(phase): value for phase, value in case.items()}


def sides_of_file(sides: Mapping[str, str], periodic: tuple[bool, bool, bool]) -> dict[str, str]:
    """Return the sides per axis for a file whose ``periodic`` (z, y, x) is given.

    >>> sides_of_file({"y": "no-flux"}, (False, True, True))
    {'z': 'no-flux', 'y': 'no-flux', 'x': 'periodic'}
    """
    of_file = dict(zip("zyx", ("periodic" if wraps else "no-flux" for wraps in periodic), strict=True))
    return {name: of_file[name] if sides.get(name, "file") == "file" else sides[name] for name in "zyx"}


class TomographySettings(PartSettings):
    """Volumes from image stacks."""

    cases: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Case] = Field(
        {"pore": {"pore": 1.0}, "pore_cbd": {"pore": 1.0, "cbd": 1.0}}, min_length=1
    )
    """Per case name, the diffusivity of each conducting phase over the bulk diffusivity (no unit); other phases block."""


class SeriesSettings(PartSettings):
    """Frames of calendered films, true and predicted."""

    cases: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Case] = Field(
        {"pore": {"pore": 1.0}, "pore_cbd_resistive": {"pore": 1.0, "cbd": 0.05}}, min_length=1
    )
    """Per case name, the diffusivity of each conducting phase over the bulk diffusivity (no unit); other phases block."""


class TransportSettings(Section):
    """Effective diffusivity and tortuosity factor."""

    tomography: TomographySettings = TomographySettings()
    """Cases, axes and sides for volumes from image stacks."""
    series: SeriesSettings = SeriesSettings()
    """Cases, axes and sides for frames of calendered films."""
    bulk_diffusivity_m2_s: float = Field(2e-10, gt=0, le=1)
    """Diffusivity D_0 of the salt in the free electrolyte in m2/s; it scales D_eff and nothing else."""
    tolerance: float = Field(1e-4, ge=1e-6, le=0.1)
    """Largest estimated relative error of D_eff (no unit)."""
    max_iterations: int = Field(500, ge=1, le=100_000)
    """Maximum number of iterations; a solve that has not converged by then fails."""


SOLVER = ("bulk_diffusivity_m2_s", "tolerance", "max_iterations")


def _case(part: str) -> Callable[["Study", Mapping[str, str]], dict[str, Any]]:
    """Return what a rule needs of one case: its diffusivities by phase, and the sides; other cases are none of its business."""

    def given(study: "Study", wildcards: Mapping[str, str]) -> dict[str, Any]:
        section: PartSettings = getattr(study.settings.transport, part)
        return {"diffusivities": dict(section.cases[wildcards["case"]]), "sides": dict(section.sides)}

    return given


RULES: dict[str, Rule] = {
    "solve_diffusion": Rule(SOLVER, version=3, given=_case("tomography")),
    "solve_series": Rule(SOLVER, version=3, given=_case("series")),
    "measure_frames": Rule(version=3),
}
"""What the programs of the stage's rules read."""
