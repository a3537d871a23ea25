"""Rows of results of the calendering stage: how its series were read and voxelized; and the films' section on the page."""

from collections.abc import Callable, Iterator

from ..base.results import Fact, Reading, Result
from ..base.showing import SOME, Facts, Finding, StageSection, Table, texts
from ..base.volumes import open_labelled

NEGLIGIBLE = 1e-9
"""Stretches below it are rounding."""


def series(reading: Reading) -> Iterator[Result | Fact]:
    """Yield how a run was read and voxelized.

    Files: the ``series``, and the record of measure_frames (``measured``), which holds the digest of the series: the program read all
    of it, and the report need not.
    """
    reading.know_digest("series", reading.json("measured")["inputs_sha256"]["true"])
    with open_labelled(reading.path("series")) as (_, facts):
        attributes, edge = facts.attributes, facts.voxel_edge_um
        largest = {
            name: float(max(facts.frames[name]))
            for name in ("overlap_loss_cbd", "overlap_loss_am", "cut_loss", "grown_cbd", "grown_am")
            if name in facts.frames
        }
    press = "estimated" if attributes.get("press_is_estimated") else "press table"
    if press == "estimated" and attributes.get("deepest_compression_degree_source") == "label":
        press = "estimated, as deep as the run's label says"
    words = {"press": press, "times from": attributes.get("time_source"), "surface from": attributes.get("surface_source")}
    words["replicate of"] = attributes.get("replicate_of")
    words["solid volume"] = "conserved" if attributes.get("conserve_volume") else "lost in overlaps"
    words["volume missing"] = attributes.get("volume_missing")
    for fact, text in words.items():
        if text:
            yield reading.fact(fact, str(text), "series")
    yield reading.result("voxel_edge", edge, "series")
    stretch = float(attributes.get("box_misfit") or 0.0)
    yield reading.result("box_stretch", stretch if stretch > NEGLIGIBLE else 0.0, "series")
    for name, value in largest.items():
        quantity, phase = (name, "") if name == "cut_loss" else name.rsplit("_", 1)
        yield reading.result(quantity, value, "series", phase=phase)


class _Porosity:
    """Finding: the free porosity after release, by compression degree, as mean over the films."""

    def __init__(self) -> None:
        self.rows: list[Result] = []

    def add(self, row: Result) -> None:
        """Keep the means over films of the last frame."""
        if (row.stage, row.quantity, row.moment, row.film) == ("transport", "porosity_free", "last", "") and not row.sample:
            self.rows.append(row)

    def findings(self, facts: Facts, shown: Callable[[float | None], str]) -> Iterator[Finding]:
        """Return one finding with all degrees."""
        rows = sorted(self.rows, key=lambda row: row.degree_percent or 0)[:8]
        if rows:
            degrees = " / ".join(str(row.degree_percent) for row in rows)
            films = ", ".join(dict.fromkeys(f"{row.n} film{'s' if row.n != 1 else ''}" for row in rows))
            values = " / ".join(shown(row.value) for row in rows)
            yield Finding(f"Free porosity after release, {degrees} %", values, f"means of {films}")


def _text(facts: Facts) -> str:
    words = (
        "Films pressed to each compression degree and released. Thickness is that between current collector and film surface; compression"
        " degree and spring-back count from the lowest point of the press, which may lie between two frames. Free porosity is the share of"
        " pore voxels in the film, total porosity adds the nanopores of the binder domain."
    )
    if any("settings" in text for text in texts(facts, "times from")):
        words += " Times that come from the settings are assumed: neither the dumps nor a press table tell them."
    if texts(facts, "replicate of"):
        words += " Replicates of a film are no films of their own, so means over films leave them out."
    return words


def _warning(facts: Facts) -> str:
    missing = [row for row in facts if row.fact == "volume missing"]
    runs = [f"{row.film} at {row.degree_percent} % ({row.text})" for row in missing]
    named = "; ".join(runs[:20]) + (f" and {len(runs) - 20} more" if len(runs) > 20 else "")
    return (
        f"Pores full: {named}: the film is thinner than its spheres' volume allows, so the porosity of these frames is 0 and solid is"
        " missing."
        if runs
        else ""
    )


READERS = {"series": series}
"""Reader of each kind of source."""
_THICKNESS = ("compression_degree", "spring_back", "thickness")
_POROSITY = ("porosity_free", "porosity_total")
_FLOW = ("tortuosity_factor", "relative_diffusivity", "effective_diffusivity")
_MEANS = {"stage": "transport", "sample": "", "film": "", "degree_percent": SOME}
_FILMS = {"stage": "transport", "film": SOME}
SECTION = StageSection(
    "Calendering",
    _text,
    (
        Table(
            "Thickness: means over films",
            _MEANS | {"moment": ("", "first", "thinnest", "last")},
            ("degree_percent",),
            _THICKNESS,
            ("moment",),
            "Below each mean its 95 % t interval over films, and how many films.",
        ),
        Table(
            "Porosity: means over films",
            _MEANS | {"moment": ("first", "thinnest", "last")},
            ("degree_percent",),
            _POROSITY,
            ("moment",),
        ),
        Table(
            "Contact areas after release: means over films",
            _MEANS | {"moment": "last"},
            ("degree_percent",),
            ("contact_area",),
            ("phase",),
        ),
        Table(
            "Transport after release: means over films", _MEANS | {"moment": "last"}, ("degree_percent", "case", "axis"), _FLOW
        ),
        Table("Thickness of each film", _FILMS, ("film", "degree_percent"), _THICKNESS, ("moment",)),
        Table("Porosity of each film", _FILMS, ("film", "degree_percent"), _POROSITY, ("moment",)),
        Table(
            "Contact areas of each film",
            _FILMS | {"moment": "last"},
            ("film", "degree_percent"),
            ("contact_area",),
            ("phase",),
            "After release; faces of voxels between unlike phases.",
        ),
        Table(
            "Transport of each film",
            _FILMS | {"moment": ("first", "last")},
            ("film", "degree_percent", "case", "axis"),
            ("tortuosity_factor", "effective_diffusivity"),
            ("moment",),
            "By conducting phases (case) and direction, before and after.",
        ),
        Table(
            "How the frames were voxelized",
            {"stage": "calendering", "film": SOME},
            ("film", "degree_percent"),
            ("voxel_edge", "box_stretch", "overlap_loss", "cut_loss", "grown"),
            ("phase",),
            "Stretch: largest share by which positions, not radii, are stretched along x and y so that sides hold whole voxels. Lost in"
            " overlaps: what lies in two spheres counts once, and CBD under active material vanishes; the pores are larger by it than"
            " spheres that do not overlap would leave them. Grown: where volume is conserved, a phase takes so many pore voxels around"
            " its spheres, and what is lost is only what the pores could not hold. How press and times were found is in facts.csv.",
        ),
    ),
    finder=_Porosity,
    warning=_warning,
)
"""The films' section on the page; their numbers come from the stages calendering and transport."""
