"""One long table of everything a study measured: section, subject, quantity, value, unit, reference, source, how it was made."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from ..base.phases import NAMES

COLUMNS = ("section", "subject", "quantity", "value", "unit", "reference", "source", "how_made")
CATHODES = "Energies 2022, 15, 4489, Table 1"
AUTOENCODER = "Energies 2022, 15, 4489, Tables 6 to 8"
CALENDERING = "Adv. Energy Mater. 2024, doi 10.1002/aenm.202400376"
INTERFACES = ("pore_cbd", "pore_am", "am_cbd")
PHASE_LABELS = {"pore": "pore", "cbd": "CBD", "am": "AM", "void": "void"}
BY_LABEL = "degree by label"
LOSSES = {
    "overlap_loss_cbd": ("CBD lost in overlaps", "share of the sum of sphere volumes that voxels do not hold"),
    "overlap_loss_am": ("AM lost in overlaps", "share of the sum of sphere volumes that voxels do not hold"),
    "cut_loss": ("cut off above the surface", "share of the solid voxels"),
}
"""Columns of losses of voxelize_frames, with what they are called in the table and what they are a share of."""
ELECTRODE_PHASES = ("pore", "cbd", "am")
LIKE_THE_PRINTED_FACTOR = {0: 1.0, 1: 1.0}
"""Conducting phases of the printed tortuosity factors: pore and CBD alike; for pore alone none is printed."""


@dataclass(frozen=True)
class Entry:
    """One line of the table.

    Parameters
    ----------
    section, subject, quantity
        Stage; what was measured (sample, film and degree, model); what of it.
    value
        The number (None where it does not exist, as the tortuosity factor of a blocked volume) or a word.
    unit
        Unit; empty for numbers without dimension.
    reference, source
        A published or true value to set beside it, and where that comes from.
    how_made
        Method, evidence and the stage's version.
    """

    section: str
    subject: str
    quantity: str
    value: float | int | str | bool | None
    unit: str = ""
    reference: float | str | None = None
    source: str = ""
    how_made: str = ""

    def row(self) -> dict[str, Any]:
        """Return the entry as a row of the table."""
        return asdict(self)


def scaled(cell: str | None, factor: str) -> float | None:
    """Return a printed number times a power of ten, with no more digits than are printed; None if there is none.

    >>> scaled("13.7", "0.01"), 13.7 * 0.01, scaled("", "0.01")
    (0.137, 0.13699999999999998, None)
    """
    return float(Decimal(cell) * Decimal(factor)) if cell not in (None, "") else None


def _number(cell: str | None) -> float | None:
    return float(cell) if cell not in (None, "") else None


def made_by(record: Mapping[str, Any]) -> str:
    """Return stage, version and digests of a provenance record as words; those of a table's record name the table too."""
    words = [f"{record['stage']} {record['version']}"]
    for key, name in (("settings_sha256", "settings"), ("table_sha256", "table")):
        if record.get(key):
            words.append(f"{name} {record[key][:12]}")
    return ", ".join(words)


