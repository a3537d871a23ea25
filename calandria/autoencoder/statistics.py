"""What the numbers of a reconstruction mean: the paper's two tests, effect sizes, intervals from whole mini-volumes, baselines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from ..base.errors import ContractError


@dataclass(frozen=True)
class Moments:
    """Number, mean and population variance of some voxels."""

    n: int
    mean: float
    variance: float

    @property
    def std(self) -> float:
        """Standard deviation."""
        return float(np.sqrt(self.variance))


@dataclass(frozen=True)
class Interval:
    """A percentile bootstrap interval; low and high are None where too few mini-volumes are there to resample."""

    low: float | None
    high: float | None
    confidence: float
    n_resamples: int
    block_length: int


def pooled_moments(n_each: int, means: ArrayLike, stds: ArrayLike) -> Moments:
    """Return the moments of all voxels of mini-volumes with ``n_each`` voxels, from each one's mean and population std.

    >>> pooled_moments(2, [1.0, 3.0], [0.0, 0.0])
    Moments(n=4, mean=2.0, variance=1.0)
    """
    means, stds = np.asarray(means, np.float64), np.asarray(stds, np.float64)
    mean = float(means.mean())
    return Moments(n_each * means.size, mean, float((stds**2 + (means - mean) ** 2).mean()))


def welch_p_value(first: Moments, second: Moments) -> float | None:
    """Return the two-sided p-value of Welch's t-test of equal means, None where neither varies or one value is alone.

    It takes all values as independent. Neighbouring voxels are not, so over a mini-volume it is far too small.
    """
    if min(first.n, second.n) < 2 or first.variance + second.variance == 0:
        return None
    sample_std = [np.sqrt(part.variance * part.n / (part.n - 1)) for part in (first, second)]
    result = stats.ttest_ind_from_stats(first.mean, sample_std[0], first.n, second.mean, sample_std[1], second.n, equal_var=False)
    return float(result.pvalue)


def moments(values: ArrayLike) -> Moments:
    """Return the moments of some values."""
    values = np.asarray(values, np.float64)
    return Moments(values.size, float(values.mean()), float(values.var()))


def cohens_d(first: Moments, second: Moments) -> float | None:
    """Return the difference of means, second less first, in units of the pooled standard deviation; None where nothing varies.

    Convention: the pooled variance weighs both sample variances by their degrees of freedom. 0.2 is called small, 0.8 large.
    """
    freedom = first.n + second.n - 2
    pooled = (first.n * first.variance + second.n * second.variance) / freedom if freedom > 0 else 0.0
    return (second.mean - first.mean) / float(np.sqrt(pooled)) if pooled > 0 else None


def block_starts(n: int, block_length: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return ``n`` indices made of runs of ``block_length`` consecutive ones that begin at random (moving-block bootstrap).

    Source: Künsch, Annals of Statistics 1989, 17, 1217, doi 10.1214/aos/1176347265.
    """
    n_blocks = -(-n // block_length)
    starts = random.integers(0, n - block_length + 1, n_blocks)
    return (starts[:, None] + np.arange(block_length)).ravel()[:n]


def bootstrap_interval(
    parts: Sequence[ArrayLike],
    statistic: Callable[..., float],
    *,
    n_resamples: int,
    confidence: float,
    block_length: int,
    random: np.random.Generator,
) -> Interval:
    """Return the percentile interval of a statistic by resampling whole mini-volumes of each part.

    Parameters
    ----------
    parts
        For each part (e.g. training, validation) the numbers of its mini-volumes, first axis in the order of their depth.
    statistic
        Takes one resampled array per part.
    n_resamples, confidence
        Number of resamples; coverage, a fraction.
    block_length
        Mini-volumes that are drawn together, because they overlap: slices of a window over the stride, rounded up.
    random
        Generator of the draws.

    Notes
    -----
    Neighbouring blocks are taken as independent, so the interval is rather too narrow where structures are longer than a window.
    """
    arrays = [np.asarray(part, np.float64) for part in parts]
    if block_length < 1:
        raise ContractError(f"block length is {block_length}; expected 1 or more", hint="check the stride of the table")
    if min(len(array) for array in arrays) < 2 * block_length:
        return Interval(None, None, confidence, n_resamples, block_length)
    drawn = [statistic(*(array[block_starts(len(array), block_length, random)] for array in arrays)) for _ in range(n_resamples)]
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high), confidence, n_resamples, block_length)


def mean_predictor_mse(original: Moments, predicted_mean: float) -> float:
    """Return the mean squared error of predicting one number for every voxel.

    >>> mean_predictor_mse(Moments(10, 0.5, 0.25), 0.0)
    0.5
    """
    return original.variance + (original.mean - predicted_mean) ** 2


def r2(mse: float, baseline_mse: float) -> float | None:
    """Return 1 - mse / baseline_mse, the share of variance that is explained; None where there is no variance.

    >>> r2(0.25, 1.0)
    0.75
    """
    return 1.0 - mse / baseline_mse if baseline_mse > 0 else None


def linear_reconstruction_mse(
    train: NDArray[np.float64], cross: NDArray[np.float64], squares: ArrayLike, n_features: int
) -> float:
    """Return the mean squared error per mini-volume of principal components, summed over voxels.

    The linear counterpart of an auto-encoder: the same number of features, the best linear encoder and decoder of the
    training mini-volumes. It needs inner products only.

    Parameters
    ----------
    train
        Inner products of the training mini-volumes, (n_train, n_train).
    cross
        Inner products of other mini-volumes with those of training, (n_other, n_train).
    squares
        Inner product of each other mini-volume with itself, (n_other,).
    n_features
        Number of principal components; fewer are used where training has fewer.
    """
    centre = train.mean(axis=0)
    middle = centre.mean()
    centred = train - centre[None, :] - centre[:, None] + middle
    strength, vectors = np.linalg.eigh(centred)
    keep = np.argsort(strength)[::-1][:n_features]
    keep = keep[strength[keep] > 1e-9 * max(float(strength.max()), 1e-300)]
    towards_centre = cross.mean(axis=1)
    from_centre = cross - towards_centre[:, None] - centre[None, :] + middle
    coefficients = from_centre @ vectors[:, keep] / np.sqrt(strength[keep])
    distances = np.asarray(squares) - 2 * towards_centre + middle
    return float((distances - (coefficients**2).sum(axis=1)).mean())
