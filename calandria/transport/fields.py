"""The concentration field of a solved volume: voxel by voxel, as local flux, and as a profile along the direction."""

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..base.files import replacing
from ..base.optional import OptionalModule
from .blocks import Blocks
from .conjugate_gradients import Solution
from .volume import ORDERS

if TYPE_CHECKING:
    import zarr
else:
    zarr = OptionalModule("zarr", "a file of concentration fields (*.zarr.zip)")

MEANING = {
    "concentration": "(z, y, x), 0 before the first slice along the axis and 1 behind the last; NaN where nothing is joined to both ends",
    "flux": "(component z, y, x; z, y, x), positive up the gradient, over D_0 x concentration difference / length along the axis",
    "profile": "mean concentration of the joined voxels of each slice along the axis",
}
"""Of the arrays, told in the file."""
SLICES = 32
"""Slices along z that are gathered and written at a time."""


@dataclass(frozen=True)
class Field:
    """This rank's block of a solved volume; axes (z, y, x) as in the file.

    Parameters
    ----------
    concentration
        Over the difference between the ends: 0 before the first slice along the axis, 1 behind the last; NaN in voxels that are not
        joined to both ends. float32.
    flux
        Flux density at the voxels' centres against the gradient's sign, (component z, y, x; z, y, x), each the mean of the voxel's
        two faces, over D_0 x concentration difference / length along the axis, float32: the mean over the box of the component
        along the axis is D_eff / D_0. 0 where nothing flows.
    profile
        Mean concentration of the joined voxels of each slice along the axis, of the whole volume, float64; NaN without any.
    start
        First voxel (z, y, x) of the block in the volume.
    """

    concentration: NDArray[np.float32]
    flux: NDArray[np.float32]
    profile: NDArray[np.float64]
    start: tuple[int, int, int]

    @classmethod
    def of(cls, solution: Solution, blocks: Blocks, diffusivities: NDArray[np.float64], shape: tuple[int, int, int]) -> "Field":
        """Take the field from a solution.

        Parameters
        ----------
        solution
            Solved, with its phases kept.
        blocks
            How the volume is cut, axes as in the file.
        diffusivities
            Over D_0, of phases 0, 1, 2, ...
        shape
            Voxels (z, y, x) of the file; a doubled volume is cut back to it.
        """
        system, problem = solution.system, solution.problem
        c = np.full([n + 2 for n in system.shape], np.nan)
        for colour, vector in enumerate((solution.even(), solution.c)):
            for entries, place in system.matching(vector, colour, c):
                place[...] = entries
        d = np.zeros(c.shape)
        d[1:-1, 1:-1, 1:-1] = diffusivities[problem.phases]
        for axis in (1, 2):
            if problem.blocks.wraps_alone(axis):
                turned = np.moveaxis(d, axis, 0)
                turned[0], turned[-1] = turned[-2], turned[1]
        problem.blocks.exchange(d, system.shape[2])
        plates = (system.has_low, system.has_high)
        flux = np.stack([_flux_along(c, d, axis, plates if axis == 0 else (False, False)) for axis in range(3)]) * solution.length
        joined = d[1:-1, 1:-1, 1:-1] > 0
        inner = np.where(joined, c[1:-1, 1:-1, 1:-1], np.nan)
        sums = np.zeros((2, solution.length))
        here = slice(solution.first, solution.first + system.shape[0])
        sums[0, here], sums[1, here] = np.nansum(inner, axis=(1, 2)), joined.sum(axis=(1, 2))
        problem.blocks.total_in_place(sums)
        profile = np.divide(sums[0], sums[1], out=np.full(solution.length, np.nan), where=sums[1] > 0)
        back = np.argsort(ORDERS[problem.direction])
        box = _within(blocks, shape)
        return cls(
            np.ascontiguousarray(inner.transpose(back)[box], np.float32),
            np.ascontiguousarray(flux[back].transpose(0, *(back + 1))[(slice(None), *box)], np.float32),
            profile,
            blocks.start,
        )


