"""Rows of results of the transport stage: solved volumes, measured and solved frames; and its section on the page."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ..base.phases import NAMES
from ..base.records import number
from ..base.results import Fact, Reading, Result
from ..base.showing import SOME, Facts, Finding, StageSection, Table
from ..tomography.results import attributes_of, resolved_phases
from .interfaces import INTERFACES

BLOCKED = "blocked: no conducting path joins the ends"
BY_LABEL = "by label: the press was estimated such that it goes as deep as the run's label says, so this is no measurement"
TRUE_SERIES = "true"


def volume(reading: Reading) -> Iterator[Result | Fact]:
    """Yield diffusivities, tortuosity factor and evidence of a solved volume.

    Files: ``record`` of solve_diffusion, and the ``volume``, whose attributes say which phases its labels tell apart. A conducting
    phase that is none of them makes no difference, and the note says so.
    """
    record = reading.json("record")
    resolved = resolved_phases(attributes_of(reading, "volume"))
    conducting = [NAMES[int(code)] for code, value in record["diffusivities"].items() if value]
    absent = [name for name in conducting if name not in resolved]
    note = f"{', '.join(absent)} is not resolved in this image and conducts nothing" if absent else ""
    blocked = "" if record["percolates"] else BLOCKED
    yield reading.fact("conducting phases", words_of({NAMES[int(c)]: v for c, v in record["diffusivities"].items()}), "record")
    yield reading.fact("sides", words_of(record["sides"]), "record")
    for name, key in (
        ("relative_diffusivity", "relative_diffusivity"),
        ("effective_diffusivity", "effective_diffusivity_m2_s"),
        ("tortuosity_factor", "tortuosity_factor"),
    ):
        yield reading.result(name, record[key], "record", note="; ".join(filter(None, (blocked, note))))
    share = record["connected_fraction"] / record["conducting_fraction"] if record["conducting_fraction"] else None
    yield reading.result("conducting_fraction", record["conducting_fraction"], "record", note=note)
    yield reading.result("connected_share", share, "record", note=note)
    yield reading.result("error_estimate", None if blocked else record["error_estimate"], "record", note=blocked)


def words_of(values: Mapping[str, Any]) -> str:
    """Return a mapping as words.

    >>> words_of({"y": "periodic", "x": "no-flux"}), words_of({"pore": 1.0})
    ('y periodic, x no-flux', 'pore 1')
    """
    return ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items())


def frames(reading: Reading) -> Iterator[Result | Fact]:
    """Yield what pressing and release did to a film: every frame, and the first, thinnest and last one again as rows of the run.

    Files: ``table`` of measure_frames (its record beside it says how thin the film was where the press turned, between two
    frames), and the ``series``, whose attributes say what the compression degree rests on.
    """
    record = reading.table_record("table")
    rows = [row for row in reading.table("table") if row["series"] == TRUE_SERIES]
    facts = record["series"][TRUE_SERIES]
    thickness = [number(row["thickness_um"]) for row in rows]
    thinnest = min(range(len(rows)), key=thickness.__getitem__)
    lowest = min(float(facts.get("lowest_thickness_um", math.inf)), thickness[thinnest])
    by_label = attributes_of(reading, "series").get("deepest_compression_degree_source") == "label"
    note = BY_LABEL if by_label else ""
    yield reading.result("frames", len(rows), "table")
    yield reading.result("compression_degree", 1 - lowest / thickness[0], "table", note=note)
    yield reading.result("spring_back", (thickness[-1] - lowest) / lowest, "table", note=note)
    yield reading.result("thickness", lowest, "table", moment="thinnest", note=note or "at the lowest point of the press")
    yield from with_moments(rows, thinnest, partial(_frame, reading))


def _frame(reading: Reading, row: Mapping[str, str], more: Mapping[str, Any]) -> Iterator[Result]:
    if more.get("moment") != "thinnest":  # the lowest point is between two frames, and has a row of its own
        yield reading.result("thickness", number(row["thickness_um"]), "table", **more)
    voxels = {phase: number(row[f"{phase}_voxels"]) for phase in ("pore", "cbd", "am")}
    electrode = sum(voxels.values())
    yield reading.result("porosity_free", number(row["porosity_free"]), "table", **more)
    yield reading.total_porosity(number(row["porosity_free"]), voxels["cbd"] / electrode if electrode else None, "table", **more)
    for phase, count in voxels.items():
        yield reading.result("phase_fraction", count / electrode if electrode else None, "table", phase=phase, **more)
    for pair in INTERFACES:
        yield reading.result("contact_area", number(row[f"contact_area_um2_{pair}"]), "table", phase=pair, **more)


def with_moments(
    rows: Sequence[Mapping[str, str]],
    thinnest: int | None,
    yielded: Callable[[Mapping[str, str], Mapping[str, Any]], Iterable[Result]],
) -> Iterator[Result]:
    """Yield the results of every frame, and after them those of the first, thinnest and last frame again, as rows of the run."""
    for row in rows:
        yield from yielded(row, {"frame": int(row["frame"])})
    for moment, index in (("first", 0), ("thinnest", thinnest), ("last", -1)):
        if index is not None and rows:
            yield from yielded(rows[index], {"frame": int(rows[index]["frame"]), "moment": moment})


def series(reading: Reading) -> Iterator[Result | Fact]:
    """Yield diffusivities and tortuosity factors of a film: every frame, and the first and last one again as rows of the run.

    Files: ``table`` of solve_series.
    """
    reading.table_record("table")
    rows = [row for row in reading.table("table") if row["series"] == TRUE_SERIES]
    groups: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for row in rows:
        groups.setdefault((row["case"], row["axis"]), []).append(row)
    for (case, axis), solved in groups.items():
        yield from with_moments(solved, None, partial(_solved, reading, {"case": case, "axis": axis}))


def _solved(reading: Reading, keys: Mapping[str, str], row: Mapping[str, str], more: Mapping[str, Any]) -> Iterator[Result]:
    note = "" if row["percolates"] == "true" else BLOCKED
    for name, column in (
        ("relative_diffusivity", "relative_diffusivity"),
        ("effective_diffusivity", "effective_diffusivity_m2_s"),
        ("tortuosity_factor", "tortuosity_factor"),
    ):
        yield reading.result(name, number(row[column]), "table", note=note, **keys, **more)


class _Factors:
    """Findings: tortuosity factors of samples that stand beside a reference."""

    def __init__(self) -> None:
        self.rows: list[Result] = []

    def add(self, row: Result) -> None:
        if (
            row.stage == "transport"
            and row.quantity == "tortuosity_factor"
            and row.sample
            and row.reference
            and len(self.rows) < 4
        ):
            self.rows.append(row)

    def findings(self, facts: Facts, shown: Callable[[float | None], str]) -> Iterator[Finding]:
        for row in self.rows:
            about = f"Tortuosity factor of {row.sample}, {row.case}, along {row.axis}"
            beside = f"reference {shown(row.reference)}: {row.reference_source}"
            if row.value is None:
                yield Finding(about, "–", beside, warning="blocked")
                continue
            away = abs(row.value / row.reference - 1) if row.reference else math.inf
            within = f"{max(1, math.ceil(100 * away))} %"
            yield Finding(
                about,
                shown(row.value),
                beside,
                praise=f"agrees within {within}" if away <= 0.05 else "",
                warning="" if away <= 0.05 else f"differs by {within}",
            )


def _text(facts: Facts) -> str:
    return (
        "Steady diffusion, cell-centred finite volumes, concentrations fixed on the outer faces of the first and last slice. Relative"
        " diffusivity is D_eff / D₀, tortuosity factor = conducting fraction / relative diffusivity. A blocked volume has no tortuosity"
        " factor (–). In brackets: reference values of the study's sheet; whether they describe this very volume is for the sheet to say."
    )


READERS = {"volume": volume, "frames": frames, "series": series}
"""Reader of each kind of source."""
_DIFFUSION = ("tortuosity_factor", "relative_diffusivity", "effective_diffusivity", "connected_share", "error_estimate")
SECTION = StageSection(
    "Transport",
    _text,
    (Table("Volumes", {"stage": "transport", "sample": SOME}, ("sample", "case", "axis"), _DIFFUSION),),
    finder=_Factors,
)
"""The stage's section on the page; films are in that of calendering."""
