"""Rows of results of the auto-encoder stage: errors, baselines, tests and intervals; and its section on the page."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..base.results import Fact, Reading, Result
from ..base.showing import SOME, Facts, Finding, StageSection, Table
from ..search.results import NO_SEARCH, not_searched, search, table

PARTS = ("train", "validation")
OF_A_PART = {
    "mse": "reconstruction_mse",
    "baseline_mse": "mean_predictor_mse",
    "linear_mse": "linear_mse",
    "r2": "reconstruction_r2",
    "linear_r2": "linear_r2",
    "original_mean": "original_mean",
    "reconstructed_mean": "reconstructed_mean",
    "mean_shift": "mean_shift",
    "mean_shift_cohens_d": "mean_shift_cohens_d",
    "p_value_mean": "mean_shift_p_value",
}
"""Keys of a part of the record of evaluate_autoencoder, and their quantities."""
INTERVALS = {"mse": "mse_interval", "mean_shift": "mean_shift_interval"}
SMALLEST_P = 1e-300
MOST_COMPARED = 1000


def evaluation(reading: Reading) -> Iterator[Result | Fact]:
    """Yield errors, baselines, tests and intervals of an auto-encoder.

    Files: ``record`` of evaluate_autoencoder.
    """
    record = reading.json("record")
    split, methods = record["split"], record["methods"]
    keys = {"leaking": bool(split["leaking"])}
    yield reading.fact("split", split["kind"], "record")
    if reading.source.keys.get("searched") is False:
        yield reading.fact(NO_SEARCH, "its hyper-parameters are those of the settings", "record")
    yield reading.fact("samples", ", ".join(record["samples"]), "record")
    if split["leaking"]:
        yield reading.fact("leaking because", "validation mini-volumes share slices with those of training", "record")
    for name, text in methods.items():
        yield reading.fact("method", text, "record", item=name)
    for quantity, key in (("weights", "n_weights"), ("epochs", "n_epochs"), ("best_epoch", "best_epoch")):
        yield reading.result(quantity, record[key], "record", **keys)
    for part in PARTS:
        yield reading.result("mini_volumes", split[f"n_{part}"], "record", part=part, **keys)
        for key, quantity in OF_A_PART.items():
            if key in record[part]:
                interval = record[part].get(INTERVALS.get(key, ""), {})
                about = {**keys, "part": part, **_ends(interval), "n": split[f"n_{part}"]}
                about["note"] = methods.get(key, "") + _tiny(key, record[part][key])
                yield reading.result(quantity, record[part][key], "record", **about)
    difference = record["mse_difference"]
    yield reading.result(
        "mse_difference",
        difference["validation_less_train"],
        "record",
        note=methods["interval"],
        **_ends(difference["interval"]),
        **keys,
    )
    yield reading.result("mse_difference_cohens_d", difference["cohens_d"], "record", **keys)
    note = methods["p_value_mse"] + _tiny("p_value_mse", difference["p_value_mse"])
    yield reading.result("mse_difference_p_value", difference["p_value_mse"], "record", note=note, **keys)


def _ends(interval: Mapping[str, Any]) -> dict[str, Any]:
    return {end: interval[end] for end in ("low", "high") if end in interval}


def _tiny(key: str, value: float | None) -> str:
    return (
        "; below 1e-300, where floating point cannot say more"
        if key.startswith("p_") and value is not None and value < SMALLEST_P
        else ""
    )


class _Baselines:
    """Finding: whether an auto-encoder beats principal components on mini-volumes that it did not see."""

    def __init__(self) -> None:
        self.values: dict[tuple, dict[str, float]] = {}

    def add(self, row: Result) -> None:
        """Keep the errors of validation."""
        wanted = ("reconstruction_mse", "linear_mse", "mean_predictor_mse", "reconstruction_r2", "linear_r2")
        if row.stage != "autoencoder" or row.part != "validation" or row.quantity not in wanted or row.value is None:
            return
        key = (row.leaking, row.case, row.window, row.stride)
        if key in self.values or len(self.values) < MOST_COMPARED:
            self.values.setdefault(key, {})[row.quantity] = row.value

    def findings(self, facts: Facts, shown: Callable[[float | None], str]) -> Iterator[Finding]:
        """Return the best auto-encoder of those that do not leak, else of all."""
        honest = {key: values for key, values in self.values.items() if not key[0]} or self.values
        complete = {
            key: values
            for key, values in honest.items()
            if {"reconstruction_mse", "linear_mse", "mean_predictor_mse"} <= set(values)
        }
        if not complete:
            return
        key = min(complete, key=lambda one: complete[one]["reconstruction_mse"] / (complete[one]["mean_predictor_mse"] or 1))
        leaking, case, window, stride = key
        values = complete[key]
        about = f"Auto-encoder {case}, window {window}, stride {stride}: R² of validation"
        text = f"principal components, as many: {shown(values.get('linear_r2'))}"
        losers = []
        if values["linear_mse"] <= values["reconstruction_mse"]:
            losers.append("as many principal components")
        if values["mean_predictor_mse"] <= values["reconstruction_mse"]:
            losers.append("predicting the mean")
        warning = f"does not beat {' or '.join(losers)}" if losers else ""
        praise = "" if losers else "beats principal components and the mean"
        if leaking:
            warning, praise = "; ".join(filter(None, ("leaking", warning))), ""
        yield Finding(about, shown(values.get("reconstruction_r2")), text, warning, praise)


def _text(facts: Facts) -> str:
    return (
        "Mini-volumes reconstructed from latent features. The errors stand beside those of predicting the mean, and of as many principal"
        " components. The p-values wrongly treat correlated voxels as independent, so they are tiny for any difference; read the effect"
        " sizes, and the intervals, which resample whole mini-volumes." + not_searched(facts)
    )


def _warning(facts: Facts) -> str:
    cases = [f"{row.case}, window {row.window}, stride {row.stride}" for row in facts if row.fact == "leaking because"]
    named = "; ".join(cases[:20]) + (f" and {len(cases) - 20} more" if len(cases) > 20 else "")
    return (
        f"Leaking: {named}: these validation mini-volumes share slices with those of training, so their rows are not evidence of"
        " generalisation."
        if cases
        else ""
    )


READERS = {"evaluation": evaluation, "search": search}
"""Reader of each kind of source."""
_DOWN = ("sample", "case", "window", "stride", "leaking")
_WHOLE = {"stage": "autoencoder", "part": ""}
SECTION = StageSection(
    "Auto-encoder",
    _text,
    (
        Table(
            "Errors",
            {"stage": "autoencoder", "part": SOME},
            (*_DOWN, "part"),
            ("mini_volumes", "reconstruction_mse", "linear_mse", "mean_predictor_mse", "reconstruction_r2", "linear_r2"),
            note="Mean squared error per voxel on labels coded -1, 0, +1. In brackets, in rows without values: what the paper prints, for 224"
            " pixels and a leaking split.",
        ),
        Table(
            "Mean of the voxels, original and reconstructed",
            {"stage": "autoencoder", "part": SOME},
            (*_DOWN, "part"),
            ("original_mean", "reconstructed_mean", "mean_shift", "mean_shift_cohens_d", "mean_shift_p_value"),
            note="Effect size (Cohen's d), and the paper's p-value of the shift.",
        ),
        Table(
            "Validation against training",
            _WHOLE,
            _DOWN,
            ("weights", "epochs", "best_epoch", "mse_difference", "mse_difference_cohens_d", "mse_difference_p_value"),
            note="Difference of the MSE with its interval, its effect size, and the paper's p-value.",
        ),
        table("autoencoder"),
    ),
    _Baselines,
    _warning,
)
"""The stage's section on the page."""
