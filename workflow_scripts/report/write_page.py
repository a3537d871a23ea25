"""Write the study's page from its tables of results: one self-contained HTML file, and its tables as Markdown.

A table has at most 1,000 lines and says how many it leaves out; all rows are in results.csv.
"""

import sys
from collections import defaultdict
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from calandria.base.files import existing_file, write_text
from calandria.base.provenance import software_versions
from calandria.base.results import RESULTS, read_facts, read_results
from calandria.base.showing import StageSection
from calandria.base.stage import read_given
from calandria.cli.program import program, run
from calandria.report.page import Page, Picture, markdown, plain_section, render
from calandria.study.reporting import RULES, ReportSettings


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, let the rows pass, write the page."""
    parser = program(__doc__ or "", "write_page")
    parser.add_argument("--settings", required=True, help="JSON of the rule: title, sections, figures, significant_digits")
    parser.add_argument("--folder", required=True, help="the study's folder, results/NAME; paths of figures are relative to it")
    parser.add_argument("--results", required=True, help="numbers (CSV) of tabulate_results")
    parser.add_argument("--facts", required=True, help="words (CSV) of tabulate_results")
    parser.add_argument("--output", required=True, help="page (HTML)")
    parser.add_argument("--output-markdown", required=True, help="findings and tables (Markdown)")
    options = parser.parse_args(arguments)
    given = read_given(options.settings, ReportSettings, RULES, "write_page")
    pictures: dict[str, list[Picture]] = defaultdict(list)
    for figure in given["figures"]:
        path = existing_file(Path(options.folder) / figure["path"].removeprefix(RESULTS), "figure")
        pictures[figure["section"]].append(Picture(path.read_bytes(), figure["caption"]))
    page = Page({name: section_of(name) for name in given["sections"]}, given.settings.significant_digits)
    for row in read_results(options.results):
        page.add(row)
    context = page.context(read_facts(options.facts), pictures) | {
        "title": given["title"],
        "subtitle": f"{page.count} numbers, each with its rule and its file",
        "software": ", ".join(f"{name} {number}" for name, number in software_versions().items()),
    }
    write_text(options.output, render(context))
    write_text(options.output_markdown, markdown(context))


def section_of(stage: str) -> StageSection:
    """Return what a stage shows on the page: ``SECTION`` of its results, or one table of all its numbers."""
    section: StageSection = getattr(import_module(f"calandria.{stage}.results"), "SECTION", plain_section(stage))
    return section


if __name__ == "__main__":
    sys.exit(run(main))
