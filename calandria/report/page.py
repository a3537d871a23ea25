"""The study's page, built from the rows of results alone: findings, tables of at most 1,000 lines, figures, all in one HTML file."""

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from typing import Any

import jinja2

from ..base.quantities import QUANTITIES
from ..base.results import MOMENTS, Fact, FilmMeans, Result, describe
from ..base.showing import Finder, Finding, StageSection, Table

MOST_LINES = 1000
"""Lines of a table; all rows are in results.csv."""
MOST_NOTES = 12
OWN_TABLE = "report/results.csv"
"""File of a mean over films, which is formed from rows of results."""
HEADINGS = {"degree_percent": "degree / %", "case": "case", "axis": "along"}
"""Headings of key columns whose name is not their heading."""


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


def shown(value: float | None, digits: int) -> str:
    """Return a number as a reader wants it: so many significant digits, a dash for what does not exist.

    >>> shown(0.123456, 3), shown(None, 3), shown(12.0, 3), shown(1.5e-11, 3)
    ('0.123', '–', '12', '1.5e-11')
    """
    if value is None:
        return "–"
    return f"{int(value)}" if float(value).is_integer() and abs(value) < 1e6 else f"{value:.{digits}g}"


def unit_shown(unit: str) -> str:
    """Return a unit as a reader knows it.

    >>> unit_shown("um2"), unit_shown("voxels")
    ('µm²', 'voxels')
    """
    return {"um": "µm", "um2": "µm²", "m2/s": "m²/s"}.get(unit, unit)


@dataclass
class Cell:
    """A number in a table: its text, its note and the sign of that footnote, and its interval."""

    text: str
    note: str = ""
    mark: str = ""
    more: str = ""


@dataclass
class _Line:
    keys: tuple
    cells: dict[tuple, Cell] = field(default_factory=dict)
    origins: dict[tuple[str, str], None] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """A table as it is shown.

    Parameters
    ----------
    title, notes
        Heading; sentences above the table.
    header
        Headings of the columns; the last is that of the origins.
    lines
        Cells of each line, and where they come from: rule and file.
    footnotes
        Sign and text of each.
    left_out
        Lines beyond the limit.
    """

    title: str
    notes: Sequence[str]
    header: Sequence[str]
    lines: Sequence[tuple[Sequence[Cell], Sequence[tuple[str, str]]]]
    footnotes: Sequence[tuple[str, str]]
    left_out: int


