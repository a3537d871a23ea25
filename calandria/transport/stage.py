"""The stage ``transport``: steady diffusion through volumes and frames; volumes and contact areas of frames."""

from typing import TYPE_CHECKING

from ..base.stage import Source, Stage
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


def sources(study: "Study") -> list[Source]:
    """Return what the report reads: the solves of each sample; frames and solves of each film's true series.

    Cases are in the order of their names, for that of a mapping in the settings means nothing.
    """
    found = []
    samples = {sample: place for place, sample in enumerate(study.samples)}
    for sample, case, axis in sorted(diffusion(study), key=lambda solve: (samples[solve[0]], solve[1])):
        files = {
            "record": f"<results>/transport/{sample}/{case}_{axis}.json",
            "volume": f"<results>/tomography/{sample}/labels.zarr.zip",
        }
        found.append(Source("transport", "volume", "solve_diffusion", files, {"sample": sample, "case": case, "axis": axis}))
    for film, degree in study.all_runs:
        keys = study.keys_of_run(film, degree)
        table = f"<results>/transport/calendering/{film}/cd{degree}/frames.csv"
        files = table_files(table) | {"series": f"<results>/calendering/{film}/cd{degree}/frames.zarr.zip"}
        found.append(Source("transport", "frames", "measure_frames", files, keys))
        tables = zip(series_cases(study), series_tables(study, "calendering", film, degree), strict=True)
        found += [
            Source("transport", "series", "solve_series", table_files(path), {**keys, "case": case, "axis": axis})
            for (case, axis), path in sorted(tables, key=lambda solve: solve[0][0])
        ]
    return found


def table_files(table: str) -> dict[str, str]:
    """Return a table and the record beside it, by role."""
    return {"table": table, "record": table.removesuffix(".csv") + ".json"}


STAGE = Stage(
    "transport", TransportSettings, "Effective diffusivity and tortuosity factor.", RULES, artefacts=artefacts, sources=sources
)
