"""Gather every number of a study into tables: results (CSV and Parquet), frames (Parquet) and facts (CSV).

The sources, the reference values and the assumed nanoporosity of the binder domain come with the settings. results has a row per
number of a sample or run, and means over films; frames has the numbers of every frame; facts holds words. Columns and units:
docs/data_contract.md. Every table is read with the record beside it, which must be its own.
"""

import sys
from collections.abc import Sequence

from calandria.base.results import Reference
from calandria.base.stage import read_given
from calandria.cli.program import program, run
from calandria.report.gather import Outputs, gather, named, source_of
from calandria.study.reporting import RULES, ReportSettings


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, gather results, write the tables."""
    parser = program(__doc__ or "", "tabulate_results")
    parser.add_argument("--settings", required=True, help="JSON of the rule: sources, references, cbd_nanoporosity (a fraction)")
    parser.add_argument("--folder", required=True, help="the study's folder, results/NAME; paths of sources are relative to it")
    parser.add_argument("--output-csv", required=True, help="numbers (CSV)")
    parser.add_argument("--output-parquet", required=True, help="the same (Parquet)")
    parser.add_argument("--output-frames", required=True, help="numbers of every frame (Parquet)")
    parser.add_argument("--output-facts", required=True, help="words (CSV)")
    options = parser.parse_args(arguments)
    given = read_given(options.settings, ReportSettings, RULES, "tabulate_results")
    unmatched = gather(
        map(source_of, given["sources"]),
        options.folder,
        Outputs(options.output_csv, options.output_parquet, options.output_frames, options.output_facts),
        cbd_nanoporosity=given.settings.cbd_nanoporosity,
        references=[Reference(**reference) for reference in given.get("references", [])],
    )
    for reference in unmatched:
        sys.stderr.write(f"warning: row {reference.line} of the sheet of references matches no number: {named(reference)}\n")
        sys.stderr.write(
            "hint: compare its key columns with those of results.csv; frames are named by moment: first, thinnest, last\n"
        )


if __name__ == "__main__":
    sys.exit(run(main))
