"""What a stage shows on the report's page: tables of its results, and findings; all of it follows from rows of results."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .results import KEYS, Fact, Result

Facts = Sequence[Fact]
SOME = object()
"""In the filter of a table: the column is not empty."""


@dataclass(frozen=True)
class Table:
    """A table of the page: which rows of results it shows, what runs down and what runs across.

    Parameters
    ----------
    title, note
        Heading, and sentences that say what is shown.
    where
        Filter: column to value, to a tuple of values, or to SOME for any that is not empty. An empty text or None asks for an empty
        cell.
    down
        Key columns that make a line of the table.
    quantities
        Quantities that run across, in this order.
    across
        Key columns that split a quantity into several columns, e.g. ``phase`` or ``moment``.
    """

    title: str
    where: Mapping[str, Any]
    down: tuple[str, ...]
    quantities: tuple[str, ...]
    across: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        unknown = {*self.where, *self.down, *self.across} - {*KEYS, "leaking"}
        if unknown:
            raise ValueError(f"table {self.title!r} names the columns {sorted(unknown)}; known: {', '.join(KEYS)}")

    def takes(self, row: Result) -> bool:
        """Say whether the table shows a row."""
        return row.quantity in self.quantities and all(_fits(getattr(row, name), wanted) for name, wanted in self.where.items())


def _fits(value: Any, wanted: Any) -> bool:
    if wanted is SOME:
        return value not in (None, "")
    return value in wanted if isinstance(wanted, tuple) else value == wanted


@dataclass(frozen=True)
class Finding:
    """A finding at the top of the page.

    Parameters
    ----------
    title
        What was measured.
    value
        The number, as text.
    text
        What it stands beside: a reference, another method.
    warning, praise
        Short judgements; the first is marked as a warning.
    """

    title: str
    value: str
    text: str = ""
    warning: str = ""
    praise: str = ""


class Finder(Protocol):
    """Looks at every row of results as it passes, and says at the end what was found."""

    def add(self, row: Result) -> None:
        """Look at a row."""

    def findings(self, facts: Facts, shown: Callable[[float | None], str]) -> Iterable[Finding]:
        """Return the findings; ``shown`` writes a number with the digits of the settings."""


@dataclass(frozen=True)
class StageSection:
    """The section of a stage on the page.

    Parameters
    ----------
    title
        Heading.
    text
        Function of the facts that returns the introduction.
    tables
        Tables, in their order.
    finder
        Makes what looks for findings; None for none.
    warning
        Function of the facts that returns a warning, empty for none.
    terms
        Function of the facts that returns names and what they mean.
    """

    title: str
    text: Callable[[Facts], str]
    tables: tuple[Table, ...] = ()
    finder: Callable[[], Finder] | None = None
    warning: Callable[[Facts], str] = field(default=lambda facts: "")
    terms: Callable[[Facts], Sequence[tuple[str, str]]] = field(default=lambda facts: ())


def texts(facts: Facts, fact: str) -> list[str]:
    """Return the different words of a fact, in the order of the rows."""
    return list(dict.fromkeys(row.text for row in facts if row.fact == fact))


def runs_of(facts: Collection[Fact]) -> list[str]:
    """Return the films and degrees that facts are about, e.g. ``film_1 at 20 %``."""
    return list(dict.fromkeys(f"{row.film} at {row.degree_percent} %" for row in facts))
