"""Effective diffusivity of labelled voxels, with the evidence for it."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.errors import ContractError, ConvergenceError, SettingsError, nearest_name
from ..common.volumes import occupied_slices
from .kernels import kernels
from .multigrid import System
from .percolation import keep_connected
from .ranks import Slab, together

AXIS_NAMES = ("z", "y", "x")
SIDES = ("no-flux", "periodic")
SAFETY = 2.0
"""Factor on the estimated error, for the smallest eigenvalue that conjugate gradients have not quite found yet."""


ROUNDING = 1.2e-7
"""Relative error of D_eff from conductances held in float32: it cannot exceed that of any one of them."""


@dataclass(frozen=True)
class TransportResult:
    """Effective diffusivity along one axis, and its evidence.

    Parameters
    ----------
    relative_diffusivity
        D_eff / D_0 of the whole box; 0 when nothing joins the ends.
    tortuosity_factor
        conducting_fraction / relative_diffusivity; None when nothing joins the ends.
    conducting_fraction, connected_fraction
        Share of the box's voxels that conduct, and that are joined to both ends.
    percolates
        Whether conducting voxels join the ends.
    iterations
        Conjugate-gradient iterations.
    relative_residual
        2-norm of the residual recomputed in double precision at the end, over that of the right-hand side.
    flux_in, flux_out, energy
        The flux through the first and last end plate and the dissipated energy, each scaled to be D_eff / D_0;
        the energy is the reported value, and never below the exact one.
    flux_spread
        Largest less smallest flux through the planes of faces along the axis, over the energy.
    error_estimate
        Estimated relative error of relative_diffusivity.
    wall_s, ranks
        Wall time of this call, and MPI ranks that took part.
    axis, sides, shape, diffusivities, tolerance
        What was asked for; shape is that of the box (z, y, x).
    """

    relative_diffusivity: float
    tortuosity_factor: float | None
    conducting_fraction: float
    connected_fraction: float
    percolates: bool
    iterations: int
    relative_residual: float
    flux_in: float
    flux_out: float
    energy: float
    flux_spread: float
    error_estimate: float
    wall_s: float
    ranks: int
    axis: str
    sides: Mapping[str, str]
    shape: tuple[int, int, int]
    diffusivities: Mapping[int, float]
    tolerance: float

    def record(self) -> dict[str, Any]:
        """Return the fields as plain values for a JSON record or a table row."""
        plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in vars(self).items()}
        return {**plain, "shape": list(self.shape), "diffusivities": {str(k): v for k, v in self.diffusivities.items()}}


def electrode(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the slices along z that the electrode fills: from the collector to the last slice of which less than half is void.

    Transport through the thickness is taken between the collector and this surface; for the lateral axes the slices above it
    are no part of the cross-section either. Void left below the surface does not conduct and stays in the box.
    A frame without such a slice has no surface and is returned whole, so that an empty one ends as blocked.

    >>> electrode(np.array([[[0, 2]], [[4, 4]]], np.uint8)).shape
    (1, 1, 2)
    """
    filled = occupied_slices(labels)
    return labels[filled] if filled.stop else labels


