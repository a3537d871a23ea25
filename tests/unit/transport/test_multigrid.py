"""The preconditioner, seen as a matrix, and the copies of the kernels for each instruction set."""

import numpy as np
import pytest
from scipy.linalg import cholesky

from calandria.transport.blocks import Blocks
from calandria.transport.kernels import kernels
from calandria.transport.multigrid import Conductances, System
from calandria.transport.solver import tortuosity
from tests.helpers.reference_diffusion import reference_diffusivity


def matrices(phases, diffusivities, wraps):
    """Return the operator on odd voxels and the cycle, column by column."""
    blocks = Blocks.of(None, phases.shape, wraps)
    system, library = System(phases, Conductances(np.array(diffusivities)), blocks), kernels()
    r, p, q = (system.vector() for _ in range(3))

    def clear(values):
        r[...] = p[...] = q[...] = 0
        system.z[...] = 0
        r[entries] = values
        library.first_odd(system.grid, r.ctypes.data, system.z_odd.ctypes.data)

    entries = np.arange(0)
    system.boxed(r)[1:-1, 1:-1, 1 : system.half + 1] = 1
    library.first_odd(system.grid, r.ctypes.data, system.z_odd.ctypes.data)
    entries = np.flatnonzero(system.z_odd)
    operator, cycle = np.zeros((2, entries.size, entries.size))
    for column, unit in enumerate(np.eye(entries.size)):
        clear(unit)
        system.precondition(r)
        cycle[:, column] = system.z_odd[entries]
        clear(0)
        system.z_odd[entries] = unit
        system.exchange(system.z_odd)
        library.relax_even(system.grid, system.z_odd.ctypes.data, system.z_even.ctypes.data)
        system.exchange(system.z_even)
        library.turn(*(x if isinstance(x, int) else x.ctypes.data for x in (system.grid, system.z_odd, system.z_even, p, q)), 0.0)
        operator[:, column] = q[entries]
    return operator, cycle


def volume(kind):
    random = np.random.default_rng(8)
    if kind == "islands":
        return 1 + (random.random((9, 10, 8)) < 0.3).astype(np.uint8), [1e-6, 1.0]
    if kind == "checkerboard with good pairs across the sides":
        phases = (np.indices((8, 13, 8)).sum(0) % 2).astype(np.uint8)
        phases[random.random(phases.shape) < 0.2] = 2
        return np.concatenate([phases, phases], axis=1) + 1, [3e-6, 1.0, 1e-5]
    if kind == "narrow channel":
        return 1 + (np.random.default_rng(108).random((240, 1, 3)) < 0.7).astype(np.uint8), [1.0, 3e-3][::-1]
    if kind == "rods":
        phases = np.ones((8, 10, 10), np.uint8)
        phases[1:7, 3:5, 3] = phases[2, 1:9, 7] = phases[5, 5, 2:9] = 2
        return phases, [1e-5, 1.0]
    return np.ones((8, 8, 8), np.uint8), [1.0]


@pytest.mark.parametrize(
    "kind", ["islands", "checkerboard with good pairs across the sides", "rods", "narrow channel", "uniform"]
)
def test_cycle_is_symmetric_and_misses_no_mode(kind):
    phases, diffusivities = volume(kind)
    operator, cycle = matrices(phases, diffusivities, (False, phases.shape[1] > 1, False))
    assert np.abs(operator - operator.T).max() < 1e-6 * np.abs(operator).max()
    assert np.abs(cycle - cycle.T).max() < 1e-6 * np.abs(cycle).max()
    lower = cholesky(0.5 * (operator + operator.T), lower=True)
    eigenvalues = np.linalg.eigvalsh(lower.T @ cycle @ lower)
    assert eigenvalues[0] > 0.1  # the error estimate lives on this: no mode of the field is hidden from the residual
    assert eigenvalues[-1] < 2


def test_every_instruction_set_gives_the_same():
    labels = np.random.default_rng(9).choice([0, 1, 2], size=(11, 12, 19)).astype(np.uint8)
    found = {}
    try:
        for which in (1, 2, 3):  # plain, AVX2, AVX-512, as far as this processor has them
            if kernels().use_kernels(which):
                found[which] = tortuosity(labels, {0: 1.0, 1: 0.1}, sides="periodic").relative_diffusivity
    finally:
        kernels().use_kernels(0)
    assert 1 in found
    assert list(found.values()) == pytest.approx([found[1]] * len(found), rel=1e-6)


def test_more_conductances_than_four_bits_number():
    labels = np.random.default_rng(10).integers(0, 9, size=(9, 8, 11)).astype(np.uint8)
    diffusivities = {label: 1.0 / (1 + label) for label in range(8)}
    result = tortuosity(labels, diffusivities, sides="periodic", tolerance=1e-6)
    assert result.relative_diffusivity == pytest.approx(
        reference_diffusivity(labels, diffusivities, periodic=(True,) * 3), rel=1e-6
    )
