"""Effective diffusivity of labelled voxels, with the evidence for it."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import ContractError, SettingsError, nearest_name
from ..base.volumes import occupied_slices
from .conjugate_gradients import Solution
from .fields import Field
from .memory import check_memory
from .volume import Problem, Volume, columns_alone

AXIS_NAMES = ("z", "y", "x")
UNRECORDED = ("wall_s", "ranks", "field")
"""Fields of a result that no record or table holds: they differ between runs of equal work."""
SIDES = ("no-flux", "periodic")
MOST_DIFFUSIVITIES = 250


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
        Wall time of this call, and MPI ranks that took part; not part of the record, so that equal work gives equal records.
    axis, sides, shape, diffusivities, tolerance
        What was asked for; shape is that of the box (z, y, x).
    field
        Concentrations, local flux and profile of this rank's block, where asked for; not part of the record.
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
    field: Field | None = None

    def record(self) -> dict[str, Any]:
        """Return the fields as plain values for a JSON record or a table row."""
        plain = {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in vars(self).items()
            if name not in UNRECORDED
        }
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
        its block.
    diffusivities
        Label to diffusivity over D_0, the bulk diffusivity; labels that are not named do not conduct.
    axis
        Direction of transport.
    sides
        ``"no-flux"`` or ``"periodic"``, for both lateral axes or per axis name; of ``axis`` itself it has no meaning.
    tolerance
        Largest relative error of D_eff that is accepted (estimated, see docs/transport.md).
    max_iterations
        Iterations after which ConvergenceError is raised; a small volume is solved directly then.
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
        The tolerance was not met; its ``bounds`` are proven, and the message holds what else is known.

    Examples
    --------
    >>> result = tortuosity(np.zeros((4, 3, 5), np.uint8), {0: 1.0})
    >>> round(result.tortuosity_factor, 6)
    1.0
    """
    return directions(
        labels,
        diffusivities,
        axes=(axis,),
        sides=sides,
        tolerance=tolerance,
        max_iterations=max_iterations,
        communicator=communicator,
    )[axis]


