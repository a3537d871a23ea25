"""Gather every number of a study into one long table, as CSV and as Markdown.

Columns: section, subject, quantity, value, unit, reference (a published or true value), source (of the reference), how made.
"""

import sys
from collections.abc import Sequence

from ..common.cli import program, run
from ..common.files import write_text
from ..common.provenance import stage_version
from ..common.records import read_json, read_table, write_table
from ..tomography.list_mini_volumes import named_paths
from .settings import ReportSettings
from .tables import (
    COLUMNS,
    Entry,
    autoencoder_entries,
    cathode_entries,
    diffusion_entries,
    film_entries,
    markdown,
    published_entries,
    search_entries,
    surrogate_entries,
)

PAPER_R2 = 0.95


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, gather results, write both tables."""
    parser = program(__doc__ or "", "tabulate_results")
    parser.add_argument("--settings", required=True, help="JSON slice of the report section of the settings")
    parser.add_argument("--title", required=True, help="title of the study")
    for option, what in (
        ("phases", "SAMPLE=FILE: records of measure_phases"),
        ("published-samples", "SAMPLE=ROW: the row of the published table that a sample is, e.g. cathode='1 CAL'"),
        ("diffusion", "SAMPLE,CASE,AXIS=FILE: records of solve_diffusion"),
        ("frames", "FILM,DEGREE=FILE: tables of measure_frames"),
        ("transport", "FILM,DEGREE=FILE: tables of solve_series"),
        ("metrics", "FILM,DEGREE=FILE: tables of evaluate_predictions"),
        ("evaluations", "NAME=FILE: records of evaluate_autoencoder"),
        ("trials", "NAME=FILE: tables of trials"),
        ("best", "NAME=FILE: records of the best trials"),
    ):
        parser.add_argument(f"--{option}", nargs="*", default=[], metavar="NAME=FILE", help=what)
    parser.add_argument("--published", required=True, help="folder of the published tables")
    parser.add_argument("--output-csv", required=True, help="table as CSV; all digits")
    parser.add_argument("--output-markdown", required=True, help="table as Markdown; significant digits of the settings")
    options = parser.parse_args(arguments)
    settings = ReportSettings.from_slice(options.settings)
    cathodes = {f"{row['sample']} {row['state']}": row for row in read_table(f"{options.published}/cathodes_nmc532.csv")}
    known = {name: cathodes.get(row) for name, row in named_paths(options.published_samples).items()}

    entries: list[Entry] = []
    for name, path in named_paths(options.phases).items():
        entries += cathode_entries(name, read_json(path), known.get(name))
    for name, path in named_paths(options.diffusion).items():
        sample = name.split(",")[0]
        entries += diffusion_entries(sample, read_json(path), known.get(sample))
    transport = named_paths(options.transport)
    versions = f"calendering {stage_version('calendering')}, transport {stage_version('transport')}"
    for name, path in named_paths(options.frames).items():
        film, degree = name.split(",")
        entries += film_entries(film, degree, read_table(path), read_table(transport[name]), versions)
    for path in named_paths(options.metrics).values():
        entries += surrogate_entries(read_table(path), PAPER_R2, str(stage_version("surrogate")))
    for name, path in named_paths(options.evaluations).items():
        entries += autoencoder_entries(name.replace(",", ", "), read_json(path))
    best = named_paths(options.best)
    for name, path in named_paths(options.trials).items():
        entries += search_entries(name, read_table(path), read_json(best[name]))
    entries += published_entries(
        read_table(f"{options.published}/autoencoder_results.csv") if options.evaluations else [],
        read_table(f"{options.published}/calendering_contact_area.csv") if options.metrics else [],
    )
    entries.sort(key=lambda entry: entry.section)  # stable: keeps the order within a section
    write_table(options.output_csv, [entry.row() for entry in entries], COLUMNS)
    write_text(options.output_markdown, markdown(entries, options.title, settings.significant_digits))


if __name__ == "__main__":
    sys.exit(run(main))
