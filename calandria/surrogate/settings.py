"""Settings of the surrogate stage; the defaults train on a laptop within a minute or two."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ..base.errors import SettingsError, nearest_name
from ..base.settings import Section
from ..base.stage import Rule
from ..learning.settings import RUN_CONTROL
from .networks import OURS, AnyNetworkSettings, NetworkSettings, network_of
from .predictors import BASELINES, Predictor, of_network

if TYPE_CHECKING:
    from ..study.study import Study

Degree = Annotated[int, Field(ge=1, le=90)]
NetworkName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class HeldOut(Section):
    """Degrees of one film that the split by degrees keeps for the test."""

    film: str = Field(min_length=1)
    """Name of the film."""
    compression_degrees_percent: list[Degree] = Field(min_length=1)
    """Its degrees that are tested and not trained on."""


class SplitSettings(Section):
    """Which films are learned from and which are tested."""

    kind: Literal["film", "degrees"] = "film"
    """`film`: whole films are held out. `degrees`: single degrees of trained films too, as in the paper; that leaks, because loading
    frames are shared."""
    validation_films: list[str] = []
    """Films that choose the best epoch. Empty: blocks of frames of the training films do, see validation_fraction."""
    test_films: list[str] = []
    """Films that training never sees and that all predictors are tested on. Where none is named, here or in held_out, nothing is trained."""
    held_out: list[HeldOut] = []
    """For kind `degrees`: the table of held-out degrees per film (Table 2 of the paper)."""
    validation_fraction: float = Field(default=0.15, gt=0, lt=0.9)
    """Where no validation film is named: share of the training frames that choose the best epoch, in blocks of lag_window frames."""
    seed: int = Field(default=1, ge=0, lt=2**31)
    """Seed of the blocks that choose the best epoch."""

    @property
    def tests_something(self) -> bool:
        """Whether any run is held out; without one there is no surrogate."""
        return bool(self.test_films or self.held_out)

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        both = sorted(set(self.validation_films) & set(self.test_films))
        if both:
            raise ValueError(f"films {both} are named for validation and for test")
        if (self.kind == "degrees") != bool(self.held_out):
            raise ValueError("held_out belongs to kind `degrees`, which needs it")
        return self


def _default_networks() -> dict[str, NetworkSettings]:
    return {kind: network.settings.model_validate({"kind": kind}) for kind, network in OURS.items()}


class SurrogateSettings(Section):
    """The section `surrogate`: predicting the next frame of a film from a lag window."""

    lag_window: int = Field(default=3, ge=2, le=64)
    """Past frames that a network sees; 3 in the paper."""
    networks: dict[NetworkName, AnyNetworkSettings] = Field(default_factory=_default_networks, min_length=1)
    """Networks that are trained, by name; `kind` says which network it is. A network's name is its predictor's."""
    split: SplitSettings = SplitSettings()
    """Which films are trained on and which are tested."""
    predictors: list[str] | None = Field(default=None, min_length=1)
    """What is compared in the evaluation: baselines and networks; `replicate` is a second run of a test film, where there is one.
    null: all baselines, all networks, and replicates."""
    cache_mb: int = Field(default=1000, ge=1, le=10_000_000)
    """Memory for frames that are read, MB, in each process of a training; beyond it they are read again. It changes no number."""

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        taken = sorted(set(self.networks) & set(BASELINES))
        if taken:
            raise ValueError(f"networks names {', '.join(taken)}, which is the name of a baseline; choose another name")
        if len(set(self.compared)) != len(self.compared):
            raise ValueError("predictors names something twice")
        known = [*BASELINES, *self.networks]
        for name in self.compared:
            if name not in known:
                raise ValueError(f"predictor {name!r} is no baseline and no network of this study ({nearest_name(name, known)})")
        return self

    @property
    def compared(self) -> list[str]:
        """The predictors that are compared: those that are named, or all."""
        if self.predictors is not None:
            return list(self.predictors)
        baselines = [name for name in BASELINES if name != "replicate"]
        return [*baselines, *self.networks, "replicate"]

    @property
    def searched(self) -> list[str]:
        """Names of the networks whose hyper-parameters a search chooses."""
        return [name for name, network in self.networks.items() if network.learning.search is not None]

    def network(self, name: str) -> NetworkSettings:
        """Return the settings of a network; raises SettingsError with the nearest name where there is none."""
        try:
            return self.networks[name]
        except KeyError:
            raise SettingsError(f"surrogate.networks has no network {name!r}", hint=nearest_name(name, self.networks)) from None

    def predictor(self, name: str) -> Predictor:
        """Return a predictor by its name: a baseline, or a network of this study."""
        return BASELINES[name] if name in BASELINES else of_network(name, network_of(self.network(name).kind))


def network_settings(content: Mapping[str, Any], where: str) -> NetworkSettings:
    """Return the settings of one network from a mapping; raises SettingsError where its kind is unknown or missing."""
    if "kind" not in content:
        raise SettingsError(
            f"{where}: the settings of the network name no kind", hint="write the network's kind, e.g. in surrogate.networks"
        )
    return network_of(content["kind"]).settings.from_mapping(content, where)


def _trained(study: "Study", wildcards: Mapping[str, str]) -> dict[str, Any]:
    return {"network": study.settings.surrogate.network(wildcards["network"]).trained()}


def _searched(study: "Study", wildcards: Mapping[str, str]) -> dict[str, Any]:
    network = study.settings.surrogate.network(wildcards["network"])
    budget = network.learning.search.budget.model_dump(mode="json", exclude=set(RUN_CONTROL))
    return {"network": network.searched(), "budget": budget}


def _predicted(study: "Study", wildcards: Mapping[str, str]) -> dict[str, Any]:
    settings, name = study.settings.surrogate, wildcards["predictor"]
    network = settings.networks.get(name)
    found = {"predictor": name}
    return found if network is None else {**found, "kind": network.kind, "device": network.learning.device}


RULES: dict[str, Rule] = {
    "split_films": Rule(("lag_window", "split"), version=4),
    "search_surrogate": Rule(("lag_window",), version=5, given=_searched),
    "train_surrogate": Rule(("lag_window",), version=5, given=_trained),
    "predict_frames": Rule(("lag_window",), version=5, given=_predicted),
    "evaluate_predictions": Rule(("lag_window",), version=4),
}
"""What the programs of the stage's rules read; of a network, that network alone."""
