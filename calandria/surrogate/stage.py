"""The stage ``surrogate``: the next frame of a film from a lag window of past ones."""

from typing import TYPE_CHECKING

from ..base.errors import nearest_name
from ..base.stage import Figure, Source, Stage
from ..transport.stage import table_files
from .networks import network_of
from .settings import RULES, SurrogateSettings

if TYPE_CHECKING:
    from ..study.study import Study

SEARCH_FILES = ("trials.csv", "trials.json", "best.json", "importance.png")


def predictors(study: "Study", film: str) -> list[str]:
    """Return the predictors of a film: one that needs a second run only where the film has one."""
    settings = study.settings.surrogate
    return [
        name for name in settings.compared if "replicate_frames" not in settings.predictor(name).needs or study.replicate_of(film)
    ]


def predictors_with(study: "Study", *modes: str) -> list[str]:
    """Return the predictors that have exactly these modes."""
    settings = study.settings.surrogate
    return [name for name in settings.compared if settings.predictor(name).modes == modes]


def prediction_files(study: "Study", film: str, degree: int | str) -> dict[str, str]:
    """Return the file of every prediction of a run, by PREDICTOR:MODE."""
    return {
        f"{name}:{mode}": f"<results>/surrogate/{film}/cd{degree}/{name}_{mode}.zarr.zip"
        for name in predictors(study, film)
        for mode in study.settings.surrogate.predictor(name).modes
    }


def predictor_files(study: "Study", predictor: str, film: str, degree: int | str) -> dict[str, str]:
    """Return the files that a predictor needs beside the true series of a run, by their names in predictors.INPUTS."""
    runs = "<results>/calendering"
    places = {
        "model": f"<results>/surrogate/{predictor}.pt",
        "particles": f"{runs}/{film}/cd{degree}/particles.h5",
        "replicate_frames": f"{runs}/{study.replicate_of(film)}/cd{degree}/frames.zarr.zip",
    }
    return {name: places[name] for name in study.settings.surrogate.predictor(predictor).needs}


def device_of(study: "Study", predictor: str) -> str:
    """Return where a predictor computes: networks on the device on which they are trained."""
    network = study.settings.surrogate.networks.get(predictor)
    return "cpu" if network is None else str(network.learning.device)


def looks(study: "Study") -> dict[str, dict[str, str]]:
    """Return how figures show predictors: the colour of each, and what the loss of each network is."""
    settings = study.settings.surrogate
    return {
        "colours": {name: settings.predictor(name).colour for name in settings.compared},
        "losses": {name: network_of(network.kind).loss for name, network in settings.networks.items()},
    }


def searches(study: "Study") -> dict[str, str]:
    """Return the results folder of every search, by the network's name."""
    names = study.settings.surrogate.searched if study.report_runs else []
    return {name: f"<results>/surrogate/search/{name}" for name in names}


def best_of_search(study: "Study", network: str) -> list[str]:
    """Return the result of a network's search in a list that is empty where it is not searched."""
    return [f"{folder}/best.json" for name, folder in searches(study).items() if name == network]


def artefacts(study: "Study") -> list[str]:
    """Return all finished files of the stage."""
    made: list[str] = []
    for film, degree in study.report_runs:
        made += prediction_files(study, film, degree).values()
        made += [f"<results>/surrogate/{film}/cd{degree}/metrics.{end}" for end in ("csv", "json")]
    if study.report_runs:
        made += ["<results>/surrogate/split.json"]
        names = study.settings.surrogate.networks
        made += [f"<results>/surrogate/{name}{end}" for name in names for end in (".pt", "_losses.csv")]
        made += [f"{folder}/{name}" for folder in searches(study).values() for name in SEARCH_FILES]
    return made


def sort_of(study: "Study", predictor: str) -> str:
    """Return whether a predictor is a network, a baseline, one that is given the truth, or the ceiling of what can be predicted."""
    return "network" if predictor in study.settings.surrogate.networks else study.settings.surrogate.predictor(predictor).sort


def sources(study: "Study") -> list[Source]:
    """Return what the report reads: predictors, predicted against true frames of each tested run, and the searches."""
    if not study.report_runs:
        return []
    settings, split = study.settings.surrogate, {"split": "<results>/surrogate/split.json"}
    used = {name for film in {film for film, _ in study.report_runs} for name in predictors(study, film)}
    about = {name: {"sentence": settings.predictor(name).sentence, "sort": sort_of(study, name)} for name in sorted(used)}
    keys = {
        "predictors": about,
        "frames_given": settings.lag_window,
        "not_searched": sorted({*settings.networks} - {*searches(study)}),
    }
    found = [Source("surrogate", "predictors", "split_films", split, keys)]
    for film, degree in study.report_runs:
        files = {**table_files(f"<results>/surrogate/{film}/cd{degree}/metrics.csv"), **split}
        found.append(Source("surrogate", "metrics", "evaluate_predictions", files, study.keys_of_run(film, degree)))
    for name, folder in sorted(searches(study).items()):
        found.append(Source("surrogate", "search", "search_surrogate", {"best": f"{folder}/best.json"}, {"predictor": name}))
    return found


def figures(study: "Study") -> list[Figure]:
    """Return the figures of searches; those of predictions are drawn by the stage report."""
    caption = "How much each parameter matters, and how the search went"
    return [
        Figure(f"{folder}/importance.png", "surrogate", f"{caption}; {name}.") for name, folder in sorted(searches(study).items())
    ]


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
        found += _unknown_films(study, films)
    return found


def _unknown_films(study: "Study", films: list[str]) -> list[str]:
    split = study.settings.surrogate.split
    wanted = [*split.test_films, *split.validation_films, *(row.film for row in split.held_out)]
    found = [
        f"surrogate.split names film {name!r}: {nearest_name(name, films)}" for name in dict.fromkeys(wanted) if name not in films
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
    sources=sources,
    figures=figures,
    contradictions=contradictions,
)
