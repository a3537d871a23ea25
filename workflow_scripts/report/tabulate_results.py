"""Gather every number of a study into one long table, as CSV and as Markdown.

Columns: section, subject, quantity, value, unit, reference (a published or true value), source (of the reference), how made.
Every table is read with the record beside it (same stem, .json), whose stage version and digests it quotes.
@FILE stands for the words in a file, one per line, for lists that are longer than a command line may be.
"""

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from calandria.base.errors import SettingsError
from calandria.base.files import write_text
from calandria.base.phases import NAMES
from calandria.base.records import read_json, read_table, read_table_record, record_path, write_table
from calandria.base.stage import read_given
from calandria.base.volumes import open_labelled
from calandria.cli.program import named_files, program, run
from calandria.report.tables import (
    COLUMNS,
    ELECTRODE_PHASES,
    LOSSES,
    Entry,
    autoencoder_entries,
    cathode_entries,
    diffusion_entries,
    film_entries,
    markdown,
    no_search_entries,
    published_entries,
    published_factor,
    search_entries,
    surrogate_entries,
)
from calandria.study.reporting import RULES, ReportSettings
from calandria.tomography.notation import parse_labels


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, gather results, write both tables."""
    parser = program(__doc__ or "", "tabulate_results")
    parser.fromfile_prefix_chars = "@"
    parser.add_argument("--settings", required=True, help="JSON slice of the report section of the settings")
    for option, what in (
        ("phases", "SAMPLE=FILE: records of measure_phases"),
        ("published-samples", "SAMPLE=ROW: the row of the published table that a sample is, e.g. cathode='1 CAL'"),
        ("volumes", "SAMPLE=FILE: labelled volumes, which say the state and what their labels stand for"),
        ("diffusion", "SAMPLE,CASE,AXIS=FILE: records of solve_diffusion"),
        ("frames", "FILM,DEGREE=FILE: tables of measure_frames"),
        ("series", "FILM,DEGREE=FILE: the series of --frames, which say how they were read and voxelized"),
        ("transport", "FILM,DEGREE=FILE: tables of solve_series"),
        ("metrics", "FILM,DEGREE=FILE: tables of evaluate_predictions"),
        ("evaluations", "NAME=FILE: records of evaluate_autoencoder"),
        ("trials", "NAME=FILE: tables of trials"),
        ("best", "NAME=FILE: records of the best trials"),
    ):
        parser.add_argument(f"--{option}", nargs="*", default=[], metavar="NAME=FILE", help=what)
    parser.add_argument("--split", help="record of split_films, which says why test runs leak; needed with --metrics")
    parser.add_argument("--not-searched", nargs="*", default=[], metavar="NAME", help="learning stages without a search")
    parser.add_argument("--published", required=True, help="folder of the published tables")
    parser.add_argument("--output-csv", required=True, help="table as CSV; all digits")
    parser.add_argument("--output-markdown", required=True, help="table as Markdown; significant digits of the settings")
    options = parser.parse_args(arguments)
    given = read_given(options.settings, ReportSettings, RULES, "tabulate_results")
    settings = given.settings
    cathodes = {f"{row['sample']} {row['state']}": row for row in read_table(f"{options.published}/cathodes_nmc532.csv")}
    known = {name: cathodes.get(str(row)) for name, row in named_files(options.published_samples).items()}
    phases = {name: read_json(path) for name, path in named_files(options.phases).items()}
    volumes = read_table(f"{options.published}/volumes.csv")
    images = {name: volume_facts(path) for name, path in named_files(options.volumes).items()}

    entries: list[Entry] = []
    for name, record in phases.items():
        entries += cathode_entries(name, record, known.get(name), images[name].get("state"), resolved_phases(images[name]))
    for name, path in named_files(options.diffusion).items():
        sample, record = name.split(",")[0], read_json(path)
        factor = published_factor(record, phases[sample], volumes, cathodes)
        entries += diffusion_entries(sample, record, factor, resolved_phases(images[sample]))
    transport, series = named_files(options.transport), named_files(options.series)
    for name, path in named_files(options.frames).items():
        film, degree = name.split(",")
        solved = [found for key, found in transport.items() if key.startswith(f"{name},")]
        records = read_table_record(path), read_table_record(solved[0])
        rows = [row for table in solved for row in read_table(table)]
        entries += film_entries(film, degree, read_table(path), rows, records, series_facts(series[name]))
    if options.metrics:
        scores, split = read_table(f"{options.published}/calendering_scores.csv"), read_json(_needed(options.split))
        for path in named_files(options.metrics).values():
            entries += surrogate_entries(read_table(path), read_table_record(path), split, scores)
    for name, path in named_files(options.evaluations).items():
        entries += autoencoder_entries(name.replace(",", ", "), read_json(path))
    best = named_files(options.best)
    for name, path in named_files(options.trials).items():
        entries += search_entries(name, read_table(path), read_json(record_path(path)), read_json(best[name]))
    entries += no_search_entries(options.not_searched)
    entries += published_entries(
        read_table(f"{options.published}/autoencoder_results.csv") if options.evaluations else [],
        read_table(f"{options.published}/calendering_contact_area.csv") if options.metrics else [],
    )
    entries.sort(key=lambda entry: entry.section)  # stable: keeps the order within a section
    write_table(options.output_csv, [entry.row() for entry in entries], COLUMNS)
    write_text(options.output_markdown, markdown(entries, given["title"], settings.significant_digits))


def volume_facts(path: str) -> Mapping[str, Any]:
    """Return the attributes of a labelled volume."""
    with open_labelled(path) as (_, facts):
        return facts.attributes


def series_facts(path: str) -> Mapping[str, Any]:
    """Return the attributes and the voxel edge of a series, and the largest value of each column of losses."""
    with open_labelled(path) as (_, facts):
        losses = {name: float(max(facts.frames[name])) for name in LOSSES if name in facts.frames}
        return {**facts.attributes, "voxel_edge_um": facts.voxel_edge_um, **losses}


def resolved_phases(attributes: Mapping[str, Any]) -> Collection[str]:
    """Return the phases that an image's label map or segmentation tells apart; all, where the volume names none.

    >>> sorted(resolved_phases({"label_map": "0=pore 1=am"}))
    ['am', 'pore']
    """
    if attributes.get("label_map"):
        return {NAMES[code] for code in parse_labels(attributes["label_map"]).values()}
    return (attributes.get("segmentation") or {}).get("classes", ELECTRODE_PHASES)


def _needed(split: str | None) -> str:
    if split is None:
        raise SettingsError("--metrics needs --split, which says whether runs leak", hint="add --split split.json of split_films")
    return split


if __name__ == "__main__":
    sys.exit(run(main))