def cathode_entries(
    name: str,
    phases: Mapping[str, Any],
    published: Mapping[str, str] | None,
    state: str | None = None,
    resolved: Collection[str] = ELECTRODE_PHASES,
) -> list[Entry]:
    """Return phase fractions and thickness of a tomography sample beside the row of the published table that it is.

    Parameters
    ----------
    name, phases, published
        Name of the sample, record of measure_phases, row of the published table.
    state
        State of the sample as its sheet says, e.g. calendered.
    resolved
        Phases that the sample's labels or classes tell apart; the fraction of another is unknown, and no measured 0.
    """
    made = f"{made_by(phases['provenance'])}: voxel counts, {'x'.join(map(str, phases['shape']))} voxels of {phases['voxel_edge_um']} um"

    def reference(column: str, scale: str) -> float | None:
        return scaled(published.get(column), scale) if published else None

    def fraction(phase: str) -> float | None:
        return phases["phase_fractions"][phase] if phase in resolved else None

    def told(phase: str) -> str:
        return made if phase in resolved else f"{made}; not resolved: no label or class of the image is {PHASE_LABELS[phase]}"

    source = CATHODES if published else ""
    rows = [
        ("porosity_free", phases["porosity_free"], "", reference("porosity_percent", "0.01"), made),
        ("AM fraction", fraction("am"), "", reference("am_percent", "0.01"), told("am")),
        ("CBD fraction", fraction("cbd"), "", reference("cbd_percent", "0.01"), told("cbd")),
        ("thickness", phases["thickness_um"], "um", reference("thickness_um", "1"), made),
    ]
    found = [
        Entry("tomography", name, quantity, value, unit, ref, source if ref is not None else "", how)
        for quantity, value, unit, ref, how in rows
    ]
    return [Entry("tomography", name, "state", state, how_made="sheet of samples"), *found] if state else found


def published_factor(
    record: Mapping[str, Any],
    phases: Mapping[str, Any],
    volumes: Sequence[Mapping[str, str]],
    cathodes: Mapping[str, Mapping[str, str]],
) -> float | None:
    """Return the printed tortuosity factor that is the same quantity of the same volume, None if there is none.

    Parameters
    ----------
    record, phases
        Records of solve_diffusion and of measure_phases of one volume.
    volumes
        Rows of the table of known volumes: sample, state, shape and digest of the voxels.
    cathodes
        Rows of the published table by sample and state.
    """
    conducting = {int(code): value for code, value in record["diffusivities"].items() if value}
    same_quantity = (
        conducting == LIKE_THE_PRINTED_FACTOR and record["axis"] == "z" and set(record["sides"].values()) == {"no-flux"}
    )
    same_file = record["provenance"]["inputs_sha256"]["volume"] == phases["provenance"]["inputs_sha256"]["volume"]
    if not (same_quantity and same_file and list(record["shape"]) == list(phases["shape"])):
        return None
    for row in volumes:
        if row["labels_sha256"] == phases["labels_sha256"] and row["shape"] == "x".join(map(str, phases["shape"])):
            return _number(cathodes[f"{row['sample']} {row['state']}"]["tau_factor"])
    return None


def diffusion_entries(
    name: str, record: Mapping[str, Any], reference: float | None, resolved: Collection[str] = ELECTRODE_PHASES
) -> list[Entry]:
    """Return relative diffusivity and tortuosity factor of a sample, with the solver's evidence, beside the printed factor.

    ``resolved`` are the phases that the sample's labels tell apart; a conducting phase that is none of them makes no difference.
    """
    axis = record["axis"]
    made = (
        f"{made_by(record['provenance'])}: conducting {_phases_of(record)}, along {axis}, sides {_sides(record['sides'])}, "
        + (
            f"{record['iterations']} iterations on {record['ranks']} ranks, relative residual {record['relative_residual']:.1e}, "
            f"estimated error {record['error_estimate']:.1e}, flux in {record['flux_in']:.6g}, out {record['flux_out']:.6g}"
            if record["percolates"]
            else "blocked: no conducting path joins the ends"
        )
    )
    absent = [NAMES[int(code)] for code, value in record["diffusivities"].items() if value and NAMES[int(code)] not in resolved]
    if absent:
        made += f"; {', '.join(PHASE_LABELS[phase] for phase in absent)} is not resolved in this image and conducts nothing"
    subject = f"{name}, {record['case']}, {axis}"
    source = CATHODES if reference is not None else ""
    return [
        Entry("transport", subject, "relative diffusivity", record["relative_diffusivity"], "", how_made=made),
        Entry("transport", subject, "tortuosity factor", record["tortuosity_factor"], "", reference, source, made),
        Entry("transport", subject, "connected fraction of the conducting phase", _share(record), "", how_made=made),
    ]


