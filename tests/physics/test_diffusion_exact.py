"""The solver against values known by hand, bounds, symmetries and an independent direct solution."""

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from calandria.base.errors import ConvergenceError
from calandria.transport import conjugate_gradients
from calandria.transport.solver import tortuosity
from tests.helpers.reference_diffusion import reference_diffusivity

SHAPES = [(1, 1, 1), (1, 5, 2), (17, 1, 3), (7, 11, 13), (2, 2, 2), (16, 16, 16), (3, 1, 1), (31, 4, 9)]


@pytest.fixture(autouse=True)
def iterations_alone(monkeypatch):
    """Iterations must succeed by themselves here; what they leave to the direct solution is in test_diffusion_direct.py."""
    monkeypatch.setattr(conjugate_gradients, "is_small", lambda n_joined, extents: False)


def blobs(shape, seed=0, width=1.5, levels=(0.4,)):
    field = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), width, mode="wrap")
    return np.digitize(field, np.quantile(field, levels)).astype(np.uint8)


def solve(labels, diffusivities, axis="z", sides="no-flux", tolerance=1e-6):
    return tortuosity(labels, diffusivities, axis=axis, sides=sides, tolerance=tolerance)


@pytest.mark.parametrize(("shape", "axis", "sides"), list(itertools.product(SHAPES, "zyx", ("no-flux", "periodic"))))
def test_open_channel_has_tortuosity_one(shape, axis, sides):
    result = tortuosity(np.zeros(shape, np.uint8), {0: 1.0}, axis=axis, sides=sides)
    assert result.tortuosity_factor == pytest.approx(1, abs=1e-6)
    assert result.relative_diffusivity == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("axis", "zyx")
@pytest.mark.parametrize("ratio", [0.5, 0.05, 1e-4, 1e-6])
def test_layers_in_series_and_in_parallel(axis, ratio):
    labels = np.zeros((9, 10, 11), np.uint8)
    along = np.moveaxis(labels, "zyx".index(axis), 0)
    along[3:7] = 1
    share = 4 / along.shape[0]
    assert solve(labels, {0: 1.0, 1: ratio}, axis).relative_diffusivity == pytest.approx(
        1 / (1 - share + share / ratio), rel=1e-6
    )
    for other in set("zyx") - {axis}:
        parallel = solve(labels, {0: 1.0, 1: ratio}, other).relative_diffusivity
        assert parallel == pytest.approx(1 - share + share * ratio, rel=1e-6)


@pytest.mark.parametrize("shape", [(100, 1, 1), (200, 20, 20), (400, 4, 4), (1000, 4, 4)])
@pytest.mark.parametrize("ratio", [1e-2, 1e-4, 1e-6])
def test_many_layers(shape, ratio):
    layers = np.random.default_rng(1).random(shape[0]) < 0.5
    labels = np.broadcast_to(layers[:, None, None], shape).astype(np.uint8)
    expected = 1 / (1 - layers.mean() + layers.mean() / ratio)
    assert tortuosity(labels, {0: 1.0, 1: ratio}).relative_diffusivity == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("seed", range(12))
def test_narrow_channels(seed):
    random = np.random.default_rng(seed)
    shape = (int(random.integers(60, 500)), int(random.integers(1, 5)), int(random.integers(2, 5)))
    diffusivities = {0: 1.0, 1: float(10 ** random.uniform(-3.3, -1))}
    labels = (random.random(shape) < random.uniform(0.5, 0.9)).astype(np.uint8)
    expected = reference_diffusivity(labels, diffusivities)
    for tolerance in (1e-4, 1e-6):
        result = tortuosity(labels, diffusivities, tolerance=tolerance)
        assert result.relative_diffusivity == pytest.approx(expected, rel=tolerance)
        assert abs(result.relative_diffusivity / expected - 1) <= 3 * result.error_estimate


