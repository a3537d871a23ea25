"""One long table of everything a study measured: section, subject, quantity, value, unit, reference, source, how it was made."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

COLUMNS = ("section", "subject", "quantity", "value", "unit", "reference", "source", "how_made")
CATHODES = "Energies 2022, 15, 4489, Table 1"
AUTOENCODER = "Energies 2022, 15, 4489, Tables 6 to 8"
CALENDERING = "Adv. Energy Mater. 2024, doi 10.1002/aenm.202400376"
INTERFACES = ("pore_cbd", "pore_am", "am_cbd")


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


def _number(cell: str | None) -> float | None:
    return float(cell) if cell not in (None, "") else None


def cathode_entries(name: str, phases: Mapping[str, Any], published: Mapping[str, str] | None) -> list[Entry]:
    """Return phase fractions and thickness of a tomography sample beside the row of the published table that it is."""
    made = f"tomography {phases['provenance']['stage_version']}: voxel counts, {'x'.join(map(str, phases['shape']))} voxels of {phases['voxel_edge_um']} um"

    def reference(column: str, scale: float) -> float | None:
        value = _number(published.get(column)) if published else None
        return None if value is None else value * scale

    source = CATHODES if published else ""
    fractions = phases["phase_fractions"]
    rows = [
        ("porosity", phases["porosity"], "", reference("porosity_percent", 0.01)),
        ("AM fraction", fractions["am"], "", reference("am_percent", 0.01)),
        ("CBD fraction", fractions["cbd"], "", reference("cbd_percent", 0.01)),
        ("thickness", phases["thickness_um"], "um", reference("thickness_um", 1.0)),
    ]
    return [
        Entry("tomography", name, quantity, value, unit, ref, source if ref is not None else "", made)
        for quantity, value, unit, ref in rows
    ]


def diffusion_entries(name: str, record: Mapping[str, Any], published: Mapping[str, str] | None) -> list[Entry]:
    """Return relative diffusivity and tortuosity factor of a sample, with the solver's evidence."""
    case, axis = record["case"], record["axis"]
    version = record["provenance"]["stage_version"]
    made = (
        f"transport {version}: conducting {_phases_of(record)}, along {axis}, sides {_sides(record['sides'])}, {record['iterations']} iterations on"
        f" {record['ranks']} ranks, relative residual {record['relative_residual']:.1e}, flux in {record['flux_in']:.6g}, out {record['flux_out']:.6g}"
    )
    through_pore_and_cbd = axis == "z" and case == "pore_cbd" and published is not None
    reference = _number(published["tau_factor"]) if through_pore_and_cbd and published else None
    subject = f"{name}, {case}, {axis}"
    return [
        Entry("transport", subject, "relative diffusivity", record["relative_diffusivity"], "", how_made=made),
        Entry(
            "transport",
            subject,
            "tortuosity factor",
            record["tortuosity_factor"],
            "",
            reference,
            CATHODES if reference is not None else "",
            made,
        ),
        Entry("transport", subject, "connected fraction of the conducting phase", _share(record), "", how_made=made),
    ]


def _share(record: Mapping[str, Any]) -> float | None:
    conducting = record["conducting_fraction"]
    return record["connected_fraction"] / conducting if conducting else None


def _phases_of(record: Mapping[str, Any]) -> str:
    named = record.get("phase_diffusivities") or record["diffusivities"]
    return ", ".join(f"{name} {value:g}" for name, value in named.items())


def _sides(sides: Any) -> str:
    return ", ".join(f"{axis} {kind}" for axis, kind in sides.items()) if isinstance(sides, Mapping) else str(sides)