class GridBuilder:
    """Fills a table with the rows that it takes, one by one; lines beyond the limit are counted only.

    Parameters
    ----------
    table
        What is shown.
    digits
        Significant digits.
    limit
        Most lines.
    """

    def __init__(self, table: Table, digits: int, limit: int = MOST_LINES) -> None:
        self.table, self.digits, self.limit = table, digits, limit
        self._lines: dict[tuple, _Line] = {}
        self._columns: dict[tuple, None] = {}
        self._sources: dict[str, None] = {}
        self._left_out: set[int] = set()

    def add(self, row: Result) -> None:
        """Take a row, if the table shows it."""
        if not self.table.takes(row):
            return
        key = tuple(getattr(row, name) for name in self.table.down)
        if key not in self._lines and len(self._lines) >= self.limit:
            self._left_out.add(hash(key))
            return
        line = self._lines.setdefault(key, _Line(key))
        column = (row.quantity, *(getattr(row, name) for name in self.table.across))
        self._columns[column] = None
        line.cells[column] = self._cell(row)
        line.origins[row.rule, row.file or (OWN_TABLE if row.rule else "")] = None
        if row.reference is not None and len(self._sources) < MOST_NOTES:
            self._sources[row.reference_source] = None

    def _cell(self, row: Result) -> Cell:
        number = partial(shown, digits=self.digits)
        text, more = number(row.value), ""
        mean_over_films = row.note == FilmMeans.NOTE
        if row.low is not None and row.high is not None:
            more = f"{number(row.low)} to {number(row.high)}" + (f"; n {row.n}" if mean_over_films else "")
        elif mean_over_films:
            more = f"n {row.n}"
        if row.reference is not None:
            text = f"[{number(row.reference)}]" if row.value is None and not row.rule else f"{text} [{number(row.reference)}]"
        return Cell(text, row.note, more=more)

    def grid(self) -> Grid:
        """Return the table as it is shown; key columns that are empty in all lines are left out."""
        order = {name: place for place, name in enumerate(self.table.quantities)}
        columns = sorted(self._columns, key=lambda column: (order[column[0]], *map(_place, column[1:])))
        kept = [
            place
            for place in range(len(self.table.down))
            if any(line.keys[place] not in (None, "") for line in self._lines.values())
        ]
        notes, footnotes = self._marked()
        header = [HEADINGS.get(self.table.down[place], self.table.down[place].replace("_", " ")) for place in kept]
        header += [_heading(column) for column in columns]
        lines = []
        for line in self._lines.values():
            cells = [Cell(_word(line.keys[place])) for place in kept]
            cells += [line.cells.get(column, Cell("")) for column in columns]
            lines.append((cells, list(line.origins)))
        if self._sources:
            notes.append("In brackets: " + "; ".join(self._sources) + ".")
        return Grid(self.table.title, [*filter(None, [self.table.note]), *notes], header, lines, footnotes, len(self._left_out))

    def _marked(self) -> tuple[list[str], list[tuple[str, str]]]:
        """Mark the cells that have a note; one that all cells share stands above the table instead."""
        cells = [cell for line in self._lines.values() for cell in line.cells.values()]
        notes = list(dict.fromkeys(cell.note for cell in cells if cell.note and cell.note != FilmMeans.NOTE))
        if len(notes) == 1 and all(cell.note == notes[0] for cell in cells):
            return [notes[0][:1].upper() + notes[0][1:] + "."], []
        marks = {note: chr(ord("a") + place) for place, note in enumerate(notes[:MOST_NOTES])}
        for cell in cells:
            cell.mark = marks.get(cell.note, "")
        footnotes = [(mark, note) for note, mark in marks.items()]
        if len(notes) > MOST_NOTES:
            footnotes.append(("", f"{len(notes) - MOST_NOTES} more notes are in the column note of results.csv"))
        return [], footnotes


def _place(value: Any) -> int:
    """Return where a column stands among those of its quantity: moments by time; all others keep the order in which they came."""
    return MOMENTS.index(value) if value in MOMENTS else -1


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _heading(column: tuple) -> str:
    """Return the heading of a column: symbol, what splits it, unit.

    >>> _heading(("thickness", "first"))
    'L, first / µm'
    """
    quantity = QUANTITIES[column[0]]
    words = [quantity.symbol, *(_word(value).replace("_", "-") for value in column[1:] if value not in (None, ""))]
    return ", ".join(words) + (f" / {unit_shown(quantity.unit)}" if quantity.unit else "")


@dataclass
class Part:
    """A section of the page, filled row by row."""

    name: str
    section: StageSection
    grids: list[GridBuilder]
    finder: Finder | None
    numbers: list[Result] = field(default_factory=list)
    left_out: int = 0


def plain_section(stage: str) -> StageSection:
    """Return the section of a stage that names none: one table of all its quantities."""
    down = ("sample", "film", "degree_percent", "predictor", "mode", "case", "axis", "part", "window", "stride")
    across = ("moment", "phase")
    table = Table("Results", {"stage": stage}, down, tuple(QUANTITIES), across)
    return StageSection(stage.replace("_", " ").capitalize(), lambda facts: "", (table,))


