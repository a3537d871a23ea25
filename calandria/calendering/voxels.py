"""Spheres to labelled voxels: carbon-binder first, active material over it, void above the film's surface."""

import ctypes
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..base.compiled import library
from ..base.errors import ContractError
from ..base.phases import AM, CBD, PORE, VOID
from ..base.progress import progress
from .dumps import Particles
from .settings import VoxelSettings

KERNELS = "calandria.calendering._voxels"
ROUNDING = 1e-9
LARGEST_LOSS = 0.01
"""Share of a phase's volume whose loss is reported where volume is to be conserved."""
FIRST_BAND = (0.05, 4.0)
"""Width of the band around spheres in which voxels are sought first: voxels, and times the width that would do on free spheres; it costs time only."""


@dataclass(frozen=True)
class Grid:
    """The voxel grid that all frames of a run share.

    Parameters
    ----------
    shape
        Voxels along z, y, x.
    edge_um
        Edge of the cubic voxels: the one asked for, changed a little so that whole voxels fill a periodic box.
    periodic
        Whether x and y wrap around.
    misfit
        Largest relative difference between a periodic box and its voxels; positions (not radii) are stretched by it. 0 where one edge fits x and y.
    corner_um
        Lower corner of the grid in x and y, over all frames; 0 for a periodic side, which begins where the frame's own box does.
    conserve_volume
        Whether each phase is grown into the pores until it holds the volume of its spheres; the same for all frames.
    """

    shape: tuple[int, int, int]
    edge_um: float
    periodic: tuple[bool, bool]
    misfit: float
    corner_um: tuple[float, float] = (0.0, 0.0)
    conserve_volume: bool = False


@dataclass(frozen=True)
class Painted:
    """A painted frame.

    Parameters
    ----------
    labels
        (z, y, x) phase codes.
    porosity_free
        Voxels of pore (outside the binder domain) over all between collector and surface.
    overlap_loss_cbd, overlap_loss_am
        Share of the sum of sphere volumes that the voxels do not hold; it carries the rounding of voxels, so it may be slightly negative. 0 for an
        absent phase. Where volume is conserved, it is what the labels lack in the end. Where not, it is overlap, CBD covered by AM and imprint into
        the collector, and what was cut off above the surface counts as held.
    cut_loss
        Share of the solid voxels, as spheres give them, that lie above the surface (imprint into the press, spheres that jut out) and became void.
    grown_cbd, grown_am
        Voxels by which a phase was grown over the sum of its sphere volumes; 0 where volume is not conserved.
    """

    labels: NDArray[np.uint8]
    porosity_free: float
    overlap_loss_cbd: float
    overlap_loss_am: float
    cut_loss: float
    grown_cbd: float = 0.0
    grown_am: float = 0.0