def tortuosity(
    labels: NDArray[np.uint8] | Any,
    diffusivities: Mapping[int, float],
    *,
    axis: str = "z",
    sides: str | Mapping[str, str] = "no-flux",
    tolerance: float = 1e-4,
    max_iterations: int = 500,
    communicator: Any = None,
) -> TransportResult:
    """Solve steady diffusion along ``axis`` through labelled cubic voxels and return D_eff / D_0 and the tortuosity factor.

    Cell-centred 7-point finite volumes; the face between two voxels conducts with the harmonic mean of their diffusivities.
    Concentrations are 0 and 1 on the outer faces of the first and last slice along ``axis``, half a voxel from their centres, so
    that an open channel has a tortuosity factor of exactly 1 on any grid.

    Parameters
    ----------
    labels
        Integer labels (z, y, x) from 0 to 255: an array, or anything that slices like one (a zarr array). Each rank reads only
        its slab ``labels[start:stop]``.
    diffusivities
        Label to diffusivity over D_0, the bulk diffusivity; labels that are not named do not conduct.
    axis
        Direction of transport.
    sides
        ``"no-flux"`` or ``"periodic"``, for both lateral axes or per axis name; of ``axis`` itself it has no meaning.
    tolerance
        Largest relative error of D_eff that is accepted (estimated, see docs/transport.md).
    max_iterations
        Iterations after which ConvergenceError is raised.
    communicator
        An mpi4py communicator whose ranks all call this function with the same arguments; None for one rank.

    Returns
    -------
    TransportResult
        A blocked volume is a result: ``percolates`` False, ``relative_diffusivity`` 0, ``tortuosity_factor`` None.

    Raises
    ------
    ContractError
        The labels are no integer volume (z, y, x).
    SettingsError
        A diffusivity, axis, side or tolerance is out of range, or no diffusivity is above 0.
    ConvergenceError
        The tolerance was not met; the message holds what is known.

    Examples
    --------
    >>> result = tortuosity(np.zeros((4, 3, 5), np.uint8), {0: 1.0})
    >>> round(result.tortuosity_factor, 6)
    1.0
    """
    began = time.perf_counter()
    direction, table, wraps = _checked(labels, diffusivities, axis, sides, tolerance)
    shape = tuple(int(n) for n in labels.shape)
    slab = Slab.of(communicator, shape[0], wraps)
    part = together(communicator, lambda: _read(labels, slab))
    scale = float(table.max())
    diffusivity = (table / scale).astype(np.float32)[part]
    conducts = (diffusivity > 0).astype(np.uint8)
    n_conducting = int(slab.total(float(conducts.sum(dtype=np.int64)))[0])
    n_connected = keep_connected(conducts, slab, direction)
    asked = {
        "conducting_fraction": n_conducting / math.prod(shape),
        "connected_fraction": n_connected / math.prod(shape),
        "ranks": slab.size,
        "axis": axis,
        "sides": MappingProxyType({AXIS_NAMES[a]: SIDES[wrap] for a, wrap in enumerate(_asked(sides, axis)) if a != direction}),
        "shape": shape,
        "diffusivities": MappingProxyType({int(k): float(v) for k, v in sorted(diffusivities.items())}),
        "tolerance": tolerance,
    }
    if not n_connected:
        nothing = dict.fromkeys(("relative_residual", "flux_in", "flux_out", "energy", "flux_spread", "error_estimate"), 0.0)
        return TransportResult(0.0, None, percolates=False, iterations=0, **nothing, wall_s=time.perf_counter() - began, **asked)
    diffusivity *= conducts
    del conducts, part
    to_diffusivity = scale * shape[direction] ** 2 / math.prod(shape)
    solution = _Solution(System(diffusivity, slab, direction), tolerance, max_iterations, to_diffusivity)
    del diffusivity
    solution.solve()
    value = solution.energy * to_diffusivity
    return TransportResult(
        value,
        asked["conducting_fraction"] / value,
        percolates=True,
        iterations=solution.iterations,
        relative_residual=solution.relative_residual,
        flux_in=float(solution.flux[0]) * to_diffusivity,
        flux_out=float(solution.flux[-1]) * to_diffusivity,
        energy=value,
        flux_spread=solution.flux_spread,
        error_estimate=solution.error_estimate,
        wall_s=time.perf_counter() - began,
        **asked,
    )


def _asked(sides: str | Mapping[str, str], axis: str) -> list[bool]:
    """Return per axis (z, y, x) whether periodic sides were asked for."""
    per_axis = sides if isinstance(sides, Mapping) else dict.fromkeys(AXIS_NAMES, sides)
    for name, side in per_axis.items():
        if name not in AXIS_NAMES:
            raise SettingsError(f"sides name the axis {name!r}", hint=nearest_name(str(name), AXIS_NAMES))
        if side not in SIDES:
            raise SettingsError(f"sides of axis {name} are {side!r}", hint=nearest_name(str(side), SIDES))
    return [name != axis and per_axis.get(name, "no-flux") == "periodic" for name in AXIS_NAMES]