def _share(record: Mapping[str, Any]) -> float | None:
    conducting = record["conducting_fraction"]
    return record["connected_fraction"] / conducting if conducting else None


def _phases_of(record: Mapping[str, Any]) -> str:
    return ", ".join(f"{PHASE_LABELS[NAMES[int(code)]]} {value:g}" for code, value in record["diffusivities"].items())


def _sides(sides: Mapping[str, str]) -> str:
    return ", ".join(f"{axis} {kind}" for axis, kind in sides.items())


def film_entries(
    film: str,
    degree: str,
    frames: Sequence[Mapping[str, str]],
    transport: Sequence[Mapping[str, str]],
    records: tuple[Mapping[str, Any], Mapping[str, Any]],
    facts: Mapping[str, Any],
) -> list[Entry]:
    """Return what pressing and release did to a film: first frame, lowest point and last frame.

    Parameters
    ----------
    film, degree
        Name of the film and compression degree in per cent.
    frames, transport
        Tables of measure_frames and solve_series.
    records
        The records beside both tables. The first says how thin the film was where the press turned, between two frames.
    facts
        Attributes and voxel edge of the series, and of its columns of losses the largest values.
    """
    subject = f"{film}, {degree} %"
    (series,) = records[0]["series"].values()
    thickness = [float(row["thickness_um"]) for row in frames]
    lowest = min(range(len(frames)), key=thickness.__getitem__)
    lowest_um = min(float(series.get("lowest_thickness_um", math.inf)), thickness[lowest])
    made = f"{series['stage']} {series['version']}; {made_by(records[0])}"
    surface = f"{made}: surface of the film, lowest point from the {series.get('lowest_thickness_source', 'frames')}"
    estimated = bool(series.get("press_is_estimated"))
    if estimated:
        surface += ", position of the press estimated"
    by_label = facts.get("deepest_compression_degree_source") == "label"
    degree_how = f"{surface}; {BY_LABEL}: the estimated press goes as deep as the run's label says" if by_label else surface
    voxels = f"{made}: voxels between collector and surface"

    def entry(quantity: str, value: float | str | None, unit: str, how: str) -> Entry:
        return Entry("calendering", subject, quantity, value, unit, how_made=how)

    entries = [
        entry("frames", len(frames), "", made),
        entry("press", ("estimated, " + BY_LABEL if by_label else "estimated") if estimated else "press table", "", surface),
        entry("times from", facts.get("time_source"), "", made),
        entry(
            "stretch of the box",
            facts.get("box_misfit"),
            "",
            f"{made}: largest relative stretch of positions, not radii, along x and y",
        ),
        entry("voxel edge", facts.get("voxel_edge_um"), "um", made),
        *(
            entry(name, facts.get(column), "", f"{made}: largest of all frames; {share}")
            for column, (name, share) in LOSSES.items()
        ),
        entry("compression degree reached", 1 - lowest_um / thickness[0], "", degree_how),
        entry("spring-back", (thickness[-1] - lowest_um) / lowest_um, "", surface),
        entry("thickness, first frame", thickness[0], "um", surface),
        entry("thickness, lowest point", lowest_um, "um", surface),
        entry("thickness, last frame", thickness[-1], "um", surface),
    ]
    for when, index in (("first", 0), ("thinnest", lowest), ("last", -1)):
        entries.append(entry(f"porosity_free, {when} frame", _number(frames[index]["porosity_free"]), "", voxels))
    for face in INTERFACES:
        area = _number(frames[-1][f"contact_area_um2_{face}"])
        entries.append(
            entry(f"contact area {face.replace('_', '-')}, last frame", area, "um2", f"{voxels}, faces of unlike phases")
        )
    last = max(int(row["frame"]) for row in transport)
    for row in transport:
        if int(row["frame"]) in (0, last):
            case = f"{row['case']}, {row['axis']}, {'first' if int(row['frame']) == 0 else 'last'} frame"
            how = f"{series['stage']} {series['version']}; {made_by(records[1])}: along {row['axis']}, "
            how += (
                f"relative residual {float(row['relative_residual']):.1e}, estimated error {float(row['error_estimate']):.1e}"
                if row["percolates"] == "true"
                else "blocked: no conducting path joins the ends"
            )
            entries += [
                entry(f"effective diffusivity, {case}", _number(row["effective_diffusivity_m2_s"]), "m2/s", how),
                entry(f"tortuosity factor, {case}", _number(row["tortuosity_factor"]), "", how),
            ]
    return entries


