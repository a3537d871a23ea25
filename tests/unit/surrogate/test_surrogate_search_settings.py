import pytest

from calandria.base.errors import SettingsError
from calandria.base.records import read_json, write_json
from calandria.surrogate.settings import SurrogateSettings
from calandria.surrogate.trial import VALUE_NAME
from workflow_scripts.surrogate import search_surrogate

PAPER_ALONE = {"architectures": ["paper"], "predictors": ["copy", "paper"]}


def words(settings):
    wanted = ("split", "frames", "directory", "output-trials", "output-best", "output-importance")
    return ["--settings", str(settings), *(word for name in wanted for word in (f"--{name}", str(settings.parent / name)))]


def test_a_study_may_search_nothing(tmp_path):
    settings = SurrogateSettings.from_mapping(PAPER_ALONE | {"search": {"architecture": None}}, "settings")
    assert settings.search.architecture is None
    write_json(tmp_path / "surrogate.json", {"settings": settings.model_dump(mode="json")})
    with pytest.raises(SettingsError, match="no network is searched"):
        search_surrogate.main(words(tmp_path / "surrogate.json"))


def test_a_network_that_is_never_trained_is_not_searched():
    with pytest.raises(SettingsError, match=r"search\.architecture 'press_unet' is not in architectures"):
        SurrogateSettings.from_mapping(PAPER_ALONE | {"search": {"architecture": "press_unet"}}, "settings")


@pytest.mark.parametrize(("architectures", "networks"), [(["press_unet"], ["model"]), (["paper"], ["paper"])])
def test_one_network_may_be_asked_for_and_nothing_else_be_said(architectures, networks):
    settings = SurrogateSettings.from_mapping({"architectures": architectures}, "settings")
    assert settings.search.architecture is None
    assert settings.compared == ["copy", "affine_voxels", "affine_press", "affine_spheres", *networks, "replicate"]
    assert SurrogateSettings.from_mapping(settings.model_dump(mode="json"), "slice") == settings


@pytest.mark.parametrize("architecture", ["paper", "press_unet"])
def test_a_search_says_what_its_value_is(tmp_path, monkeypatch, architecture):
    asked = []
    monkeypatch.setattr(search_surrogate, "run_as_asked", lambda options, definition: asked.append(definition))
    write_json(tmp_path / "surrogate.json", {"search": {"architecture": architecture}})
    assert read_json(tmp_path / "surrogate.json")
    search_surrogate.main(words(tmp_path / "surrogate.json"))
    assert asked[0].value_name == f"validation loss: {VALUE_NAME[architecture]}"
