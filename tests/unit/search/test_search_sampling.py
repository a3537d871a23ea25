import optuna
import pytest

from calandria.base.errors import SettingsError
from calandria.learning.settings import SearchSettings
from calandria.search.sampling import grid_points, is_finite, make_pruner, make_sampler
from tests.helpers import toy_objective


def test_the_grid_follows_conditions():
    points = grid_points(toy_objective.suggest, {"x_step": 2.0})
    plain = [{"kind": "plain", "x": x} for x in (-2.0, 0.0, 2.0)]
    shifted = [{"kind": "shifted", "x": x, "shift": s} for x in (-2.0, 0.0, 2.0) for s in (1, 2, 3)]
    assert len(points) == 12
    assert all(point in points for point in plain + shifted)


def test_a_continuous_parameter_has_no_grid():
    with pytest.raises(SettingsError, match="'x' is a continuous range"):
        grid_points(toy_objective.suggest, {})


def test_an_endless_grid_is_refused():
    with pytest.raises(SettingsError, match="more than 10000"):
        grid_points(lambda trial, settings: {"a": trial.suggest_int("a", 0, 20_000)}, {})


def drawn(search, n, points=None, value=1.0):
    study = optuna.create_study(pruner=make_pruner(search))
    for number in range(n):
        trial = study.ask()
        study.sampler = make_sampler(search, number, points)
        toy_objective.suggest(trial, {"x_step": 2.0} if points else {})
        study.tell(trial, value * number)
    return [trial.params for trial in study.trials]


def test_the_grid_is_drawn_once_in_a_seeded_order():
    points = grid_points(toy_objective.suggest, {"x_step": 2.0})
    one, two = (drawn(SearchSettings(sampler="grid", seed=seed), 12, points) for seed in (1, 2))
    assert sorted(map(str, one)) == sorted(map(str, two)) and one != two
    assert len(set(map(str, one))) == 12


def test_draws_depend_on_seed_and_number_only():
    assert drawn(SearchSettings(seed=3), 8) == drawn(SearchSettings(seed=3), 8) != drawn(SearchSettings(seed=4), 8)
    random = SearchSettings(sampler="random")
    assert drawn(random, 6, value=1.0) == drawn(random, 6, value=-5.0)


@pytest.mark.parametrize(("name", "kind"), [("median", "MedianPruner"), ("hyperband", "HyperbandPruner"), ("none", "NopPruner")])
def test_pruners(name, kind):
    assert type(make_pruner(SearchSettings(pruner=name))).__name__ == kind


@pytest.mark.parametrize(
    ("value", "finite"), [(1, True), (0.5, True), (float("nan"), False), (float("inf"), False), (None, False), ("x", False)]
)
def test_finite_values(value, finite):
    assert is_finite(value) is finite
