"""Several labelled series: opening them, and how a table of them was made."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..base.errors import ContractError
from ..base.provenance import provenance
from ..base.stage import Given
from ..base.volumes import Labelled, open_labelled, read_labelled

PRESS_FACTS = ("lowest_thickness_um", "lowest_thickness_source", "press_is_estimated")


def table_record(files: dict[str, Path], given: Given[Any]) -> dict[str, Any]:
    """Return how a table of several series was made: the provenance, and of each series which version of which stage made it
    and what it says of the press (the film's lowest thickness falls between two frames)."""
    made = provenance(given, inputs=files)
    made["series"] = {}
    for name, path in files.items():
        with open_labelled(path) as (_, facts):
            before = facts.attributes.get("provenance", {})
        made["series"][name] = {key: before.get(key) for key in ("stage", "version")}
        made["series"][name] |= {key: facts.attributes[key] for key in PRESS_FACTS if key in facts.attributes}
    return made


def read_all_series(files: dict[str, Path]) -> Iterator[tuple[str, Labelled]]:
    """Yield each name with its series (t, z, y, x)."""
    for name, path in files.items():
        series = read_labelled(path)
        if series.labels.ndim != 4:
            raise ContractError(
                f"{str(path)!r} holds one volume; expected a series (t, z, y, x)",
                hint="solve volumes with transport.solve_diffusion",
            )
        yield name, series
