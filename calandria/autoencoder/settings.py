"""Settings of the auto-encoder stage; the defaults train for about half a minute on two cores of a laptop."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ..base.settings import Section
from ..base.stage import Rule
from ..learning.settings import RUN_CONTROL, SearchSettings

Split = Literal["blocks", "sample", "random"]
Stride = Annotated[int, Field(ge=1)] | Literal["window"]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
ConvLayers = Literal[3, 4, 5]
Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, le=1)]


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


class TrainingSettings(Section):
    """How a model is trained: Adam on the mean squared error, the best epoch by validation error is kept."""

    epochs: int = Field(40, ge=1)
    """Passes over the training mini-volumes; the paper has 2,000 and 3,500."""
    batch_size: int = Field(4, ge=1)
    """Mini-volumes per step; the paper has 2, 4 and 8."""
    learning_rate: float = Field(1e-3, gt=0, le=1)
    """Step size of Adam; the paper has 1e-3 and 1e-4."""
    patience: Positive | None = 10
    """Epochs without a better validation error after which training ends; empty for all epochs, as in the paper."""
    checkpoint_every: int = Field(5, ge=1)
    """Epochs from one checkpoint to the next; a killed training goes on from the last."""
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    """Where it trains: `cpu` or `cuda`; there is no fallback."""
    precision: Literal["fp32", "amp"] = "fp32"
    """`amp` computes in bfloat16 on GPUs that have it."""


class SpaceSettings(Section):
    """What the search may choose; the paper's Table 2 in full is in config/studies."""

    slice_windows: tuple[Positive, ...] = Field((8, 16), min_length=1)
    """Slices per mini-volume."""
    strides: tuple[Stride, ...] = Field((2, "window"), min_length=1)
    """Slices from one mini-volume to the next, or `window`."""
    conv_layers: tuple[ConvLayers, ...] = Field((3, 4), min_length=1)
    """Numbers of convolutions."""
    hidden_neurons: tuple[Positive, ...] = Field((32, 128), min_length=1)
    """Widths of the dense layers."""
    epochs: tuple[Positive, ...] = Field((20,), min_length=1)
    """Numbers of epochs."""
    batch_sizes: tuple[Positive, ...] = Field((2, 4, 8), min_length=1)
    """Mini-volumes per step."""
    learning_rates: tuple[Rate, ...] = Field((1e-3, 1e-4), min_length=1)
    """Step sizes of Adam."""


class EvaluationSettings(Section):
    """What is reported of a trained model."""

    n_examples: int = Field(4, ge=1, le=100)
    """Validation mini-volumes that are drawn and stored with their reconstructions."""
    n_resamples: int = Field(2000, ge=100)
    """Bootstrap resamples of whole mini-volumes behind each interval."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Coverage of the intervals, a fraction."""


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
    """Memory for resized slices, MB; beyond it they are read and resized again."""
    validation_fraction: float = Field(0.15, gt=0, lt=1)
    """Share of mini-volumes (of samples, if split by sample) for validation."""
    seed: int = Field(1, ge=0)
    """Seed of weights, order of training, split and resampling."""
    network: NetworkSettings = NetworkSettings()
    """Size of the network."""
    training: TrainingSettings = TrainingSettings()
    """How it is trained."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """What is reported."""
    searched_cases: tuple[Name, ...] = ()
    """Case studies whose network and training a search chooses; the others take the sections `network` and `training`."""
    search: SearchSettings = SearchSettings()
    """Budget and workers of the hyper-parameter search."""
    space: SpaceSettings = SpaceSettings()
    """What the search may choose."""

    @model_validator(mode="after")
    def _searched_cases_exist(self) -> Self:
        unknown = sorted(set(self.searched_cases) - set(self.cases))
        if unknown:
            raise ValueError(f"searched_cases names {unknown}, expected some of {sorted(self.cases)}")
        return self

    @model_validator(mode="after")
    def _images_are_large_enough(self) -> Self:
        deepest = max(self.network.conv_layers, *self.space.conv_layers)
        if self.image_size < 2 ** (deepest + 1) - 1:
            raise ValueError(
                f"image_size {self.image_size} is used up by {deepest} convolutions; {2 ** (deepest + 1) - 1} or more are needed"
            )
        return self

    def with_parameters(self, parameters: Mapping[str, Any]) -> Self:
        """Return these settings with what a search found in network and training; other parameters are left aside."""
        changed = {
            name: section.model_copy(update={key: parameters[key] for key in type(section).model_fields if key in parameters})
            for name, section in (("network", self.network), ("training", self.training))
        }
        return type(self).from_mapping({**self.model_dump(), **{k: v.model_dump() for k, v in changed.items()}}, "parameters")


def training_slice(settings: AutoencoderSettings) -> dict[str, Any]:
    """Return the settings that a trained model depends on; a changed plan for searches or figures changes no model."""
    return settings.model_dump(mode="json", exclude={"cases", "evaluation", "searched_cases", "search", "space", "cache_mb"})


def from_training_slice(content: Mapping[str, Any], where: str) -> AutoencoderSettings:
    """Return the settings of :func:`training_slice`, with a space that holds no network but theirs."""
    layers = content.get("network", {}).get("conv_layers", NetworkSettings().conv_layers)
    return AutoencoderSettings.from_mapping({**content, "space": {"conv_layers": [layers]}}, where)


_BUDGET = tuple(f"search.{name}" for name in SearchSettings.model_fields if name not in RUN_CONTROL)
_SECTION = tuple(name for name in AutoencoderSettings.model_fields if name != "search")
_SECTION = (*_SECTION, *_BUDGET)
RULES: dict[str, Rule] = {
    "list_mini_volumes": Rule(_SECTION, version=2),
    "search_autoencoder": Rule(_SECTION, version=2),
    "train_autoencoder": Rule(_SECTION, version=2),
    "encode_mini_volumes": Rule(_SECTION, version=2),
    "evaluate_autoencoder": Rule(_SECTION, version=2),
}
"""What the programs of the stage's rules read."""
