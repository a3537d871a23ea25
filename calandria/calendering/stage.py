"""The stage ``calendering``: films that LAMMPS makes or the user's dumps, to labelled series."""

from typing import TYPE_CHECKING

from ..base.stage import Source, Stage
from .settings import RULES, CalenderingSettings

if TYPE_CHECKING:
    from ..study.study import Study


def artefacts(study: "Study") -> list[str]:
    """Return all finished files of the stage."""
    made = []
    for film in study.films:
        folder = f"<results>/calendering/{film}"
        made += [f"{folder}/{name}" for name in ("dried.data", "loading.lammpstrj.gz", "loading_press.csv", "restarts.tar")]
        made += [f"{folder}/cd{degree}/{name}" for degree in study.degrees(film) for name in ("dumps.lammpstrj.gz", "press.csv")]
    made += [f"<results>/calendering/{film}/inserted.data" for film in study.packed_films]
    for film, degree in study.all_runs:
        names = ("particles.h5", "frames.zarr.zip")
        made += [f"<results>/calendering/{film}/cd{degree}/{name}" for name in names]
    return made


def sources(study: "Study") -> list[Source]:
    """Return what the report reads: how the series of each run was read and voxelized."""
    found = []
    for film, degree in study.all_runs:
        files = {
            "series": f"<results>/calendering/{film}/cd{degree}/frames.zarr.zip",
            "measured": f"<results>/transport/calendering/{film}/cd{degree}/frames.json",
        }
        found.append(Source("calendering", "series", "voxelize_frames", files, study.keys_of_run(film, degree)))
    return found


def contradictions(study: "Study") -> list[str]:
    """Return what the sheets of films and runs contradict."""
    found = [
        f"film {name!r} is in the films sheet and in the runs sheet"
        for name in {film for film, _ in study.runs} & set(study.films)
    ]
    films = set(study.surrogate_films)
    found += [
        f"film {row.film!r} replicates {row.replicate_of!r}, which is no film with runs that is no replicate itself"
        for row in {row.film: row for row in study.runs.values()}.values()
        if row.replicate_of is not None and row.replicate_of not in films
    ]
    return found


STAGE = Stage(
    "calendering",
    CalenderingSettings,
    "Films and their pressing; reading of dumps; voxels.",
    RULES,
    artefacts=artefacts,
    sources=sources,
    rows={"films": CalenderingSettings.film_rows, "runs": CalenderingSettings.run_rows},
    contradictions=contradictions,
)
