"""From the files of a study to its tables of results: every source read by its stage's reader, row by row, in bounded memory."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..base.errors import ContractError
from ..base.records import write_table
from ..base.results import (
    FACT_COLUMNS,
    Fact,
    FilmMeans,
    Reader,
    Reading,
    Reference,
    References,
    Result,
    TableWriter,
)
from ..base.stage import Source

RULE = "tabulate_results"


@dataclass(frozen=True)
class Outputs:
    """Where the tables go.

    Parameters
    ----------
    csv, parquet
        Rows of runs, samples and means over films.
    frames
        Rows of every frame (Parquet).
    facts
        Words (CSV).
    """

    csv: str | os.PathLike
    parquet: str | os.PathLike
    frames: str | os.PathLike
    facts: str | os.PathLike


def reader_of(source: Source) -> Reader:
    """Return the reader of a source, from ``calandria.<stage>.results``; raises ContractError where there is none."""
    name = f"calandria.{source.stage}.results"
    readers: Mapping[str, Reader] = import_module(name).READERS
    if source.kind not in readers:
        raise ContractError(
            f"{name} has no reader of the kind {source.kind!r}; it has {', '.join(readers)}",
            hint=f"add it to READERS, or correct the sources of the stage {source.stage}",
        )
    return readers[source.kind]


def rows_of(source: Source, folder: Path, cbd_nanoporosity: float) -> Iterable[Result | Fact]:
    """Return the rows of one source's files."""
    return reader_of(source)(Reading(source, folder, cbd_nanoporosity))


def gather(
    sources: Iterable[Source],
    folder: str | os.PathLike,
    outputs: Outputs,
    *,
    cbd_nanoporosity: float,
    references: Sequence[Reference] = (),
) -> list[Reference]:
    """Write the tables of a study and return the references that match none of its numbers.

    Memory holds one source's rows, the values whose means over films are formed, and the facts. Sources whose key ``replicate_of``
    is set are second runs of a film, so means over films leave them out.

    Parameters
    ----------
    sources
        What is read, in the order of the rows.
    folder
        The study's folder, ``results/NAME``; paths in the tables are relative to it.
    outputs
        Where the tables go.
    cbd_nanoporosity
        Assumed fraction of the binder domain that is pore.
    references
        Values to be set beside rows of runs, samples and means; not beside those of single frames.

    Raises
    ------
    InputFileError
        A file is missing, or a table is not that of its record.
    SettingsError
        Two references match one number.
    """
    beside, means, facts = References(references), FilmMeans(), list[Fact]()
    with TableWriter(outputs.csv, outputs.parquet) as results, TableWriter(parquet_path=outputs.frames) as frames:
        for source in sources:
            counts = not source.keys.get("replicate_of")
            for row in rows_of(source, Path(folder), cbd_nanoporosity):
                if isinstance(row, Fact):
                    facts.append(row)
                elif row.of_frames:
                    frames.write(row)
                else:
                    if counts:
                        means.add(row)
                    results.write(beside.beside(row))
        for row in means.rows(RULE):
            results.write(beside.beside(row))
    facts += [_unmatched(reference) for reference in beside.unmatched]
    write_table(outputs.facts, (fact.row() for fact in facts), FACT_COLUMNS)
    return beside.unmatched


def _unmatched(reference: Reference) -> Fact:
    return Fact(stage="report", fact="reference without a number", item=f"row {reference.line}", text=named(reference), rule=RULE)


def named(reference: Reference) -> str:
    """Return quantity, keys and value of a reference, e.g. ``thickness (sample one): 129 um``."""
    keys = ", ".join(f"{name} {value}" for name, value in reference.keys.items())
    return f"{reference.quantity}{f' ({keys})' if keys else ''}: {reference.value:g} {reference.unit}".rstrip()


def source_of(content: Mapping[str, Any]) -> Source:
    """Return a source from its plain form in a settings file."""
    return Source(**{name: content[name] for name in ("stage", "kind", "rule", "files", "keys")})