def mean(values: Iterable[float]) -> float | None:
    """Return the mean of the numbers that exist, None if there are none."""
    kept = [value for value in values if not math.isnan(value)]
    return sum(kept) / len(kept) if kept else None


def pair_columns(header: Iterable[str]) -> list[str]:
    """Return the quantities that a table holds twice, as ``QUANTITY_true`` and ``QUANTITY_predicted``."""
    names = list(header)
    return [
        name.removesuffix("_true")
        for name in names
        if name.endswith("_true") and name.removesuffix("_true") + "_predicted" in names
    ]


def quantity_of(column: str) -> tuple[str, str]:
    """Return name and unit of a quantity of evaluate_predictions.

    >>> quantity_of("contact_area_faces_pore_am"), quantity_of("thickness_um")
    (('contact area pore-am', 'voxel faces'), ('thickness', 'um'))
    """
    for start, name, unit in (
        ("contact_area_faces_", "contact area ", "voxel faces"),
        ("voxels_", "volume of ", "voxels"),
        ("relative_diffusivity_", "relative diffusivity, ", ""),
        ("tortuosity_factor_", "tortuosity factor, ", ""),
    ):
        if column.startswith(start):
            rest = column.removeprefix(start)
            if start == "contact_area_faces_":
                return name + rest.replace("_", "-"), unit
            if start == "voxels_":
                return name + PHASE_LABELS.get(rest, rest), unit
            case, _, axis = rest.rpartition("_")
            return f"{name}{case}, {axis}", unit
    return {"thickness_um": ("thickness", "um"), "spring_back": ("spring-back", "")}.get(column, (column.replace("_", " "), ""))


def surrogate_entries(
    metrics: Sequence[Mapping[str, str]],
    record: Mapping[str, Any],
    split: Mapping[str, Any],
    published: Sequence[Mapping[str, str]],
) -> list[Entry]:
    """Return the errors of every predictor, one-step and rollout: over all predicted frames, and at the last one.

    Parameters
    ----------
    metrics, record
        Table of evaluate_predictions and the record beside it.
    split
        Record of split_films: why a run leaks.
    published
        Printed scores by quantity, mode and predictor.
    """
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = defaultdict(list)
    for row in metrics:
        groups[row["film"], row["compression_degree_percent"], row["mode"], row["predictor"]].append(row)
    reasons = {(run["film"], str(run["compression_degree_percent"])): run["reason"] for run in split["test_runs"]}
    printed = {(row["quantity"], row["mode"], row["predictor"]): float(row["value"]) for row in published}
    entries = []
    for (film, degree, mode, predictor), rows in groups.items():
        rows = sorted(rows, key=lambda row: int(row["frame"]))
        given = int(rows[0]["frame"])
        leaking = {row["leaking"] for row in rows} != {"false"}
        subject = f"{film}, {degree} %, {mode.replace('_', '-')}, {predictor}"
        made = f"{made_by(record)}: {len(rows)} frames predicted, the first {given} given" + (
            f"; LEAKING, no evidence of generalisation: {reasons.get((film, degree)) or 'not said how'}" if leaking else ""
        )
        entries += _predictor_entries(subject, made, rows, leaking, printed.get(("r2_mean", mode, predictor)))
    return entries


