"""The stage ``report``: tables of all numbers, figures, and the page that a study ends in."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ..base.errors import CalandriaError
from ..base.results import Reference, read_references
from ..base.settings import Section
from ..base.stage import Figure, Rule, Source, Stage
from ..surrogate.stage import looks

if TYPE_CHECKING:
    from .study import Study

TABLES = ("results.csv", "results.parquet", "frames.parquet", "facts.csv")
PAGES = ("index.html", "results.md")


class ReportSettings(Section):
    """Tables and page: what stands beside the numbers, and how they look."""

    references_sheet: str | None = None
    """Path of a sheet of reference values (tab-separated) relative to the working directory; null for none."""
    cbd_nanoporosity: float = Field(default=0.47, ge=0, lt=1)
    """Fraction of the carbon-binder domain that is pore; assumed in porosity_total, see docs/quantities.md."""
    figure_dpi: int = Field(default=110, ge=50, le=600)
    """Resolution of the page's figures, dots per inch."""
    significant_digits: int = Field(default=4, ge=2, le=8)
    """Digits shown on the page; the tables keep all."""

    def references(self) -> list[Reference]:
        """Return the lines of the sheet of references; raises CalandriaError where it is wrong."""
        return read_references(self.references_sheet) if self.references_sheet else []


def artefacts(study: "Study") -> list[str]:
    """Return all finished files of the stage."""
    return [f"<results>/report/{name}" for name in (*TABLES, *PAGES)]


def sources(study: "Study") -> list[Source]:
    """Return the published numbers that are shown where the study has such networks of its own."""
    found = []
    if study.mini_volume_sets:
        found.append(Source("report", "published_autoencoder", "tabulate_results", {}))
    if study.report_runs:
        found.append(Source("report", "published_contacts", "tabulate_results", {}))
    return found


def contradictions(study: "Study") -> list[str]:
    """Return what is wrong with the sheet of references."""
    try:
        study.settings.report.references()
    except CalandriaError as error:
        return [f"report.references_sheet: {error.message}"]
    return []


def _tables(study: "Study", wildcards: Mapping[str, str]) -> dict[str, Any]:
    # numbered as lines of data: a comment in the sheet makes no table anew
    references = [asdict(replace(one, line=row)) for row, one in enumerate(study.settings.report.references(), 1)]
    return {"references": references, "sources": [asdict(source) for source in study.sources]}


def _page(study: "Study", wildcards: Mapping[str, str]) -> dict[str, Any]:
    stages = [source.stage for source in study.sources if source.stage != STAGE.name]
    figures = [asdict(figure) for figure in study.figures]
    return {"title": study.settings.title, "sections": list(dict.fromkeys(stages)), "figures": figures}


SURROGATE_FIGURES = {
    "losses": "Losses over the epochs of the final training.",
    "r2": "R² of each predicted frame on the label values, void included, as the paper defines it. Below -1 the axis is cut.",
    "r2_film": "R² of the film alone: voxels that are film in the true or in the predicted frame. Below -1 the axis is cut.",
    "phases": "Volumes of pore, CBD and AM in free rollouts; black dashes: the true ones.",
    "degrees": "Last frame of free rollouts against the compression degree; black dashes: the true values. Blocked frames have no tortuosity factor.",
    "slices": "Middle slice of the last frame: true and predicted in free rollouts.",
}
"""Figures of draw_surrogate, and their captions."""


def figures(study: "Study") -> list[Figure]:
    """Return the figures that the stage draws."""
    if not study.report_runs:
        return []
    return [Figure(f"<results>/report/surrogate_{name}.png", "surrogate", caption) for name, caption in SURROGATE_FIGURES.items()]


RULES: dict[str, Rule] = {
    "tabulate_results": Rule(("cbd_nanoporosity",), version=5, given=_tables),
    "draw_surrogate": Rule(("figure_dpi",), version=5, given=lambda study, _: looks(study)),
    "write_page": Rule(("significant_digits",), version=5, given=_page),
}
"""What the programs of the stage's rules read."""

STAGE = Stage(
    "report",
    ReportSettings,
    "Tables and page.",
    RULES,
    artefacts=artefacts,
    sources=sources,
    figures=figures,
    contradictions=contradictions,
)
