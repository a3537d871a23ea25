"""What a network is to the stage: its settings, how it is built, and what is said of it. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self, cast

from pydantic import Field

from ...base.errors import SettingsError
from ...base.optional import named_object
from ...base.settings import Section
from ...learning.settings import Learning, learned, searched, trial_epochs

if TYPE_CHECKING:
    from ..models import FrameModel

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "mish", "tanh"]
Width = Annotated[int, Field(ge=1, le=4096)]


class Augmentation(NamedTuple):
    """How training windows are changed: whether they are flipped, swapped and shifted, and cropped to how many voxels in y and x."""

    augments: bool
    crop_voxels: int | None


class NetworkSettings(Section):
    """The base of the settings of every network; ``kind`` is the network's key in the registry."""

    kind: str
    """Which network it is."""
    learning: Learning = Learning()
    """How it learns."""

    @property
    def loss_steps(self) -> int:
        """How many frames in a row the loss spans."""
        return 1

    @property
    def augmentation(self) -> Augmentation | None:
        """How training windows are changed; None leaves them as they are."""
        return None

    @property
    def bytes_per_voxel(self) -> float:
        """Memory of a training for each voxel of a frame (bytes), frames that are kept apart: what the job asks for at first."""
        return 4000.0

    def trained(self) -> dict[str, Any]:
        """Return what a training reads of these settings: plans of a search and checkpoints are left out."""
        return self.model_dump(mode="json", exclude={"learning"}) | {"learning": learned(self.learning)}

    def searched(self) -> dict[str, Any]:
        """Return what a search's trials read: what a training reads, with the space and the epochs of a trial."""
        return self.model_dump(mode="json", exclude={"learning"}) | {"learning": searched(self.learning)}

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Draw the parameters of a trial, in the order of the space; raises SettingsError where no search is set."""
        if self.learning.search is None:
            raise SettingsError(
                f"learning.search of the network of kind {self.kind!r} is null, so nothing is searched",
                hint="give the network a section learning.search; {} takes the default space",
            )
        space = self.learning.search.space
        return space.draw(trial, *type(space).model_fields)

    def parameter(self, name: str, value: Any) -> dict[str, Any]:
        """Return the settings that a parameter of the space sets, where its name is not that of a setting; none by default."""
        return {}

    def with_parameters(self, parameters: Mapping[str, Any]) -> Self:
        """Return the settings with the parameters of a trial.

        Raises SettingsError when a parameter does not belong to this network, as when a search tried another one.
        """
        content = self.model_dump()
        training = content["learning"]["training"]
        for name, value in parameters.items():
            changed = self.parameter(name, value)
            if changed:
                content |= changed
            elif name in training:
                training[name] = value
            elif name in content and name not in ("kind", "learning"):
                content[name] = value
            else:
                raise SettingsError(
                    f"parameter {name!r} does not belong to the network of kind {self.kind!r}",
                    hint="train the network that was searched, or delete the search's folder and search it again",
                )
        return self.from_mapping(content, f"parameters of {self.kind}")

    def for_trial(self, parameters: Mapping[str, Any], *, seed: int, device: str) -> Self:
        """Return the settings of one trial: its parameters and seed, the epochs of the search, on a device."""
        content = self.with_parameters(parameters).model_dump()
        learning = content["learning"]
        learning |= {"seed": seed, "device": device, "training": trial_epochs(self.learning, learning["training"])}
        return self.from_mapping(content, "trial")


@dataclass(frozen=True)
class Network:
    """One entry of the registry.

    Parameters
    ----------
    settings
        Its settings; the default of their ``kind`` is the network's key.
    build
        ``build(settings, lag_window, grid)`` returns the untrained module for a grid (z, y, x): the function, or where it is, as
        ``module:name``, so that torch is imported when a network is built and not when settings are read.
    loss
        What its loss is, and with it the value of a search's trial: the lowest validation loss.
    sentence
        What it is, for the report; it follows the network's name and a colon.
    colour
        Of its curves, as #rrggbb.
    needs_one_grid
        Whether it is bound to the grid that it was built for.
    seed_label
        Word from which its random numbers are derived, the kind if empty. It stays when a network is renamed, and so do its numbers.
    """

    settings: type[NetworkSettings]
    build: str | Callable[[Any, int, Sequence[int]], FrameModel]
    loss: str
    sentence: str
    colour: str
    needs_one_grid: bool = False
    seed_label: str = ""

    @property
    def kind(self) -> str:
        """The network's key in the registry."""
        return str(self.settings.model_fields["kind"].default)

    def made(self, settings: NetworkSettings, lag_window: int, grid: Sequence[int]) -> FrameModel:
        """Return the untrained module of some settings, for lag windows of so many frames on a grid (z, y, x)."""
        build = named_object(self.build, f"the network {self.kind}") if isinstance(self.build, str) else self.build
        return cast("FrameModel", build(settings, lag_window, grid))

    @property
    def seed_word(self) -> str:
        """The word from which its random numbers are derived."""
        return self.seed_label or self.kind


def grid_remedy(grids: Sequence[Sequence[int]]) -> str:
    """Return what to do where a network that is bound to one grid meets several (z, y, x).

    >>> grid_remedy([(72, 38, 38), (80, 38, 38)])
    'set calendering.voxels.grid_height_voxels to 80 or more, or leave the network out of surrogate.networks; others take any grid'
    """
    leave = "leave the network out of surrogate.networks; others take any grid"
    if len({tuple(grid[1:]) for grid in grids}) == 1:
        return f"set calendering.voxels.grid_height_voxels to {max(grid[0] for grid in grids)} or more, or {leave}"
    return f"give all films one width along y and x, or {leave}"