def _checked(
    labels: Any, diffusivities: Mapping[int, float], axis: str, sides: str | Mapping[str, str], tolerance: float
) -> tuple[int, NDArray[np.float64], tuple[bool, bool, bool]]:
    if len(labels.shape) != 3 or 0 in labels.shape:
        raise ContractError(
            f"labels have the shape {tuple(labels.shape)}; expected three axes (z, y, x), none empty",
            hint="stack 2-D slices into a volume, and take one frame of a series",
        )
    if not np.issubdtype(labels.dtype, np.integer) and labels.dtype != np.bool_:
        raise ContractError(
            f"labels are {labels.dtype}; expected integers from 0 to 255", hint="segment grey values into phases first"
        )
    if axis not in AXIS_NAMES:
        raise SettingsError(f"axis {axis!r} is unknown", hint=nearest_name(str(axis), AXIS_NAMES))
    table = np.zeros(256)
    for label, value in diffusivities.items():
        if int(label) != label or not 0 <= label <= 255:
            raise SettingsError(f"diffusivities name the label {label!r}; expected 0 to 255", hint="name labels of the volume")
        if not math.isfinite(value) or value < 0:
            raise SettingsError(
                f"the diffusivity of label {label} is {value}; expected a finite number, at least 0",
                hint="give it relative to the bulk diffusivity, e.g. 1 for pores",
            )
        table[int(label)] = value
    if not table.any():
        raise SettingsError("no label conducts: every diffusivity is 0", hint="name a conducting label, e.g. 0=1")
    if (table[table > 0] < 1e-12 * table.max()).any():
        raise SettingsError(
            f"diffusivities range from {table[table > 0].min():g} to {table.max():g}; expected ratios down to 1e-12",
            hint="set the diffusivity of the poor conductor to 0",
        )
    if not 1e-6 <= tolerance <= 0.1:
        raise SettingsError(f"tolerance is {tolerance}; expected 1e-6 to 0.1", hint="1e-4 suits most volumes")
    wraps = [wrap and n > 1 for wrap, n in zip(_asked(sides, axis), labels.shape, strict=True)]
    return AXIS_NAMES.index(axis), table, (wraps[0], wraps[1], wraps[2])


def _read(labels: Any, slab: Slab) -> NDArray:
    part = np.asarray(labels[slab.start : slab.stop])
    if part.dtype == np.bool_:
        return part.view(np.uint8)
    if part.dtype != np.uint8 and (part.min() < 0 or part.max() > 255):
        raise ContractError(
            f"labels range from {part.min()} to {part.max()}; expected 0 to 255", hint="segment grey values into phases first"
        )
    return part


