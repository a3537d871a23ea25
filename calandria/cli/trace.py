"""``calandria trace``: where a number of a study comes from: file, rule, program, settings, inputs and software."""

import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import InputFileError
from ..base.files import existing_file
from ..base.quantities import quantity
from ..base.records import canonical_json, file_digest, read_json, record_path
from ..base.results import COLUMNS, KEYS, WHOLE_NUMBERS, Result, describe, read_results
from ..base.volumes import open_labelled
from .program import program

OPTIONS = {"degree_percent": "degree"}
"""Key columns whose option has another name."""
MEANINGS = {
    "stage": "stage that wrote the number",
    "sample": "tomography sample",
    "film": "film",
    "degree_percent": "compression degree of the run, per cent",
    "frame": "frame of the series, from 0",
    "moment": "first, thinnest or last frame",
    "predictor": "predictor of the surrogate",
    "mode": "one_step or rollout",
    "case": "conducting phases, or case study of the auto-encoder",
    "axis": "direction of transport: z, y, x",
    "phase": "phase, or pair of phases such as pore_am",
    "part": "train or validation",
    "window": "slices of a mini-volume",
    "stride": "slices between two mini-volumes",
}


@dataclass(frozen=True)
class Trace:
    """Where a number comes from.

    Parameters
    ----------
    number
        The row of results.
    program
        Program of the rule, as a path from the repository's folder.
    unchanged
        Whether the file still has the recorded digest; None where there is no file in the study's folder.
    record
        Provenance that the file, or the record beside it, holds; empty where it holds none.
    """

    number: Result
    program: str
    unchanged: bool | None
    record: Mapping[str, Any]

    def plain(self) -> dict[str, Any]:
        """Return the trace as plain values."""
        return {**self.number.row(), "program": self.program, "unchanged": self.unchanged, "provenance": dict(self.record)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, find the numbers, print where each comes from."""
    parser = program(
        "Where numbers of a study come from: file, rule, program, settings, digests of the inputs, software.\n"
        "Options choose among the rows of results.csv; one that is left out matches any row. Numbers of single frames, which are in\n"
        "frames.parquet, are searched where --frame is given without --moment.",
        "calandria trace",
    )
    parser.add_argument("quantity", help="name of the quantity, as in docs/quantities.md, e.g. tortuosity_factor")
    parser.add_argument("study", type=Path, help="the study's folder, results/NAME")
    for name in KEYS:
        kind = int if name in WHOLE_NUMBERS else str
        parser.add_argument(f"--{OPTIONS.get(name, name)}", dest=name, type=kind, default=None, help=MEANINGS[name])
    parser.add_argument("--most", type=int, default=10, help="how many numbers are traced")
    parser.add_argument("--json", action="store_true", help="as JSON, a list of records")
    options = parser.parse_args(arguments)
    options.quantity = quantity(options.quantity.replace(" ", "_")).name
    found = list(matching(options))
    if not found:
        raise InputFileError(
            f"no {options.quantity} of {wanted(options)} is in {str(options.study / 'report')!r}",
            hint="leave out an option, or look at the key columns of report/results.csv",
        )
    traces = [trace(options.study, row) for row in found[: options.most]]
    if options.json:
        sys.stdout.write(canonical_json([one.plain() for one in traces]))
        return
    sys.stdout.write("\n".join(map(text, traces)))
    if len(found) > options.most:
        sys.stdout.write(f"\n{len(found) - options.most} more numbers match; choose by options, or raise --most\n")


def wanted(options: Namespace) -> str:
    """Return what is searched, in words."""
    keys = {name: getattr(options, name) for name in KEYS if getattr(options, name) is not None}
    return ", ".join(f"{name} {value}" for name, value in keys.items()) or "the study"


def matching(options: Namespace) -> Iterator[Result]:
    """Yield the rows that the options choose."""
    keys = {name: getattr(options, name) for name in KEYS if getattr(options, name) is not None}
    folder = options.study / "report"
    rows = frame_rows(folder / "frames.parquet", options.quantity) if "frame" in keys and "moment" not in keys else None
    for row in rows if rows is not None else read_results(folder / "results.csv"):
        if row.quantity == options.quantity and all(getattr(row, name) == value for name, value in keys.items()):
            yield row


def frame_rows(path: Path, name: str) -> Iterator[Result]:
    """Yield the rows of one quantity from the table of frames, a batch at a time."""
    import pyarrow.dataset

    table = pyarrow.dataset.dataset(existing_file(path, "table of frames"))
    for batch in table.to_batches(filter=pyarrow.dataset.field("quantity") == name):
        for row in batch.to_pylist():
            known = {column: row[column] for column in COLUMNS if column != "unit" and row[column] is not None}
            yield Result(**{"value": None, **known})


def trace(study: Path, row: Result) -> Trace:
    """Return where a row comes from."""
    programs = f"workflow_scripts/{'report' if row.rule == 'tabulate_results' else row.stage}/{row.rule}.py" if row.rule else ""
    path = study / row.file
    if not row.file or not path.exists():
        return Trace(row, programs, None, {})
    return Trace(row, programs, file_digest(path) == row.digest, provenance_of(path))


def provenance_of(path: Path) -> Mapping[str, Any]:
    """Return the provenance in a record, a labelled volume, or the record beside a table; empty where there is none."""
    if path.name.endswith(".zarr.zip"):
        with open_labelled(path) as (_, facts):
            return facts.attributes.get("provenance", {})
    record = read_json(record_path(path) if path.suffix == ".csv" else path)
    return record.get("provenance", record if "software" in record else {})


def text(found: Trace) -> str:
    """Return a trace for people."""
    row, record = found.number, found.record
    value = "does not exist" if row.value is None else f"{row.value!r} {row.unit}".rstrip()
    lines = [f"{row.quantity} of {describe(row)}: {value}"]
    if row.low is not None and row.high is not None:
        lines.append(f"  interval   {row.low!r} to {row.high!r}, n {row.n}")
    if row.reference is not None:
        lines.append(f"  reference  {row.reference!r}: {row.reference_source}")
    if row.note:
        lines.append(f"  note       {row.note}")
    if not row.file:
        lines.append("  file       none: it is formed from rows of results.csv; trace one of them by --film")
    else:
        state = {True: "unchanged", False: "CHANGED since the tables were made", None: "not in the study's folder"}[
            found.unchanged
        ]
        lines.append(f"  file       {row.file} ({state}; SHA-256 {row.digest})")
    if row.rule:
        lines.append(f"  rule       {row.rule}" + (f", version {record['version']}" if "version" in record else ""))
        lines.append(f"  program    {found.program}")
    for name, key in (
        ("settings", "settings"),
        ("inputs", "inputs_sha256"),
        ("seed", "seed"),
        ("software", "software"),
        ("image", "image"),
    ):
        if record.get(key) not in (None, {}):
            lines.append(f"  {name:<10} " + _block(record[key]))
    return "\n".join(lines) + "\n"


def _block(content: Any) -> str:
    if not isinstance(content, Mapping):
        return str(content)
    lines = canonical_json(content).splitlines()
    return "\n             ".join(line[1:] for line in lines[1:-1])
