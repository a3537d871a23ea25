"""Predictions that learn nothing: copy, affine squeeze of voxels, affine motion of sphere centres.

`affine_voxels` and `affine_spheres` read the true thickness of the frame that they predict, so they know the future;
`affine_press` knows no more than the press position, as a trained network does.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..base.errors import ContractError
from ..base.phases import PORE, VOID
from ..calendering.particles import Run as ParticleRun
from ..calendering.voxels import Grid, paint_frame


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

    Radii stay, so the solid keeps its volume but for overlap. Nothing but ``new_um`` is read from later frames.
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