def _predictor_entries(
    subject: str, made: str, rows: Sequence[Mapping[str, str]], leaking: bool, printed_r2: float | None
) -> list[Entry]:
    def entry(
        quantity: str, value: float | bool | None, unit: str = "", reference: float | None = None, source: str = ""
    ) -> Entry:
        return Entry("surrogate", subject, quantity, value, unit, reference, source, made)

    entries = [
        entry("leaking", leaking),
        entry("frames given", int(rows[0]["frame"]), "frames"),
        entry("frames predicted", len(rows), "frames"),
    ]
    for column, name in (("r2_with_void", "R2, void included"), ("r2_film", "R2 of the film"), ("mse", "MSE"), ("mae", "MAE")):
        values = [float(row[column] or "nan") for row in rows]
        reference = printed_r2 if column == "r2_with_void" else None
        entries.append(entry(f"{name}, mean", mean(values), "", reference, CALENDERING if reference else ""))
        if column.startswith("r2"):
            entries.append(entry(f"{name}, worst", min((value for value in values if not math.isnan(value)), default=None)))
    counted = rows[-1]["thickness_source"] == "voxels"
    for column in pair_columns(rows[-1]):
        name, unit = quantity_of(column)
        truth, predicted = _number(rows[-1][f"{column}_true"]), _number(rows[-1][f"{column}_predicted"])
        source = "true frame, measured alike"
        if column in ("thickness_um", "spring_back"):
            source += ": whole slices of voxels" if counted else ": surface of the film"
        entries.append(entry(f"{name}, last frame", predicted, unit, truth, source))
        if column.startswith(("porosity", "thickness", "relative_diff", "tortuosity", "contact_area")):
            entries.append(entry(f"{name}, mean relative error", mean(_relative_errors(rows, column))))
    return entries


def _relative_errors(rows: Iterable[Mapping[str, str]], column: str) -> Iterator[float]:
    """Yield the relative errors of the frames in which both values exist; a blocked frame has no tortuosity factor."""
    for row in rows:
        truth, predicted = _number(row[f"{column}_true"]), _number(row[f"{column}_predicted"])
        if truth and predicted is not None:
            yield abs(predicted / truth - 1)


def autoencoder_entries(subject: str, record: Mapping[str, Any]) -> list[Entry]:
    """Return errors, baselines, tests and intervals of an auto-encoder."""
    split = record["split"]
    leak = ", LEAKING" if split["leaking"] else ""
    made = f"{made_by(record['provenance'])}: split by {split['kind']}{leak}, {split['n_train']} + {split['n_validation']} mini-volumes, best epoch {record['best_epoch']} of {record['n_epochs']}"
    entries = [
        Entry("autoencoder", subject, "leaking", bool(split["leaking"]), "", how_made=made),
        Entry("autoencoder", subject, "weights", record["n_weights"], "", how_made=made),
    ]
    for part in ("train", "validation"):
        values = record[part]
        for key, name in (
            ("mse", "MSE"),
            ("baseline_mse", "MSE of predicting the mean"),
            ("linear_mse", "MSE of principal components"),
            ("r2", "R2"),
        ):
            if key in values and not isinstance(values[key], Mapping):
                entries.append(Entry("autoencoder", subject, f"{name}, {part}", values[key], "", how_made=made))
        for key, name in (
            ("original_mean", "mean of original voxels"),
            ("reconstructed_mean", "mean of rebuilt voxels"),
            ("mean_shift_cohens_d", "shift of the mean, Cohen's d"),
            ("p_value_mean", "shift of the mean, p-value"),
        ):
            if key in values:
                value = _p_value(values[key]) if key.startswith("p_value") else values[key]
                entries.append(Entry("autoencoder", subject, f"{name}, {part}", value, "", how_made=made))
    difference, methods = record["mse_difference"], record["methods"]
    low, high, name = difference["interval"]["low"], difference["interval"]["high"], "MSE, validation less train"
    entries += [
        Entry("autoencoder", subject, name, difference["validation_less_train"], "", how_made=made),
        Entry("autoencoder", subject, f"{name}: low end of its interval", low, "", how_made=methods["interval"]),
        Entry("autoencoder", subject, f"{name}: high end of its interval", high, "", how_made=methods["interval"]),
        Entry("autoencoder", subject, f"{name}: Cohen's d", difference["cohens_d"], "", how_made=made),
        Entry(
            "autoencoder", subject, f"{name}: p-value", _p_value(difference["p_value_mse"]), "", how_made=methods["p_value_mse"]
        ),
    ]
    return entries


