"""The registry of networks: one file and one line each. Users add their own by the entry points ``calandria.networks``."""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import BeforeValidator, Discriminator, Tag
from pydantic_core import PydanticCustomError

from ...base.errors import SettingsError, nearest_name
from . import conv1d_lags, press_unet
from .network import Network, NetworkSettings, grid_remedy

__all__ = ["NETWORKS", "AnyNetworkSettings", "Network", "NetworkSettings", "grid_remedy", "network_of"]

OURS: Mapping[str, Network] = {
    "press_unet": press_unet.NETWORK,
    "conv1d_lags": conv1d_lags.NETWORK,
}
"""Networks of this package, by kind."""


def registered(ours: Mapping[str, Network], group: str = "calandria.networks") -> dict[str, Network]:
    """Return these networks and those of installed packages, by kind.

    A package offers a network by an entry point that leads to a :class:`Network`. Raises SettingsError where one does not, or where
    its kind is taken.
    """
    found = dict(ours)
    for point in entry_points(group=group):
        network = point.load()
        if not isinstance(network, Network):
            raise SettingsError(
                f"entry point {point.name!r} of {group} leads to {type(network).__name__}; expected calandria.surrogate.networks.Network",
                hint=f"correct {point.value!r} in the package that offers it, or uninstall that package",
            )
        if network.kind in found:
            raise SettingsError(
                f"entry point {point.name!r} of {group} offers the network {network.kind!r}, which exists",
                hint="give the settings of that network another kind",
            )
        found[network.kind] = network
    return found


NETWORKS: Mapping[str, Network] = registered(OURS)
"""All networks by kind."""


def network_of(kind: object) -> Network:
    """Return the network of a kind; raises SettingsError with the nearest name where there is none."""
    try:
        return NETWORKS[str(kind)]
    except KeyError:
        raise SettingsError(
            f"network kind {kind!r} is unknown; expected one of {', '.join(NETWORKS)}", hint=nearest_name(str(kind), NETWORKS)
        ) from None


def _tag(content: Any) -> str:
    """Return the tag of a network's settings; tags in brackets are no part of a key that an error names."""
    return f"[{content.get('kind') if isinstance(content, Mapping) else getattr(content, 'kind', None)}]"


def _known(content: Any) -> Any:
    """Raise where settings of a network lack a kind, or have one that is unknown."""
    if isinstance(content, Mapping):
        if "kind" not in content:
            raise PydanticCustomError("network", f"names no kind; expected kind: {' or kind: '.join(NETWORKS)}")
        if content["kind"] not in NETWORKS:
            hint = nearest_name(str(content["kind"]), NETWORKS)
            raise PydanticCustomError(
                "network", f"kind {content['kind']!r} is unknown; {hint.replace('known:', 'expected one of')}"
            )
    elif not isinstance(content, NetworkSettings):
        raise PydanticCustomError("network", "expected a section of keys and values")
    return content


if TYPE_CHECKING:
    AnyNetworkSettings = NetworkSettings
else:
    _members = tuple(Annotated[network.settings, Tag(f"[{kind}]")] for kind, network in NETWORKS.items())
    AnyNetworkSettings = Annotated[Union[_members], Discriminator(_tag), BeforeValidator(_known)]  # noqa: UP007
    """The settings of any network, told apart by their kind."""
