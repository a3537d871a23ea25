"""Results as data: tidy rows of numbers, rows of words, and how a stage's files become such rows.

A number is one :class:`Result`: a quantity of ``base.quantities``, its value, and the keys that say what was measured. Words (how
times were read, why a run leaks) are a :class:`Fact`, so that the column ``value`` holds numbers alone.
"""

import csv
import math
import os
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .errors import InputFileError, SettingsError, nearest_name
from .files import existing_file, replacing
from .quantities import QUANTITIES, porosity_total, quantity
from .records import file_digest, read_json, read_table, read_table_record

if TYPE_CHECKING:
    from .stage import Source

RESULTS = "<results>/"
"""How paths of a study's results begin in its list of sources; what follows is relative to the study's folder."""
TRUE_FRAME = "true frame"
"""Source of a reference that is the value of the true frame, measured alike."""
MOMENTS = ("first", "thinnest", "last")
"""Frames of a series that have rows of their own: the first, the thinnest and the last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A number of a study.

    Parameters
    ----------
    stage
        Stage whose rule wrote the number.
    sample, film, degree_percent
        Tomography sample; film and the label of its compression degree in per cent. Empty in means over films.
    frame, moment
        Frame of a series from 0, and whether it is the ``first``, ``thinnest`` or ``last`` one. Without a frame the row is of the
        whole run: a mean over its frames where the quantity varies.
    predictor, mode
        Predictor of the surrogate, ``one_step`` or ``rollout``; empty for true frames.
    case, axis
        Transport: conducting phases (case) and direction. Auto-encoder: case study.
    phase
        Phase, or a pair of phases such as ``pore_am``.
    part, window, stride
        Auto-encoder: ``train`` or ``validation``, slices of a mini-volume, slices between two.
    quantity, value
        Name in ``base.quantities``; the number in its unit, None where it does not exist (blocked) or is not known.
    low, high
        Ends of its 95 % interval.
    n
        How many numbers a mean is of: films, frames or mini-volumes.
    reference, reference_source
        A value to set beside it, and where that comes from: the user's sheet, a publication, the true frame.
    rule, file, digest
        Rule that wrote the file, its path relative to the study's folder, its SHA-256. Means over films have no file: they are of
        the rows above.
    leaking
        Whether training saw frames of this run; None where nothing was trained.
    note
        What the value rests on or lacks, for readers.
    """

    stage: str
    sample: str = ""
    film: str = ""
    degree_percent: int | None = None
    frame: int | None = None
    predictor: str = ""
    mode: str = ""
    case: str = ""
    axis: str = ""
    phase: str = ""
    quantity: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    reference: float | None = None
    reference_source: str = ""
    rule: str = ""
    file: str = ""
    digest: str = ""
    moment: str = ""
    part: str = ""
    window: int | None = None
    stride: int | None = None
    leaking: bool | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if self.quantity not in QUANTITIES:
            quantity(self.quantity)  # raises with the nearest name
        for name in ("value", "low", "high", "reference"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                object.__setattr__(self, name, None)

    @property
    def unit(self) -> str:
        """Unit of the quantity; empty for pure numbers."""
        return QUANTITIES[self.quantity].unit

    @property
    def of_frames(self) -> bool:
        """Whether the row belongs into the table of all frames."""
        return self.frame is not None and not self.moment

    def row(self) -> dict[str, Any]:
        """Return the row of the table, column by column."""
        return {name: getattr(self, name) for name in COLUMNS}


COLUMNS = (
    "stage",
    "sample",
    "film",
    "degree_percent",
    "frame",
    "predictor",
    "mode",
    "case",
    "axis",
    "phase",
    "quantity",
    "value",
    "unit",
    "low",
    "high",
    "n",
    "reference",
    "reference_source",
    "rule",
    "file",
    "digest",
    "moment",
    "part",
    "window",
    "stride",
    "leaking",
    "note",
)
_ALL = attrgetter(*COLUMNS)
_LEAKING = COLUMNS.index("leaking")
KEYS = (
    "stage",
    "sample",
    "film",
    "degree_percent",
    "frame",
    "moment",
    "predictor",
    "mode",
    "case",
    "axis",
    "phase",
    "part",
    "window",
    "stride",
)
"""Columns that say what was measured."""
WHOLE_NUMBERS = ("degree_percent", "frame", "n", "window", "stride")
LEAKING = {"true": True, "false": False, "": None}
NUMBERS = ("value", "low", "high", "reference")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """Words of a study: what is known of a run and is no number.

    Parameters
    ----------
    stage, sample, film, degree_percent, predictor, mode, case, window, stride, rule, file, digest
        As of a :class:`Result`.
    fact, item, text
        What it is about (``time_source``), of which item (a hyper-parameter's name), and the words.
    """

    stage: str
    sample: str = ""
    film: str = ""
    degree_percent: int | None = None
    predictor: str = ""
    mode: str = ""
    case: str = ""
    window: int | None = None
    stride: int | None = None
    fact: str
    item: str = ""
    text: str
    rule: str = ""
    file: str = ""
    digest: str = ""

    def row(self) -> dict[str, Any]:
        """Return the row of the table of facts."""
        return {name: getattr(self, name) for name in FACT_COLUMNS}


FACT_COLUMNS = tuple(item.name for item in fields(Fact))


@dataclass(frozen=True)
class Reading:
    """The files of a source, opened for its reader.

    Parameters
    ----------
    source
        The source: stage, rule, files by role, and keys.
    folder
        The study's folder, ``results/NAME``.
    cbd_nanoporosity
        Fraction of the binder domain that is pore, assumed in ``porosity_total``.
    """

    source: "Source"
    folder: Path
    cbd_nanoporosity: float
    _digests: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def relative(self, role: str) -> str:
        """Return the path of a file relative to the study's folder."""
        return self.source.files[role].removeprefix(RESULTS)

    def path(self, role: str) -> Path:
        """Return where a file of the source is; raises InputFileError where it is missing."""
        return existing_file(self.folder / self.relative(role), "result")

    def json(self, role: str) -> Any:
        """Return the content of a JSON record."""
        return read_json(self.path(role))

    def table(self, role: str) -> list[dict[str, str]]:
        """Return the rows of a table (CSV)."""
        return read_table(self.path(role))

    def table_record(self, role: str) -> dict[str, Any]:
        """Return the record beside a table; raises InputFileError if the record is that of another table."""
        record = read_table_record(self.path(role))
        self._digests[role] = record["table_sha256"]
        return record

    def digest(self, role: str) -> str:
        """Return the SHA-256 of a file, computed once."""
        if role not in self._digests:
            self._digests[role] = file_digest(self.path(role))
        return self._digests[role]

    def know_digest(self, role: str, digest: str) -> None:
        """Take a digest from the record of a program that read the whole file, so that large files are not read again."""
        self._digests[role] = digest

    @cached_property
    def _keys(self) -> dict[str, Any]:
        return {name: value for name, value in self.source.keys.items() if name in KEYS}

    def result(self, quantity: str, value: float | None, role: str, **more: Any) -> Result:
        """Return a row of a number that stands in the file of a role, or follows from it."""
        about = {"rule": self.source.rule, "file": self.relative(role), "digest": self.digest(role)}
        return Result(**{"stage": self.source.stage, **self._keys, **about, **more}, quantity=quantity, value=value)

    def total_porosity(self, porosity_free: float | None, cbd_fraction: float | None, role: str, **more: Any) -> Result:
        """Return the row of ``porosity_total``, which says what it assumes; without a fraction of the binder domain it is not known."""
        value, note = None, "not known: the volume of the binder domain is not"
        if porosity_free is not None and cbd_fraction is not None:
            value = porosity_total(porosity_free, cbd_fraction, self.cbd_nanoporosity)
            note = f"assumes that {self.cbd_nanoporosity:g} of the binder domain is pore" if cbd_fraction else ""
        return self.result("porosity_total", value, role, note=note, **more)

    def fact(self, fact: str, text: str, role: str, **more: Any) -> Fact:
        """Return a row of words that stand in the file of a role, or follow from it."""
        known = {name: value for name, value in self._keys.items() if name in FACT_COLUMNS}
        about = {"rule": self.source.rule, "file": self.relative(role), "digest": self.digest(role)}
        return Fact(**{"stage": self.source.stage, **known, **about, **more}, fact=fact, text=text)


Reader = Callable[[Reading], Iterable[Result | Fact]]
"""Makes rows of the files of one kind of source; a stage names its readers in ``READERS``."""


class TableWriter:
    """Writes rows to CSV, Parquet or both as they come, so that memory is bounded; both files appear whole or not at all.

    Parameters
    ----------
    csv_path, parquet_path
        Where to write; None for none.
    chunk
        Rows that are held until a row group of the Parquet file is written.
    """

    def __init__(
        self, csv_path: str | os.PathLike | None = None, parquet_path: str | os.PathLike | None = None, chunk: int = 50_000
    ) -> None:
        self.csv_path, self.parquet_path, self.chunk = csv_path, parquet_path, chunk
        self.written = 0
        self._rows: list[Result] = []
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if self.csv_path is not None:
            unfinished = self._open.enter_context(replacing(self.csv_path))
            stream = self._open.enter_context(open(unfinished, "w", newline="", encoding="utf-8"))
            self._csv = csv.writer(stream, lineterminator="\n")
            self._csv.writerow(COLUMNS)
        if self.parquet_path is not None:
            import pyarrow.parquet

            unfinished = self._open.enter_context(replacing(self.parquet_path))
            self._parquet = self._open.enter_context(pyarrow.parquet.ParquetWriter(unfinished, parquet_schema()))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._flush()
        except BaseException as failed:
            self._open.__exit__(type(failed), failed, failed.__traceback__)
            raise
        self._open.__exit__(kind, error, trace)

    def write(self, result: Result) -> None:
        """Add a row."""
        self._rows.append(result)
        self.written += 1
        if len(self._rows) >= self.chunk:
            self._flush()

    def _flush(self) -> None:
        if self.csv_path is not None:
            self._csv.writerows(map(_cells, self._rows))
        if self.parquet_path is not None and self._rows:
            import pyarrow

            columns = [
                [None if value == "" else value for value in column] for column in zip(*map(_ALL, self._rows), strict=True)
            ]
            arrays = [pyarrow.array(column, kind.type) for column, kind in zip(columns, parquet_schema(), strict=True)]
            self._parquet.write_table(pyarrow.Table.from_arrays(arrays, schema=parquet_schema()))
        self._rows.clear()


def _cells(row: Result) -> list[Any]:
    """Return the cells of a row for the CSV writer, which writes floats in their shortest exact form and nothing for None."""
    values = list(_ALL(row))
    values[_LEAKING] = "" if row.leaking is None else str(row.leaking).lower()
    return values


def parquet_schema() -> Any:
    """Return the Parquet schema of the table: numbers as float64, whole numbers as int64, ``leaking`` as boolean, words as text."""
    import pyarrow

    kinds = {
        **dict.fromkeys(NUMBERS, pyarrow.float64()),
        **dict.fromkeys(WHOLE_NUMBERS, pyarrow.int64()),
        "leaking": pyarrow.bool_(),
    }
    return pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in COLUMNS])


