"""The stage ``transport``: steady diffusion through volumes and frames; volumes and contact areas of frames."""

from typing import TYPE_CHECKING

from ..base.stage import Stage
from .settings import RULES, TransportSettings

if TYPE_CHECKING:
    from ..study.study import Study


def diffusion(study: "Study") -> list[tuple[str, str, str]]:
    """Return sample, case and axis of every solve of an image."""
    part = study.settings.transport.tomography
    return [(sample, case, axis) for sample in study.samples for case in part.cases for axis in part.axes]


def series_cases(study: "Study") -> list[tuple[str, str]]:
    """Return case and axis of the solves of every series."""
    part = study.settings.transport.series
    return [(case, axis) for case in part.cases for axis in part.axes]


def series_tables(study: "Study", origin: str, film: str, degree: int) -> list[str]:
    """Return the tables of solve_series of one run, one per case and axis."""
    folder = f"<results>/transport/{origin}/{film}/cd{degree}"
    return [f"{folder}/{case}_{axis}.csv" for case, axis in series_cases(study)]


def artefacts(study: "Study") -> list[str]:
    """Return all finished files of the stage; each table has a record beside it."""
    made = [f"<results>/transport/{sample}/{case}_{axis}.json" for sample, case, axis in diffusion(study)]
    runs = [("calendering", *run) for run in study.all_runs] + [("surrogate", *run) for run in study.report_runs]
    for origin, film, degree in runs:
        tables = [*series_tables(study, origin, film, degree), f"<results>/transport/{origin}/{film}/cd{degree}/frames.csv"]
        made += [path for table in tables for path in (table, table.removesuffix(".csv") + ".json")]
    return made


STAGE = Stage("transport", TransportSettings, "Effective diffusivity and tortuosity factor.", RULES, artefacts=artefacts)
