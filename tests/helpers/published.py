"""The published reference tables in tests/data/published; the first line of each names its source."""

from pathlib import Path

from calandria.base.records import read_table

FOLDER = Path(__file__).parents[1] / "data" / "published"


def published_table(name: str) -> list[dict[str, str]]:
    """Return the rows of ``tests/data/published/<name>.csv``."""
    return read_table(FOLDER / f"{name}.csv")
