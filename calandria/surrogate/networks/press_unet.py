"""A U-Net on any grid, conditioned on the press, that corrects the affine squeeze: settings and entry of the registry."""

from typing import Annotated, Any, Literal

from pydantic import Field

from ...learning.settings import FractionRange, Fractions, Learning, RateRange, Rates, Search, Space, Training
from .network import Activation, Augmentation, Network, NetworkSettings, Width


class PressUnetTraining(Training):
    """How press_unet is trained."""

    epochs: int = Field(default=3, ge=1, le=100_000)
    """Passes through the distinct training windows at most."""
    batch_size: int = Field(default=1, ge=1, le=65_536)
    """Windows per update, over all processes."""
    learning_rate: float = Field(default=4e-3, gt=0, le=1)
    """Step size of Adam in the first epoch."""
    final_learning_rate_fraction: float = Field(default=0.05, gt=0, le=1)
    """Learning rate of the last epoch over that of the first; between them it falls along a cosine. 1 keeps it constant."""
    rollout_steps: int = Field(default=2, ge=1, le=16)
    """Frames in a row that the network predicts from its own output inside the loss; never a frame that is kept for validation or test."""
    crop_voxels: int | None = Field(default=24, ge=8, le=4096)
    """It learns from random blocks of at most so many voxels in x and y, over the full height; null: from whole frames."""
    augment: bool = True
    """Whether it sees windows flipped and, at periodic sides, shifted in x and y."""


class PressUnetSpace(Space):
    """What a search of press_unet may choose; null leaves a setting as it is."""

    activation: Annotated[list[Activation] | None, Field(min_length=1)] = ["relu", "leaky_relu", "mish"]
    """Activations."""
    dropout: Fractions | None = FractionRange(low=0.1, high=0.4)
    """Dropout."""
    learning_rate: Rates | None = RateRange(low=1e-3, high=1e-2)
    """Learning rates."""
    base_width: list[Width] | None = Field(default=[8, 16], min_length=1)
    """Channels of the first level; the others keep their ratio."""


class PressUnetSearch(Search):
    """A search of press_unet; its winner is then trained in full."""

    epochs: int | None = Field(default=6, ge=1, le=100_000)
    """Epochs of each trial at most; null: as many as its training has."""
    space: PressUnetSpace = PressUnetSpace()
    """Values that it tries."""


class PressUnetLearning(Learning):
    """How press_unet learns."""

    checkpoint_every: int = Field(default=2, ge=1, le=10_000)
    """Epochs between two checkpoints; a killed training loses at most these. Changing it trains nothing again."""
    training: PressUnetTraining = PressUnetTraining()
    """How it is trained."""
    search: PressUnetSearch | None = None
    """Search of hyper-parameters; null: it is trained as its settings say."""


class PressUnetSettings(NetworkSettings):
    """A U-Net on any grid, conditioned on the press, that corrects the affine squeeze."""

    kind: Literal["press_unet"] = "press_unet"
    """Which network it is."""
    widths: list[Width] = Field(default=[16, 24, 32], min_length=1, max_length=6)
    """Channels at 1/2, 1/4, 1/8 ... of the resolution."""
    detail_width: int = Field(default=6, ge=1, le=512)
    """Channels of the last layers, at full resolution."""
    activation: Activation = "leaky_relu"
    """Activation after each convolution."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of channels dropped at the coarsest level while training."""
    learning: PressUnetLearning = PressUnetLearning()
    """How it learns."""

    @property
    def loss_steps(self) -> int:
        """How many frames in a row the loss spans."""
        return self.learning.training.rollout_steps

    @property
    def augmentation(self) -> Augmentation:
        """How training windows are changed."""
        return Augmentation(self.learning.training.augment, self.learning.training.crop_voxels)

    @property
    def bytes_per_voxel(self) -> float:
        """Memory of a training for each voxel of a frame (bytes), measured on whole frames; crops take less."""
        training, size = self.learning.training, max(self.detail_width / 6, self.widths[0] / 16)
        return 600.0 + 850.0 * size * training.batch_size * training.rollout_steps

    def parameter(self, name: str, value: Any) -> dict[str, Any]:
        """Return the widths that a base width means."""
        if name != "base_width":
            return {}
        return {"widths": [max(round(width * value / self.widths[0]), 1) for width in self.widths]}


NETWORK = Network(
    settings=PressUnetSettings,
    build="calandria.surrogate.networks.press_unet_torch:build",
    loss="cross-entropy per voxel of the film + 0.1 x squared error of the thickness in voxels",
    sentence="a U-Net that corrects the affine squeeze; it sees the lag window and the positions of the press",
    colour="#D55E00",
)