def directions(
    labels: NDArray[np.uint8] | Any,
    diffusivities: Mapping[int, float],
    *,
    axes: Sequence[str] = AXIS_NAMES,
    sides: str | Mapping[str, str] = "no-flux",
    tolerance: float = 1e-4,
    max_iterations: int = 500,
    communicator: Any = None,
    fields: bool = False,
    every_label: bool = False,
) -> dict[str, TransportResult]:
    """Solve along several axes, as :func:`tortuosity` does along one; the volume is read and its joined parts are found once.

    Parameters
    ----------
    labels, diffusivities, sides, tolerance, max_iterations, communicator
        As of :func:`tortuosity`.
    axes
        Directions of transport.
    fields
        Whether each result carries its concentration field.
    every_label
        Whether a diffusivity of a label that the volume lacks is an error.

    Returns
    -------
    dict
        The result of each axis.
    """
    table = _checked(labels, diffusivities, axes, sides, tolerance, max_iterations)
    periodic = tuple(wrap and n > 1 for wrap, n in zip(_asked(sides, ""), labels.shape, strict=True))
    bulk = np.concatenate([[0.0], np.unique(table[table > 0])])
    volume: Volume | None = None
    results = {}
    for axis in axes:
        began = time.perf_counter()
        direction, asked = AXIS_NAMES.index(axis), _asked(sides, axis)
        wraps = tuple(wrap and n > 1 for wrap, n in zip(asked, labels.shape, strict=True))
        doubled = tuple(2 if wrap and n % 2 else 1 for wrap, n in zip(wraps, labels.shape, strict=True))
        if volume is None or volume.doubled != doubled:
            volume = Volume(labels, table, periodic, doubled, communicator)
            missing = sorted(set(diffusivities) - set(volume.labels))
            if every_label and missing:
                raise SettingsError(
                    f"diffusivities name the label {', '.join(map(str, missing))}, which the volume lacks; labels there: "
                    + ", ".join(map(str, volume.labels[:12]))
                    + (", ..." if len(volume.labels) > 12 else ""),
                    hint="name labels of the volume; an image of grey values must be segmented first",
                )
        problem = Problem(volume, direction, wraps, last=axis == axes[-1])
        facts: dict[str, Any] = {
            "conducting_fraction": volume.n_conducting / volume.size,
            "connected_fraction": problem.n_connected / volume.size,
            "ranks": volume.blocks.size,
            "axis": axis,
            "sides": {AXIS_NAMES[a]: SIDES[wrap] for a, wrap in enumerate(asked) if a != direction},
            "shape": tuple(int(n) for n in labels.shape),
            "diffusivities": {int(k): float(v) for k, v in sorted(diffusivities.items())},
            "tolerance": tolerance,
        }
        if not problem.n_connected:
            nothing: dict[str, Any] = dict.fromkeys(
                ("relative_residual", "flux_in", "flux_out", "energy", "flux_spread", "error_estimate"), 0.0
            )
            wall = time.perf_counter() - began
            results[axis] = TransportResult(0.0, None, percolates=False, iterations=0, **nothing, wall_s=wall, **facts)
            continue
        blocks = volume.blocks
        check_memory(blocks, facts["connected_fraction"])
        if axis == axes[-1]:
            volume = None
        lower_bound = partial(columns_alone, labels, table, direction, blocks, doubled)
        solution = Solution(problem, tolerance, max_iterations, lower_bound=lower_bound, keep_phases=fields)
        solution.solve()
        value, to_diffusivity = solution.energy * problem.to_diffusivity, problem.to_diffusivity
        results[axis] = TransportResult(
            value,
            facts["conducting_fraction"] / value,
            percolates=True,
            iterations=solution.iterations,
            relative_residual=solution.relative_residual,
            flux_in=float(solution.flux[0]) * to_diffusivity,
            flux_out=float(solution.flux[-1]) * to_diffusivity,
            energy=value,
            flux_spread=solution.flux_spread,
            error_estimate=solution.error_estimate,
            wall_s=time.perf_counter() - began,
            field=Field.of(solution, blocks, bulk, facts["shape"]) if fields else None,
            **facts,
        )
        del solution, problem  # before the next direction makes its own
    return results


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
    labels: Any,
    diffusivities: Mapping[int, float],
    axes: Sequence[str],
    sides: str | Mapping[str, str],
    tolerance: float,
    max_iterations: int,
) -> NDArray[np.float64]:
    if not hasattr(labels, "shape") or not hasattr(labels, "dtype"):
        raise ContractError(
            f"labels are a {type(labels).__name__}; expected an array (z, y, x)",
            hint="make one by numpy.asarray(labels, numpy.uint8)",
        )
    if len(labels.shape) != 3 or 0 in labels.shape:
        raise ContractError(
            f"labels have the shape {tuple(labels.shape)}; expected three axes (z, y, x), none empty",
            hint="stack 2-D slices into a volume, and take one frame of a series",
        )
    if np.ma.isMaskedArray(labels):
        raise ContractError(
            "labels are a masked array, whose masked voxels have no label",
            hint="give them one that conducts nothing: labels.filled(255)",
        )
    if not np.issubdtype(labels.dtype, np.integer) and labels.dtype != np.bool_:
        raise ContractError(
            f"labels are {labels.dtype}; expected integers from 0 to 255", hint="segment grey values into phases first"
        )
    for axis in axes:
        if axis not in AXIS_NAMES:
            all_axes = "for all axes in one call: directions(labels, diffusivities)"
            raise SettingsError(
                f"axis {axis!r} is unknown", hint=all_axes if axis == "all" else nearest_name(str(axis), AXIS_NAMES)
            )
        _asked(sides, axis)
    table = np.zeros(256)
    for label, value in diffusivities.items():
        if not isinstance(label, int | np.integer) or not 0 <= label <= 255:
            raise SettingsError(
                f"diffusivities name the label {label!r}; expected an integer from 0 to 255", hint="name labels of the volume"
            )
        if not isinstance(value, int | float | np.number):
            raise SettingsError(
                f"the diffusivity of label {label} is {value!r}; expected a number",
                hint="give it relative to the bulk diffusivity, e.g. 1 for pores",
            )
        if not math.isfinite(value) or value < 0:
            raise SettingsError(
                f"the diffusivity of label {label} is {value}; expected a finite number, at least 0",
                hint="give it relative to the bulk diffusivity, e.g. 1 for pores",
            )
        table[int(label)] = value
    if not table.any():
        raise SettingsError("no label conducts: every diffusivity is 0", hint="name a conducting label, e.g. 0=1")
    if len(np.unique(table[table > 0])) > MOST_DIFFUSIVITIES:
        raise SettingsError(
            f"there are {len(np.unique(table[table > 0]))} different diffusivities; expected at most {MOST_DIFFUSIVITIES}",
            hint="round them, so that some labels share one",
        )
    if (table[table > 0] < 1e-12 * table.max()).any():
        raise SettingsError(
            f"diffusivities range from {table[table > 0].min():g} to {table.max():g}; expected ratios down to 1e-12",
            hint="set the diffusivity of the poor conductor to 0",
        )
    if not isinstance(max_iterations, int | np.integer) or max_iterations < 0:
        raise SettingsError(
            f"max_iterations is {max_iterations!r}; expected a whole number, at least 0", hint="500 suits most volumes"
        )
    if not isinstance(tolerance, int | float | np.number) or not 1e-6 <= tolerance <= 0.1:
        raise SettingsError(f"tolerance is {tolerance!r}; expected 1e-6 to 0.1", hint="1e-4 suits most volumes")
    return table


def as_row(result: TransportResult) -> dict[str, Any]:
    """Return a result as a flat table row: mappings become text such as ``y=periodic x=no-flux``."""
    row = {name: value for name, value in vars(result).items() if name not in UNRECORDED}
    row["sides"] = " ".join(f"{name}={side}" for name, side in result.sides.items())
    row["shape"] = "x".join(map(str, result.shape))
    row["diffusivities"] = " ".join(f"{label}={value:g}" for label, value in result.diffusivities.items())
    return row
