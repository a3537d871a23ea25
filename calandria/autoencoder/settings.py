"""Settings of the auto-encoder stage; the defaults train for about half a minute on two cores of a laptop."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ..base.errors import SettingsError
from ..base.settings import Section
from ..base.stage import Rule
from ..learning.settings import RUN_CONTROL, Learning, Positive, Rates, Search, Space, Training, learned, searched, trial_epochs

if TYPE_CHECKING:
    from ..study.study import Study

Split = Literal["blocks", "sample", "random"]
Stride = Annotated[int, Field(ge=1)] | Literal["window"]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
ConvLayers = Literal[3, 4, 5]


class CaseSettings(Section):
    """One case study: the samples that are learned from together, and how they are cut."""

    samples: tuple[Name, ...] = Field(min_length=1)
    """Names of samples of the tomography sheet."""
    slice_windows: tuple[Positive, ...] = Field((16,), min_length=1)
    """Slices per mini-volume, one model each; the paper has 4, 8, 16, 24 and 32."""
    strides: tuple[Stride, ...] = Field((2,), min_length=1)
    """Slices from one mini-volume to the next, one model each; `window` makes them touch without overlap."""
    split: Split = "blocks"
    """How training and validation are parted: `blocks` of depth with a gap of one window, whole `sample`s, or `random` as in the
    paper, which puts overlapping mini-volumes on both sides (the results are marked as leaking)."""
    straddle: bool = False
    """Whether samples are stacked first, so that mini-volumes may lie across two of them, as in the paper."""
    searched: bool = True
    """Whether the search of `learning.search`, if there is one, chooses this case's network and training; false: it takes the sections
    `network` and `learning.training`."""

    @model_validator(mode="after")
    def _parts_exist(self) -> Self:
        if self.split == "sample" and len(self.samples) < 2:
            raise ValueError("split by sample needs two samples or more; take blocks for one")
        return self


class NetworkSettings(Section):
    """The network beside its window and image size."""

    conv_layers: ConvLayers = 3
    """Convolutions of the encoder, and as many transposed ones in the decoder; 3, 4 or 5."""
    hidden_neurons: int = Field(128, ge=1)
    """Width of the dense layers between convolutions and latent features; the paper has 128 and 1,000."""
    latent_features: int = Field(10, ge=1)
    """Numbers that describe a mini-volume."""


class AutoencoderTraining(Training):
    """How an auto-encoder is trained, on the mean squared error; the epoch of the lowest validation error is kept."""

    epochs: int = Field(default=40, ge=1, le=100_000)
    """Passes over the training mini-volumes at most; the paper has 2,000 and 3,500."""
    batch_size: int = Field(default=4, ge=1, le=65_536)
    """Mini-volumes per update, over all processes; the paper has 2, 4 and 8."""
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    """Step size of Adam in the first epoch; the paper has 1e-3 and 1e-4."""
    patience: int | None = Field(default=10, ge=1, le=100_000)
    """Epochs without a lower validation error after which training stops; null trains all epochs, as in the paper."""


class AutoencoderSpace(Space):
    """What the search may choose; the paper's Table 2 in full is in config/studies. null leaves a setting as it is."""

    slice_window: list[Positive] = Field(default=[8, 16], min_length=1)
    """Slices per mini-volume."""
    stride: list[Stride] = Field(default=[2, "window"], min_length=1)
    """Slices from one mini-volume to the next, or `window`."""
    conv_layers: Annotated[list[ConvLayers] | None, Field(min_length=1)] = [3, 4]
    """Numbers of convolutions."""
    hidden_neurons: list[Positive] | None = Field(default=[32, 128], min_length=1)
    """Widths of the dense layers."""
    epochs: list[Positive] | None = Field(default=[20], min_length=1)
    """Numbers of epochs, of a trial as of the training that follows."""
    batch_size: list[Positive] | None = Field(default=[2, 4, 8], min_length=1)
    """Mini-volumes per update."""
    learning_rate: Rates | None = [1e-3, 1e-4]
    """Step sizes of Adam."""


class AutoencoderSearch(Search):
    """A search of slice window, stride, network and training; its winner is then trained in full."""

    space: AutoencoderSpace = AutoencoderSpace()
    """Values that it tries."""


