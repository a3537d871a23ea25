"""Conjugate gradients for one direction of a volume, inside a refinement whose residual is taken in float64."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..base.errors import ConvergenceError
from .direct import is_small, solve_directly
from .kernels import kernels
from .multigrid import System
from .volume import Problem

SAFETY = 2.0
"""Factor on the estimated error, for the smallest eigenvalue that conjugate gradients have not quite found yet."""
USUAL = 0.5
"""Smallest eigenvalue of the preconditioned operator that is taken for granted, whatever was seen."""
SUSPICIOUS = 0.3
"""Below this one a smallest eigenvalue rarely comes alone, and the estimate grows with its square."""
ROUNDING = 1.2e-7
"""Relative error of D_eff from conductances held in float32: it cannot exceed that of any one of them."""
BALANCE = 4.0
"""Largest flux_spread over the square root of the tolerance: fluxes are first order in the error of the field, D_eff second."""
FEWEST = {3: 3, 16: 5, 65536: 10}
"""Iterations before an estimate is believed, by how many kinds of conductances there are at most (0 and the plates' among them): more
phases can hide more modes."""
LARGE = 2**18
"""Voxels of a block from which the memory that the set-up freed is given back before vectors are made: a tenth of all there is."""
FALL = 1e-8
"""Fall of r . M r after which the residual is taken anew: float32 vectors of a start far above the end would lose what is left."""


class Solution:
    """Concentrations of one direction, and what is known about their error.

    Parameters
    ----------
    problem
        The direction of a volume; something must join its ends.
    tolerance
        Largest relative error of D_eff.
    max_iterations
        Iterations after which a small volume is solved directly, and a larger one ends in ConvergenceError.
    lower_bound
        Tells a proven lower bound of D_eff / D_0; asked only for a ConvergenceError.
    keep_phases
        Whether the problem's phases are needed afterwards; else they are given up as soon as may be.
    """

    def __init__(
        self,
        problem: Problem,
        tolerance: float,
        max_iterations: int,
        *,
        lower_bound: Callable[[], float],
        keep_phases: bool = False,
    ) -> None:
        self.problem, self.tolerance, self.max_iterations, self.lower_bound = problem, tolerance, max_iterations, lower_bound
        self.system = system = System(problem.phases, problem.conductances, problem.blocks)
        self.is_small = is_small(problem.n_connected, problem.blocks.extents)
        if not keep_phases and not self.is_small:
            problem.phases = np.empty((0, 0, 0), np.uint8)
        if math.prod(system.shape) >= LARGE:
            kernels().memory_trim()
        self.iterations, self.smallest = 0, math.inf
        self.fewest = next(many for kinds, many in FEWEST.items() if len(problem.conductances.table) <= kinds)
        self.lowest, self.flux_range = math.inf, (0.0, 0.0)
        self.length, self.first = problem.blocks.extents[0], problem.blocks.start[0]
        self.c = system.vector(np.float64)
        profile = (np.arange(self.first - 1, problem.blocks.stop[0] + 1) + 0.5) / self.length
        system.boxed(self.c)[...] = profile[:, None, None]
        self._plates(self.c)
        self._start_from_planes(profile)
        self.r, self.p, self.q = (system.vector() for _ in range(3))
        self.scale = 1.0

    def _start_from_planes(self, profile: NDArray[np.float64]) -> None:
        """Set the concentrations to those of planes in series, each as good as all of its faces: exact for layers."""
        system, c_even = self.system, self.system.z.view(np.float64)
        boxed = system.boxed(c_even)
        boxed[...] = profile[:, None, None]
        self._plates(c_even)
        flux = self._flux_of(c_even)[1]
        step = np.full(self.length + 1, 1 / self.length)
        step[0] = step[-1] = 0.5 / self.length
        resistance = step / flux
        whole = np.cumsum(resistance / resistance.sum())
        inner = np.concatenate([[0.0], whole])[self.first : self.first + system.shape[0] + 2]
        system.boxed(self.c)[...] = inner[:, None, None]
        self._plates(self.c)
        system.z[...] = 0

    def _flux_of(self, c_even: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return the dissipated energy and the flux through each plane of faces, of all ranks."""
        flux, whole = np.zeros(self.system.shape[0] + 1), np.zeros(self.length + 1)
        energy = kernels().energy_and_flux(self.system.grid, self.c.ctypes.data, c_even.ctypes.data, flux.ctypes.data)
        whole[self.first : self.first + len(flux)] += flux
        self.system.blocks.total_in_place(whole)
        return self.system.blocks.total(energy)[0], whole

    def _plates(self, vector: NDArray[np.float64]) -> None:
        boxed = self.system.boxed(vector)
        if self.system.has_low:
            boxed[0] = 0
        if self.system.has_high:
            boxed[-1] = 1

    def even(self) -> NDArray[np.float64]:
        """Return the even concentrations in balance with the odd ones; they take the place of z until it is made again."""
        system, c_even = self.system, self.system.z.view(np.float64)
        system.exchange(self.c)
        kernels().balance_even(system.grid, self.c.ctypes.data, c_even.ctypes.data)
        self._plates(c_even)
        system.exchange(c_even)
        return c_even

    def _assess(self) -> None:
        """Recompute residual, energy and fluxes from the concentrations, and z = r over the diagonal."""
        system, library = self.system, kernels()
        c_even = self.even()
        self.energy, self.flux = self._flux_of(c_even)
        if self.energy < self.lowest:
            self.lowest, self.flux_range = self.energy, (float(self.flux.min()), float(self.flux.max()))
        self.flux_spread = float(np.ptp(self.flux)) / self.energy
        squares = system.blocks.total(
            library.residual_odd(system.grid, self.c.ctypes.data, c_even.ctypes.data, self.scale, self.r.ctypes.data)
        )[0]
        self.relative_residual = math.sqrt(squares) * self.length / self.energy
        system.clear_ghosts()
        library.first_odd(system.grid, self.r.ctypes.data, system.z_odd.ctypes.data)

    def _error(self, gamma: float, energy: float) -> float:
        """Return the estimated relative error of D_eff for r . M r = gamma."""
        smallest = min(self.smallest, USUAL) if self.iterations else 0.1
        return SAFETY * max(1.0, SUSPICIOUS / smallest) * gamma / (self.scale**2 * smallest * max(energy, 1e-300))

    def solve(self) -> None:
        """Iterate until the estimated error and the balance of the fluxes both satisfy the tolerance."""
        target, stalled, before = self.tolerance, 0, math.inf
        while True:
            self._assess()
            gamma = self.system.precondition(self.r)
            error = self._error(gamma, self.energy)
            self.error_estimate = error + ROUNDING
            balanced = self.flux_spread <= BALANCE * math.sqrt(self.tolerance)
            believed = self.iterations > 0 or error <= 1e-2 * self.tolerance
            if error >= 0 and ((self.error_estimate <= self.tolerance and balanced and believed) or error < 1e-14):
                return
            stalled = stalled + 1 if error > 0.5 * before else 0
            before = min(error, before)
            if self.iterations >= self.max_iterations or stalled > 3 or not 0 <= error < math.inf:
                if not (self.is_small and self._solve_directly()):
                    self._give_up()
                return
            if error <= self.tolerance:
                target *= 0.1
            self._iterate(gamma, target)

    def _solve_directly(self) -> bool:
        """Set the concentrations by a direct solution, and return whether they satisfy the tolerance."""
        system, solved = self.system, 1.0
        try:
            inner, error = solve_directly(self.problem.phases, self.problem.conductances, self.problem.blocks)
        except (RuntimeError, MemoryError):
            solved = 0.0
        if system.blocks.total(solved)[0] < system.blocks.size:
            return False
        for entries, place in system.matching(self.c, 1, np.pad(inner, 1)):
            entries[...] = place
        self._plates(self.c)
        self._assess()
        self.error_estimate = SAFETY * error + ROUNDING
        return self.error_estimate <= self.tolerance and self.flux_spread <= BALANCE * math.sqrt(self.tolerance)

    def _give_up(self) -> None:
        to = self.problem.to_diffusivity
        bounds = (self.lower_bound() * (1 - 1e-12), self.lowest * to * (1 + ROUNDING))
        low, high = (flux * to for flux in self.flux_range)
        raise ConvergenceError(
            f"after {self.iterations} iterations D_eff / D_0 has an estimated relative error of {self.error_estimate:.1e}, asked for "
            f"{self.tolerance:.1e}; it is proven to be at least {bounds[0]:.9g} and at most {bounds[1]:.9g}; the fluxes of the best "
            f"field lie between {low:.9g} and {high:.9g}",
            hint="allow more iterations or a larger tolerance; phases of extreme contrast can be set to 0",
            bounds=bounds,
        )

    def _iterate(self, gamma: float, target: float) -> None:
        """Improve the concentrations; r and z hold the scaled residual and its cycle."""
        library, system, grid = kernels(), self.system, self.system.grid
        odd, even = system.z_odd.ctypes.data, system.z_even.ctypes.data
        c, r, p, q = (vector.ctypes.data for vector in (self.c, self.r, self.p, self.q))
        if self.iterations:
            self.p[...] = 0
            self.q[...] = 0
        energy, gamma_first, beta, alpha_before = self.energy, gamma, 0.0, 0.0
        diagonal: list[float] = []
        beside: list[float] = []
        while self.iterations < self.max_iterations:
            curvature = system.blocks.total(library.turn(grid, odd, even, p, q, beta))[0]
            if not (curvature > 0 and gamma > 0):
                break
            alpha = gamma / curvature
            if not 0 < alpha < math.inf:
                break
            library.advance(grid, alpha, 1 / self.scale, p, q, c, r, odd)
            self.iterations += 1
            energy -= alpha * gamma / self.scale**2
            diagonal.append(1 / alpha + (beta / alpha_before if alpha_before else 0.0))
            following = system.precondition(self.r)
            self.smallest = min(self.smallest, _smallest_eigenvalue(diagonal, beside))
            enough = len(diagonal) >= self.fewest and self._error(following, energy) <= 0.7 * target
            if enough or not following > FALL * gamma_first:
                gamma = following
                break
            beta, alpha_before, gamma = following / gamma, alpha, following
            beside.append(math.sqrt(beta) / alpha)
        if 0 < gamma < gamma_first:
            self.scale *= math.sqrt(gamma_first / gamma)


def _smallest_eigenvalue(diagonal: list[float], beside: list[float]) -> float:
    """Return the smallest eigenvalue of the Lanczos matrix: that of the preconditioned operator, as far as it was seen."""
    matrix = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    return max(float(np.linalg.eigvalsh(matrix)[0]), 1e-12)
