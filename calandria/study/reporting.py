"""The stage ``report``: tables of all numbers, figures, and the page that a study ends in."""

from typing import TYPE_CHECKING

from pydantic import Field

from ..base.settings import Section
from ..base.stage import Rule, Stage
from ..surrogate.stage import looks

if TYPE_CHECKING:
    from .study import Study


class ReportSettings(Section):
    """How tables and figures look; nothing here changes a number."""

    figure_dpi: int = Field(default=110, ge=50, le=600)
    """Resolution of the page's figures, dots per inch."""
    significant_digits: int = Field(default=4, ge=2, le=8)
    """Digits shown on the page; the CSV tables keep all."""


def artefacts(study: "Study") -> list[str]:
    """Return all finished files of the stage."""
    return [f"<results>/report/{name}" for name in ("index.html", "results.csv", "results.md")]


RULES: dict[str, Rule] = {
    "tabulate_results": Rule(("significant_digits",), version=4, given=lambda study, _: {"title": study.settings.title}),
    "draw_surrogate": Rule(("figure_dpi",), version=4, given=lambda study, _: looks(study)),
    "write_page": Rule(("significant_digits",), version=4, given=lambda study, _: {"title": study.settings.title}),
}
"""What the programs of the stage's rules read."""

STAGE = Stage("report", ReportSettings, "Tables and page.", RULES, artefacts=artefacts)
