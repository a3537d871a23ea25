"""Settings of the surrogate stage; the defaults train on a laptop within a minute or two."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ..base.settings import Section
from ..base.stage import Rule
from ..learning.settings import RUN_CONTROL, SearchSettings

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "mish", "tanh"]
Architecture = Literal["press_unet", "paper"]
Predictor = Literal["copy", "affine_voxels", "affine_press", "affine_spheres", "model", "paper", "replicate"]
Degree = Annotated[int, Field(ge=1, le=90)]
Width = Annotated[int, Field(ge=1, le=4096)]

VALUE_NAME: dict[str, str] = {
    "paper": "mean squared error of label values",
    "press_unet": "cross-entropy per voxel of the film + 0.1 x squared error of the thickness in voxels",
}
"""What the loss of each architecture is, and with it the value of a search's trial: the lowest validation loss."""


class TrainingSettings(Section):
    """How a network is trained."""

    epochs: int = Field(default=3, ge=1, le=100_000)
    """Passes through the distinct training windows at most."""
    batch_size: int = Field(default=1, ge=1, le=1024)
    """Windows per update."""
    learning_rate: float = Field(default=4e-3, gt=0, le=1)
    """Step size of Adam at the start."""
    final_learning_rate_fraction: float = Field(default=0.05, gt=0, le=1)
    """Learning rate of the last epoch over that of the first; between them it falls along a cosine. 1 keeps it constant."""
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    """Decoupled weight decay of Adam."""
    patience: int = Field(default=1000, ge=1, le=100_000)
    """Epochs without a lower validation loss after which training stops."""


class PressUnetTraining(TrainingSettings):
    """How press_unet is trained."""

    rollout_steps: int = Field(default=2, ge=1, le=16)
    """Frames in a row that the network predicts from its own output inside the loss; never a frame that is kept for validation or test."""
    crop_voxels: int | None = Field(default=24, ge=8, le=4096)
    """It learns from random blocks of at most so many voxels in x and y, over the full height; null: from whole frames."""
    augment: bool = True
    """Whether it sees windows flipped and, at periodic sides, shifted in x and y."""


class PaperTraining(TrainingSettings):
    """How the paper's network is trained; what is not named keeps these defaults, not those of press_unet."""

    epochs: int = Field(default=12, ge=1, le=100_000)
    """Passes through the distinct training windows at most; 1,000 in the paper."""
    batch_size: int = Field(default=8, ge=1, le=1024)
    """Windows per update."""
    learning_rate: float = Field(default=3e-3, gt=0, le=1)
    """Step size of Adam at the start."""
    final_learning_rate_fraction: float = Field(default=1.0, gt=0, le=1)
    """Learning rate of the last epoch over that of the first, as for press_unet."""
    patience: int = Field(default=25, ge=1, le=100_000)
    """Epochs without a lower validation loss after which training stops."""


class PressUnetSettings(Section):
    """A U-Net on any grid, conditioned on the press, that corrects the affine squeeze."""

    widths: list[Width] = Field(default=[16, 24, 32], min_length=1, max_length=6)
    """Channels at 1/2, 1/4, 1/8 ... of the resolution."""
    detail_width: int = Field(default=6, ge=1, le=512)
    """Channels of the last layers, at full resolution."""
    activation: Activation = "leaky_relu"
    """Activation after each convolution."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of channels dropped at the coarsest level while training."""
    training: PressUnetTraining = PressUnetTraining()
    """How it is trained."""


class PaperSettings(Section):
    """The network of doi 10.1002/aenm.202400376, bound to one grid; the paper's own size is filters 256, dense widths [256]."""

    conv_layers: int = Field(default=3, ge=1, le=8)
    """Conv1D blocks over the lag frames (convolution, batch norm, max-pool of 1)."""
    filters: int = Field(default=16, ge=1, le=4096)
    """Filters of each convolution; 256 in the paper."""
    kernel: Literal[1, 3, 5, 7] = 3
    """Lag frames that a filter spans."""
    conv_activation: Activation = "relu"
    """Activation after each convolution."""
    dense_widths: list[Width] = Field(default=[32], min_length=0, max_length=6)
    """Units of the hidden dense layers; the output layer, one unit a voxel, comes on top."""
    dense_activation: Activation = "relu"
    """Activation after each hidden dense layer; the output is linear."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of units dropped after the last convolution while training."""
    training: PaperTraining = PaperTraining()
    """How it is trained; 1,000 epochs in the paper."""


class HeldOut(Section):
    """Degrees of one film that the paper's split keeps for the test."""

    film: str = Field(min_length=1)
    """Name of the film."""
    compression_degrees_percent: list[Degree] = Field(min_length=1)
    """Its degrees that are tested and not trained on."""


class SplitSettings(Section):
    """Which films are learned from and which are tested."""

    kind: Literal["film", "paper"] = "film"
    """`film`: whole films are held out. `paper`: single degrees of trained films too; that leaks, because loading frames are shared."""
    validation_films: list[str] = []
    """Films that choose the best epoch. Empty: blocks of frames of the training films do, see validation_fraction."""
    test_films: list[str] = []
    """Films that training never sees and that all predictors are tested on. Where none is named, here or in held_out, nothing is trained."""
    held_out: list[HeldOut] = []
    """For kind `paper`: the table of held-out degrees per film (Table 2 of the paper)."""
    validation_fraction: float = Field(default=0.15, gt=0, lt=0.9)
    """Where no validation film is named: share of the training frames that choose the best epoch, in blocks of lag_window frames."""

    @property
    def tests_something(self) -> bool:
        """Whether any run is held out; without one there is no surrogate."""
        return bool(self.test_films or self.held_out)

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        both = sorted(set(self.validation_films) & set(self.test_films))
        if both:
            raise ValueError(f"films {both} are named for validation and for test")
        if (self.kind == "paper") != bool(self.held_out):
            raise ValueError("held_out belongs to kind `paper`, which needs it")
        return self


