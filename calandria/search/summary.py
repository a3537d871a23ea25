"""What a study found: a table of its trials, its best trial, and a figure of its history and of what mattered."""

import math
import os
import textwrap
import warnings
from typing import Any, cast

import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial, TrialState

from ..base.files import replacing
from ..base.provenance import provenance
from ..base.records import record_path, write_json, write_table
from ..learning.settings import RUN_CONTROL
from .study import SearchDefinition

MIN_TRIALS_FOR_IMPORTANCE = 4
COLUMNS = ("number", "state", "value", "duration_s", "worker", "seed", "reason")


def trial_rows(trials: list[FrozenTrial]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return one row per trial and the columns; drawn parameters are columns ``parameter_<name>``, empty where not drawn."""
    names = sorted({name for trial in trials for name in trial.params})
    rows = []
    for trial in trials:
        work = trial.user_attrs.get("work", {})
        rows.append(
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "value": trial.value,
                "duration_s": None if trial.duration is None else trial.duration.total_seconds(),
                "worker": work.get("worker"),
                "seed": work.get("seed"),
                "reason": trial.user_attrs.get("reason"),
                **{f"parameter_{name}": value for name, value in trial.params.items()},
            }
        )
    return rows, [*COLUMNS, *(f"parameter_{name}" for name in names)]


def made_by(definition: SearchDefinition) -> dict[str, Any]:
    """Return the provenance of a study's results: its settings, seed and the digests of the files that its trials read."""
    made = provenance("search", settings=definition.settings, seed=definition.search.seed)
    return made | {"inputs_sha256": definition.data_sha256}


def best_record(study: optuna.Study, definition: SearchDefinition) -> dict[str, Any]:
    """Return the best completed trial with its parameters as ``suggest`` gave them, the counts and the provenance."""
    trials, best = study.get_trials(deepcopy=False), study.best_trial
    count = {state: sum(trial.state == state for trial in trials) for state in TrialState}
    return {
        "study": definition.study_name,
        "objective": definition.objective,
        "direction": definition.direction,
        "number": best.number,
        "value": best.value,
        "value_name": definition.value_name,
        "seed": best.user_attrs["work"]["seed"],
        "parameters": best.user_attrs["work"]["parameters"],
        "n_complete": count[TrialState.COMPLETE],
        "n_pruned": count[TrialState.PRUNED],
        "n_failed": count[TrialState.FAIL],
        "search": definition.search.model_dump(exclude=set(RUN_CONTROL)),  # how it was run; storage, a URL, may hold a password
        "provenance": made_by(definition),
    }


def importances(study: optuna.Study) -> tuple[dict[str, float], str]:
    """Return the importance of each drawn parameter (PED-ANOVA, summing to 1) and a remark: why there is none,
    or what Optuna doubts about it.

    References
    ----------
    Watanabe, Bansal, Hutter, PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces, IJCAI 2023,
    https://doi.org/10.24963/ijcai.2023/488
    """
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    if len(complete) < MIN_TRIALS_FOR_IMPORTANCE:
        return {}, f"{len(complete)} completed trials are too few\n(at least {MIN_TRIALS_FOR_IMPORTANCE} are needed)"
    if len({trial.value for trial in complete}) < 2:
        return {}, "all completed trials have the same value"
    try:
        with warnings.catch_warnings(record=True) as doubts:
            warnings.simplefilter("always")
            found = optuna.importance.get_param_importances(study)
    except (ValueError, RuntimeError) as error:
        return {}, f"importance cannot be evaluated:\n{error}"
    if not found or not all(math.isfinite(value) for value in found.values()):
        return {}, "no parameter varies"
    return found, "few trials per parameter: inaccurate" if doubts else ""


def _draw_history(axes: Axes, study: optuna.Study, direction: str) -> None:
    trials = study.get_trials(deepcopy=False)
    better = min if direction == "minimize" else max
    for state, marker, colour in (
        (TrialState.COMPLETE, "o", "tab:blue"),
        (TrialState.PRUNED, "x", "tab:gray"),
    ):
        points = [(trial.number, trial.value) for trial in trials if trial.state == state and trial.value is not None]
        if points:
            axes.plot(*zip(*points), marker, color=colour, label=state.name.lower(), markersize=4)
    steps: list[int] = []
    best: list[float] = []
    for trial in trials:
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            steps.append(trial.number)
            best.append(better([*best[-1:], trial.value]))
    axes.step(steps, best, where="post", color="tab:red", label="best so far")
    if best and min(best) > 0 and max(t.value or 0.0 for t in trials if t.state == TrialState.COMPLETE) > 20 * min(best):
        axes.set_yscale("log")
    axes.set(xlabel="trial", title="history")
    cast(MaxNLocator, axes.xaxis.get_major_locator()).set_params(integer=True)
    axes.legend(fontsize="small")


def importance_figure(study: optuna.Study, direction: str, value_name: str = "value") -> Figure:
    """Return the figure: values over trials on the left, parameter importances (or why there are none) on the right."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_history(left, study, direction)
    left.set_ylabel("\n".join(textwrap.wrap(f"{value_name} ({direction})", 44)))
    found, remark = importances(study)
    right.set_title("importance of parameters (PED-ANOVA)")
    if not found:
        right.text(0.5, 0.5, remark, ha="center", va="center", transform=right.transAxes)
        right.set_axis_off()
    else:
        names = list(found)[::-1]
        right.barh(names, [found[name] for name in names], color="tab:blue")
        right.set(xlabel=f"share ({remark})" if remark else "share", xlim=(0, 1))
    return figure


def write_summary(
    study: optuna.Study,
    definition: SearchDefinition,
    *,
    trials_path: str | os.PathLike,
    best_path: str | os.PathLike,
    importance_path: str | os.PathLike,
) -> None:
    """Write the table of trials with its record beside it, the record of the best one, and the figure; each whole or not at all."""
    write_table(trials_path, *trial_rows(study.get_trials(deepcopy=False)))
    write_json(record_path(trials_path), made_by(definition))  # no digest of the table: it holds times and names of workers
    write_json(best_path, best_record(study, definition))
    with replacing(importance_path) as unfinished:
        figure = importance_figure(study, definition.direction, definition.value_name)
        figure.savefig(unfinished, dpi=150, metadata={"Software": None})