def test_straight_pore_reports_share_over_diffusivity():
    labels = np.ones((6, 5, 5), np.uint8)
    labels[:, 2, 1:3] = 0
    labels[3, 4, 4] = 0
    result = solve(labels, {0: 1.0})
    assert result.relative_diffusivity == pytest.approx(2 / 25, rel=1e-6)
    assert result.connected_fraction == pytest.approx(12 / 150)
    assert result.conducting_fraction == pytest.approx(13 / 150)
    assert result.tortuosity_factor == pytest.approx(13 / 12, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_wiener_and_hashin_shtrikman_bounds(seed):
    low, share = 0.05, 0.5
    labels = blobs((24, 24, 24), seed, levels=(share,))
    mean = np.mean([solve(labels, {0: 1.0, 1: low}, axis, "periodic").relative_diffusivity for axis in "zyx"])
    f = float((labels == 0).mean())
    wiener = 1 / (f + (1 - f) / low), f + (1 - f) * low
    hashin = low + f / (1 / (1 - low) + (1 - f) / (3 * low)), 1 + (1 - f) / (1 / (low - 1) + f / 3)
    assert wiener[0] < hashin[0] < mean < hashin[1] < wiener[1]


def test_refining_the_voxels_converges():
    coarse = blobs((6, 6, 6), 4, width=1.0, levels=(0.5,))
    values = []
    for factor in (1, 2, 4, 8):
        labels = coarse.repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)
        values.append(solve(labels, {0: 1.0, 1: 0.1}).relative_diffusivity)
    steps = np.abs(np.diff(values))
    orders = np.log2(steps[:-1] / steps[1:])
    assert (orders > 0.7).all()  # edges and corners where phases meet keep the order near 1, below the 2 of smooth solutions
    assert (orders < 2.3).all()


@pytest.mark.parametrize("sides", ["no-flux", "periodic"])
def test_symmetries(sides):
    labels, d = blobs((11, 14, 9), 5, levels=(0.35, 0.6)), {0: 1.0, 1: 0.1}
    value = solve(labels, d, "z", sides).relative_diffusivity
    assert solve(labels[::-1], d, "z", sides).relative_diffusivity == pytest.approx(value, rel=1e-6)
    assert solve(labels[:, ::-1], d, "z", sides).relative_diffusivity == pytest.approx(value, rel=1e-6)
    assert solve(np.ascontiguousarray(labels.transpose(1, 0, 2)), d, "y", sides).relative_diffusivity == pytest.approx(
        value, rel=1e-6
    )
    assert solve(np.ascontiguousarray(labels.transpose(2, 1, 0)), d, "x", sides).relative_diffusivity == pytest.approx(
        value, rel=1e-6
    )
    shifted = np.roll(labels, (3, 4), (1, 2))
    again = solve(shifted, d, "z", sides).relative_diffusivity
    assert (again == pytest.approx(value, rel=1e-6)) == (sides == "periodic")


def test_energy_and_fluxes_agree():
    result = solve(blobs((20, 18, 16), 6, levels=(0.45,)), {0: 1.0})
    assert result.flux_in == pytest.approx(result.energy, rel=2e-4)
    assert result.flux_out == pytest.approx(result.energy, rel=2e-4)
    assert result.flux_spread < 2e-3
    assert result.relative_diffusivity == result.energy


