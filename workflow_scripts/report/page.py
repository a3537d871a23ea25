"""The study's page: one self-contained HTML file."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2

from .tables import shown


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Parameters
    ----------
    png
        The picture's bytes.
    caption
        What it shows.
    """

    png: bytes
    caption: str

    @property
    def data(self) -> str:
        """The picture as a data URL."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Grid:
    """A table for readers: one row per subject, one column per quantity; published values in a line of their own."""

    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def pivot(rows: Sequence[Mapping[str, str]], title: str, note: str, quantities: Mapping[str, str], digits: int) -> Grid:
    """Return the rows whose quantity is wanted with subjects down and quantities across; a reference stands in brackets.

    Parameters
    ----------
    rows
        Rows of the long table, one section.
    title, note
        Heading, and a sentence that says what is shown.
    quantities
        Quantity of the long table to heading.
    digits
        Significant digits.
    """
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        if row["quantity"] in quantities:
            text = shown(_parsed(row["value"]), digits)
            if row["reference"]:
                text += f" [{shown(_parsed(row['reference']), digits)}]"
            cells.setdefault(row["subject"], {})[row["quantity"]] = text
    used = [quantity for quantity in quantities if any(quantity in row for row in cells.values())]
    return Grid(
        title,
        note,
        ["", *(quantities[q] for q in used)],
        [[subject, *(row.get(q, "") for q in used)] for subject, row in cells.items()],
    )


def _parsed(cell: str) -> float | int | str | None:
    if cell in ("", None):
        return None
    try:
        value = float(cell)
    except ValueError:
        return cell
    return int(value) if cell.lstrip("-").isdigit() else value


def render(context: Mapping[str, Any]) -> str:
    """Return the page."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(files(__package__).joinpath("page.html").read_text(encoding="utf-8")).render(context)