def read_results(path: str | os.PathLike) -> Iterator[Result]:
    """Yield the rows of ``results.csv`` one by one; raises InputFileError where the columns or a cell are others.

    The unit of each row is compared with that of its quantity.
    """
    with open(existing_file(path, "table of results"), newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise InputFileError(
                f"{str(path)!r} has other columns than a table of results; expected {', '.join(COLUMNS)}",
                hint="make it again: it is the output of the rule tabulate_results",
            )
        for number, row in enumerate(reader, 2):
            try:
                yield result_of(row)
            except (ValueError, SettingsError, TypeError) as error:
                raise InputFileError(
                    f"{str(path)!r}, line {number}: {error}".splitlines()[0],
                    hint="make it again: it is the output of the rule tabulate_results",
                ) from error


def result_of(row: Mapping[str, str]) -> Result:
    """Return the result of a row of text cells; raises ValueError or SettingsError where a cell is no such thing."""
    given: dict[str, Any] = {name: row[name] for name in COLUMNS if name != "unit"}
    given |= {name: float(given[name]) if given[name] else None for name in NUMBERS}
    given |= {name: int(given[name]) if given[name] else None for name in WHOLE_NUMBERS}
    if given["leaking"] not in LEAKING:
        raise ValueError(f"leaking is {given['leaking']!r}; expected true, false or an empty cell")
    given["leaking"] = LEAKING[given["leaking"]]
    found = Result(**given)
    if found.unit != row["unit"]:
        raise ValueError(f"{found.quantity} has the unit {row['unit']!r}; expected {found.unit!r}")
    return found


def read_facts(path: str | os.PathLike) -> list[Fact]:
    """Return the rows of ``facts.csv``."""
    rows = []
    for row in read_table(existing_file(path, "table of facts")):
        given: dict[str, Any] = {name: row[name] for name in FACT_COLUMNS}
        given |= {name: int(given[name]) if given[name] else None for name in ("degree_percent", "window", "stride")}
        rows.append(Fact(**given))
    return rows


T_QUANTILES = (
    *(12.706, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
    *(2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423),
)
"""97.5 % quantiles of Student's t with 1 to 30 degrees of freedom."""


def t_quantile(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t: tabulated to 30 degrees of freedom, a Cornish-Fisher series above (within 1e-5).

    >>> t_quantile(4), round(t_quantile(100), 4)
    (2.7764, 1.984)
    """
    if freedom <= len(T_QUANTILES):
        return T_QUANTILES[freedom - 1]
    z = statistics.NormalDist().inv_cdf(0.975)
    terms = (z**3 + z) / (4 * freedom), (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return z + sum(terms) + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)


def mean_and_interval(values: Collection[float]) -> tuple[float, float | None, float | None]:
    """Return the mean of independent numbers and the ends of its 95 % t interval; a single number has no interval.

    >>> [round(end, 3) for end in mean_and_interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None, None
    half = t_quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


GROUPED = (*(name for name in KEYS if name not in ("film", "frame")), "quantity", "reference_source", "leaking")
"""Columns that are alike in the rows of one mean over films."""
_GROUP = attrgetter(*GROUPED)


class FilmMeans:
    """Gathers rows of films, whose means over films are rows too."""

    NOTE = "mean over the films in which the number exists; low and high: ends of its 95 % t interval"

    def __init__(self) -> None:
        self._groups: dict[tuple, list[tuple[float, float | None]]] = {}

    def add(self, row: Result) -> None:
        """Take a row of a run; rows of single frames other than the first, thinnest and last are left out, as are absent values."""
        if row.film and row.value is not None and not row.of_frames:
            self._groups.setdefault(_GROUP(row), []).append((row.value, row.reference))

    def rows(self, rule: str) -> Iterator[Result]:
        """Yield the means, in the order in which their groups came."""
        for group, numbers in self._groups.items():
            keys = dict(zip(GROUPED, group, strict=True)) | {"rule": rule, "note": self.NOTE}
            mean, low, high = mean_and_interval([value for value, _ in numbers])
            if keys["reference_source"] == TRUE_FRAME and all(true is not None for _, true in numbers):
                keys["reference"] = math.fsum(true for _, true in numbers if true is not None) / len(numbers)
            else:
                keys["reference_source"] = ""
            yield Result(**keys | {"value": mean, "low": low, "high": high, "n": len(numbers)})


@dataclass(frozen=True)
class Reference:
    """A value of the user's or of a publication that stands beside the results it names.

    Parameters
    ----------
    line
        Line of the sheet; in the settings of tabulate_results the row, counted without comments.
    quantity, value, unit, source
        The number, and where it comes from.
    keys
        Columns of a result that must be equal.
    """

    line: int
    quantity: str
    value: float
    unit: str
    source: str
    keys: Mapping[str, Any]

    def matches(self, row: Result) -> bool:
        """Say whether the reference belongs beside a row."""
        return row.quantity == self.quantity and all(getattr(row, name) == value for name, value in self.keys.items())


EMPTY = "-"
"""In a key cell of a reference: the row's cell is empty."""
REFERENCE_COLUMNS = ("quantity", "value", "unit", "source")


def read_references(path: str | os.PathLike) -> list[Reference]:
    """Read a sheet of reference values: ``quantity``, ``value``, ``unit``, ``source``, and any of the key columns of a result.

    Tab-separated, a header line; lines that begin with # are comments. An empty key cell matches any row, ``-`` rows whose cell is empty.

    Raises
    ------
    SettingsError
        A column is unknown or missing, a quantity is unknown, a unit is not that of the quantity, a cell is no number, a source is
        empty, or two lines are alike. All mistakes are reported at once.
    """
    lines = [
        (number, line.split("\t"))
        for number, line in enumerate(existing_file(path, "sheet of references").read_text(encoding="utf-8-sig").splitlines(), 1)
        if line.strip() and not line.startswith("#")
    ]
    if not lines:
        return []
    header = [name.strip() for name in lines[0][1]]
    wrong = [f"column {name!r} is unknown" for name in header if name not in (*REFERENCE_COLUMNS, *KEYS)]
    wrong += [f"column {name!r} is missing" for name in REFERENCE_COLUMNS if name not in header]
    wrong += [f"column {name!r} occurs twice" for name in dict.fromkeys(header) if header.count(name) > 1]
    found: list[Reference] = []
    seen: dict[tuple, int] = {}
    for number, cells in lines[1:] if not wrong else []:
        if len(cells) != len(header):
            wrong.append(f"line {number} has {len(cells)} cells; expected {len(header)}, separated by tabs")
            continue
        row = {name: text.strip() for name, text in zip(header, cells, strict=True)}
        try:
            reference = _reference(number, row)
        except ValueError as error:
            wrong.append(f"line {number}: {error}")
            continue
        identity = (reference.quantity, *sorted(reference.keys.items()))
        if identity in seen:
            wrong.append(f"line {number} has the quantity and keys of line {seen[identity]}")
        seen.setdefault(identity, number)
        found.append(reference)
    if wrong:
        raise SettingsError(
            f"{Path(path)}: " + "; ".join(wrong),
            hint=f"columns are {', '.join(REFERENCE_COLUMNS)} and any of {', '.join(KEYS)}; separate cells by tabs",
        )
    return found


def _reference(line: int, row: Mapping[str, str]) -> Reference:
    name = row["quantity"]
    if name not in QUANTITIES:
        raise ValueError(f"quantity {name!r} is unknown; {nearest_name(name, QUANTITIES)}")
    if row["unit"] != QUANTITIES[name].unit:
        raise ValueError(f"{name} is in {row['unit'] or 'no unit'}; expected {QUANTITIES[name].unit or 'an empty cell'}")
    if not row["source"]:
        raise ValueError("source is empty; say where the value comes from")
    keys: dict[str, Any] = {key: row[key] for key in KEYS if row.get(key)}
    try:
        keys |= {key: int(keys[key]) for key in WHOLE_NUMBERS if keys.get(key, EMPTY) != EMPTY}
        value = float(row["value"])
    except ValueError as error:
        raise ValueError(f"{error}; expected a number") from error
    if not math.isfinite(value):
        raise ValueError(f"value is {row['value']}; expected a finite number")
    keys |= {key: None if key in WHOLE_NUMBERS else "" for key in keys if keys[key] == EMPTY}
    return Reference(line, name, value, row["unit"], row["source"], keys)


class References:
    """Sets references beside the rows that they match, and knows which of them matched none.

    Parameters
    ----------
    references
        Lines of the sheet.
    """

    def __init__(self, references: Iterable[Reference]) -> None:
        self._of: dict[str, list[Reference]] = {}
        for reference in references:
            self._of.setdefault(reference.quantity, []).append(reference)
        self._unmatched = {reference.line: reference for group in self._of.values() for reference in group}

    def beside(self, row: Result) -> Result:
        """Return the row with its reference; a row that has one keeps it. Raises SettingsError where two lines match it."""
        if row.reference_source:
            return row
        matching = [reference for reference in self._of.get(row.quantity, ()) if reference.matches(row)]
        if not matching:
            return row
        if len(matching) > 1:
            raise SettingsError(
                f"rows {' and '.join(str(reference.line) for reference in matching)} of the sheet of references both match "
                f"{row.quantity} of {describe(row)}",
                hint="add key columns, e.g. sample, case or axis, until each number has one reference",
            )
        self._unmatched.pop(matching[0].line, None)
        return replace(row, reference=matching[0].value, reference_source=matching[0].source)

    @property
    def unmatched(self) -> list[Reference]:
        """References that no row matched."""
        return list(self._unmatched.values())


def describe(row: Result | Fact) -> str:
    """Return what a row is about in one line, e.g. ``film film_1, degree_percent 20, axis z``."""
    names = [name for name in KEYS if name != "stage" and getattr(row, name, None) not in (None, "")]
    return ", ".join(f"{name} {getattr(row, name)}" for name in names) or "the whole study"
