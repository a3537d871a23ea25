"""Rows of results of the surrogate stage: predicted against true frames, searches; and its section on the page."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ..base.quantities import ERROR, QUANTITIES, WITH_ERROR
from ..base.records import number
from ..base.results import TRUE_FRAME, Fact, Reading, Result
from ..base.showing import SOME, Facts, Finding, StageSection, Table, runs_of, texts
from ..search.results import NO_SEARCH, not_searched, search, table
from ..transport.results import BLOCKED

SCORES = {
    "mse": "label_mse",
    "mae": "label_mae",
    "r2_with_void": "r2_with_void",
    "r2_film": "r2_film",
    "accuracy": "accuracy",
}
"""Columns of evaluate_predictions that compare a frame with the true one, and their quantities."""
WORST = ("r2_with_void", "r2_film")
"""Scores whose worst frame is a quantity too."""


class Pair(NamedTuple):
    """A quantity that a table holds twice, as ``COLUMN_true`` and ``COLUMN_predicted``."""

    column: str
    quantity: str
    keys: Mapping[str, str]


def pairs(header: Iterable[str]) -> list[Pair]:
    """Return the quantities that a table of evaluate_predictions holds true and predicted.

    >>> pairs(["relative_diffusivity_pore_cbd_z_true", "relative_diffusivity_pore_cbd_z_predicted"])[0].keys
    {'case': 'pore_cbd', 'axis': 'z'}
    """
    names = list(header)
    found = []
    for name in names:
        column = name.removesuffix("_true")
        if name.endswith("_true") and f"{column}_predicted" in names:
            found.append(Pair(column, *_quantity_of(column)))
    return found


def _quantity_of(column: str) -> tuple[str, dict[str, str]]:
    for start, quantity in (("contact_area_faces_", "contact_faces"), ("voxels_", "phase_voxels")):
        if column.startswith(start):
            return quantity, {"phase": column.removeprefix(start)}
    for quantity in ("relative_diffusivity", "tortuosity_factor"):
        if column.startswith(f"{quantity}_"):
            case, _, axis = column.removeprefix(f"{quantity}_").rpartition("_")
            return quantity, {"case": case, "axis": axis}
    return {"thickness_um": "thickness"}.get(column, column), {}


def predictors(reading: Reading) -> Iterator[Fact]:
    """Yield what each predictor does and knows, and of which sort it is: network, baseline or ceiling.

    Files: the record of the ``split``. The words come with the source, whose keys hold them under ``predictors``.
    """
    for name, about in reading.source.keys["predictors"].items():
        yield reading.fact("predictor", about["sentence"], "split", predictor=name)
        yield reading.fact("sort of predictor", about["sort"], "split", predictor=name)
    for name in reading.source.keys.get("not_searched", ()):
        yield reading.fact(NO_SEARCH, "its hyper-parameters are those of the settings", "split", predictor=name)
    given = reading.source.keys.get("frames_given")
    if given is not None:
        yield reading.fact("frames given", str(given), "split")


def metrics(reading: Reading) -> Iterator[Result | Fact]:
    """Yield scores, values and relative errors of every predicted frame; their means over the frames; and the last frame.

    Files: ``table`` of evaluate_predictions, and the record of the ``split``, which says why a run leaks. A predicted value has the
    true one as its reference.
    """
    rows = reading.table("table")
    reading.table_record("table")
    columns = pairs(rows[0]) if rows else []
    groups: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for row in rows:
        groups.setdefault((row["predictor"], row["mode"]), []).append(row)
    leaking = {row["leaking"] for row in rows} != {"false"}
    if leaking:
        yield reading.fact("leaking because", _reason(reading) or "the table does not say that the run is free of leaks", "table")
    for (predictor, mode), group in groups.items():
        frames = sorted(group, key=lambda row: int(row["frame"]))
        keys: dict[str, Any] = {"predictor": predictor, "mode": mode, "leaking": leaking}
        yield reading.result("frames_given", int(frames[0]["frame"]), "table", **keys)
        yield reading.result("frames_predicted", len(frames), "table", **keys)
        gathered: dict[tuple, list[Result]] = {}
        for one in frames:
            for result in _frame(reading, one, columns, {**keys, "frame": int(one["frame"])}):
                yield result
                if result.value is not None and (result.quantity in SCORES.values() or result.quantity.endswith((ERROR, "iou"))):
                    gathered.setdefault((result.quantity, result.phase, result.case, result.axis), []).append(result)
        yield from _over_frames(gathered)
        last = frames[-1]
        yield from _values(reading, last, columns, {**keys, "frame": int(last["frame"]), "moment": "last"}, errors=False)


def _reason(reading: Reading) -> str:
    about = reading.source.keys
    for run in reading.json("split")["test_runs"]:
        if (run["film"], run["compression_degree_percent"]) == (about["film"], about["degree_percent"]):
            return str(run.get("reason") or "")
    return ""


def _frame(reading: Reading, row: Mapping[str, str], columns: Sequence[Pair], keys: Mapping[str, Any]) -> Iterator[Result]:
    """Yield scores, values and relative errors of one predicted frame."""
    for column, quantity in SCORES.items():
        yield reading.result(quantity, number(row.get(column)), "table", **keys)
    for column in row:
        if column.startswith("iou_"):
            yield reading.result("iou", number(row[column]), "table", phase=column.removeprefix("iou_"), **keys)
    yield from _values(reading, row, columns, keys, errors=True)


def _values(
    reading: Reading, row: Mapping[str, str], columns: Sequence[Pair], keys: Mapping[str, Any], *, errors: bool
) -> Iterator[Result]:
    """Yield the values of one predicted frame with the true ones beside them, and on request their relative errors."""
    counted = "whole slices of voxels, true and predicted alike" if row["thickness_source"] == "voxels" else ""
    values = {pair.column: (number(row[f"{pair.column}_true"]), number(row[f"{pair.column}_predicted"])) for pair in columns}
    for pair in columns:
        true, predicted = values[pair.column]
        note = counted if pair.quantity in ("thickness", "spring_back") else ""
        if pair.quantity == "tortuosity_factor" and math.isnan(predicted):
            note = BLOCKED
        yield from _pair(reading.result(pair.quantity, predicted, "table", note=note, **pair.keys, **keys), true, errors)
    true_total, total = (
        reading.total_porosity(
            *_fractions({phase: values.get(f"voxels_{phase}", (math.nan, math.nan))[kind] for phase in ("pore", "cbd", "am")}),
            "table",
            **keys,
        )
        for kind in (0, 1)
    )
    yield from _pair(total, math.nan if true_total.value is None else true_total.value, errors)


def _fractions(voxels: Mapping[str, float]) -> tuple[float | None, float | None]:
    """Return the fractions of pore and binder domain in the electrode; None where a count is missing or there is no electrode."""
    electrode = sum(voxels.values())
    if not electrode or math.isnan(electrode):
        return None, None
    return voxels["pore"] / electrode, voxels["cbd"] / electrode


def _pair(predicted: Result, true: float, errors: bool) -> Iterator[Result]:
    """Yield a predicted value with the true one beside it, and on request its relative error, which exists where both do."""
    known = None if math.isnan(true) else true
    yield replace(predicted, reference=known, reference_source=TRUE_FRAME)
    if errors and predicted.quantity in WITH_ERROR:
        error = abs(predicted.value / true - 1) if predicted.value is not None and known else None
        name = predicted.quantity + ERROR
        yield replace(predicted, quantity=name, value=error, reference=None, reference_source="", note="")


def _over_frames(gathered: Mapping[tuple, Sequence[Result]]) -> Iterator[Result]:
    """Yield means over the predicted frames in which a number exists (a blocked frame has no tortuosity factor), and the worst R2."""
    for (quantity, *_), rows in gathered.items():
        values = [row.value for row in rows if row.value is not None]
        note = (
            "mean over the predicted frames in which true and predicted value exist"
            if quantity.endswith(ERROR)
            else "mean over the predicted frames"
        )
        yield replace(rows[0], frame=None, value=math.fsum(values) / len(values), n=len(values), note=note)
        if quantity in WORST:
            worst = min(rows, key=lambda row: math.inf if row.value is None else row.value)
            yield replace(worst, frame=None, quantity=f"{quantity}_worst", note=f"frame {worst.frame}")


JUDGED = {"r2_film": True, "r2_with_void": True, f"porosity_free{ERROR}": False}
"""Means over frames by which predictors are compared, and whether more is better."""


class _Ranking:
    """Finding: whether a network beats the predictors that learn nothing, in free rollouts, by each of JUDGED."""

    def __init__(self) -> None:
        self.values: dict[bool, dict[str, dict[str, list[float]]]] = {}

    def add(self, row: Result) -> None:
        """Keep the means over the frames of each rolled out run."""
        of_a_run = row.film and row.frame is None and row.value is not None
        if of_a_run and row.stage == "surrogate" and row.mode == "rollout" and row.quantity in JUDGED:
            of_quantity = self.values.setdefault(bool(row.leaking), {}).setdefault(row.quantity, {})
            of_quantity.setdefault(row.predictor, []).append(row.value or 0.0)

    def findings(self, facts: Facts, shown: Callable[[float | None], str]) -> Iterator[Finding]:
        """Return who is best; runs that leak count only where there are no others."""
        leaking = False not in self.values
        sorts = {row.predictor: row.text for row in facts if row.fact == "sort of predictor"}
        best: dict[str, dict[str, tuple[str, float]]] = {}
        for quantity, groups in self.values.get(leaking, {}).items():
            means = {name: math.fsum(values) / len(values) for name, values in groups.items()}
            for name, value in sorted(means.items(), key=lambda item: item[1], reverse=JUDGED[quantity]):
                best.setdefault(quantity, {}).setdefault(sorts.get(name, ""), (name, value))
        film = best.get("r2_film", {})
        if "network" not in film:
            return
        judged = [quantity for quantity, groups in best.items() if "network" in groups and groups.keys() & SIMPLE.keys()]
        warnings = [
            f"no network beats {best[quantity][sort][0]}{remark} in {QUANTITIES[quantity].symbol}"
            for quantity in JUDGED
            for sort, remark in SIMPLE.items()
            if quantity in best and _simple_wins(quantity, best[quantity], sort)
        ]
        name, value = film["network"]
        if value <= 0:
            warnings.append("R² is not above 0: a frame of one mean label would be as good")
        if leaking:
            warnings.append("these runs leak")
        text = "; ".join(f"{words} ({film[sort][0]}): {shown(film[sort][1])}" for sort, words in BESIDE.items() if sort in film)
        praise = "beats every simple method" if judged and not warnings else ""
        title = f"Surrogate: R² of the film in free rollouts, best network ({name})"
        yield Finding(title, shown(value), text, "; ".join(warnings), praise)


SIMPLE = {"baseline": "", "informed": ", which is given the true thickness,"}
"""Sorts of predictors that learn nothing, and what is said of them."""
BESIDE = {
    "baseline": "best simple method",
    "informed": "best simple method that is given the true thickness",
    "ceiling": "a second simulation of the film",
}
"""Sorts of predictors that stand beside the best network."""


def _simple_wins(quantity: str, groups: Mapping[str, tuple[str, float]], sort: str) -> bool:
    """Say whether the best predictor of a sort that learns nothing is at least as good as the best network."""
    if not {"network", sort} <= groups.keys():
        return False
    network, simple = groups["network"][1], groups[sort][1]
    return simple >= network if JUDGED[quantity] else simple <= network


def _text(facts: Facts) -> str:
    given = " or ".join(texts(facts, "frames given")) or "last"
    return (
        f"Frames predicted for runs that are kept for the test. One-step predictions see the {given} true frames before each frame; free"
        f" rollouts start from the first {given} frames and continue from what they predicted themselves. Of later frames a predictor knows"
        " the position of the press alone, unless the list says otherwise. In brackets: the value of the true frame."
        + not_searched(facts)
    )


def _warning(facts: Facts) -> str:
    leaking = [row for row in facts if row.fact == "leaking because"]
    if not leaking:
        return ""
    named = runs_of(leaking)
    runs = "; ".join(named[:20]) + (f" and {len(named) - 20} more" if len(named) > 20 else "")
    return (
        f"Leaking: {runs}: these runs share their film, or frames, with training or validation, so their rows are not evidence of"
        " generalisation."
    )


def _terms(facts: Facts) -> list[tuple[str, str]]:
    return [(row.predictor, row.text) for row in facts if row.fact == "predictor"]


def _tables() -> Iterator[Table]:
    scores = ("r2_film", "r2_film_worst", "r2_with_void", "r2_with_void_worst", "label_mse", "label_mae", "accuracy")
    errors = tuple(f"{name}{ERROR}" for name in ("porosity_free", "porosity_total", "thickness"))
    flow = tuple(f"{name}{ERROR}" for name in ("relative_diffusivity", "tortuosity_factor"))
    note = (
        "Over all predicted frames. R², MSE and MAE on the label values 0, 1, 2 and 4; R² of the film leaves out void on which both frames"
        " agree."
    )
    for mode, name in (("rollout", "Free rollout"), ("one_step", "One step")):
        means = {"stage": "surrogate", "mode": mode, "film": "", "moment": "", "frame": None}
        films = means | {"film": SOME}
        down = ("degree_percent", "predictor", "leaking")
        yield Table(f"{name}: scores, means over films", means, down, scores, note=note)
        yield Table(
            f"{name}: mean relative errors, means over films", means, down, errors, note="Fractions, over all predicted frames."
        )
        yield Table(
            f"{name}: mean relative errors of transport, means over films",
            means,
            down,
            flow,
            ("case", "axis"),
            "Frames that are blocked, in truth or as predicted, have no tortuosity factor and are left out of its mean.",
        )
        yield Table(
            f"{name}: mean relative errors of contact areas, means over films",
            means,
            down,
            (f"contact_faces{ERROR}",),
            ("phase",),
        )
        yield Table(f"{name}: scores of each film", films, ("film", *down), scores)
        yield Table(f"{name}: mean relative errors of each film", films, ("film", *down), errors)
    last = {"stage": "surrogate", "mode": "rollout", "film": SOME, "moment": "last"}
    about = ("film", "degree_percent", "predictor", "leaking")
    yield Table("Free rollout: last frame, size", last, about, ("thickness", "spring_back", "porosity_free", "porosity_total"))
    yield Table("Free rollout: last frame, phases", last, about, ("phase_voxels",), ("phase",))
    yield Table("Free rollout: last frame, contacts", last, about, ("contact_faces",), ("phase",))
    yield Table(
        "Free rollout: last frame, transport", last, about, ("relative_diffusivity", "tortuosity_factor"), ("case", "axis")
    )
    published = {"stage": "surrogate", "predictor": "published"}
    yield Table(
        "Published errors of contact areas",
        published,
        ("film", "degree_percent"),
        (f"contact_faces{ERROR}",),
        ("phase",),
        "In brackets: relative errors that the calendering paper prints of its own films.",
    )
    yield table("surrogate")


READERS = {"predictors": predictors, "metrics": metrics, "search": search}
"""Reader of each kind of source."""
SECTION = StageSection("Surrogate", _text, tuple(_tables()), _Ranking, _warning, _terms)
"""The stage's section on the page."""
