"""The stage ``autoencoder``: latent features of mini-volumes."""

from typing import TYPE_CHECKING

from ..base.errors import nearest_name
from ..base.stage import Figure, Source, Stage
from .settings import RULES, AutoencoderSettings

if TYPE_CHECKING:
    from ..study.study import Study

NAMES = (
    "mini_volumes.csv", "model.pt", "losses.csv", "features.csv", "reconstructions.h5", "evaluation.json", "reconstructions.png",
    "losses.png",
)  # fmt: skip
SEARCH_FILES = ("trials.csv", "trials.json", "best.json", "importance.png")


def searches(study: "Study") -> dict[str, str]:
    """Return the results folder of every search, by the case's name."""
    cases = study.settings.autoencoder.searched_cases if study.samples else []
    return {case: f"<results>/autoencoder/{case}/search" for case in cases}


def best_of_search(study: "Study", case: str) -> list[str]:
    """Return the result of a case's search in a list that is empty where it is not searched."""
    return [f"{folder}/best.json" for name, folder in searches(study).items() if name == case]


def artefacts(study: "Study") -> list[str]:
    """Return all finished files of the stage."""
    made = [
        f"<results>/autoencoder/{case}/w{window}_s{stride}/{name}"
        for case, window, stride in study.mini_volume_sets
        for name in NAMES
    ]
    return made + [f"{folder}/{name}" for folder in searches(study).values() for name in SEARCH_FILES]


def by_case(study: "Study") -> list[tuple[str, int, int]]:
    """Return case, window and stride of every auto-encoder, in the order of the cases' names: that of a mapping means nothing."""
    return sorted(study.mini_volume_sets, key=lambda found: found[0])


def sources(study: "Study") -> list[Source]:
    """Return what the report reads: the evaluation of each auto-encoder, and the searches."""
    found = [
        Source(
            "autoencoder",
            "evaluation",
            "evaluate_autoencoder",
            {"record": f"<results>/autoencoder/{case}/w{window}_s{stride}/evaluation.json"},
            {"case": case, "window": window, "stride": stride, "searched": case in searches(study)},
        )
        for case, window, stride in by_case(study)
    ]
    for case, folder in sorted(searches(study).items()):
        found.append(Source("autoencoder", "search", "search_autoencoder", {"best": f"{folder}/best.json"}, {"case": case}))
    return found


def figures(study: "Study") -> list[Figure]:
    """Return the figures of each auto-encoder and search."""
    found = []
    for case, window, stride in by_case(study):
        folder, what = f"<results>/autoencoder/{case}/w{window}_s{stride}", f"{case}, window {window}, stride {stride}"
        caption = f"Mini-volumes, and their reconstruction from latent features; {what}."
        found.append(Figure(f"{folder}/reconstructions.png", "autoencoder", caption))
        found.append(Figure(f"{folder}/losses.png", "autoencoder", f"Mean squared error over the epochs; {what}."))
    for case, folder in sorted(searches(study).items()):
        caption = f"How much each parameter matters, and how the search went; {case}."
        found.append(Figure(f"{folder}/importance.png", "autoencoder", caption))
    return found


def contradictions(study: "Study") -> list[str]:
    """Return what the case studies and the samples contradict."""
    settings, found = study.settings.autoencoder, []
    if study.samples and settings.model_fields_set and "cases" not in settings.model_fields_set:
        found.append("autoencoder.cases names no case study; name one and its samples, or leave the section autoencoder out")
    if study.samples:
        for name, case in settings.cases.items():
            found += [
                f"autoencoder.cases.{name} names sample {sample!r}: {nearest_name(sample, study.samples)}"
                for sample in case.samples
                if sample not in study.samples
            ]
    return found


STAGE = Stage(
    "autoencoder",
    AutoencoderSettings,
    "Latent features of mini-volumes.",
    RULES,
    artefacts=artefacts,
    sources=sources,
    figures=figures,
    contradictions=contradictions,
)