class SearchSpace(Section):
    """Values that a search tries (Table 1 of doi 10.1002/aenm.202400376, and the like for press_unet)."""

    conv_layers: list[Annotated[int, Field(ge=1, le=8)]] = Field(default=[2, 3], min_length=1)
    """paper: number of convolutions."""
    conv_activation: list[Activation] = Field(default=["relu", "leaky_relu", "mish"], min_length=1)
    """paper: activation after convolutions; press_unet: its activation."""
    hidden_dense_layers: list[Annotated[int, Field(ge=0, le=4)]] = Field(default=[1, 2], min_length=1)
    """paper: hidden dense layers."""
    dense_activation: list[Activation] = Field(default=["relu", "leaky_relu", "mish", "tanh"], min_length=1)
    """paper: activation after dense layers."""
    dropout: tuple[float, float] = (0.1, 0.4)
    """Lowest and highest dropout."""
    learning_rate: tuple[float, float] = (1e-3, 1e-2)
    """Lowest and highest learning rate, on a logarithmic scale."""
    base_width: list[Width] = Field(default=[8, 16], min_length=1)
    """press_unet: channels of the first level; the others keep their ratio."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not (0 <= self.dropout[0] <= self.dropout[1] < 1 and 0 < self.learning_rate[0] <= self.learning_rate[1] <= 1):
            raise ValueError(
                "dropout and learning_rate hold a lowest and a highest value, dropout within [0, 1), rate within (0, 1]"
            )
        return self


class SurrogateSearch(Section):
    """What a search of hyperparameters trains; its winner is then trained in full by train_surrogate."""

    architecture: Architecture | None = None
    """Which network is searched, one of `architectures`; null: none is, and all are trained as the settings say."""
    epochs: int = Field(default=6, ge=1, le=100_000)
    """Epochs of each trial at most; the first of the paper's two stages is short, the second trains the winner in full."""
    space: SearchSpace = SearchSpace()
    """Values to be tried."""
    study: SearchSettings = SearchSettings()
    """Budget, sampler, pruner and workers."""


class SurrogateSettings(Section):
    """The section `surrogate`: predicting the next frame of a film from a lag window."""

    lag_window: int = Field(default=3, ge=2, le=64)
    """Past frames that the network sees; 3 in the paper."""
    seed: int = Field(default=1, ge=0, lt=2**31)
    """Seed of weights, order, dropout and augmentation."""
    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    """`cpu` or `cuda`; asked for, without fallback."""
    precision: Literal["fp32", "amp"] = "fp32"
    """`amp` computes in bfloat16 where the GPU does, else in float32."""
    checkpoint_every: int = Field(default=2, ge=1, le=10_000)
    """Epochs between two checkpoints; a killed training loses at most these."""
    architectures: list[Architecture] = Field(default=["press_unet", "paper"], min_length=1)
    """Networks that are trained."""
    press_unet: PressUnetSettings = PressUnetSettings()
    """The default network."""
    paper: PaperSettings = PaperSettings()
    """The paper's network."""
    split: SplitSettings = SplitSettings()
    """Which films are trained on and which are tested."""
    predictors: list[Predictor] | None = Field(default=None, min_length=1)
    """What is compared in the evaluation; `model` is press_unet, `replicate` a second run of a test film, where there is one.
    null: all baselines, the networks of `architectures`, and replicates."""
    search: SurrogateSearch = SurrogateSearch()
    """Search of hyperparameters."""

    @model_validator(mode="after")
    def _trained(self) -> Self:
        for predictor, architecture in (("model", "press_unet"), ("paper", "paper")):
            if predictor in self.compared and architecture not in self.architectures:
                raise ValueError(f"predictor {predictor!r} needs the architecture {architecture!r} in architectures")
        if self.search.architecture not in (None, *self.architectures):
            raise ValueError(
                f"search.architecture {self.search.architecture!r} is not in architectures, so its winner is never trained"
            )
        for name, words in (("architectures", self.architectures), ("predictors", self.compared)):
            if len(set(words)) != len(words):
                raise ValueError(f"{name} names something twice")
        return self

    @property
    def compared(self) -> list[Predictor]:
        """The predictors, said or following from the architectures."""
        if self.predictors is not None:
            return self.predictors
        networks: list[Predictor] = ["model" if name == "press_unet" else "paper" for name in self.architectures]
        return ["copy", "affine_voxels", "affine_press", "affine_spheres", *networks, "replicate"]

    def architecture(self, name: str) -> PressUnetSettings | PaperSettings:
        """Return the settings of an architecture."""
        return self.paper if name == "paper" else self.press_unet

    def loss_steps(self, name: str) -> int:
        """Return how many frames in a row the loss of an architecture spans."""
        return 1 if name == "paper" else self.press_unet.training.rollout_steps


_BUDGET = tuple(f"search.study.{name}" for name in SearchSettings.model_fields if name not in RUN_CONTROL)
_SECTION = tuple(name for name in SurrogateSettings.model_fields if name != "search")
_SECTION = (*_SECTION, "search.architecture", "search.epochs", "search.space", *_BUDGET)
RULES: dict[str, Rule] = {
    "split_films": Rule(_SECTION, version=3),
    "search_surrogate": Rule(_SECTION, version=3),
    "train_surrogate": Rule(_SECTION, version=3),
    "predict_frames": Rule(_SECTION, version=3),
    "predict_frames_of_replicate": Rule(_SECTION, version=3),
    "evaluate_predictions": Rule(_SECTION, version=3),
}
"""What the programs of the stage's rules read."""
