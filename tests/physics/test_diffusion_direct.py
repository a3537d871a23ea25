"""Small volumes in which iterations stall are solved directly, to the same tolerance, on any number of ranks."""

import json

import numpy as np
import pytest

from calandria.base.errors import ConvergenceError
from calandria.transport import conjugate_gradients
from calandria.transport.direct import is_small
from calandria.transport.solver import directions, tortuosity
from tests.helpers.ranks import start_ranks
from tests.helpers.reference_diffusion import reference_diffusivity


def channel(seed):
    """Return a long, narrow volume of random phases and their diffusivities, down to 1e-6."""
    rng = np.random.default_rng(seed)
    phases = int(rng.integers(2, 5))
    shape = (int(rng.choice([200, 600, 1000])), int(rng.integers(1, 5)), int(rng.integers(1, 5)))
    labels = rng.integers(0, phases, shape).astype(np.uint8)
    return labels, {0: 1.0, **{phase: float(10 ** -rng.uniform(0, 6)) for phase in range(1, phases)}}


@pytest.mark.parametrize("seed", range(40))
def test_long_narrow_volumes_of_extreme_contrast(seed):
    labels, diffusivities = channel(seed)
    result = tortuosity(labels, diffusivities, tolerance=1e-6)
    assert result.relative_diffusivity == pytest.approx(reference_diffusivity(labels, diffusivities), rel=1e-6)
    assert result.error_estimate <= 1e-6 and result.flux_spread <= 4e-3


def test_iterations_alone_stall_in_some_of_them(monkeypatch):
    monkeypatch.setattr(conjugate_gradients, "is_small", lambda n_joined, extents: False)
    stalled = 0
    for seed in range(40):
        try:
            tortuosity(*channel(seed), tolerance=1e-6)
        except ConvergenceError:
            stalled += 1
    assert stalled >= 2, "else the direct solution would not be tested"


@pytest.mark.parametrize("shape", [(7, 11, 13), (16, 9, 4), (1, 6, 5), (12, 1, 1)])
@pytest.mark.parametrize("sides", ["no-flux", "periodic"])
@pytest.mark.parametrize("diffusivities", [{0: 1.0}, {0: 1.0, 1: 0.05, 2: 1e-4}])
def test_any_shape_axis_and_sides_without_iterations(shape, sides, diffusivities):
    labels = np.random.default_rng(4).choice(3, shape, p=[0.6, 0.2, 0.2]).astype(np.uint8)
    for axis, result in directions(labels, diffusivities, sides=sides, tolerance=1e-6, max_iterations=0).items():
        expected = reference_diffusivity(labels, diffusivities, axis, (sides == "periodic",) * 3)
        assert result.relative_diffusivity == pytest.approx(expected, rel=1e-6)
        assert result.iterations == 0 and result.percolates == (expected > 0)


def test_its_field_is_that_of_iterations():
    labels = np.random.default_rng(5).choice(3, (14, 10, 9), p=[0.6, 0.2, 0.2]).astype(np.uint8)
    settings = {"diffusivities": {0: 1.0, 1: 0.05}, "axes": ("y",), "sides": "periodic", "tolerance": 1e-6, "fields": True}
    direct, iterated = (directions(labels, **settings, max_iterations=many)["y"].field for many in (0, 500))
    assert np.allclose(direct.concentration, iterated.concentration, atol=1e-3, equal_nan=True)
    assert np.allclose(direct.flux, iterated.flux, atol=2e-3)
    assert np.allclose(direct.profile, iterated.profile, atol=1e-3)


def test_a_volume_that_is_not_small_ends_in_the_error():
    assert is_small(30**3, (30, 30, 30)) and is_small(2000 * 16, (4, 2000, 4)) and not is_small(40**3, (40, 40, 40))
    labels = np.random.default_rng(6).choice(2, (40, 40, 40), p=[0.8, 0.2]).astype(np.uint8)
    with pytest.raises(ConvergenceError, match="after 1 iterations"):
        tortuosity(labels, {0: 1.0}, tolerance=1e-6, max_iterations=1)


PROGRAM = """
import json
import numpy as np
from mpi4py import MPI
from calandria.transport.solver import tortuosity
labels = np.load("labels.npy", mmap_mode="r")
found = [
    tortuosity(labels, {0: 1.0, 1: 0.05, 2: 1e-6}, axis=axis, sides=sides, max_iterations=0, communicator=MPI.COMM_WORLD)
    for axis in "zyx" for sides in ("no-flux", "periodic")
]
if MPI.COMM_WORLD.rank == 0:
    print(json.dumps([[result.relative_diffusivity, result.ranks] for result in found]))
"""


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_agree(tmp_path, ranks):
    labels = np.random.default_rng(7).choice(3, (23, 12, 13), p=[0.5, 0.3, 0.2]).astype(np.uint8)
    np.save(tmp_path / "labels.npy", labels)
    done = start_ranks(ranks, ["-c", PROGRAM], tmp_path)
    assert done.returncode == 0, done.stderr
    cases = [(axis, periodic) for axis in "zyx" for periodic in (False, True)]
    for (value, parts), (axis, periodic) in zip(json.loads(done.stdout), cases, strict=True):
        assert value == pytest.approx(reference_diffusivity(labels, {0: 1.0, 1: 0.05, 2: 1e-6}, axis, (periodic,) * 3), rel=1e-6)
        assert parts == ranks
