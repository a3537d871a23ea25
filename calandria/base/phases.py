"""Phase codes of labelled volumes, defined once (the codes of the calendering paper, doi 10.1002/aenm.202400376)."""

from collections.abc import Mapping
from types import MappingProxyType

from .errors import SettingsError, nearest_name

PORE, CBD, AM, VOID = 0, 1, 2, 4
PHASES: Mapping[str, int] = MappingProxyType({"pore": PORE, "cbd": CBD, "am": AM, "void": VOID})
CODES = tuple(PHASES.values())
NAMES: Mapping[int, str] = MappingProxyType({code: name for name, code in PHASES.items()})
ELECTRODE = (PORE, CBD, AM)


def phase_code(name: str) -> int:
    """Return the code of a phase's name.

    >>> phase_code("am")
    2
    """
    if name not in PHASES:
        raise SettingsError(f"phase {name!r} is unknown", hint=nearest_name(name, PHASES))
    return PHASES[name]
