"""The published reference tables in calandria/report/published; the first line of each names its source."""

from calandria.report.results import published_table

__all__ = ["published_table"]
