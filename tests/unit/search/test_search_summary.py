from datetime import datetime

import optuna
import pytest

from calandria.base.records import read_json, record_path
from calandria.search.summary import importance_figure, importances, trial_rows, write_summary
from tests.helpers.searching import prepared, work_here


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def study_of(values):
    study = optuna.create_study()
    for x, value in values:
        study.add_trial(
            optuna.trial.create_trial(
                params={"x": x, "noise": (7 * x) % 1},
                distributions={name: optuna.distributions.FloatDistribution(0, 1) for name in ("x", "noise")},
                value=value,
            )
        )
    return study


def test_what_matters_is_most_important():
    found, remark = importances(study_of([(i / 30, (i / 30) ** 2) for i in range(30)]))
    assert not remark and found["x"] > found["noise"] and sum(found.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("values", "word"),
    [([(0.1, 1.0), (0.2, 2.0)], "2 completed trials are too few"), ([(i / 9, 1.0) for i in range(9)], "same value")],
)
def test_a_figure_without_importances_says_why(values, word):
    assert any(word in text for text in texts(importance_figure(study_of(values), "minimize")))


def test_the_best_so_far_never_gets_worse():
    study = study_of([(0.1, 3.0), (0.2, 5.0), (0.3, 1.0), (0.4, 2.0)])
    figure = importance_figure(study, "minimize")
    line = next(line for line in figure.axes[0].lines if line.get_label() == "best so far")
    assert list(line.get_ydata()) == [3.0, 3.0, 1.0, 1.0]


def test_a_trial_within_one_tick_of_the_clock_took_no_time_and_one_that_runs_has_none():
    """MySQL keeps whole seconds."""
    moment = datetime(2026, 1, 1)
    ended = optuna.trial.create_trial(value=1.0)
    ended.datetime_start = ended.datetime_complete = moment
    running = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING)
    running.datetime_start = moment
    rows, _ = trial_rows([ended, running])
    assert [row["duration_s"] for row in rows] == [0.0, None]


def test_rows_hold_every_trial_and_empty_cells_where_a_parameter_was_not_drawn(tmp_path):
    folder, definition = prepared(tmp_path / "s", search={"n_trials": 8, "sampler": "grid"}, x_step=2.0, fail_in=[2])
    study = work_here(folder).study
    rows, columns = trial_rows(study.get_trials())
    assert columns[-3:] == ["parameter_kind", "parameter_shift", "parameter_x"]
    assert rows[2]["state"] == "fail" and rows[2]["reason"] == "RuntimeError: trial 2 broke" and rows[2]["value"] is None
    assert all(("parameter_shift" in row) == (row["parameter_kind"] == "shifted") for row in rows)
    paths = {f"{name}_path": tmp_path / name for name in ("trials", "best")} | {"importance_path": tmp_path / "i.png"}
    write_summary(study, definition, **paths)
    first = {name: path.read_bytes() for name, path in paths.items()}
    write_summary(study, definition, **paths)
    assert {name: path.read_bytes() for name, path in paths.items()} == first
    record, best = read_json(record_path(tmp_path / "trials")), read_json(tmp_path / "best")
    assert record["stage"] == "search" and "table_sha256" not in record, "the table holds times"
    assert best["provenance"]["settings_sha256"] == record["settings_sha256"] and best["value_name"] == "value"
    figure = importance_figure(study, "minimize", "error of the toy")
    assert figure.axes[0].get_ylabel() == "error of the toy (minimize)"
    assert "inaccurate" in figure.axes[1].get_xlabel()  # eight trials over two kinds of parameter sets