def film_entries(
    film: str, degree: str, frames: Sequence[Mapping[str, str]], transport: Sequence[Mapping[str, str]], versions: str
) -> list[Entry]:
    """Return what pressing and release did to a film: first frame, lowest point and last frame."""
    subject = f"{film}, {degree} %"
    thickness = [float(row["thickness_um"]) for row in frames]
    lowest = min(range(len(frames)), key=thickness.__getitem__)
    made = f"{versions}: LAMMPS or the user's dumps, voxels counted between collector and surface"
    entries = [
        Entry("calendering", subject, "frames", len(frames), "", how_made=made),
        Entry("calendering", subject, "compression degree reached", 1 - thickness[lowest] / thickness[0], "", how_made=made),
        Entry("calendering", subject, "spring-back", (thickness[-1] - thickness[lowest]) / thickness[lowest], "", how_made=made),
    ]
    for when, index in (("first frame", 0), ("lowest point", lowest), ("last frame", len(frames) - 1)):
        entries.append(Entry("calendering", subject, f"thickness, {when}", thickness[index], "um", how_made=made))
        entries.append(Entry("calendering", subject, f"porosity, {when}", _number(frames[index]["porosity"]), "", how_made=made))
    for face in INTERFACES:
        entries.append(
            Entry(
                "calendering",
                subject,
                f"contact area {face.replace('_', '-')}, last frame",
                _number(frames[-1][f"contact_area_um2_{face}"]),
                "um2",
                how_made=made,
            )
        )
    last = max(int(row["frame"]) for row in transport)
    for row in transport:
        if int(row["frame"]) in (0, last):
            when = "first frame" if int(row["frame"]) == 0 else "last frame"
            how = f"{versions}: along {row['axis']}, relative residual {float(row['relative_residual'] or 0):.1e}"
            case = f"{row['case']}, {row['axis']}, {when}"
            entries += [
                Entry(
                    "calendering",
                    subject,
                    f"effective diffusivity, {case}",
                    _number(row["effective_diffusivity_m2_s"]),
                    "m2/s",
                    how_made=how,
                ),
                Entry("calendering", subject, f"tortuosity factor, {case}", _number(row["tortuosity_factor"]), "", how_made=how),
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


def surrogate_entries(metrics: Sequence[Mapping[str, str]], reference_r2: float | None, version: str) -> list[Entry]:
    """Return the errors of every predictor, one-step and rollout: over all predicted frames, and at the last one."""
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = defaultdict(list)
    for row in metrics:
        groups[row["film"], row["compression_degree_percent"], row["mode"], row["predictor"]].append(row)
    entries = []
    for (film, degree, mode, predictor), rows in groups.items():
        rows = sorted(rows, key=lambda row: int(row["frame"]))
        subject = f"{film}, {degree} %, {mode.replace('_', '-')}, {predictor}"
        made = f"surrogate {version}: {len(rows)} predicted frames"
        for column, name in (
            ("r2_with_void", "R2, void included"),
            ("r2_film", "R2 of the film"),
            ("mse", "MSE"),
            ("mae", "MAE"),
        ):
            values = [float(row[column] or "nan") for row in rows]
            published = reference_r2 if column == "r2_with_void" and predictor in ("model", "paper") else None
            entries.append(
                Entry("surrogate", subject, f"{name}, mean", mean(values), "", published, CALENDERING if published else "", made)
            )
            if column.startswith("r2"):
                worst = min((value for value in values if not math.isnan(value)), default=None)
                entries.append(Entry("surrogate", subject, f"{name}, worst", worst, "", how_made=made))
        for quantity in pair_columns(rows[-1]):
            truth, predicted = _number(rows[-1][f"{quantity}_true"]), _number(rows[-1][f"{quantity}_predicted"])
            entries.append(
                Entry("surrogate", subject, f"{quantity}, last frame", predicted, "", truth, "DEM and our solver", made)
            )
    return entries


def autoencoder_entries(subject: str, record: Mapping[str, Any]) -> list[Entry]:
    """Return errors, baselines, tests and intervals of an auto-encoder."""
    version = record["provenance"]["stage_version"]
    split = record["split"]
    leak = ", leaking" if split["leaking"] else ""
    made = f"autoencoder {version}: split by {split['kind']}{leak}, {split['n_train']} + {split['n_validation']} mini-volumes, best epoch {record['best_epoch']} of {record['n_epochs']}"
    entries = [Entry("autoencoder", subject, "weights", record["n_weights"], "", how_made=made)]
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
        for key in ("original_mean", "reconstructed_mean", "p_value_mean"):
            if key in values:
                entries.append(Entry("autoencoder", subject, f"{key.replace('_', ' ')}, {part}", values[key], "", how_made=made))
    difference = record["mse_difference"]
    interval = difference["interval"]
    entries += [
        Entry("autoencoder", subject, "MSE, validation less train", difference["validation_less_train"], "", how_made=made),
        Entry("autoencoder", subject, "its interval, low", interval["low"], "", how_made=record["methods"]["interval"]),
        Entry("autoencoder", subject, "its interval, high", interval["high"], "", how_made=record["methods"]["interval"]),
        Entry("autoencoder", subject, "its p-value", difference["p_value_mse"], "", how_made=record["methods"]["p_value_mse"]),
        Entry("autoencoder", subject, "its effect size (Cohen's d)", difference["cohens_d"], "", how_made=made),
    ]
    return entries


def search_entries(name: str, trials: Sequence[Mapping[str, str]], best: Mapping[str, Any]) -> list[Entry]:
    """Return how a search ended."""
    made = f"Optuna, {len(trials)} trials; best is trial {best['number']}"
    states = sorted({row["state"] for row in trials})
    entries = [
        Entry("search", name, f"trials {state.lower()}", sum(row["state"] == state for row in trials), "", how_made=made)
        for state in states
    ]
    entries.append(Entry("search", name, "best value (MSE)", best["value"], "", how_made=made))
    entries += [
        Entry("search", name, f"best {key}", value if isinstance(value, int | float) else str(value), "", how_made=made)
        for key, value in best["parameters"].items()
    ]
    return entries


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
                float(row["error_percent"]) / 100,
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
