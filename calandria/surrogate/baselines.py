"""Predictions that learn nothing: copy, affine squeeze of voxels, affine motion of sphere centres.

`affine_voxels` and `affine_spheres` read the true thickness of the frame that they predict, so they know the future;
`affine_press` knows no more than the press position, as a trained network does.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..base.errors import ContractError
from ..base.phases import PORE, VOID
from ..base.volumes import Labelled
from ..calendering.particles import Run as ParticleRun
from ..calendering.voxels import Grid, grid_of_series, paint_frame

Step = Callable[[int, int], tuple[NDArray[np.uint8], float]]
"""``step(start, target)`` returns labels (z, y, x) and thickness in um of frame ``target``, with ``start`` the last frame that is known."""


def squeeze_voxels(labels: NDArray[np.uint8], old_um: float, new_um: float, voxel_edge_um: float) -> NDArray[np.uint8]:
    """Return a frame (z, y, x) stretched along z from the foil, from thickness ``old_um`` to ``new_um``.

    Each new slice takes the labels of the old slice in which its centre was; void lies above ``new_um``, and a void slice
    that would come to lie inside the film takes the labels of the topmost slice of the film.
    """
    n_z = labels.shape[0]
    centre = (np.arange(n_z) + 0.5) * voxel_edge_um
    film = max(int(((labels != VOID).reshape(n_z, -1).any(axis=1)).sum()), 1)
    source = np.clip(np.floor(centre * (old_um / new_um) / voxel_edge_um).astype(int), 0, film - 1)
    squeezed = labels[source]
    squeezed[squeezed == VOID] = PORE
    squeezed[centre > new_um] = VOID
    return squeezed


def press_thickness(thickness_um: NDArray[np.float64], press_um: NDArray[np.float64], n_given: int) -> NDArray[np.float64]:
    """Return the thickness of a film that follows the press down and never springs back, one value per frame.

    The first ``n_given`` values are given.

    >>> press_thickness(np.array([10.0, 9.0, 0.0, 0.0, 0.0]), np.array([10.0, 9.0, 8.0, 8.5, 7.5]), 2).tolist()
    [10.0, 9.0, 8.0, 8.0, 7.5]
    """
    followed = np.minimum.accumulate(np.concatenate([thickness_um[n_given - 1 : n_given], press_um[n_given:]]))
    return np.concatenate([thickness_um[:n_given], followed[1:]])


def squeeze_spheres(run: ParticleRun, reference: int, frame: int, grid: Grid, new_um: float) -> NDArray[np.uint8]:
    """Return frame ``frame`` (z, y, x) painted from the spheres of ``reference``, their centres moved affinely along z.

    Radii stay; solid that overlaps is lost or grown back as ``grid`` says. Nothing but ``new_um`` is read from later frames.
    """
    moved = replace(
        run.particles,
        **{name: getattr(run.particles, name)[reference : reference + 1] for name in ("x", "y", "radius", "box", "step")},
        z=run.particles.z[reference : reference + 1] * (new_um / run.thickness_um[reference]),
    )
    return paint_frame(moved, 0, new_um, grid).labels


def check_same_run(run: ParticleRun, n_frames: int, thickness_um: NDArray[np.float64]) -> None:
    """Raise ContractError unless particles and series have the same frames."""
    if run.thickness_um.shape != (n_frames,) or not np.allclose(run.thickness_um, thickness_um, rtol=1e-9, atol=1e-9):
        raise ContractError(
            f"the particles have {run.thickness_um.size} frames, from {run.thickness_um[0]:g} to {run.thickness_um[-1]:g} um thick; "
            f"the series has {n_frames}, from {thickness_um[0]:g} to {thickness_um[-1]:g} um",
            hint="give the particles from which this series was voxelized",
        )


def copy_steps(series: Labelled) -> Step:
    """Return the steps of `copy`: the last known frame."""
    true_um = np.array(series.frames["thickness_um"])
    return lambda start, target: (series.labels[start], float(true_um[start]))


def affine_voxels_steps(series: Labelled) -> Step:
    """Return the steps of `affine_voxels`: the last known frame, squeezed to the true thickness."""
    true_um = np.array(series.frames["thickness_um"])
    return lambda start, target: (
        squeeze_voxels(series.labels[start], true_um[start], true_um[target], series.voxel_edge_um),
        float(true_um[target]),
    )


def affine_press_steps(series: Labelled) -> Step:
    """Return the steps of `affine_press`: the last known frame, squeezed to the lowest press position since."""
    true_um, press = np.array(series.frames["thickness_um"]), np.array(series.frames["press_position_um"])

    def step(start: int, target: int) -> tuple[NDArray[np.uint8], float]:
        thickness = press_thickness(true_um, press, start + 1)[target]
        return squeeze_voxels(series.labels[start], true_um[start], thickness, series.voxel_edge_um), float(thickness)

    return step


def affine_spheres_steps(series: Labelled, particles: ParticleRun) -> Step:
    """Return the steps of `affine_spheres`: the spheres of the last known frame, their centres moved to the true thickness.

    Raises ContractError when the particles are of another run.
    """
    true_um = np.array(series.frames["thickness_um"])
    check_same_run(particles, len(series.labels), true_um)
    conserve = bool(series.attributes.get("conserve_volume", False))
    grid = grid_of_series(particles.particles.box, series.labels.shape[1:], series.voxel_edge_um, series.periodic, conserve)
    return lambda start, target: (
        squeeze_spheres(particles, start, target, grid, float(true_um[target])),
        float(true_um[target]),
    )


def predict_by_steps(step: Step, series: Labelled, n_given: int, mode: str) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return labels (t, z, y, x) and thickness (t,) in um of a baseline, the first ``n_given`` frames as given.

    One step starts from the true frame before the target; a rollout from the last given frame, stretched once, since a chain
    of stretches by less than half a voxel would never move anything.
    """
    labels, thickness = series.labels.copy(), np.array(series.frames["thickness_um"])
    for target in range(n_given, len(labels)):
        labels[target], thickness[target] = step(target - 1 if mode == "one_step" else n_given - 1, target)
    return labels, thickness


def predict_by_replicate(series: Labelled, replicate: Labelled, n_given: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return what a second run of the same film shows: the ceiling of what can be known. The first frames are given.

    Raises ContractError when the two series differ in shape or voxel edge.
    """
    if replicate.labels.shape != series.labels.shape or replicate.voxel_edge_um != series.voxel_edge_um:
        raise ContractError(
            f"the replicate has shape {replicate.labels.shape} at {replicate.voxel_edge_um} um, the series {series.labels.shape} at {series.voxel_edge_um} um",
            hint="fix the grid height in the settings of calendering, and press both to the same degree",
        )
    labels, thickness = replicate.labels.copy(), np.array(replicate.frames["thickness_um"])
    labels[:n_given], thickness[:n_given] = series.labels[:n_given], series.frames["thickness_um"][:n_given]
    return labels, thickness
