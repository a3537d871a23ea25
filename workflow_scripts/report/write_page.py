"""Write the study's page: tables and figures in one self-contained HTML file."""

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ..common.cli import program, run
from ..common.files import existing_file, write_text
from ..common.provenance import software_versions
from ..common.records import read_table
from ..tomography.list_mini_volumes import named_paths
from .page import Grid, Picture, pivot, render
from .settings import ReportSettings
from .tables import shown

TEXTS = {
    "tomography": (
        "Tomography",
        "Imported volumes and what they consist of. Fractions are shares of the electrode, void above it left out. Published values stand in square brackets.",
    ),
    "transport": (
        "Transport",
        "Steady diffusion, cell-centred finite volumes, concentrations fixed on the outer faces of the first and last slice. Tortuosity factor = conducting fraction / relative diffusivity.",
    ),
    "calendering": (
        "Calendering",
        "Films pressed to each compression degree and released. Thickness is that between current collector and film surface; spring-back is the thickness regained over that at the lowest point.",
    ),
    "surrogate": (
        "Surrogate",
        "Frames predicted for films that training never saw. One-step predictions see three true frames, rollouts only the first three. Copy repeats the last frame; the affine rows squeeze it, or move the spheres, to the true thickness, which a model is not told; replicate is a second simulation of the film that differs by rounding: nothing can be expected to do better.",
    ),
    "autoencoder": (
        "Auto-encoder",
        "Mini-volumes rebuilt from latent features. The errors stand beside those of predicting the mean, and of as many principal components. Voxels of one volume are correlated, so the p-values of means say little; the intervals resample whole mini-volumes.",
    ),
    "search": ("Search", "Optuna studies: how their trials ended, and the best one."),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, write the page."""
    parser = program(__doc__ or "", "write_page")
    parser.add_argument("--settings", required=True, help="JSON slice of the report section of the settings")
    parser.add_argument("--title", required=True, help="title of the study")
    parser.add_argument("--table", required=True, help="long table of tabulate_results")
    parser.add_argument(
        "--figures",
        nargs="*",
        default=[],
        metavar="SECTION:CAPTION=FILE",
        help="PNG files, the section that shows each, and its caption",
    )
    parser.add_argument("--output", required=True, help="HTML file")
    options = parser.parse_args(arguments)
    digits = ReportSettings.from_slice(options.settings).significant_digits
    sections: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in read_table(options.table):
        sections[row["section"]].append(row)
    pictures: dict[str, list[Picture]] = defaultdict(list)
    for name, path in named_paths(options.figures).items():
        section, _, caption = name.partition(":")
        pictures[section].append(Picture(existing_file(path, "figure").read_bytes(), caption))
    parts = [
        {"anchor": name, "title": title, "text": text, "grids": grids(name, sections[name], digits), "pictures": pictures[name]}
        for name, (title, text) in TEXTS.items()
        if sections[name] or pictures[name]
    ]
    numbers = {
        name: [
            [
                row["subject"],
                row["quantity"],
                _shown(row["value"], digits),
                row["unit"],
                _shown(row["reference"], digits),
                row["source"],
                row["how_made"],
            ]
            for row in rows
        ]
        for name, rows in sections.items()
    }
    context = {
        "title": options.title,
        "subtitle": f"{sum(map(len, sections.values()))} numbers from {len(parts)} stages, each with how it was made",
        "parts": parts,
        "numbers": numbers,
        "software": ", ".join(f"{name} {version}" for name, version in software_versions().items()),
    }
    write_text(Path(options.output), render(context))


def _shown(cell: str, digits: int) -> str:
    try:
        return shown(float(cell), digits)
    except ValueError:
        return shown(cell, digits)


def grids(section: str, rows: list[dict[str, str]], digits: int) -> list[Grid]:
    """Return the tables of a section of the page."""
    if section == "surrogate":
        return surrogate_grids(rows, digits)
    if section == "calendering":
        wanted = [quantity for quantity in dict.fromkeys(row["quantity"] for row in rows) if not quantity.startswith("frames")]
        main_part = {q: q for q in wanted if q.startswith(("compression", "spring", "thickness", "porosity"))}
        rest = {q: q for q in wanted if q not in main_part}
        return [
            pivot(rows, "Thickness and porosity", "Thickness in µm.", main_part, digits),
            pivot(rows, "Transport and contact", "Effective diffusivity in m²/s, contact areas in µm².", rest, digits),
        ]
    every = {quantity: quantity for quantity in dict.fromkeys(row["quantity"] for row in rows)}
    if section == "autoencoder":
        errors = {q: q for q in every if "MSE" in q or "R2" in q or q == "weights"}
        rest = {q: q for q in every if q not in errors}
        return [
            pivot(
                rows,
                "Errors",
                "Mean squared error per voxel on labels coded -1, 0, +1; the published rows are for 224 pixels and a leaking split.",
                errors,
                digits,
            ),
            pivot(
                rows,
                "Tests",
                "The paper's p-values, and beside them the effect size and an interval of the difference.",
                rest,
                digits,
            ),
        ]
    return [pivot(rows, "Results", "", every, digits)]


def surrogate_grids(rows: list[dict[str, str]], digits: int) -> list[Grid]:
    """Return R2 and last-frame tables, one-step and rollout apart."""
    scores = {
        "R2, void included, mean": "R² mean",
        "R2, void included, worst": "R² worst",
        "R2 of the film, mean": "R² film, mean",
        "R2 of the film, worst": "R² film, worst",
        "MSE, mean": "MSE",
        "MAE, mean": "MAE",
    }
    found = []
    for mode, name in (("one-step", "One step"), ("rollout", "Free rollout")):
        part = [row for row in rows if f", {mode}, " in row["subject"]]
        last = {
            q: q.removesuffix(", last frame").replace("_", " ")
            for q in dict.fromkeys(row["quantity"] for row in part)
            if q.endswith("last frame")
        }
        found.append(
            pivot(
                part,
                f"{name}: all predicted frames",
                "R² and errors on the label values as in the paper; in brackets the paper's mean R².",
                scores,
                digits,
            )
        )
        found.append(pivot(part, f"{name}: the last frame", "True values in brackets.", last, digits))
    contact = {q: q for q in dict.fromkeys(row["quantity"] for row in rows if row["subject"].startswith("published"))}
    found.append(pivot(rows, "Published errors of contact areas", "Table 3 of the paper; relative errors.", contact, digits))
    return found


if __name__ == "__main__":
    sys.exit(run(main))
