"""The registry of networks, entry by entry, their settings, and what identifies a search."""

import json
import subprocess
import sys

import optuna
import pytest
import torch

from calandria.base.errors import SettingsError
from calandria.base.records import content_digest
from calandria.learning.settings import Learning, SearchSettings
from calandria.learning.training import save_checkpoint
from calandria.search.study import SearchDefinition
from calandria.surrogate.networks import NETWORKS, OURS, Network, NetworkSettings, network_of, registered
from calandria.surrogate.predictors import BASELINES, INPUTS, MODES
from calandria.surrogate.settings import SplitSettings, SurrogateSettings, network_settings
from calandria.surrogate.splits import part_places, split_runs
from calandria.surrogate.training import load_model, model_record, train
from calandria.surrogate.trial import searched_slice, suggest
from calandria.surrogate.windows import describe_runs
from tests.helpers.series import write_films

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    runs = describe_runs(write_films(tmp_path_factory.mktemp("films"), degrees=(20,), shape=(10, 8, 8)))
    return runs, split_runs(runs, SplitSettings(validation_films=["film_2"], test_films=["film_3"]), 3)


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_network_is_built_trained_saved_loaded_and_searched(films, tmp_path, kind):
    entry, (runs, split) = NETWORKS[kind], films
    assert entry.kind == kind and entry.sentence and entry.loss and entry.seed_word
    assert len(entry.colour) == 7 and int(entry.colour[1:], 16) >= 0

    content = {"kind": kind, "learning": {"training": {"epochs": 1}, "search": {}}}
    settings = network_settings(content, "test")
    assert network_settings(json.loads(json.dumps(settings.model_dump(mode="json"))), "test") == settings
    assert type(settings) is entry.settings and isinstance(settings.learning, Learning)

    study = optuna.create_study()
    parameters = suggest(study.ask(), searched_slice(settings, 3))
    chosen = settings.for_trial(parameters, seed=5, device="cpu")
    assert parameters and chosen != settings and chosen.learning.seed == 5
    assert chosen.learning.training.epochs == settings.learning.search.epochs

    parts = [part_places(split, runs, part, settings.loss_steps)[:4] for part in ("train", "validation")]
    trained = train(settings, 3, runs, *parts, tmp_path / "scratch.pt")
    assert [row["epoch"] for row in trained.rows] == [1] == [trained.best_epoch]
    save_checkpoint(tmp_path / "model.pt", model_record(settings, 3, trained, runs[0]))
    loaded, facts = load_model(tmp_path / "model.pt")
    assert facts["network"]["kind"] == kind
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in trained.model.state_dict().items())


def test_an_unknown_or_forgotten_kind_is_an_error_and_never_another_network():
    for content, found in (
        ({"kind": "press_unt"}, "'press_unt' is unknown; did you mean 'press_unet'"),
        ({}, "names no kind; expected kind: press_unet or kind: conv1d_lags"),
        ({"kind": "press_unet", "width": [8]}, "surrogate.networks.mine.width is unknown (did you mean 'widths'?)"),
        ({"kind": "press_unet", "dropout": 2}, "surrogate.networks.mine.dropout: expected a value less than 1, found 2"),
        (3, "expected a section of keys and values"),
    ):
        with pytest.raises(SettingsError) as caught:
            SurrogateSettings.from_mapping({"networks": {"mine": content}}, "surrogate")
        assert found.removeprefix("surrogate.") in caught.value.message, caught.value.message
    with pytest.raises(SettingsError, match="unknown"):
        network_of("paper")
    with pytest.raises(SettingsError, match="name no kind"):
        network_settings({"widths": [4]}, "test")


def test_a_range_and_a_list_of_choices_are_told_apart():
    def space(**values):
        learning = {"search": {"space": values}}
        return network_settings({"kind": "press_unet", "learning": learning}, "test").learning.search.space

    assert space(dropout=[0.1, 0.2]).dropout == [0.1, 0.2] and space(dropout={"low": 0.1, "high": 0.2}).dropout.high == 0.2
    assert space(dropout=None).draw(optuna.create_study().ask(), "dropout", "base_width").keys() == {"base_width"}
    for values, found in (
        ({"dropout": {"low": 0.4, "high": 0.1}}, "low 0.4 is above high 0.1"),
        ({"dropout": {"low": 0.4}}, "space.dropout.high is missing"),
        ({"learning_rate": {"low": 0, "high": 0.1}}, "space.learning_rate.low: expected a value greater than 0"),
        ({"learning_rate": [2.0]}, "space.learning_rate.0: expected a value less than or equal to 1"),
    ):
        with pytest.raises(SettingsError) as caught:
            space(**values)
        assert found in caught.value.message, caught.value.message


class OwnSettings(NetworkSettings):
    """A network that somebody else offers."""

    kind: str = "own"
    """Which network it is."""


def test_users_bring_networks_by_entry_points(monkeypatch):
    class Point:
        name, value = "own", "somewhere:NETWORK"

        def __init__(self, offered):
            self.offered = offered

        def load(self):
            return self.offered

    def found(*offered):
        monkeypatch.setattr("calandria.surrogate.networks.entry_points", lambda group: [Point(one) for one in offered])
        return registered(OURS)

    own = Network(OwnSettings, lambda settings, lag_window, grid: torch.nn.Identity(), "loss", "sentence", "#000000")
    assert list(found(own)) == [*OURS, "own"]
    assert isinstance(own.made(OwnSettings(), 3, (1, 1, 1)), torch.nn.Identity)
    with pytest.raises(SettingsError, match="leads to int; expected"):
        found(3)
    with pytest.raises(SettingsError, match="'own', which exists"):
        found(own, own)


