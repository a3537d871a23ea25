"""The stage ``surrogate``: the next frame of a film from a lag window of past ones."""

from typing import TYPE_CHECKING

from ..base.errors import nearest_name
from ..base.stage import Stage
from .settings import RULES, SurrogateSettings

if TYPE_CHECKING:
    from ..study.study import Study


def artefacts(study: "Study") -> list[str]:
    """Return all finished files of the stage."""
    made = []
    for film, degree in study.report_runs:
        folder = f"<results>/surrogate/{film}/cd{degree}"
        made += [f"{folder}/{p}_{mode}.zarr.zip" for p in study.predictors(film) for mode in study.modes(p)]
        made += [f"{folder}/metrics.{end}" for end in ("csv", "json")]
    if study.report_runs:
        made += ["<results>/surrogate/split.json"]
        names = study.settings.surrogate.architectures
        made += [f"<results>/surrogate/{name}{end}" for name in names for end in (".pt", "_losses.csv")]
        if study.settings.surrogate.search.architecture:
            made += [f"<results>/surrogate/search/{name}" for name in ("trials.csv", "trials.json", "best.json")]
    return made


def contradictions(study: "Study") -> list[str]:
    """Return what the split and the films contradict."""
    settings, films = study.settings.surrogate, study.surrogate_films
    split, found = settings.split, []
    if films and settings.model_fields_set and not split.tests_something and "test_films" not in split.model_fields_set:
        found.append(
            f"surrogate.split names no film to test; name some of {', '.join(films)} in surrogate.split.test_films, or leave the"
            " section surrogate out"
        )
    calendering = study.settings.calendering
    shortest = min(calendering.compression_degrees_percent)
    frames, lag = calendering.frames(shortest), settings.lag_window
    if study.films and split.tests_something and frames <= lag:
        found.append(
            f"surrogate.lag_window {lag} needs more than {lag} frames; the shortest series (compression degree {shortest} %) has {frames}"
        )
    if films and split.tests_something:
        wanted = [*split.test_films, *split.validation_films, *(row.film for row in split.held_out)]
        found += [
            f"surrogate.split names film {name!r}: {nearest_name(name, films)}"
            for name in dict.fromkeys(wanted)
            if name not in films
        ]
        for row in split.held_out:
            missing = sorted(set(row.compression_degrees_percent) - set(study.degrees(row.film))) if row.film in films else []
            found += [f"surrogate.split holds out {row.film} at {degree} %, which is never pressed" for degree in missing]
        if not set(films) - set(split.test_films) - set(split.validation_films):
            found.append("surrogate.split leaves no film to train on")
    return found


STAGE = Stage(
    "surrogate",
    SurrogateSettings,
    "The model of the next frame.",
    RULES,
    artefacts=artefacts,
    contradictions=contradictions,
)