def _within(blocks: Blocks, shape: tuple[int, int, int]) -> tuple[slice, ...]:
    """Return the part of this block that lies in the file, not in its repetition."""
    return tuple(slice(0, max(0, min(stop, n) - start)) for start, stop, n in zip(blocks.start, blocks.stop, shape, strict=True))


def _flux_along(c: NDArray, d: NDArray, axis: int, plates: tuple[bool, bool]) -> NDArray:
    """Return half the sum of the flows through a voxel's lower and upper face along an axis, inner voxels only."""
    c, d = np.moveaxis(c, axis, 0), np.moveaxis(d, axis, 0)
    product = d[:-1] * d[1:]
    g = 2 * np.divide(product, d[:-1] + d[1:], out=np.zeros_like(product), where=product > 0)
    if plates[0]:
        g[0] = 2 * d[1]
    if plates[1]:
        g[-1] = 2 * d[-2]
    flow = np.where(g > 0, g * np.diff(c, axis=0), 0.0)
    return np.moveaxis((0.5 * (flow[:-1] + flow[1:]))[:, 1:-1, 1:-1], 0, axis)


def gathered_slices(
    part: NDArray, start: tuple[int, int, int], shape: tuple[int, int, int], communicator: Any, many: int = SLICES
) -> Any:
    """Yield (first slice, slices (…, z, y, x)) of the whole volume, ``many`` at a time, on rank 0; other ranks yield nothing.

    All ranks must exhaust the generator.
    """
    for first in range(0, shape[0], many):
        last = min(first + many, shape[0])
        low, high = max(first, start[0]), min(last, start[0] + part.shape[-3])
        mine = None
        if low < high and part.size:
            mine = ((low - first, start[1], start[2]), np.ascontiguousarray(part[..., low - start[0] : high - start[0], :, :]))
        parts = [mine] if communicator is None else communicator.gather(mine)
        if parts is None:
            continue
        whole = np.empty((*part.shape[:-3], last - first, *shape[1:]), part.dtype)
        for found in parts:
            if found is not None:
                (z, y, x), values = found
                nz, ny, nx = values.shape[-3:]
                whole[..., z : z + nz, y : y + ny, x : x + nx] = values
        yield first, whole


def write_fields(path: str | os.PathLike, results: Mapping[str, Any], communicator: Any = None) -> None:
    """Write the fields of all axes into one zipped zarr file: groups z, y, x with concentration, flux and profile.

    All ranks call this; rank 0 writes, some slices at a time. Axes that nothing conducts along have no group.

    Parameters
    ----------
    path
        File to write, whole or not at all.
    results
        Results by axis, from :func:`~calandria.transport.solver.directions` with ``fields``.
    communicator
        That of the results.
    """
    if communicator is not None and communicator.rank:
        for result in results.values():
            if result.field is not None:
                for part in (result.field.concentration, result.field.flux):
                    for _ in gathered_slices(part, result.field.start, result.shape, communicator):
                        pass
        return
    with replacing(path) as unfinished:
        unfinished.unlink()
        with zarr.storage.ZipStore(unfinished, mode="w", compression=zipfile.ZIP_STORED) as store:
            root = zarr.create_group(store, attributes={"contract": "calandria-fields-1", "meaning": MEANING})
            for axis, result in results.items():
                if result.field is None:
                    continue
                facts = {"relative_diffusivity": result.relative_diffusivity, "sides": dict(result.sides), "axis": axis}
                group = root.create_group(axis, attributes=facts)
                parts = {"concentration": (result.field.concentration, ()), "flux": (result.field.flux, ("component",))}
                for name, (part, more) in parts.items():
                    shape = (*part.shape[:-3], *result.shape)
                    chunks = (*part.shape[:-3], min(SLICES, result.shape[0]), *result.shape[1:])
                    array = group.create_array(
                        name, shape=shape, dtype="float32", chunks=chunks, dimension_names=(*more, "z", "y", "x")
                    )
                    for first, values in gathered_slices(part, result.field.start, result.shape, communicator):
                        array[..., first : first + values.shape[-3], :, :] = values
                profile = group.create_array(
                    "profile", shape=result.field.profile.shape, dtype="float64", dimension_names=(axis,)
                )
                profile[...] = result.field.profile