def choose_grid(particles: Particles, thickness_um: NDArray[np.float64], settings: VoxelSettings) -> Grid:
    """Return the grid of a run.

    A periodic side has round(length / edge) voxels, and the edge becomes length / voxels, also along z, so that nothing is stretched. Where x and y need
    different edges it is their geometric mean, and positions are stretched. A side with walls covers the box of all frames and is not stretched, nor does it
    change the edge. The height is fixed by the settings, or holds the thickest frame rounded up to ``grid_height_multiple``.

    Raises
    ------
    ContractError
        The edge would change by more than ``largest_misfit``; positions would be stretched by more than ``largest_stretch``, since x and y fit no common
        edge or the box changes; the film does not fit a fixed height; volume is to be conserved, and the spheres form clumps.
    """
    if settings.conserve_volume:
        _refuse_clumps(particles)
    lengths = [np.diff(particles.box[:, axis])[:, 0] for axis in range(2) if particles.periodic[axis]]
    edge = _fitting_edge([float(length[0]) for length in lengths], settings.voxel_edge_um)
    plane = _plane_grid(particles.box, edge, particles.periodic)
    _check_fit(lengths, edge, plane, settings)
    needed = max(_slices(float(thickness_um.max()), edge), 1)
    height = settings.grid_height_voxels or -(-needed // settings.grid_height_multiple) * settings.grid_height_multiple
    if needed > height:
        raise ContractError(
            f"the film is up to {thickness_um.max():.6g} um thick, {needed} voxels; the grid is {height} high",
            hint=f"raise grid_height_voxels to {needed} or more, or leave it null",
        )
    return Grid(
        (height, *plane.counts[::-1]), edge, particles.periodic, max(plane.misfits), plane.corner_um, settings.conserve_volume
    )


def _refuse_clumps(particles: Particles) -> None:
    """Refuse particles of several spheres: these overlap in the solid itself, so the sum of sphere volumes is not its volume."""
    if particles.molecule is None:
        return
    molecules, spheres = np.unique(particles.molecule[particles.molecule > 0], return_counts=True)
    if (spheres > 1).any():
        raise ContractError(
            f"{int((spheres > 1).sum())} particles are clumps of up to {int(spheres.max())} spheres (column mol of the dumps; "
            f"{int(molecules[spheres.argmax()])} is one); the volume of clumps is not the sum of their spheres, and cannot be conserved",
            hint="set calendering.voxels.conserve_volume (conserve_volume of calandria.voxelize) to false",
        )


def grid_of_series(
    boxes: NDArray[np.float64],
    shape: tuple[int, int, int],
    voxel_edge_um: float,
    periodic: tuple[bool, bool, bool],
    conserve_volume: bool,
) -> Grid:
    """Return the grid on which a run was voxelized, from the facts of its series; no setting is asked.

    Parameters
    ----------
    boxes
        (t, 3, 2) bounds of x, y, z in every frame, um: the run's ``Particles.box``.
    shape
        Voxels of a frame along z, y, x.
    voxel_edge_um
        Edge of the cubic voxels.
    periodic
        Whether z, y, x wrap around, as in the series' file.
    conserve_volume
        Whether the series' solids hold the volume of their spheres: its attribute of that name; a file without it is of a time when they did not.

    Raises
    ------
    ContractError
        The boxes have another number of voxels in x or y than ``shape``.
    """
    plane = _plane_grid(boxes, voxel_edge_um, (periodic[2], periodic[1]))
    if plane.counts[::-1] != tuple(shape[1:]):
        raise ContractError(
            f"the particles' box takes {plane.counts[1]} x {plane.counts[0]} voxels (y, x) of {voxel_edge_um:g} um; the series has {shape[1]} x {shape[2]}",
            hint="give the particles from which this series was voxelized",
        )
    return Grid(shape, voxel_edge_um, (periodic[2], periodic[1]), max(plane.misfits), plane.corner_um, conserve_volume)


def _check_fit(lengths_um: Sequence[NDArray[np.float64]], edge_um: float, plane: "_PlaneGrid", settings: VoxelSettings) -> None:
    """Refuse an edge that is too far from the one asked for, or that stretches the periodic sides (each (t)) by too much."""
    asked, stretch = settings.voxel_edge_um, max(plane.misfits)
    change = abs(edge_um / asked - 1)
    if change <= settings.largest_misfit and stretch <= settings.largest_stretch:
        return
    if any(np.ptp(length) > settings.largest_stretch * length[0] for length in lengths_um):
        raise ContractError(
            f"the periodic box changes during the run ({', '.join(f'{length.min():g} to {length.max():g} um' for length in lengths_um)}); "
            f"one grid for all frames stretches it by {stretch:.2%}, expected {settings.largest_stretch:.2%} or less",
            hint="raise calendering.voxels.largest_stretch if you can accept it: positions are stretched, radii are not",
        )
    first = [float(length[0]) for length in lengths_um]
    what = (
        f"the nearest edge is {edge_um:.6g} um, {change:.2%} off; expected {settings.largest_misfit:.2%} or less"
        if change > settings.largest_misfit
        else f"an edge of {edge_um:.6g} um stretches it by {stretch:.2%}; expected {settings.largest_stretch:.2%} or less"
    )
    raise ContractError(
        f"the periodic box of {' x '.join(f'{length:g}' for length in first)} um holds no whole voxels of {asked:g} um: {what}",
        hint=f"choose an edge that fits, {_nearest_edges(first, asked, settings.largest_stretch)}, or raise calendering.voxels.largest_misfit or largest_stretch",
    )


class _PlaneGrid(NamedTuple):
    """Voxels, relative misfit and lower corner of a grid, each for x and y."""

    counts: tuple[int, int]
    misfits: tuple[float, float]
    corner_um: tuple[float, float]


def _plane_grid(boxes: NDArray[np.float64], edge_um: float, periodic: tuple[bool, bool]) -> _PlaneGrid:
    counts: list[int] = []
    misfits: list[float] = []
    corner: list[float] = []
    for axis in range(2):
        low, high = boxes[:, axis, 0], boxes[:, axis, 1]
        length = high - low if periodic[axis] else np.array([high.max() - low.min()])
        count = max(1, round(float(length[0]) / edge_um))
        misfit = float(np.abs(length / (count * edge_um) - 1).max()) if periodic[axis] else 0.0
        counts.append(count)
        misfits.append(misfit if misfit > ROUNDING else 0.0)
        corner.append(0.0 if periodic[axis] else float(low.min()))
    return _PlaneGrid((counts[0], counts[1]), (misfits[0], misfits[1]), (corner[0], corner[1]))


def _fitting_edge(lengths_um: Sequence[float], asked_um: float) -> float:
    """Return the edge nearest to the one asked for that fills the periodic sides with whole voxels; the geometric mean where they differ."""
    edges = [length / max(1, round(length / asked_um)) for length in lengths_um]
    edge = math.prod(edges) ** (1 / len(edges)) if edges else asked_um
    return asked_um if abs(edge / asked_um - 1) <= ROUNDING else edge


def _nearest_edges(lengths_um: Sequence[float], asked_um: float, largest_stretch: float) -> str:
    """Return, for a message, the nearest edges below and above the one asked for that fill all sides to ``largest_stretch``."""
    found = []
    for count in range(1, 4 * math.ceil(lengths_um[0] / asked_um)):
        edge = _fitting_edge(lengths_um, lengths_um[0] / count)
        if all(abs(length / (max(1, round(length / edge)) * edge) - 1) <= largest_stretch for length in lengths_um):
            found.append(edge)
    near = [
        max((edge for edge in found if edge <= asked_um), default=None),
        min((edge for edge in found if edge > asked_um), default=None),
    ]
    return " or ".join(f"{edge:.6g} um" for edge in near if edge is not None) or f"{asked_um / 4:.3g} um or less"


def _slices(thickness_um: float, edge_um: float) -> int:
    """Return how many slices have their centres within the thickness."""
    return math.floor(thickness_um / edge_um + 0.5 + ROUNDING)


def paint_frame(particles: Particles, frame: int, thickness_um: float, grid: Grid) -> Painted:
    """Paint one frame: a voxel belongs to a sphere if its centre is inside (d2 <= r2); CBD first, AM over it.

    Where the grid says so, each phase is then grown until it has as many voxels as the volume of its spheres, rounded: AM first, CBD in what is left.
    It takes the pore voxels between collector and surface in the order of their distance to the nearest sphere of the phase, |centre - sphere's centre|
    less radius; of equal distances, the first in the array. It takes no voxel of the other phase and loses none where rounding gave too many. Without
    enough pore voxels it takes all of them, and ``overlap_loss_cbd`` and ``overlap_loss_am`` say what is missing.

    Parameters
    ----------
    particles
        The run; heights are counted from the current collector, which is the lower side of slice 0.
    frame
        Index of the frame.
    thickness_um
        Height of the film's surface; slices with centres above it become void.
    grid
        From :func:`choose_grid` or :func:`grid_of_series`. x and y wrap around by index where periodic, else spheres are clipped; z is clipped.
    """
    nz, ny, nx = grid.shape
    corner = np.where(grid.periodic, particles.box[frame, :2, 0], grid.corner_um)
    lengths = np.where(grid.periodic, particles.box[frame, :2, 1] - corner, [nx * grid.edge_um, ny * grid.edge_um])
    stretch = np.array([nx, ny]) * grid.edge_um / lengths if grid.misfit else np.ones(2)
    order = np.argsort(particles.phase, kind="stable")
    x = _in_voxels((particles.x[frame] - corner[0]) * stretch[0], grid.edge_um)[order]
    y = _in_voxels((particles.y[frame] - corner[1]) * stretch[1], grid.edge_um)[order]
    z = _in_voxels(particles.z[frame], grid.edge_um)[order]
    radius = particles.radius[frame][order] / grid.edge_um
    code = np.ascontiguousarray(particles.phase[order])
    # spheres may reach above the grid; they are painted whole so that the losses can be told apart
    height = max(nz, int((z + radius).max()) + 2)
    columns = np.zeros((ny, nx, height), np.uint8)
    labels = np.empty(grid.shape, np.uint8)
    counts = np.zeros(10, np.int64)
    kernels = library(KERNELS)
    kernels.paint_columns(
        _pointer(columns),
        *(ctypes.c_int64(size) for size in (height, ny, nx)),
        *(ctypes.c_int(grid.periodic[axis]) for axis in (1, 0)),
        ctypes.c_int64(code.size),
        *(_pointer(array) for array in (x, y, z, radius, code)),
    )
    surface = min(_slices(thickness_um, grid.edge_um), nz)
    kernels.stand_up(
        _pointer(columns),
        ctypes.c_int64(height),
        ctypes.c_int64(ny * nx),
        _pointer(labels),
        ctypes.c_int64(nz),
        ctypes.c_int64(surface),
        ctypes.c_uint8(VOID),
        _pointer(counts),
    )
    below, above = counts[:5], counts[5:]
    spheres = {phase: float((4 / 3 * np.pi * radius[code == phase] ** 3).sum()) for phase in (CBD, AM)}
    solid, cut = int((below + above)[[CBD, AM]].sum()), int(above[[CBD, AM]].sum())
    grown = dict.fromkeys(spheres, 0)
    for phase in (AM, CBD) if grid.conserve_volume else ():
        of_phase = [array[code == phase] for array in (x, y, z, radius)]
        grown[phase] = min(max(round(spheres[phase]) - int(below[phase]), 0), int(below[PORE]))
        _grow(columns, labels, phase, grown[phase], int(below[PORE]), of_phase, surface, grid.periodic)
        below[phase] += grown[phase]
        below[PORE] -= grown[phase]
    held = below if grid.conserve_volume else below + above
    lost = {phase: 1 - float(held[phase]) / spheres[phase] if spheres[phase] else 0.0 for phase in spheres}
    shares = {phase: grown[phase] / spheres[phase] if spheres[phase] else 0.0 for phase in spheres}
    inside = int(below.sum())
    return Painted(
        labels,
        int(below[PORE]) / inside if inside else math.nan,
        lost[CBD],
        lost[AM],
        cut / solid if solid else 0.0,
        shares[CBD],
        shares[AM],
    )


def _grow(
    columns: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    phase: int,
    wanted: int,
    pores: int,
    spheres: Sequence[NDArray[np.float64]],
    surface: int,
    periodic: tuple[bool, bool],
) -> None:
    """Paint the ``wanted`` pore voxels nearest to the spheres (x, y, z, radius, in voxels) of a phase, in columns (y, x, z) and labels (z, y, x).

    There are ``pores`` of them below slice ``surface``. They are sought within a band around the spheres, which is widened until it holds enough.
    """
    if not wanted:
        return
    ny, nx, height = columns.shape
    if wanted == pores:
        columns[..., :surface][columns[..., :surface] == PORE] = phase
        labels[:surface][labels[:surface] == PORE] = phase
        return
    kernels = library(KERNELS)
    kernels.pores_near.restype = kernels.paint_nearest.restype = ctypes.c_int64
    nearest, found = np.empty(columns.shape), np.empty(pores, np.int64)
    band, count = FIRST_BAND[0] + FIRST_BAND[1] * wanted / float((4 * np.pi * spheres[3] ** 2).sum()), 0
    while count < wanted:
        count = kernels.pores_near(
            _pointer(columns),
            *(ctypes.c_int64(size) for size in (height, ny, nx)),
            *(ctypes.c_int(periodic[axis]) for axis in (1, 0)),
            ctypes.c_int64(spheres[3].size),
            *(_pointer(array) for array in spheres),
            ctypes.c_int64(surface),
            ctypes.c_double(band),
            _pointer(nearest),
            _pointer(found),
        )
        used, band = band, 2 * band
    left = ctypes.c_int64(wanted)
    undecided = kernels.paint_nearest(
        _pointer(columns),
        ctypes.c_int64(height),
        ctypes.c_int64(ny * nx),
        _pointer(labels),
        ctypes.c_uint8(phase),
        ctypes.c_double(used),
        _pointer(nearest),
        _pointer(found),
        ctypes.c_int64(count),
        ctypes.byref(left),
    )
    at = found[:undecided]
    column, slice_ = np.divmod(at, height)
    index = slice_ * (ny * nx) + column
    chosen = np.lexsort((index, nearest.reshape(-1)[at]))[: left.value]
    columns.reshape(-1)[at[chosen]] = phase
    labels.reshape(-1)[index[chosen]] = phase


def paint_frames(
    particles: Particles, thickness_um: NDArray[np.float64], grid: Grid
) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.float64]]]:
    """Paint every frame of a run.

    Parameters
    ----------
    particles
        The run.
    thickness_um
        (t) heights of the film's surface.
    grid
        From :func:`choose_grid`.

    Returns
    -------
    tuple
        Labels (t, z, y, x), and each number of :class:`Painted` by its name, (t).
    """
    labels = np.empty((thickness_um.size, *grid.shape), np.uint8)
    measured: dict[str, list[float]] = {entry.name: [] for entry in fields(Painted) if entry.name != "labels"}
    for frame in progress(range(thickness_um.size), "voxelizing", unit="frame"):
        painted = paint_frame(particles, frame, float(thickness_um[frame]), grid)
        labels[frame] = painted.labels
        for name, column in measured.items():
            column.append(getattr(painted, name))
    return labels, {name: np.array(column) for name, column in measured.items()}


def volume_missing(measured: Mapping[str, NDArray[np.float64]]) -> str:
    """Return which phases lack volume that was to be conserved, and how much; empty if none lacks more than 1 %.

    Parameters
    ----------
    measured
        Numbers of all frames, from :func:`paint_frames` on a grid that conserves volume.

    >>> volume_missing({"overlap_loss_cbd": np.array([0.0, 0.2]), "overlap_loss_am": np.array([0.0, 0.01])})
    'CBD lacks up to 20.0 % of its volume in 1 of 2 frames'
    """
    lost = {name: measured[f"overlap_loss_{name.lower()}"] for name in ("CBD", "AM")}
    return "; ".join(
        f"{name} lacks up to {loss.max():.1%} of its volume in {int((loss > LARGEST_LOSS).sum())} of {loss.size} frames".replace(
            "%", " %"
        )
        for name, loss in lost.items()
        if (loss > LARGEST_LOSS).any()
    )


def _in_voxels(length_um: NDArray[np.float64], edge_um: float) -> NDArray[np.float64]:
    """Return coordinates in voxels, with the centre of voxel 0 at 0."""
    return length_um / edge_um - 0.5


def _pointer(array: NDArray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
