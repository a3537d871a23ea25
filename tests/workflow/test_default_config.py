"""config/config.yaml shows every setting there is, and so stays the place where users look them up."""

import functools
from pathlib import Path

from calandria.autoencoder.settings import CaseSettings
from calandria.base.settings import read_yaml
from calandria.study.study import StudySettings

TOP = Path(__file__).parents[2]


def keys(content, prefix=""):
    for key, value in content.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from keys(value, f"{prefix}{key}.")


SEARCHED = {
    "surrogate": {"networks": {"conv1d_lags": {"kind": "conv1d_lags", "learning": {"search": {}}}}},
    "autoencoder": {"learning": {"search": {}}},
}


def test_the_default_config_names_every_setting():
    written = read_yaml(TOP / "config/config.yaml")
    known = StudySettings.from_mapping(written, "config/config.yaml").model_dump()
    missing = {key for key in keys(known) if not any(part.isdigit() for part in key.split("."))} - set(keys(written))
    assert missing == set()


def test_what_it_shows_is_the_default_but_for_what_the_demo_needs():
    written = StudySettings.from_mapping(read_yaml(TOP / "config/config.yaml"), "config/config.yaml").model_dump()
    default = StudySettings(name="demo", title=written["title"]).model_dump()
    assert written["surrogate"].pop("predictors") == StudySettings(name="demo", title="Demo").surrogate.compared
    assert default["surrogate"].pop("predictors") is None
    searched = StudySettings.from_mapping({"name": "demo", "title": "Demo", **SEARCHED}, "test").model_dump()
    shorter = {
        **{
            f"{learner}.learning.search.budget.{last}": values
            for learner in ("autoencoder", "surrogate.networks.conv1d_lags")
            for last, values in {"workers": (1, 2), "n_trials": (4, 6), "n_startup_trials": (2, 4)}.items()
        },
        "calendering.compression_degrees_percent": ([20, 50], [20, 35, 50]),
        "autoencoder.learning.training.epochs": (15, 40),
        "autoencoder.learning.search.space.epochs": ([15], [20]),
        "surrogate.networks.conv1d_lags.learning.training.epochs": (8, 12),
        "surrogate.networks.conv1d_lags.learning.search.epochs": (4, 6),
    }
    for place, (short, usual) in shorter.items():
        *way, last = place.split(".")
        sections = [functools.reduce(dict.__getitem__, way, content) for content in (written, searched)]
        assert tuple(section.pop(last) for section in sections) == (short, usual)
        if "search" not in way:
            assert functools.reduce(dict.__getitem__, way, default).pop(last) == usual
    for find in (lambda content: content["surrogate"]["networks"]["conv1d_lags"], lambda content: content["autoencoder"]):
        assert find(written)["learning"].pop("search") == find(searched)["learning"]["search"]
        assert find(default)["learning"].pop("search") is None
    demo = {
        "calendering": {"films_sheet": "config/films.tsv"},
        "tomography": {"samples_sheet": "config/tomography_samples.tsv"},
        "report": {"references_sheet": "config/references.tsv"},
    }
    for section, named in demo.items():
        assert {key: written[section].pop(key) for key in named} == named
        assert not any(default[section].pop(key) for key in named)
    assert written["surrogate"]["split"].pop("test_films") == ["film_3"]
    assert default["surrogate"]["split"].pop("test_films") == []
    case = CaseSettings(samples=("nmc532_calendered",)).model_dump()
    leaking = {**case, "split": "random", "searched": False}
    assert written["autoencoder"].pop("cases") == {"calendered": case, "calendered_leaking": leaking}
    assert default["autoencoder"].pop("cases") == {}
    assert written == default
