"""Small results: JSON records and CSV tables, written whole or not at all."""

import csv
import hashlib
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import ContractError, InputFileError, SettingsError
from .files import existing_file, read_text, replacing, write_text


def canonical_json(content: Any) -> str:
    """Return the one JSON text of ``content``: sorted keys, no infinities, a final newline."""
    try:
        return json.dumps(content, indent=1, sort_keys=True, allow_nan=False, default=_plain) + "\n"
    except ValueError as error:
        raise ContractError(
            f"a record holds a number that JSON does not have ({error})",
            hint="write null for what does not exist, e.g. a blocked volume's tau",
        ) from error


def _plain(value: Any) -> Any:
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a record")


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Write a JSON record whole or not at all."""
    write_text(path, canonical_json(content))


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON record."""
    text = read_text(path, "record")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputFileError(
            f"{str(path)!r} is not JSON: {error}", hint="move the file away; the rule that makes it then runs again"
        ) from error


def write_table(path: str | os.PathLike, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write rows as CSV; floats keep their shortest exact form, ``None`` and NaN become empty cells."""
    with replacing(path) as unfinished, open(unfinished, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: _cell(row.get(key)) for key in columns})


def _cell(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, float) else value


def read_table(path: str | os.PathLike) -> list[dict[str, str]]:
    """Read a CSV table with a header as a list of rows; lines that begin with # are passed over."""
    lines = io.StringIO(read_text(path, "table"), newline="")
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def record_path(table: str | os.PathLike) -> Path:
    """Return where the record of a CSV table lies: beside it, same stem, suffix .json.

    >>> str(record_path("results/frames.csv"))
    'results/frames.json'
    """
    if Path(table).suffix == ".json":
        raise SettingsError(f"the table {str(table)!r} would lie where its record does", hint="name the table *.csv")
    return Path(table).with_suffix(".json")


def write_recorded_table(
    path: str | os.PathLike, rows: Iterable[Mapping[str, Any]], columns: Sequence[str], made: Mapping[str, Any]
) -> None:
    """Write a table as :func:`write_table` does, and beside it how it was made.

    Parameters
    ----------
    path
        The table (CSV); the record goes to :func:`record_path`.
    rows, columns
        As in :func:`write_table`.
    made
        Record of ``base.provenance.provenance``; its key ``table_sha256`` becomes the table's digest.
    """
    beside = record_path(path)
    write_table(path, rows, columns)
    write_json(beside, {**made, "table_sha256": file_digest(path)})


def read_table_record(path: str | os.PathLike) -> dict[str, Any]:
    """Return the record beside a table; raises InputFileError if there is none or if it tells of another table."""
    record = read_json(record_path(path))
    if not isinstance(record, dict) or record.get("table_sha256") != file_digest(path):
        raise InputFileError(
            f"{str(record_path(path))!r} is not the record of the table {str(path)!r}: its digest is another",
            hint="move both away; the rule that makes them then runs again",
        )
    return record


def number(cell: str | None) -> float:
    """Return a table cell as a float; an empty cell is NaN."""
    return float(cell) if cell not in (None, "") else math.nan


def file_digest(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a file; for a folder, of the names and contents of the files in it."""
    digest, top = hashlib.sha256(), existing_file(path)
    for file in [top] if top.is_file() else sorted(p for p in top.rglob("*") if p.is_file()):
        if file is not top:
            digest.update(str(file.relative_to(top)).encode())
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def content_digest(content: Any) -> str:
    """Return the SHA-256 of the canonical JSON of ``content``."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()