def _p_value(value: float | None) -> float | str | None:
    return "< 1e-300" if value is not None and value < 1e-300 else value  # smaller ones are 0 in floating point


def search_entries(
    name: str, trials: Sequence[Mapping[str, str]], record: Mapping[str, Any], best: Mapping[str, Any]
) -> list[Entry]:
    """Return how a search ended: its trials (table and the record beside it) and the best of them."""
    made = f"{made_by(record)}: Optuna, {len(trials)} trials, {best['direction']}; best is trial {best['number']}"
    states = sorted({row["state"] for row in trials})
    entries = [
        Entry("search", name, f"trials {state.lower()}", sum(row["state"] == state for row in trials), "", how_made=made)
        for state in states
    ]
    entries.append(Entry("search", name, f"best {best['value_name']}", best["value"], "", how_made=made))
    entries += [
        Entry("search", name, f"best {key}", value if isinstance(value, int | float) else str(value), "", how_made=made)
        for key, value in best["parameters"].items()
    ]
    return entries


def no_search_entries(names: Iterable[str]) -> list[Entry]:
    """Return a row for each learning stage whose hyper-parameters were not searched."""
    how = "hyper-parameters are those of the settings"
    return [Entry("search", name, "search", "no search", how_made=how) for name in names]


def published_entries(results: Sequence[Mapping[str, str]], contact: Sequence[Mapping[str, str]]) -> list[Entry]:
    """Return the published numbers themselves as rows, so that a reader sees what ours stand beside."""
    entries = []
    for row in results:
        subject = f"published: case {row['case']}, {row['samples']}, stride {row['stride']}"
        for part, key in (("train", "mse_train"), ("validation", "mse_val")):
            entries.append(
                Entry(
                    "autoencoder",
                    subject,
                    f"MSE, {part}",
                    float(row[key]),
                    "",
                    how_made="printed; window 24, 224 pixels, random split",
                    source=AUTOENCODER,
                )
            )
    for row in contact:
        subject = f"published: electrode {row['electrode']}, {row['cd_percent']} %"
        entries.append(
            Entry(
                "surrogate",
                subject,
                f"contact area {row['interface']}, error",
                scaled(row["error_percent"], "0.01"),
                "",
                how_made="printed; DEM against model",
                source=f"{CALENDERING}, Table 3",
            )
        )
    return entries


def shown(value: float | int | str | bool | None, digits: int) -> str:
    """Return a value as a reader wants it: so many significant digits, a dash for what does not exist.

    >>> shown(0.123456, 3), shown(None, 3), shown(12, 3), shown(1.5e-11, 3)
    ('0.123', '–', '12', '1.5e-11')
    """
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and not (isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e6)):
        return f"{value:.{digits}g}"
    return f"{int(value)}" if isinstance(value, int | float) else value


def markdown(entries: Sequence[Entry], title: str, digits: int) -> str:
    """Return all entries as Markdown, a table per section."""
    lines = [f"# {title}", ""]
    for section in dict.fromkeys(entry.section for entry in entries):
        lines += [
            f"## {section}",
            "",
            "| subject | quantity | value | unit | reference | source | how made |",
            "|---|---|---|---|---|---|---|",
        ]
        for entry in entries:
            if entry.section == section:
                cells = (
                    entry.subject,
                    entry.quantity,
                    shown(entry.value, digits),
                    entry.unit,
                    shown(entry.reference, digits),
                    entry.source,
                    entry.how_made,
                )
                lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)
