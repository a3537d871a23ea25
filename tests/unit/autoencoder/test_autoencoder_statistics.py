import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats

from calandria.autoencoder.figures import loss_figure
from calandria.autoencoder.statistics import (
    Moments,
    block_starts,
    bootstrap_interval,
    cohens_d,
    linear_reconstruction_mse,
    mean_predictor_mse,
    moments,
    pooled_moments,
    r2,
    welch_p_value,
)


def test_pooled_moments_are_those_of_all_voxels():
    voxels = np.random.default_rng(0).normal(size=(5, 40))
    found = pooled_moments(40, voxels.mean(1), voxels.std(1))
    assert found.n == 200
    assert found.mean == pytest.approx(voxels.mean(), abs=1e-14)
    assert found.variance == pytest.approx(voxels.var(), rel=1e-12)


def test_welch_agrees_with_the_test_on_the_values_themselves():
    random = np.random.default_rng(1)
    first, second = random.normal(0, 1, 30), random.normal(0.3, 2, 50)
    expected = stats.ttest_ind(first, second, equal_var=False).pvalue
    assert welch_p_value(moments(first), moments(second)) == pytest.approx(expected, rel=1e-12)


def test_welch_by_hand():
    # means 0 and 2, sample variances 1 each, 3 values each: t = 2 / sqrt(2/3), 4 degrees of freedom
    expected = 2 * stats.t.sf(2 / np.sqrt(2 / 3), 4)
    assert welch_p_value(moments([-1, 0, 1]), moments([1, 2, 3])) == pytest.approx(expected)
    assert cohens_d(moments([-1, 0, 1]), moments([1, 2, 3])) == pytest.approx(2.0)


def test_tests_of_what_does_not_vary_say_so():
    flat = Moments(4, 1.0, 0.0)
    assert welch_p_value(flat, flat) is None
    assert cohens_d(flat, flat) is None
    assert welch_p_value(Moments(1, 0.0, 1.0), Moments(9, 0.0, 1.0)) is None
    assert r2(0.1, 0.0) is None


def test_a_p_value_shrinks_with_voxels_while_the_effect_stays():
    few, many = ((Moments(n, 0.0, 0.25), Moments(n, 0.01, 0.25)) for n in (100, 1_200_000))
    assert welch_p_value(*few) > 0.5
    assert welch_p_value(*many) < 1e-30
    assert cohens_d(*few) == pytest.approx(cohens_d(*many), rel=0.01)


def test_the_mean_predictor_by_hand():
    values = np.array([-1.0, 0.0, 1.0, 1.0])
    assert mean_predictor_mse(moments(values), 0.5) == pytest.approx(((values - 0.5) ** 2).mean())


def test_blocks_are_runs_of_neighbours():
    drawn = block_starts(10, 4, np.random.default_rng(0))
    assert len(drawn) == 10
    for start in (0, 4):
        assert np.diff(drawn[start : start + 4]).tolist() == [1, 1, 1]
    assert drawn.min() >= 0
    assert drawn.max() < 10


def test_the_interval_covers_a_known_mean_as_often_as_it_says():
    random = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        interval = bootstrap_interval(
            [random.normal(1.0, 1.0, 40)],
            lambda drawn: float(drawn.mean()),
            n_resamples=200,
            confidence=0.9,
            block_length=1,
            random=random,
        )
        hits += interval.low <= 1.0 <= interval.high
    assert 0.82 <= hits / 200 <= 0.96


def test_overlapping_mini_volumes_widen_the_interval():
    noise = np.random.default_rng(4).normal(size=208)
    overlapping = np.convolve(noise, np.ones(8) / 8, "valid")

    def width(block_length):
        interval = bootstrap_interval(
            [overlapping],
            lambda drawn: float(drawn.mean()),
            n_resamples=500,
            confidence=0.9,
            block_length=block_length,
            random=np.random.default_rng(5),
        )
        return interval.high - interval.low

    assert width(8) > 1.8 * width(1)


def test_too_few_blocks_give_no_interval():
    interval = bootstrap_interval(
        [[1.0, 2.0, 3.0]], np.mean, n_resamples=100, confidence=0.9, block_length=2, random=np.random.default_rng(0)
    )
    assert interval.low is None
    assert interval.high is None


def test_principal_components_from_inner_products_agree_with_a_singular_value_decomposition():
    random = np.random.default_rng(6)
    train, other = random.normal(size=(12, 30)), random.normal(size=(5, 30))
    centre = train.mean(0)
    basis = np.linalg.svd(train - centre, full_matrices=False)[2][:4]
    for rows in (train, other):
        rest = rows - centre - (rows - centre) @ basis.T @ basis
        found = linear_reconstruction_mse(train @ train.T, rows @ train.T, (rows**2).sum(1), 4)
        assert found == pytest.approx((rest**2).sum(1).mean(), rel=1e-10)


def test_as_many_components_as_the_data_has_rebuild_it():
    train = np.random.default_rng(7).normal(size=(4, 30))
    assert linear_reconstruction_mse(train @ train.T, train @ train.T, (train**2).sum(1), 10) == pytest.approx(0, abs=1e-10)


def test_losses_of_a_single_epoch_are_seen_at_a_whole_number():
    for count in (1, 3):
        figure = loss_figure(range(count), [0.5] * count, [0.6] * count, best_epoch=0, baseline_mse=0.9, linear_mse=0.8)
        figure.canvas.draw()
        (axis,) = figure.axes
        assert all(line.get_marker() == "." and line.get_markersize() > 0 for line in axis.get_lines()[:2])
        assert len(axis.get_xticks()) and all(float(tick).is_integer() for tick in axis.get_xticks())
        plt.close(figure)