@st.composite
def volumes(draw):
    """Noise, blobs, islands of a good conductor, checkerboards and three phases, at contrasts down to 1e-6."""
    shape = tuple(draw(st.integers(1, 13)) for _ in range(3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    poor = 10.0 ** -draw(st.floats(0, 6))
    kind = draw(st.sampled_from(["noise", "blobs", "islands", "checkerboard", "three", "threshold"]))
    field = rng.random(shape)
    if kind in ("blobs", "islands", "three"):
        field = gaussian_filter(field, draw(st.floats(0.5, 2)), mode="wrap")
    if kind == "checkerboard":
        labels = (np.indices(shape) // draw(st.integers(1, 3))).sum(axis=0) % 2
        return labels.astype(np.uint8), {0: 1.0, 1: poor}
    if kind == "three":
        labels = np.digitize(field, np.quantile(field, [0.3, 0.7]))
        return labels.astype(np.uint8), {0: 1.0, 1: poor, 2: 10.0 ** -draw(st.floats(0, 6))}
    share = {"islands": 0.7, "threshold": 0.69}.get(kind) or draw(st.floats(0.1, 0.8))
    labels = (field < np.quantile(field, share)).astype(np.uint8)
    return labels, {0: 1.0, 1: poor} if kind in ("islands", "noise") else {0: 1.0}


@given(volumes(), st.sampled_from("zyx"), st.tuples(st.booleans(), st.booleans(), st.booleans()), st.sampled_from([1e-4, 1e-6]))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_random_volumes_against_a_direct_solution(volume, axis, periodic, tolerance):
    labels, diffusivities = volume
    sides = {name: "periodic" if wraps else "no-flux" for name, wraps in zip("zyx", periodic, strict=True)}
    expected = reference_diffusivity(labels, diffusivities, axis, periodic)
    result = tortuosity(labels, diffusivities, axis=axis, sides=sides, tolerance=tolerance)
    assert result.percolates == (expected > 0)
    error = abs(result.relative_diffusivity / expected - 1) if expected else result.relative_diffusivity
    assert error <= tolerance
    assert error <= 3 * result.error_estimate or not result.percolates


@pytest.mark.parametrize("poor", [1e-4, 1e-6])
def test_many_islands_in_a_poor_matrix(poor):
    labels = blobs((26, 26, 26), 7, width=1.2, levels=(0.82,)) ^ 1
    result = tortuosity(labels, {0: 1.0, 1: poor})
    assert result.relative_diffusivity == pytest.approx(reference_diffusivity(labels, {0: 1.0, 1: poor}), rel=1e-4)
    assert result.relative_diffusivity < 10 * poor


@pytest.mark.parametrize(("axis", "sides"), [("z", "no-flux"), ("y", "periodic")])
@pytest.mark.parametrize("poor", [0.0, 0.05])
def test_too_few_iterations_are_an_error_with_proven_bounds(axis, sides, poor):
    labels, diffusivities = blobs((20, 21, 17), 8), {0: 0.5, 1: poor}
    with pytest.raises(ConvergenceError, match=r"after 2 iterations .* at least .* at most") as caught:
        tortuosity(labels, diffusivities, axis=axis, sides=sides, tolerance=1e-6, max_iterations=2)
    lower, upper = pickle.loads(pickle.dumps(caught.value)).bounds
    exact = reference_diffusivity(labels, diffusivities, axis=axis, periodic=(sides == "periodic",) * 3)
    assert lower <= exact <= upper < 1.1 * exact
    along = np.moveaxis(np.where(labels, poor, 0.5), "zyx".index(axis), 0)
    with np.errstate(divide="ignore"):
        assert lower == pytest.approx((1 / (1 / along).mean(axis=0)).mean(), abs=1e-12)


def test_bounds_hold_where_the_exact_value_is_a_bound():
    labels = np.zeros((24, 24, 24), np.uint8)
    labels[:, 5] = 1  # columns exchange next to nothing, so that both bounds are exact but for what float32 makes of 0.50000002
    labels[12, 12, 12] = 2
    with pytest.raises(ConvergenceError) as caught:
        tortuosity(labels, {0: 0.50000002, 1: 1.0, 2: 0.50000002 * 1.01}, tolerance=1e-6, max_iterations=0)
    lower, upper = caught.value.bounds
    assert lower <= upper < (1 + 1e-5) * lower


def test_layers_of_extreme_contrast_in_a_long_thin_volume():
    labels = np.zeros((2000, 3, 3), np.uint8)
    labels[np.random.default_rng(1).random(2000) < 0.5] = 1
    share = (labels == 1).mean()
    assert tortuosity(labels, {0: 1.0, 1: 1e-6}).relative_diffusivity == pytest.approx(1 / (1 - share + share * 1e6), rel=1e-4)


@pytest.mark.slow
def test_taufactor_agrees():
    taufactor = pytest.importorskip("taufactor")
    labels = blobs((24, 24, 24), 9, width=2.0, levels=(0.5,))
    for solver, sides in ((taufactor.Solver, "no-flux"), (taufactor.PeriodicSolver, "periodic")):
        peer = solver((labels == 0).astype(np.uint8), device="cpu")
        peer.solve(verbose=False, conv_crit=1e-5)
        assert solve(labels, {0: 1.0}, "z", sides).tortuosity_factor == pytest.approx(float(np.ravel(peer.tau)[0]), rel=5e-4)
