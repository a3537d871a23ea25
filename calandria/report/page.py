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


def pivot(
    rows: Sequence[Mapping[str, str]],
    title: str,
    note: str,
    quantities: Mapping[str, str],
    digits: int,
    marks: Mapping[tuple[str, str], str] | None = None,
) -> Grid:
    """Return the rows whose quantity is wanted with subjects down and quantities across; units stand in the header, references in brackets.

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
    marks
        Sign after the value of a subject and quantity.
    """
    cells: dict[str, dict[str, str]] = {}
    units: dict[str, str] = {}
    for row in rows:
        if row["quantity"] in quantities:
            units.setdefault(row["quantity"], row["unit"])
            text = shown(parsed(row["value"]), digits)
            if row["reference"]:
                text += f" [{shown(parsed(row['reference']), digits)}]"
            text += (marks or {}).get((row["subject"], row["quantity"]), "")
            cells.setdefault(row["subject"], {})[row["quantity"]] = text
    used = [quantity for quantity in quantities if any(quantity in row for row in cells.values())]
    return Grid(
        title,
        note,
        ["", *(quantities[q] + (f" / {unit_shown(units[q])}" if units[q] else "") for q in used)],
        [[subject, *(row.get(q, "") for q in used)] for subject, row in cells.items()],
    )


def unit_shown(unit: str) -> str:
    """Return a unit as a reader knows it.

    >>> unit_shown("um2"), unit_shown("voxels")
    ('µm²', 'voxels')
    """
    return {"um": "µm", "um2": "µm²", "m2/s": "m²/s"}.get(unit, unit)


def parsed(cell: str) -> float | int | str | bool | None:
    """Return a cell of the long table as a number, a truth value or a word; None if it is empty."""
    if cell in ("", None):
        return None
    if cell in ("true", "false"):
        return cell == "true"
    try:
        value = float(cell)
    except ValueError:
        return cell
    return int(value) if cell.lstrip("-").isdigit() else value


def render(context: Mapping[str, Any]) -> str:
    """Return the page."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(files(__package__).joinpath("page.html").read_text(encoding="utf-8")).render(context)