class _Solution:
    """Conjugate gradients in float32 for corrections, inside a refinement whose residual is taken in float64."""

    def __init__(self, system: System, tolerance: float, max_iterations: int, to_diffusivity: float) -> None:
        self.system, self.tolerance, self.max_iterations = system, tolerance, max_iterations
        self.to_diffusivity = to_diffusivity
        self.iterations, self.smallest = 0, math.inf
        axis, slab = system.axis, system.slab
        self.c = system.vector(np.float64)
        length = system.slices if axis == 0 else system.extent[axis]
        first = slab.start if axis == 0 else 0
        profile = (np.arange(first - 1, first + system.extent[axis] + 1) + 0.5) / length
        if system.has_low:
            profile[0] = 0.0
        if system.has_high:
            profile[-1] = 1.0
        self.c += profile.reshape([-1 if a == axis else 1 for a in range(3)])
        self.length, self.first = length, first
        self.r, self.z, self.p, self.q, self.e = (system.vector() for _ in range(5))
        self.norm_b = math.sqrt(slab.total(self._squared_plate())[0])

    def _squared_plate(self) -> float:
        if not self.system.has_high:
            return 0.0
        face = np.moveaxis(self.system.faces[self.system.axis], self.system.axis, 0)[-2, 1:-1, 1:-1]
        return float(np.sum(face.astype(np.float64) ** 2))

    def _assess(self) -> float:
        """Recompute residual, energy and fluxes from the concentrations; return the residual's scale to 1."""
        system, sums = self.system, np.zeros(2)
        system.slab.exchange(self.c)
        flux = np.zeros(system.extent[system.axis] + 1)
        energy = kernels().energy_and_flux(system.grid, self.c, system.axis, system.has_high, flux)
        whole = np.zeros(self.length + 1)
        whole[self.first : self.first + len(flux)] += flux
        system.slab.total_in_place(whole)
        kernels().true_residual(system.grid, self.c, self.r, 1.0, sums)
        self.energy, squares = system.slab.total(energy, sums[0])
        self.flux = whole
        self.flux_spread = float(np.ptp(whole)) / self.energy
        norm = math.sqrt(squares)
        self.relative_residual = norm / self.norm_b
        scale = 1.0 / norm if norm > 0 else 0.0
        if norm > 0:
            kernels().true_residual(system.grid, self.c, self.r, scale, sums)
        return scale

    def solve(self) -> None:
        """Iterate until the estimated error and the balance of the fluxes both satisfy the tolerance."""
        # fluxes are first order in the error of the field, D_eff second: a spread of 2 sqrt(error) is typical
        target, stalled, before = min(self.tolerance, self._allowed_spread() ** 2 / 4), 0, math.inf
        while True:
            scale = self._assess()
            if scale == 0.0:
                self.error_estimate = ROUNDING
                return
            self.system.precondition(self.r, self.z)
            gamma = self.system.slab.total(kernels().dot(self.r, self.z, self.r.size))[0]
            error = SAFETY * gamma / scale**2 / self.energy / min(self.smallest, 0.1 if math.isinf(self.smallest) else 1.0)
            error += ROUNDING
            self.error_estimate = error
            balanced = self.flux_spread <= self._allowed_spread()
            if (error <= self.tolerance and balanced and self.iterations) or error - ROUNDING < 1e-14:
                return
            stalled = stalled + 1 if error > 0.5 * before else 0
            before = min(error, before)
            if self.iterations >= self.max_iterations or stalled > 3 or not math.isfinite(error):
                self._give_up()
            if error <= self.tolerance:
                target *= 0.1
            self._conjugate_gradients(gamma, scale, target)

    def _allowed_spread(self) -> float:
        return 0.1 * math.sqrt(self.tolerance)

    def _give_up(self) -> None:
        value = self.energy * self.to_diffusivity
        raise ConvergenceError(
            f"after {self.iterations} iterations D_eff / D_0 is known to an estimated {self.error_estimate:.1e}, asked for "
            f"{self.tolerance:.1e}; it is at most {value:.9g}, fluxes lie between {self.flux.min() * self.to_diffusivity:.9g} and "
            f"{self.flux.max() * self.to_diffusivity:.9g}",
            hint="allow more iterations or a larger tolerance; phases of extreme contrast can be set to 0",
        )

    def _conjugate_gradients(self, gamma: float, scale: float, target: float) -> None:
        """Correct the concentrations; r and z hold the scaled residual and its cycle."""
        library, system, slab = kernels(), self.system, self.system.slab
        size = self.r.size
        np.copyto(self.p, self.z)
        self.e[...] = 0
        energy, gamma_first = self.energy, gamma
        diagonal: list[float] = []
        beside: list[float] = []
        beta = alpha_before = 0.0
        while self.iterations < self.max_iterations:
            curvature = slab.total(library.multiply(system.grid, self.p, self.q))[0]
            if not curvature > 0:
                break
            alpha = gamma / curvature
            library.advance(self.e, self.r, self.p, self.q, alpha, size)
            self.iterations += 1
            energy -= alpha * gamma / scale**2
            diagonal.append(1 / alpha + (beta / alpha_before if alpha_before else 0.0))
            system.precondition(self.r, self.z)
            following = slab.total(library.dot(self.r, self.z, size))[0]
            self.smallest = min(self.smallest, _smallest_eigenvalue(diagonal, beside))
            error = SAFETY * following / scale**2 / max(energy, 1e-30) / min(self.smallest, 1.0)
            enough = len(diagonal) >= 3 and error <= 0.7 * target
            if enough or not following > 1e-11 * gamma_first:
                break
            beta, alpha_before, gamma = following / gamma, alpha, following
            beside.append(math.sqrt(beta) / alpha)
            library.turn(self.p, self.z, beta, size)
        library.add_correction(system.grid, self.c, self.e, 1 / scale)


def _smallest_eigenvalue(diagonal: list[float], beside: list[float]) -> float:
    """Return the smallest eigenvalue of the Lanczos matrix: that of the preconditioned operator, as far as it was seen."""
    matrix = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    return max(float(np.linalg.eigvalsh(matrix)[0]), 1e-12)


def as_row(result: TransportResult) -> dict[str, Any]:
    """Return a result as a flat table row: mappings become text such as ``y=periodic x=no-flux``."""
    row = {**vars(result)}
    row["sides"] = " ".join(f"{name}={side}" for name, side in result.sides.items())
    row["shape"] = "x".join(map(str, result.shape))
    row["diffusivities"] = " ".join(f"{label}={value:g}" for label, value in result.diffusivities.items())
    return row
