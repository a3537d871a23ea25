"""Settings of the report stage."""

from pydantic import Field

from ..base.settings import Section


class ReportSettings(Section):
    """How tables and figures look; nothing here changes a number."""

    figure_dpi: int = Field(default=110, ge=50, le=600)
    """Resolution of the page's figures, dots per inch."""
    significant_digits: int = Field(default=4, ge=2, le=8)
    """Digits shown on the page; the CSV tables keep all."""
