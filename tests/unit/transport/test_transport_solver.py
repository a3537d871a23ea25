"""What the solver promises about its input, blocked volumes and its result."""

import pickle

import numpy as np
import pytest

from calandria.base.errors import CalandriaError, ContractError, SettingsError
from calandria.transport.solver import electrode, tortuosity
from tests.helpers.reference_diffusion import reference_percolates

OPEN = np.zeros((3, 4, 5), np.uint8)


def test_blocked_volume_is_a_result():
    labels = OPEN.copy()
    labels[1] = 1
    result = tortuosity(labels, {0: 1.0})
    assert not result.percolates
    assert result.tortuosity_factor is None
    assert result.relative_diffusivity == 0
    assert result.conducting_fraction == pytest.approx(2 / 3)
    assert result.connected_fraction == 0
    assert tortuosity(labels, {0: 1.0}, axis="y").percolates


def test_results_travel_between_processes():
    result = tortuosity(OPEN, {0: 1.0}, sides={"y": "periodic"})
    assert pickle.loads(pickle.dumps(result)) == result


def test_too_many_diffusivities_are_refused():
    with pytest.raises(SettingsError, match="255 different diffusivities; expected at most 250"):
        tortuosity(OPEN, {label: 1.0 + label for label in range(255)})
    labels = np.arange(250, dtype=np.uint8).reshape(10, 5, 5)
    assert tortuosity(labels, {label: 1.0 + label for label in range(250)}).percolates


def test_diagonal_neighbours_do_not_conduct():
    labels = np.ones((2, 2, 2), np.uint8)
    labels[0, 0, 0] = labels[1, 1, 1] = 0
    assert not tortuosity(labels, {0: 1.0}).percolates


@pytest.mark.parametrize("seed", range(20))
def test_percolation_near_the_threshold(seed):
    labels = (np.random.default_rng(seed).random((12, 9, 9)) > 0.3).astype(np.uint8)
    assert tortuosity(labels, {0: 1.0}).percolates == reference_percolates(labels == 0)


def test_periodic_sides_open_a_path():
    labels = np.ones((3, 1, 4), np.uint8)
    labels[0, 0, 0] = labels[1, 0, 0] = labels[1, 0, 3] = labels[2, 0, 3] = 0
    assert not tortuosity(labels, {0: 1.0}).percolates
    assert tortuosity(labels, {0: 1.0}, sides={"x": "periodic"}).percolates
    assert not tortuosity(labels, {0: 1.0}, sides={"y": "periodic"}).percolates


def test_scale_of_diffusivities_scales_the_result():
    labels = (np.random.default_rng(1).random((8, 8, 8)) > 0.6).astype(np.uint8)
    one, ten = (tortuosity(labels, {0: scale, 1: 0.1 * scale}).relative_diffusivity for scale in (1.0, 10.0))
    assert ten == pytest.approx(10 * one, rel=1e-6)


@pytest.mark.parametrize(
    ("labels", "diffusivities", "options", "error", "told"),
    [
        (OPEN[0], {0: 1.0}, {}, ContractError, "three axes"),
        (OPEN[:0], {0: 1.0}, {}, ContractError, "none empty"),
        (OPEN.astype(float), {0: 1.0}, {}, ContractError, "float64"),
        (OPEN.astype(np.int32) + 300, {0: 1.0}, {}, ContractError, "300"),
        (OPEN, {0: -1.0}, {}, SettingsError, "label 0 is -1"),
        (OPEN, {0: float("nan")}, {}, SettingsError, "nan"),
        (OPEN, {300: 1.0}, {}, SettingsError, "300"),
        (OPEN, {0: 0.0}, {}, SettingsError, "no label conducts"),
        (OPEN, {}, {}, SettingsError, "no label conducts"),
        (OPEN, {0: 1.0, 1: 1e-20}, {}, SettingsError, "1e-20"),
        (OPEN, {0: 1.0}, {"axis": "t"}, SettingsError, "'t'"),
        (OPEN, {0: 1.0}, {"sides": "perodic"}, SettingsError, "perodic"),
        (OPEN, {0: 1.0}, {"sides": {"w": "periodic"}}, SettingsError, "'w'"),
        (OPEN, {0: 1.0}, {"tolerance": 1e-9}, SettingsError, "1e-09"),
        (OPEN, {0: 1.0}, {"tolerance": "1e-4"}, SettingsError, "'1e-4'"),
        (OPEN, {0: 1.0}, {"max_iterations": -1}, SettingsError, "-1"),
        (OPEN, {0: 1.0}, {"max_iterations": None}, SettingsError, "None"),
        (OPEN, {0: "1"}, {}, SettingsError, "label 0 is '1'"),
        (OPEN, {"0": 1.0}, {}, SettingsError, "'0'; expected an integer"),
        (OPEN, {float("nan"): 1.0}, {}, SettingsError, "nan; expected an integer"),
        (OPEN.tolist(), {0: 1.0}, {}, ContractError, "are a list"),
    ],
)
def test_bad_input_is_named(labels, diffusivities, options, error, told):
    with pytest.raises(error) as caught:
        tortuosity(labels, diffusivities, **options)
    assert told in caught.value.message
    assert caught.value.hint
    assert isinstance(caught.value, CalandriaError)


def test_electrode_ends_below_the_void():
    labels = np.zeros((5, 2, 2), np.uint8)
    labels[4] = 4
    labels[3, 0] = labels[3, 1, 0] = 4
    labels[2, 0, 0] = 4
    assert electrode(labels).shape == (3, 2, 2)


def test_record_holds_plain_values():
    import json

    record = tortuosity(OPEN, {0: 1.0}).record()
    assert json.loads(json.dumps(record))["shape"] == [3, 4, 5]
    assert record["sides"] == {"y": "no-flux", "x": "no-flux"}
    assert record["diffusivities"] == {"0": 1.0}
