"""Rows of results of the tomography stage, and its section on the page."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ..base.phases import NAMES
from ..base.results import Fact, Reading, Result
from ..base.showing import Facts, StageSection, Table
from ..base.volumes import open_labelled
from .notation import parse_labels

ELECTRODE_PHASES = ("pore", "cbd", "am")


def phases(reading: Reading) -> Iterator[Result | Fact]:
    """Yield porosities, phase fractions and thickness of a sample.

    Files: ``record`` of measure_phases, and the ``volume``, whose attributes say which phases its labels tell apart. The fraction
    of a phase that they do not is unknown, not 0.
    """
    record, attributes = reading.json("record"), attributes_of(reading, "volume")
    resolved = resolved_phases(attributes)
    if attributes.get("state"):
        yield reading.fact("state", attributes["state"], "record")
    yield reading.result("porosity_free", record["porosity_free"], "record", note="" if "cbd" in resolved else unresolved("cbd"))
    yield reading.total_porosity(
        record["porosity_free"], record["phase_fractions"]["cbd"] if "cbd" in resolved else None, "record"
    )
    for phase in ELECTRODE_PHASES:
        known = phase in resolved
        value = record["phase_fractions"][phase] if known else None
        yield reading.result("phase_fraction", value, "record", phase=phase, note="" if known else unresolved(phase))
    yield reading.result("thickness", record["thickness_um"], "record")


def unresolved(phase: str) -> str:
    """Return the note of a number that a phase lacks in."""
    return f"not resolved: no label or class of the image is {phase}"


def attributes_of(reading: Reading, role: str) -> Mapping[str, Any]:
    """Return the attributes of a labelled volume among the files of a source."""
    with open_labelled(reading.path(role)) as (_, facts):
        return facts.attributes


def resolved_phases(attributes: Mapping[str, Any]) -> Collection[str]:
    """Return the phases that an image's label map or segmentation tells apart; all, where the volume names none.

    >>> sorted(resolved_phases({"label_map": "0=pore 1=am"}))
    ['am', 'pore']
    """
    if attributes.get("label_map"):
        return {NAMES[code] for code in parse_labels(attributes["label_map"]).values()}
    return (attributes.get("segmentation") or {}).get("classes", ELECTRODE_PHASES)


def _text(facts: Facts) -> str:
    return (
        "Imported volumes and what they consist of. Fractions are of the electrode; void above it is left out. In brackets: reference"
        " values of the study's sheet."
    )


READERS = {"phases": phases}
"""Reader of each kind of source."""
SECTION = StageSection(
    "Tomography",
    _text,
    (
        Table(
            "Porosity, phases and thickness",
            {"stage": "tomography"},
            ("sample",),
            ("porosity_free", "porosity_total", "phase_fraction", "thickness"),
            ("phase",),
        ),
    ),
)
"""The stage's section on the page."""
