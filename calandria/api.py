"""The public functions, for scripts and notebooks; ``calandria`` itself gives each of them by name.

Arrays have the axes (z, y, x), z from the current collector; lengths are in um. Importing this module needs numpy only. A function
imports further packages when it is called, and raises :class:`calandria.base.optional.MissingPackageError`, a CalandriaError that
says how to install the package, where one is missing.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .base.errors import ContractError, SettingsError
from .base.optional import needed_by
from .base.volumes import Labelled, check, volume_fractions
from .transport.interfaces import count_interfaces
from .transport.solver import TransportResult, electrode
from .transport.solver import tortuosity as _solve

if TYPE_CHECKING:
    import xarray

    from .calendering.dumps import Particles
    from .tomography.images import GreyVolume


def tortuosity(
    labels: Labelled | NDArray[Any],
    diffusivities: Mapping[int, float],
    *,
    axis: str = "z",
    sides: str | Mapping[str, str] | None = None,
    tolerance: float = 1e-4,
    max_iterations: int = 500,
    communicator: Any = None,
) -> TransportResult:
    """Solve steady diffusion along one axis of a labelled volume; return the tortuosity factor and its evidence.

    Parameters
    ----------
    labels
        Integer labels (z, y, x) from 0 to 255: an array, anything that slices like one (a zarr array), or a :class:`Labelled` volume, of
        which the void above the electrode is left out, as the workflow does.
    diffusivities
        Label to diffusivity over that of the bulk; labels that are not named do not conduct.
    axis
        Direction of transport: ``"z"``, ``"y"`` or ``"x"``.
    sides
        ``"no-flux"`` or ``"periodic"``, for both lateral axes or per axis name. None is what a :class:`Labelled` volume says of
        itself, and ``"no-flux"`` for an array.
    tolerance
        Largest estimated relative error of the effective diffusivity.
    max_iterations
        Iterations after which ConvergenceError is raised; a small volume is then solved directly.
    communicator
        An mpi4py communicator whose ranks all call this function; None for one process.

    Returns
    -------
    TransportResult
        ``tortuosity_factor`` (no unit; None where nothing joins the ends), ``relative_diffusivity``, ``error_estimate`` and more.

    Raises
    ------
    ContractError
        The labels are no integer volume (z, y, x).
    SettingsError
        An argument is out of range.
    ConvergenceError
        The tolerance was not met.

    Examples
    --------
    Layers across the transport conduct like resistances in series:

    >>> labels = np.zeros((4, 3, 5), np.uint8)
    >>> labels[2:] = 1
    >>> round(tortuosity(labels, {0: 1.0, 1: 0.25}).relative_diffusivity, 6)
    0.4
    """
    if isinstance(labels, Labelled):
        own = {name: "periodic" if wraps else "no-flux" for name, wraps in zip("zyx", labels.periodic, strict=True)}
        labels, sides = electrode(labels.labels), own if sides is None else sides
    return _solve(
        labels,
        diffusivities,
        axis=axis,
        sides="no-flux" if sides is None else sides,
        tolerance=tolerance,
        max_iterations=max_iterations,
        communicator=communicator,
    )


def read_volume(
    path: str | os.PathLike,
    *,
    voxel_edge_um: float | None = None,
    labels: Mapping[int, str] | None = None,
    dataset: str = "",
    shape: tuple[int, int, int] | None = None,
    dtype: str = "",
    axes: str = "zyx",
    flip_z: bool = False,
    crop: str = ":,:,:",
) -> "Labelled | GreyVolume":
    """Read a volume from any file that Calandria knows.

    Formats: TIFF stacks, folders of TIFF or PNG slices, HDF5, zarr (a folder or ``*.zarr.zip``), npy and raw. A labelled volume or
    series that Calandria wrote (``*.zarr.zip``) needs no further argument, and takes none.

    Parameters
    ----------
    path
        The file, or a folder of slices.
    voxel_edge_um
        Edge of the cubic voxels in um; labels need it.
    labels
        Phase of each label in the file, e.g. ``{0: "pore", 1: "am", 2: "cbd"}`` (``"void"`` is outside of the electrode). Without it
        the voxels keep the values of the file.
    dataset
        Array in an HDF5 or zarr file; needed where there are several volumes.
    shape, dtype
        Extents of a raw file, slowest axis first, and its NumPy type (``"uint8"`` if empty).
    axes
        Order of the file's axes, slowest first.
    flip_z
        Whether the current collector is at the last index along z in the file.
    crop
        Voxels to keep, ``"z0:z1,y0:y1,x0:x1"``, counted after ``axes`` and ``flip_z``.

    Returns
    -------
    Labelled or GreyVolume
        A :class:`Labelled` where labels are known, else a :class:`calandria.tomography.images.GreyVolume` of the file's own values.

    Raises
    ------
    InputFileError
        The file cannot be read as a volume.
    SettingsError
        An argument does not fit the file, or the voxel edge is missing.
    ContractError
        The file has a label that ``labels`` does not name.
    MissingPackageError
        A package that reads the format is not installed.

    Examples
    --------
    >>> np.save("mask.npy", np.array([[[0, 255], [0, 0]], [[255, 0], [0, 0]]], np.uint8))
    >>> volume = read_volume("mask.npy", voxel_edge_um=0.5, labels={0: "pore", 255: "am"})
    >>> volume.labels.shape, volume.labels.max().item()
    ((2, 2, 2), 2)
    """
    with needed_by("calandria.read_volume"):
        from .tomography import images
    return images.read_volume(
        path,
        voxel_edge_um=voxel_edge_um,
        labels=labels,
        dataset=dataset,
        shape=shape,
        dtype=dtype,
        axes=axes,
        flip_z=flip_z,
        crop=crop,
    )


def read_dumps(
    sources: str | Path | Iterable[str | Path],
    *,
    phase_of_type: Mapping[int, Literal["cbd", "am"]] | None = None,
    radius_of_type_um: Mapping[int, float] | None = None,
    length_unit_um: float | None = None,
    collector_z_um: float = 0.0,
    expected_frames: int | None = None,
    periodic_if_unsaid: bool = True,
) -> "Particles":
    """Read the particle dumps of one simulation (LAMMPS ``dump custom``, LIGGGHTS; plain, gz, bz2, xz or zst).

    Parameters
    ----------
    sources
        Dump files, folders of them, or glob patterns, in one word or several; frames are taken in the natural order of the files.
    phase_of_type
        Phase of each particle type; ``{1: "cbd", 2: "am"}`` if None.
    radius_of_type_um
        Radius of each type in um, for dumps that hold neither radius nor diameter.
    length_unit_um
        Length of one unit of the dump in um; None takes it from ITEM: UNITS, and 1 where the dump has none.
    collector_z_um
        Height of the current collector's surface in the dump in um.
    expected_frames
        Number of frames that must be found; None accepts any.
    periodic_if_unsaid
        Whether x and y are periodic where the dump does not say.

    Returns
    -------
    Particles
        Over t frames and n particles: ``x``, ``y``, ``z``, ``radius`` (t, n) in um, heights from the current collector; ``phase``
        and ``identity`` (n); ``box`` (t, 3, 2) in um; ``step`` (t); ``time_us`` (t) or None.

    Raises
    ------
    InputFileError
        A dump is missing, damaged or does not belong to one simulation.
    SettingsError
        An argument is out of range.

    Examples
    --------
    >>> frame = '''ITEM: TIMESTEP
    ... 0
    ... ITEM: NUMBER OF ATOMS
    ... 1
    ... ITEM: BOX BOUNDS pp pp ff
    ... 0 4
    ... 0 4
    ... -1 9
    ... ITEM: ATOMS id type radius x y z
    ... 1 2 1.5 2 2 1.5
    ... '''
    >>> _ = Path("dump.lammpstrj").write_text(frame)
    >>> read_dumps("dump.lammpstrj").radius.tolist()
    [[1.5]]
    """
    with needed_by("calandria.read_dumps"):
        from .calendering.dumps import read_run
        from .calendering.settings import DumpSettings
    options = {
        "phase_of_type": dict(phase_of_type) if phase_of_type is not None else None,
        "radius_of_type_um": dict(radius_of_type_um) if radius_of_type_um is not None else None,
        "length_unit_um": length_unit_um,
        "collector_z_um": collector_z_um,
        "expected_frames": expected_frames,
        "periodic_if_unsaid": periodic_if_unsaid,
    }
    settings = DumpSettings.from_mapping(
        {name: value for name, value in options.items() if value is not None}, "arguments of read_dumps"
    )
    return read_run([sources] if isinstance(sources, str | Path) else sources, settings)


def voxelize(
    particles: "Particles",
    voxel_edge_um: float = 0.4,
    *,
    thickness_um: ArrayLike | None = None,
    height_voxels: int | None = None,
    largest_misfit: float = 0.02,
    conserve_volume: bool = False,
) -> Labelled:
    """Paint the particles of every frame into voxels: 0 pore, 1 CBD, 2 AM, 4 void above the film.

    A voxel belongs to a sphere if its centre is inside; AM covers CBD. With ``conserve_volume``, what overlaps or lies above the surface is
    grown back: AM, then CBD takes the pore voxels nearest to its spheres until its voxels hold the volume of its spheres.

    Parameters
    ----------
    particles
        From :func:`read_dumps`.
    voxel_edge_um
        Edge of the cubic voxels in um. It changes a little where a periodic box is no multiple of it; the result has the edge used.
    thickness_um
        Height (t) of the film's surface above the current collector in um, or one height for all frames; None takes the top of the
        highest sphere in each frame. Voxels above it become void.
    height_voxels
        Slices along z; None takes what the thickest frame needs.
    largest_misfit
        Largest relative change of the voxel edge.
    conserve_volume
        Whether phases are grown; not for a slab that ``thickness_um`` cuts out of a film, and not for clumps of overlapping spheres.

    Returns
    -------
    Labelled
        A series (t, z, y, x); ``frames`` has ``thickness_um``, ``time_us`` where the dumps state times, and the shares of solid
        that overlap and cutting at the surface cost (``overlap_loss_cbd``, ``overlap_loss_am``, ``cut_loss``; no unit) and that was
        grown (``grown_cbd``, ``grown_am``). A loss of over 0.01 with ``conserve_volume`` means that the pores did not hold the solid.

    Raises
    ------
    ContractError
        The periodic box has no whole number of such voxels, the film is higher than ``height_voxels``, or the dumps say that spheres
        form clumps (column ``mol``) and ``conserve_volume`` is true.
    SettingsError
        An argument is out of range.

    Examples
    --------
    >>> from calandria.calendering.dumps import Particles
    >>> one = np.ones((1, 1))
    >>> box = np.array([[[0.0, 4.0], [0.0, 4.0], [0.0, 4.0]]])
    >>> identity = np.array([1])
    >>> sphere = Particles(2 * one, 2 * one, one, one, np.array([2], np.uint8), identity, None, box, (True, True), 0 * identity, None)
    >>> series = voxelize(sphere, 0.5)
    >>> series.labels.shape, int((series.labels == 2).sum())
    ((1, 4, 8, 8), 32)
    """
    with needed_by("calandria.voxelize"):
        from .calendering.settings import VoxelSettings
        from .calendering.voxels import choose_grid, paint_frames
    settings = VoxelSettings.from_mapping(
        {
            "voxel_edge_um": voxel_edge_um,
            "grid_height_voxels": height_voxels,
            "grid_height_multiple": 1,
            "largest_misfit": largest_misfit,
            "conserve_volume": conserve_volume,
        },
        "arguments of voxelize",
    )
    count = particles.step.size
    top = (particles.z + particles.radius).max(axis=1) if thickness_um is None else np.asarray(thickness_um, np.float64)
    if top.shape not in ((), (count,)) or not np.all(np.isfinite(top) & (top > 0)):
        raise SettingsError(
            f"thickness_um is {thickness_um!r}; expected a height above 0, or one for each of the {count} frames",
            hint="give heights in um above the current collector, or leave thickness_um out",
        )
    thickness = np.broadcast_to(top, (count,)).copy()
    grid = choose_grid(particles, thickness, settings)
    labels, measured = paint_frames(particles, thickness, grid)
    frames = {"thickness_um": thickness, **{name: column for name, column in measured.items() if name != "porosity_free"}}
    if particles.time_us is not None:
        frames["time_us"] = particles.time_us
    periodic = (False, particles.periodic[1], particles.periodic[0])
    return Labelled(
        labels, grid.edge_um, periodic, "particles", frames, {"box_misfit": grid.misfit, "conserve_volume": conserve_volume}
    )


def _one_volume(volume: Labelled | ArrayLike, what: str) -> NDArray[np.uint8]:
    """Return the phase codes (z, y, x) of one volume."""
    labels = volume.labels if isinstance(volume, Labelled) else np.asarray(volume)
    if labels.ndim != 3:
        raise ContractError(
            f"{what} was given {labels.ndim} axes; expected one volume (z, y, x)",
            hint="take one frame of a series, e.g. series.frame(0)",
        )
    if labels.dtype.kind in "iu" and labels.size and labels.min() >= 0 and labels.max() <= 255:
        labels = labels.astype(np.uint8, copy=False)
    return check(Labelled(labels, 1.0, (False, False, False), what), what).labels


def phase_fractions(volume: Labelled | ArrayLike) -> dict[str, float]:
    """Return the share of pore, CBD and AM in the electrode; void above the electrode is left out.

    Parameters
    ----------
    volume
        A :class:`Labelled` volume, or phase codes (z, y, x): 0 pore, 1 CBD, 2 AM, 4 void.

    Returns
    -------
    dict
        ``pore``, ``cbd`` and ``am``, fractions of 1; all 0 where the volume is void.

    Raises
    ------
    ContractError
        The array is no volume of phase codes.

    Examples
    --------
    >>> phase_fractions(np.array([[[0, 2], [2, 4]], [[1, 4], [4, 4]]]))
    {'pore': 0.25, 'cbd': 0.25, 'am': 0.5}
    """
    return volume_fractions(_one_volume(volume, "phase_fractions"))


def contact_areas(
    volume: Labelled | ArrayLike, *, voxel_edge_um: float | None = None, periodic: Sequence[bool] | None = None
) -> dict[str, float]:
    """Return the area between each pair of phases, counted in faces of voxels.

    Faces of a smooth, randomly oriented surface add up to 1.5 times its area.

    Parameters
    ----------
    volume
        A :class:`Labelled` volume, or phase codes (z, y, x): 0 pore, 1 CBD, 2 AM, 4 void (its faces count for nothing).
    voxel_edge_um
        Edge of the voxels in um; needed for an array, and that of the volume if None.
    periodic
        Whether the sides (z, y, x) wrap around; as in the volume if None, and none of them for an array.

    Returns
    -------
    dict
        Areas ``pore_cbd``, ``pore_am`` and ``am_cbd`` in um2.

    Raises
    ------
    ContractError
        The array is no volume of phase codes.
    SettingsError
        The voxel edge is missing or not above 0, or ``periodic`` does not have three entries.

    Examples
    --------
    >>> contact_areas(np.array([[[0, 2, 1]]]), voxel_edge_um=0.5)
    {'pore_cbd': 0.0, 'pore_am': 0.25, 'am_cbd': 0.25}
    """
    labels = _one_volume(volume, "contact_areas")
    if isinstance(volume, Labelled):
        voxel_edge_um = volume.voxel_edge_um if voxel_edge_um is None else voxel_edge_um
        periodic = volume.periodic if periodic is None else periodic
    if voxel_edge_um is None or not (np.isfinite(voxel_edge_um) and voxel_edge_um > 0):
        raise SettingsError(
            f"contact_areas: voxel_edge_um is {voxel_edge_um!r}; expected a length above 0 in um",
            hint="give the voxel edge of the array: contact_areas(labels, voxel_edge_um=0.4)",
        )
    wraps = tuple(bool(side) for side in periodic) if periodic is not None else (False, False, False)
    if len(wraps) != 3:
        raise SettingsError(
            f"contact_areas: periodic has {len(wraps)} entries; expected three, for z, y and x",
            hint="say for each axis whether its sides wrap, e.g. (False, True, True)",
        )
    counts = count_interfaces(labels, (wraps[0], wraps[1], wraps[2]))
    return {name: float(count * voxel_edge_um**2) for name, count in counts.items()}


def to_xarray(volume: Labelled) -> "xarray.DataArray":
    """Return a volume or series as an ``xarray.DataArray``; the same as ``volume.to_xarray()``.

    Parameters
    ----------
    volume
        A :class:`Labelled` volume (z, y, x) or series (t, z, y, x).

    Returns
    -------
    xarray.DataArray
        ``labels`` with the dimensions' names; the coordinates z, y and x are the middles of the voxels in um, and each quantity of a
        series' frames is a coordinate along t. The attributes are those of the volume.

    Raises
    ------
    MissingPackageError
        xarray is not installed.

    Examples
    --------
    >>> array = to_xarray(Labelled(np.zeros((2, 3, 4), np.uint8), 0.5, (False, True, True), "an example"))
    >>> array.dims, array.z.values.tolist(), array.z.attrs["units"]
    (('z', 'y', 'x'), [0.25, 0.75], 'um')
    """
    return volume.to_xarray()