class Page:
    """Gathers what the page shows while the rows of results pass, in bounded memory.

    Parameters
    ----------
    sections
        Section of each stage, in the order of the page.
    digits
        Significant digits.
    limit
        Most lines of a table.
    """

    def __init__(self, sections: Mapping[str, StageSection], digits: int, limit: int = MOST_LINES) -> None:
        self.digits, self.limit, self.count = digits, limit, 0
        self.parts = {
            name: Part(
                name,
                section,
                [GridBuilder(table, digits, limit) for table in section.tables],
                section.finder() if section.finder else None,
            )
            for name, section in sections.items()
        }
        self._takers: dict[str, list[GridBuilder]] = {}
        for part in self.parts.values():
            for grid in part.grids:
                for quantity in grid.table.quantities:
                    self._takers.setdefault(quantity, []).append(grid)

    def add(self, row: Result) -> None:
        """Take a row of results."""
        self.count += 1
        for grid in self._takers.get(row.quantity, ()):
            grid.add(row)
        for part in self.parts.values():
            if part.finder is not None:
                part.finder.add(row)
        own = self.parts.get(row.stage)
        if own is not None:
            if len(own.numbers) < self.limit:
                own.numbers.append(row)
            else:
                own.left_out += 1

    def context(self, facts: Iterable[Fact], pictures: Mapping[str, Sequence[Picture]]) -> dict[str, Any]:
        """Return what the template shows."""
        by_stage: dict[str, list[Fact]] = {}
        for fact in facts:
            by_stage.setdefault(fact.stage, []).append(fact)
        number: Callable[[float | None], str] = partial(shown, digits=self.digits)
        parts, findings = [], list[Finding]()
        for name, part in self.parts.items():
            own = by_stage.get(name, [])
            grids = [grid for grid in (builder.grid() for builder in part.grids) if grid.lines]
            if part.finder is not None:
                findings += part.finder.findings(own, number)
            if grids or pictures.get(name) or part.numbers:
                parts.append(
                    {
                        "anchor": name,
                        "title": part.section.title,
                        "text": part.section.text(own),
                        "warning": part.section.warning(own),
                        "terms": part.section.terms(own),
                        "grids": grids,
                        "pictures": pictures.get(name, ()),
                    }
                )
        return {
            "parts": parts,
            "findings": sorted(findings, key=lambda finding: not finding.warning),
            "first": [f"{finding.title}: {finding.warning}" for finding in findings if finding.warning],
            "remarks": [f"Reference of {fact.item} matches no number: {fact.text}" for fact in by_stage.get("report", [])][:20],
            "numbers": [self._numbers(part) for part in self.parts.values() if part.numbers],
            "count": self.count,
            "limit": self.limit,
        }

    def _numbers(self, part: Part) -> dict[str, Any]:
        rows = [
            [
                describe(row),
                row.quantity,
                shown(row.value, self.digits),
                unit_shown(row.unit),
                f"{shown(row.low, self.digits)} to {shown(row.high, self.digits)}" if row.low is not None else "",
                _word(row.n),
                f"{shown(row.reference, self.digits)}: {row.reference_source}" if row.reference is not None else "",
                row.note,
                row.rule,
                row.file,
            ]
            for row in part.numbers
        ]
        return {"title": part.section.title, "rows": rows, "left_out": part.left_out, "total": len(rows) + part.left_out}


def render(context: Mapping[str, Any]) -> str:
    """Return the page."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(files(__package__).joinpath("page.html").read_text(encoding="utf-8")).render(context)


def markdown(context: Mapping[str, Any]) -> str:
    """Return findings and tables of the page as Markdown."""
    lines = [f"# {context['title']}", ""]
    for finding in context["findings"]:
        words = "; ".join(filter(None, (finding.text, finding.warning, finding.praise)))
        lines += [f"- {finding.title}: {finding.value}{f' ({words})' if words else ''}"]
    for part in context["parts"]:
        lines += ["", f"## {part['title']}", "", part["text"], *(["", f"**{part['warning']}**"] if part["warning"] else [])]
        for grid in part["grids"]:
            lines += ["", f"### {grid.title}", "", *(f"{note}\n" for note in grid.notes)]
            lines.append("| " + " | ".join(_plain(text) for text in [*grid.header, "rule", "file"]) + " |")
            lines.append("|---" * (len(grid.header) + 2) + "|")
            for cells, origins in grid.lines:
                texts = [cell.text + "".join(f" ({words})" for words in (cell.more, cell.mark) if words) for cell in cells]
                texts += [
                    ", ".join(dict.fromkeys(rule for rule, _ in origins)),
                    ", ".join(filter(None, (file for _, file in origins))),
                ]
                lines.append("| " + " | ".join(map(_plain, texts)) + " |")
            lines += [f"\n({mark}) {note}" if mark else f"\n{note}" for mark, note in grid.footnotes]
            if grid.left_out:
                lines.append(f"\n{grid.left_out} more lines are in results.csv.")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    return text.replace("|", "/")
