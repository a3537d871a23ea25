"""The network of doi 10.1002/aenm.202400376, Conv1D over the lag frames: settings and entry of the registry."""

from typing import Annotated, Any, Literal

from pydantic import Field

from ...learning.settings import FractionRange, Fractions, Learning, RateRange, Rates, Search, Space, Training
from .network import Activation, Network, NetworkSettings, Width


class Conv1dLagsTraining(Training):
    """How conv1d_lags is trained."""

    epochs: int = Field(default=12, ge=1, le=100_000)
    """Passes through the distinct training windows at most; 1,000 in the paper."""
    batch_size: int = Field(default=8, ge=1, le=65_536)
    """Windows per update, over all processes."""
    learning_rate: float = Field(default=3e-3, gt=0, le=1)
    """Step size of Adam in the first epoch."""
    patience: int | None = Field(default=25, ge=1, le=100_000)
    """Epochs without a lower validation loss after which training stops; null trains all epochs."""


class Conv1dLagsSpace(Space):
    """What a search of conv1d_lags may choose (Table 1 of the paper); null leaves a setting as it is."""

    conv_activation: Annotated[list[Activation] | None, Field(min_length=1)] = ["relu", "leaky_relu", "mish"]
    """Activations after convolutions."""
    dropout: Fractions | None = FractionRange(low=0.1, high=0.4)
    """Dropout."""
    learning_rate: Rates | None = RateRange(low=1e-3, high=1e-2)
    """Learning rates."""
    conv_layers: list[Annotated[int, Field(ge=1, le=8)]] | None = Field(default=[2, 3], min_length=1)
    """Numbers of convolutions."""
    hidden_dense_layers: list[Annotated[int, Field(ge=0, le=4)]] | None = Field(default=[1, 2], min_length=1)
    """Numbers of hidden dense layers."""
    dense_activation: Annotated[list[Activation] | None, Field(min_length=1)] = ["relu", "leaky_relu", "mish", "tanh"]
    """Activations after dense layers."""


class Conv1dLagsSearch(Search):
    """A search of conv1d_lags; its winner is then trained in full, as in the two stages of the paper."""

    epochs: int | None = Field(default=6, ge=1, le=100_000)
    """Epochs of each trial at most; null: as many as its training has."""
    space: Conv1dLagsSpace = Conv1dLagsSpace()
    """Values that it tries."""


class Conv1dLagsLearning(Learning):
    """How conv1d_lags learns."""

    checkpoint_every: int = Field(default=2, ge=1, le=10_000)
    """Epochs between two checkpoints; a killed training loses at most these. Changing it trains nothing again."""
    training: Conv1dLagsTraining = Conv1dLagsTraining()
    """How it is trained."""
    search: Conv1dLagsSearch | None = None
    """Search of hyper-parameters; null: it is trained as its settings say."""


class Conv1dLagsSettings(NetworkSettings):
    """The network of doi 10.1002/aenm.202400376, bound to one grid; the paper's own size is filters 256, dense widths [256]."""

    kind: Literal["conv1d_lags"] = "conv1d_lags"
    """Which network it is."""
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
    learning: Conv1dLagsLearning = Conv1dLagsLearning()
    """How it learns."""

    @property
    def bytes_per_voxel(self) -> float:
        """Memory of a training for each voxel of a frame (bytes): 21 a weight, measured, of which most are in the first and last layers."""
        return 600.0 + 21.0 * (self.filters * self.kernel + (self.dense_widths or [self.filters])[-1])

    def parameter(self, name: str, value: Any) -> dict[str, Any]:
        """Return the dense widths that a number of hidden dense layers means."""
        return {"dense_widths": [(self.dense_widths or [self.filters])[0]] * value} if name == "hidden_dense_layers" else {}


NETWORK = Network(
    settings=Conv1dLagsSettings,
    build="calandria.surrogate.networks.conv1d_lags_torch:build",
    loss="mean squared error of label values",
    sentence="the published network (doi 10.1002/aenm.202400376), which sees the labels of the lag window alone",
    colour="#CC79A7",
    needs_one_grid=True,
    seed_label="paper",  # its first name, so that its numbers stay
)
