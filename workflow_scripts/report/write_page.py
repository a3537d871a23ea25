"""Write the study's page: tables and figures in one self-contained HTML file."""

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from calandria.base.files import existing_file, write_text
from calandria.base.provenance import software_versions
from calandria.base.records import read_table
from calandria.base.stage import read_given
from calandria.cli.program import named_files, program, run
from calandria.report.page import Grid, Picture, parsed, pivot, render, unit_shown
from calandria.report.tables import BY_LABEL, LOSSES, shown
from calandria.study.reporting import RULES, ReportSettings
from calandria.surrogate.networks import NETWORKS
from calandria.surrogate.predictors import BASELINES

Rows = Sequence[dict[str, str]]

TITLES = {
    "tomography": "Tomography",
    "transport": "Transport",
    "calendering": "Calendering",
    "surrogate": "Surrogate",
    "autoencoder": "Auto-encoder",
    "search": "Search",
}
NEGLIGIBLE = 1e-9
FROM_LABEL = ("compression degree reached", "thickness, lowest point", "spring-back")
PREDICTORS = {name: predictor.sentence for name, predictor in BASELINES.items()}
PREDICTORS |= {kind: network.sentence for kind, network in NETWORKS.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, write the page."""
    parser = program(__doc__ or "", "write_page")
    parser.add_argument("--settings", required=True, help="JSON slice of the report section of the settings")
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
    given = read_given(options.settings, ReportSettings, RULES, "write_page")
    digits = given.settings.significant_digits
    sections: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in read_table(options.table):
        sections[row["section"]].append(row)
    pictures: dict[str, list[Picture]] = defaultdict(list)
    for name, path in named_files(options.figures).items():
        section, _, caption = name.partition(":")
        pictures[section].append(Picture(existing_file(path, "figure").read_bytes(), caption))
    parts = [
        {
            "anchor": name,
            "title": title,
            "text": text_of(name, sections[name]),
            "warning": warning_of(name, sections[name]),
            "terms": terms_of(name, sections[name]),
            "grids": grids(name, sections[name], digits),
            "pictures": pictures[name],
        }
        for name, title in TITLES.items()
        if sections[name] or pictures[name]
    ]
    numbers = {
        name: [
            [
                row["subject"],
                row["quantity"],
                _shown(row["value"], digits),
                unit_shown(row["unit"]),
                _shown(row["reference"], digits),
                row["source"],
                row["how_made"],
            ]
            for row in rows
        ]
        for name, rows in sections.items()
    }
    context = {
        "title": given["title"],
        "subtitle": f"{sum(map(len, sections.values()))} numbers from {len(parts)} stages, each with how it was made",
        "parts": parts,
        "numbers": numbers,
        "software": ", ".join(f"{name} {version}" for name, version in software_versions().items()),
    }
    write_text(Path(options.output), render(context))


def _shown(cell: str, digits: int) -> str:
    return shown(parsed(cell), digits)


def _values(rows: Rows, quantity: str) -> list[str]:
    """Return the different values of a quantity, in the order of the rows."""
    return list(dict.fromkeys(row["value"] for row in rows if row["quantity"] == quantity))


def text_of(section: str, rows: Rows) -> str:
    """Return what the section shows, in the words that its own rows allow."""
    match section:
        case "tomography":
            text = "Imported volumes and what they consist of. Fractions are shares of the electrode, void above it left out."
            if any(row["reference"] for row in rows):
                text += " In brackets: what is printed of the sample of that name; it need not describe these very voxels."
            return text
        case "transport":
            text = (
                "Steady diffusion, cell-centred finite volumes, concentrations fixed on the outer faces of the first and last slice. Relative diffusivity is D_eff / D₀,"
                " tortuosity factor = conducting fraction / relative diffusivity. A blocked volume has no tortuosity factor (–)."
            )
            if any(row["reference"] for row in rows):
                text += " In brackets: the printed factor of this very volume, for the same phases, direction and sides."
            return text
        case "calendering":
            return (
                "Films pressed to each compression degree and released. Thickness is that between current collector and film surface; compression degree and spring-back count"
                " from the lowest point of the press, which may lie between two frames. Porosity is the share of pore voxels in the film."
            )
        case "surrogate":
            given = " or ".join(_values(rows, "frames given"))
            return (
                f"Frames predicted for runs that are kept for the test. One-step predictions see the {given} true frames before each frame; free rollouts are given the"
                f" first {given} frames and go on from what they predicted themselves. Nothing but the position of the press is told of later frames, save where the list says so."
            )
        case "autoencoder":
            return (
                "Mini-volumes rebuilt from latent features. The errors stand beside those of predicting the mean, and of as many principal components. The p-values take voxels that"
                " are correlated for independent ones, so they are tiny for any difference; read the effect sizes, and the intervals, which resample whole mini-volumes."
            )
    return "Optuna studies: how their trials ended, and the best one. Values of different searches cannot be compared."


def warning_of(section: str, rows: Rows) -> str:
    """Return which rows are no evidence of generalisation, empty if none is so."""
    subjects = [row["subject"] for row in rows if row["quantity"] == "leaking" and row["value"] == "true"]
    if section == "surrogate":
        runs = "; ".join(dict.fromkeys(", ".join(subject.split(", ")[:2]) for subject in subjects))
        what = "these runs share their film, or frames, with training or validation"
    else:
        runs, what = "; ".join(subjects), "these validation mini-volumes share slices with those of training"
    return f"Leaking: {runs}: {what}, so their rows are not evidence of generalisation." if subjects else ""


def terms_of(section: str, rows: Rows) -> list[tuple[str, str]]:
    """Return the predictors that occur, each with what it does and knows."""
    if section != "surrogate":
        return []
    found = dict.fromkeys(row["subject"].split(", ")[-1] for row in rows if row["quantity"] == "leaking")
    return [(name, PREDICTORS[name]) for name in PREDICTORS if name in found]


def grids(section: str, rows: Rows, digits: int) -> list[Grid]:
    """Return the tables of a section of the page."""
    every = {quantity: quantity for quantity in every_quantity(rows)}
    match section:
        case "surrogate":
            return surrogate_grids(rows, digits)
        case "search":
            return search_grids(rows, digits)
        case "calendering":
            return calendering_grids(rows, digits)
        case "autoencoder":
            return autoencoder_grids(rows, digits)
    return [pivot(rows, "Results", "", every, digits)]


def calendering_grids(rows: Rows, digits: int) -> list[Grid]:
    """Return size, contact areas and transport of the films, and how their frames were read; what the label alone says is marked."""
    every = every_quantity(rows)
    size = {q: q for q in every if q.startswith(("compression", "spring", "thickness", "porosity"))}
    contact = {q: q.replace("contact area ", "") for q in every if q.startswith("contact")}
    flow = {q: q.removeprefix("effective diffusivity, ") for q in every if q.startswith("effective")}
    factors = {q: q.removeprefix("tortuosity factor, ") for q in every if q.startswith("tortuosity")}
    labelled = [row["subject"] for row in rows if row["quantity"] == "press" and row["value"].endswith(BY_LABEL)]
    marks = {(subject, q): " †" for subject in labelled for q in FROM_LABEL}
    note = (
        "† By label: these runs have no press table. Their press was estimated such that it goes as deep as the run's label says, so this degree is no measurement,"
        " and the lowest thickness and the spring-back, which count from it, rest on it too."
    )
    nonzero = {
        row["quantity"] for row in rows if (value := parsed(row["value"])) and (isinstance(value, str) or value > NEGLIGIBLE)
    }
    read = {
        q: q
        for q in ("press", "times from", "voxel edge", "stretch of the box", *(name for name, _ in LOSSES.values()))
        if q in nonzero
    }
    return [
        pivot(rows, "Thickness and porosity", note if labelled else "", size, digits, marks),
        pivot(rows, "Contact areas", "Faces of voxels between unlike phases.", contact, digits),
        pivot(rows, "Effective diffusivity", "By conducting phases (case), direction and frame.", flow, digits),
        pivot(rows, "Tortuosity factor", "Likewise; a blocked frame has none (–).", factors, digits),
        pivot(rows, "How the frames were read and voxelized", _reading_note(rows, read), read, digits),
    ]


def _reading_note(rows: Rows, read: Iterable[str]) -> str:
    words = []
    if any(row["quantity"] == "times from" and "settings" in row["value"] for row in rows):
        words.append("Times that come from the settings are assumed: neither the dumps nor a press table tell them.")
    if "stretch of the box" in read:
        words.append(
            "Stretch of the box: largest share by which positions, not radii, are stretched along x and y so that sides hold whole voxels."
        )
    if any(quantity.endswith("lost in overlaps") for quantity in read):
        words.append(
            "Lost in overlaps: largest share, over the frames, of the sum of sphere volumes that voxels do not hold, since what lies in two spheres counts once and CBD"
            " under active material vanishes. The pores are larger by it than spheres that do not overlap would leave them."
        )
    return " ".join(words)


def autoencoder_grids(rows: Rows, digits: int) -> list[Grid]:
    """Return errors, shifts of the mean, and the difference of both parts; training and validation have a line each."""
    parted = []
    for row in rows:
        quantity, _, part = row["quantity"].rpartition(", ")
        if part in ("train", "validation"):
            parted.append({**row, "quantity": quantity, "subject": f"{row['subject']}, {part}"})
        elif quantity == "":
            parted += [{**row, "subject": f"{row['subject']}, {part}"} for part in ("train", "validation")]
    every = every_quantity(parted)
    errors = {q: q for q in ("leaking", "weights", *(q for q in every if "MSE" in q or "R2" in q))}
    shifts = {q: q.removeprefix("shift of the mean, ") for q in every if "mean of" in q or q.startswith("shift")}
    start = "MSE, validation less train"
    difference = {q: q.removeprefix(f"{start}: ") for q in every_quantity(rows) if q.startswith(start)}
    note = "Mean squared error per voxel on labels coded -1, 0, +1; the published rows are for 224 pixels and a leaking split."
    return [
        pivot(parted, "Errors", note, errors, digits),
        pivot(
            parted,
            "Mean of the voxels, original and rebuilt",
            "Effect size (Cohen's d) and the paper's p-value of the shift.",
            shifts,
            digits,
        ),
        pivot(
            rows,
            "Validation against training",
            "Difference of the MSE, its interval and its effect size; the paper's p-value.",
            difference,
            digits,
        ),
    ]


def search_grids(rows: Rows, digits: int) -> list[Grid]:
    """Return a table of quantity and value for each search, since each has parameters of its own."""
    return [
        Grid(
            subject,
            "",
            ["quantity", "value"],
            [[row["quantity"], _shown(row["value"], digits)] for row in rows if row["subject"] == subject],
        )
        for subject in dict.fromkeys(row["subject"] for row in rows)
    ]


def surrogate_grids(rows: Rows, digits: int) -> list[Grid]:
    """Return scores and errors over all predicted frames, one-step and rollout apart, and the last frames of rollouts.

    At its last frame a film is at rest, so that even a copy is right one step on; those rows are left to the table of all numbers.
    """
    scores = {
        "R2, void included, mean": "R² mean",
        "R2, void included, worst": "R² worst",
        "R2 of the film, mean": "R² film, mean",
        "R2 of the film, worst": "R² film, worst",
        "MSE, mean": "MSE",
        "MAE, mean": "MAE",
    }
    leaking = {"leaking": "leaking"}
    found = []
    for mode, name in (("one-step", "One step"), ("rollout", "Free rollout")):
        part = [
            {**row, "subject": row["subject"].replace(f", {mode}, ", ", ")} for row in rows if f", {mode}, " in row["subject"]
        ]
        quantities = list(dict.fromkeys(row["quantity"] for row in part))
        errors = {q: q.removesuffix(", mean relative error") for q in quantities if q.endswith(", mean relative error")}
        note = "R², MSE and MAE on the label values 0, 1, 2 and 4, void included, as in the paper; R² of the film leaves out void that both agree on."
        if any(row["reference"] for row in part if row["quantity"] in scores):
            note += " In brackets: the mean R² that the paper prints of its own films."
        found += [
            pivot(part, f"{name}: scores over all predicted frames", note, leaking | scores, digits),
            pivot(
                part,
                f"{name}: mean relative errors over all predicted frames",
                "Fractions. Frames that are blocked, in truth or as predicted, have no tortuosity factor and are left out of its mean.",
                leaking | {q: text for q, text in errors.items() if not q.startswith("contact area")},
                digits,
            ),
            pivot(
                part,
                f"{name}: mean relative errors of contact areas",
                "Fractions, over all predicted frames.",
                leaking | {q: text.removeprefix("contact area ") for q, text in errors.items() if q.startswith("contact area")},
                digits,
            ),
        ]
    last = {q: q.removesuffix(", last frame") for q in quantities if q.endswith(", last frame")}
    contact = {q: text.removeprefix("contact area ") for q, text in last.items() if q.startswith("contact area")}
    flow = {q: text for q, text in last.items() if q.startswith(("relative", "tortuosity"))}
    size = {q: text for q, text in last.items() if q not in flow and q not in contact}
    true = "True values in brackets."
    counted = list(
        dict.fromkeys(row["subject"].split(", ")[-1] for row in part if row["source"].endswith("whole slices of voxels"))
    )
    slices = f" {', '.join(counted)}: thickness, predicted and true, is counted in whole slices of voxels." if counted else ""
    blocked = f"{true} A blocked frame has no tortuosity factor (–)."
    published = {q: q.removeprefix("contact area ") for q in every_quantity(rows) if q.endswith(", error")}
    return [
        *found,
        pivot(part, "Free rollout: last frame, volumes and thickness", true + slices, leaking | size, digits),
        pivot(part, "Free rollout: last frame, contact areas", true, leaking | contact, digits),
        pivot(part, "Free rollout: last frame, transport", blocked, leaking | flow, digits),
        pivot(
            rows,
            "Published errors of contact areas",
            "Relative errors that the paper prints of its own films.",
            published,
            digits,
        ),
    ]


def every_quantity(rows: Rows) -> list[str]:
    """Return all quantities, in the order of the rows."""
    return list(dict.fromkeys(row["quantity"] for row in rows))


if __name__ == "__main__":
    sys.exit(run(main))