class AutoencoderLearning(Learning):
    """How an auto-encoder learns."""

    training: AutoencoderTraining = AutoencoderTraining()
    """How it is trained."""
    search: AutoencoderSearch | None = None
    """Search of hyper-parameters, for each case that is not kept out of it; null: all are trained as the settings say."""


class AutoencoderSplit(Section):
    """How many mini-volumes validate, and which; how they are parted is each case's own."""

    validation_fraction: float = Field(default=0.15, gt=0, lt=1)
    """Share of mini-volumes (of samples, if split by sample) for validation."""
    seed: int = Field(default=1, ge=0, lt=2**31)
    """Seed of the draw."""


class EvaluationSettings(Section):
    """What is reported of a trained model."""

    n_examples: int = Field(4, ge=1, le=100)
    """Validation mini-volumes that are drawn and stored with their reconstructions."""
    n_resamples: int = Field(2000, ge=100)
    """Bootstrap resamples of whole mini-volumes behind each interval."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Coverage of the intervals, a fraction."""
    seed: int = Field(default=1, ge=0, lt=2**31)
    """Seed of the resampling."""


class AutoencoderSettings(Section):
    """Latent features of mini-volumes by a convolutional auto-encoder."""

    cases: dict[Name, CaseSettings] = {}
    """Case studies by name; none: nothing is trained. The demo has the honest split beside the paper's, which shows what the leak is worth."""
    image_size: int = Field(64, ge=15, le=1024)
    """Edge of the square images to which slices are resized, pixels; the paper has 224."""
    coding: Literal["pore_am_cbd", "pore_cbd_am"] = "pore_am_cbd"
    """Which phases become -1, 0 and +1; the paper's is `pore_am_cbd`, `pore_cbd_am` is ordered by density."""
    antialias: bool = True
    """Whether bilinear resizing averages over all pixels that an output pixel covers; with it the spread of the paper's labels is met."""
    cache_mb: int = Field(2000, ge=1)
    """Memory for resized slices, MB; beyond it they are read and resized again. It changes no number."""
    split: AutoencoderSplit = AutoencoderSplit()
    """Which mini-volumes validate."""
    network: NetworkSettings = NetworkSettings()
    """Size of the network."""
    learning: AutoencoderLearning = AutoencoderLearning()
    """How it learns."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """What is reported."""

    @model_validator(mode="after")
    def _images_are_large_enough(self) -> Self:
        search = self.learning.search
        deepest = max([self.network.conv_layers, *((search.space.conv_layers or ()) if search else ())])
        if self.image_size < 2 ** (deepest + 1) - 1:
            raise ValueError(
                f"image_size {self.image_size} is used up by {deepest} convolutions; {2 ** (deepest + 1) - 1} or more are needed"
            )
        return self

    @property
    def searched_cases(self) -> list[str]:
        """Names of the cases whose network and training a search chooses."""
        return [name for name, case in self.cases.items() if case.searched] if self.learning.search else []

    @property
    def learned_bytes(self) -> float:
        """Memory of the largest training (bytes), slices that are kept apart: 200 a pixel of a batch and 24 a weight, measured."""
        space = self.learning.search.space if self.learning.search else None
        windows = [window for case in self.cases.values() for window in case.slice_windows] + (
            space.slice_window if space else []
        )
        batch = max([self.learning.training.batch_size, *((space and space.batch_size) or ())])
        neurons = max([self.network.hidden_neurons, *((space and space.hidden_neurons) or ())])
        layers = min([self.network.conv_layers, *((space and space.conv_layers) or ())])
        dense = 2 * 16 * (self.image_size / 2**layers) ** 2 * neurons
        return 200.0 * self.image_size**2 * max(windows, default=0) * batch + 24 * dense

    def trained(self) -> dict[str, Any]:
        """Return what a training reads: cases, evaluation, plans of a search, checkpoints and caches are left out."""
        read = self.model_dump(mode="json", include={"image_size", "coding", "antialias", "split", "network"})
        return read | {"learning": learned(self.learning)}

    def searched(self) -> dict[str, Any]:
        """Return what a search's trials read: what a training reads, with the space and the epochs of a trial."""
        return self.trained() | {"learning": searched(self.learning)}

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Draw the parameters of a trial, in the order of the space; raises SettingsError where no search is set."""
        if self.learning.search is None:
            raise SettingsError(
                "autoencoder.learning.search is null, so nothing is searched",
                hint="write a section autoencoder.learning.search; {} takes the default space",
            )
        space = self.learning.search.space
        return space.draw(trial, *type(space).model_fields)

    def with_parameters(self, parameters: Mapping[str, Any]) -> Self:
        """Return these settings with what a search found in network and training; slice window and stride are the table's."""
        content = self.model_dump()
        for section in (content["network"], content["learning"]["training"]):
            section |= {name: value for name, value in parameters.items() if name in section}
        return self.from_mapping(content, "parameters")

    def for_trial(self, parameters: Mapping[str, Any], *, seed: int, device: str) -> Self:
        """Return the settings of one trial: its parameters and seed, the epochs of the search, on a device."""
        content = self.with_parameters(parameters).model_dump()
        learning = content["learning"]
        learning |= {"seed": seed, "device": device, "training": trial_epochs(self.learning, learning["training"])}
        return self.from_mapping(content, "trial")