def test_settings_and_registry_are_read_without_torch():
    code = "import sys, calandria.surrogate.settings, calandria.autoencoder.settings as a; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_predictors_are_baselines_and_the_networks_of_the_study():
    one = SurrogateSettings.from_mapping({"networks": {"deep": {"kind": "press_unet"}, "wide": {"kind": "press_unet"}}}, "test")
    assert one.compared == ["copy", "affine_voxels", "affine_press", "affine_spheres", "deep", "wide", "replicate"]
    assert one.searched == [] and SurrogateSettings.from_mapping(one.model_dump(mode="json"), "again") == one
    for name in one.compared:
        predictor = one.predictor(name)
        assert predictor.name == name and predictor.sentence and set(predictor.needs) <= set(INPUTS)
        assert predictor.modes and set(predictor.modes) <= set(MODES)
    assert (one.predictor("deep").kind, one.predictor("deep").needs) == ("press_unet", ("model",))
    assert [BASELINES[name].sort for name in ("copy", "affine_spheres", "replicate")] == ["baseline", "informed", "ceiling"]
    for content, found in (
        ({"predictors": ["copy", "press_unt"]}, "'press_unt' is no baseline and no network of this study"),
        ({"predictors": ["copy", "copy"]}, "names something twice"),
        ({"networks": {"copy": {"kind": "press_unet"}}}, "the name of a baseline"),
        ({"networks": {}}, "networks is empty"),
    ):
        with pytest.raises(SettingsError) as caught:
            SurrogateSettings.from_mapping(content, "test")
        assert found in caught.value.message.replace(": ", " "), caught.value.message


SEARCHED = {"kind": "press_unet", "learning": {"training": {"epochs": 4}, "search": {"epochs": 2}}}


def identity(tmp_path, network=SEARCHED, lag_window=3, budget=None, control=None, split="split"):
    """Return the name of the study that searches a network."""
    (tmp_path / "split.json").write_text(split)
    settings = network_settings(network, "test")
    search = SearchSettings(**(budget or {}))
    data = {"split": [str(tmp_path / "split.json")]}
    definition = SearchDefinition(
        "surrogate", "calandria.surrogate.trial", searched_slice(settings, lag_window), data, search, control=control or {}
    )
    return definition.identified().study_name


def changed(**learning):
    """Return the searched network with other keys in its section of learning."""
    return {**SEARCHED, "learning": {**SEARCHED["learning"], **learning}}


@pytest.mark.parametrize(
    "same",
    [
        {"network": changed(checkpoint_every=7)},
        {"network": changed(search={"epochs": 2, "budget": {"n_trials": 99, "workers": 7}})},
        {"network": dict(reversed(SEARCHED.items()))},
        {"network": changed(training={"epochs": 4, "weight_decay": 0, "learning_rate": 4e-3})},
        {"network": changed(search={"epochs": 2, "space": {"dropout": {"high": 0.4, "low": 0.1}}})},
        {"budget": {"n_trials": 500}},
        {"budget": {"workers": 9}},
        {"budget": {"lease_seconds": 300}},
        {"budget": {"storage": "sqlite:///x.db"}},
        {"budget": {"max_failed_fraction": 0.9}},
        {"budget": {"max_attempts": 9}},
        {"budget": {"threads_per_worker": 4}},
        {"control": {"cache_mb": 5, "checkpoint_every": 1}},
    ],
    ids=str,
)
def test_what_changes_no_trial_does_not_change_the_study_of_a_search(tmp_path, same):
    assert identity(tmp_path, **same) == identity(tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        {"network": {**SEARCHED, "kind": "conv1d_lags"}},
        {"network": {**SEARCHED, "detail_width": 3}},
        {"network": changed(seed=2)},
        {"network": changed(training={"epochs": 4, "patience": 2})},
        {"network": changed(search={"epochs": 3})},
        {"network": changed(search={"epochs": 2, "space": {"base_width": [4]}})},
        {"lag_window": 4},
        {"split": "other"},
        *({"budget": {name: value}} for name, value in {"sampler": "random", "pruner": "none", "seed": 2}.items()),
        *({"budget": {name: 3}} for name in ("n_startup_trials", "n_warmup_steps")),
    ],
    ids=str,
)
def test_what_changes_a_trial_begins_another_study(tmp_path, other):
    assert identity(tmp_path, **other) != identity(tmp_path)


def test_numbers_as_integers_and_keys_in_another_order_are_the_same_slice():
    one = network_settings({"kind": "press_unet", "dropout": 0, "learning": {"training": {"weight_decay": 0}}}, "test")
    other = network_settings({"learning": {"training": {"weight_decay": 0.0}}, "dropout": 0.0, "kind": "press_unet"}, "test")
    assert content_digest(one.trained()) == content_digest(other.trained())
    assert content_digest(one.searched()) == content_digest(other.searched())