class CasePlan(Section):
    """How the mini-volumes of one case are cut and parted, as its searches and trainings read it."""

    split: Split
    """How training and validation are parted."""
    straddle: bool = False
    """Whether samples are stacked first."""
    slice_axis: Literal["z", "y", "x"] = "z"
    """Axis along which slices follow each other; z is the thickness."""


class MiniVolumePlan(Section):
    """How mini-volumes are cut from a stack."""

    slice_window: Positive
    """Slices per mini-volume."""
    stride: Stride
    """Slices from one mini-volume to the next, or `window`."""
    straddle: bool = False
    """Whether samples are stacked first."""
    slice_axis: Literal["z", "y", "x"] = "z"
    """Axis along which slices follow each other; z is the thickness."""


def _planned(kind: type[Section], content: Mapping[str, Any], where: str) -> Any:
    return kind.from_mapping({name: content[name] for name in kind.model_fields if name in content}, where)


def case_plan(content: Mapping[str, Any], where: str) -> CasePlan:
    """Return the plan of a case from what a rule gave."""
    plan: CasePlan = _planned(CasePlan, content, where)
    return plan


def mini_volume_plan(content: Mapping[str, Any], where: str) -> MiniVolumePlan:
    """Return the plan of mini-volumes from what a rule gave."""
    plan: MiniVolumePlan = _planned(MiniVolumePlan, content, where)
    return plan


def _cut(study: "Study", wildcards: Mapping[str, str]) -> dict[str, Any]:
    case = study.settings.autoencoder.cases[wildcards["case"]]
    return {
        "samples": list(case.samples),
        "slice_window": int(wildcards["window"]),
        "stride": int(wildcards["stride"]),
        "straddle": case.straddle,
        "slice_axis": study.settings.tomography.slice_axis,
    }


def _trained(study: "Study", wildcards: Mapping[str, str]) -> dict[str, Any]:
    settings = study.settings.autoencoder
    case = settings.cases[wildcards["case"]]
    return {"autoencoder": settings.trained(), "split": case.split, "samples": list(case.samples)}


def _searched(study: "Study", wildcards: Mapping[str, str]) -> dict[str, Any]:
    settings = study.settings.autoencoder
    case = settings.cases[wildcards["case"]]
    return {
        "autoencoder": settings.searched(),
        "samples": list(case.samples),
        "budget": settings.learning.search.budget.model_dump(mode="json", exclude=set(RUN_CONTROL)),
        "split": case.split,
        "straddle": case.straddle,
        "slice_axis": study.settings.tomography.slice_axis,
    }


def _stacked(study: "Study", wildcards: Mapping[str, str]) -> dict[str, Any]:
    return {"samples": list(study.settings.autoencoder.cases[wildcards["case"]].samples)}


RULES: dict[str, Rule] = {
    "list_mini_volumes": Rule(version=2, given=_cut),
    "search_autoencoder": Rule(version=2, given=_searched),
    "train_autoencoder": Rule(version=2, given=_trained),
    "encode_mini_volumes": Rule(("evaluation.n_examples", "learning.device"), version=2, given=_stacked),
    "evaluate_autoencoder": Rule(("evaluation", "learning.device"), version=2, given=_stacked),
}
"""What the programs of the stage's rules read; ``samples`` is the order in which a case stacks its volumes, which inputs do not tell."""
