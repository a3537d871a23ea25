"""Spheres from a labelled frame, with an estimate of how many were found and how well they repaint it."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..base.errors import ContractError, SettingsError
from ..base.phases import AM, CBD, CODES, ELECTRODE, NAMES, VOID
from ..base.volumes import r2
from ..calendering.dumps import Particles
from ..calendering.voxels import Grid, paint_frame
from .rendering import FINE_SOFTNESS, SOFTNESS, Spheres, fit, own_gains
from .seeds import blobs_of_am, close_pairs, period, seeds_of_am, seeds_of_cbd, tree, without_specks, wrapped

ROUNDS = 4
ITERATIONS, RATE = 18, 0.12
"""Steps of each fit, and its first rate, voxels a step."""
FINE_ITERATIONS, FINE_RATE = 24, 0.06
"""The same of the last fit."""
FEWEST_VOXELS_ACROSS = 3.0
"""Smallest diameter of a sphere that can be told from noise, voxels."""
MERGED = 0.6
"""Two spheres of a phase that are nearer than this share of the middle CBD radius are one."""
OWN_SHARE = 0.18
"""Share of the volume of a middle CBD sphere, or of the smallest AM sphere, that a sphere must set right on its own."""
LEEWAY = {CBD: 0.07, AM: 0.4}
"""By what share of the smallest and largest radius the fit may leave their range; little for CBD, so that one sphere does not swallow two."""
SMALLEST_AM = 0.8
"""Spheres of AM below this share of their smallest radius are dropped."""


@dataclass(frozen=True)
class RecoveredSpheres:
    """The spheres of a frame, and how far they can be trusted.

    Parameters
    ----------
    centre_um
        (n, 3) along z, y, x; z from the current collector, x and y from the lower corner of the grid, within it where periodic.
    radius_um
        (n), the bias taken off.
    phase
        (n) codes, CBD or AM; AM first.
    recall
        Per phase name the share of these spheres that are found again, each by another one and within half the smallest radius of its phase, after they were
        painted: an estimate of the share of the true spheres that were found. It is too high where spheres were missed, since those are not painted (on a film
        compressed by 24 %: 0.987, true 0.970). NaN without spheres of the phase, or without calibration.
    repaint_r2
        R2 of the frame that these spheres paint, on the label values, void included (eq. 3 of doi 10.1002/aenm.202400376).
    radius_bias_um
        Per phase name what was taken off the radii: the median error of the radii that were recovered from the painted spheres.
    dropped
        Spheres that the fit held for a while and that were merged with another one or set too few voxels right on their own.
    specks
        Share of the film's voxels that had too few neighbours of their own phase and were taken for errors of the segmentation.
    """

    centre_um: NDArray[np.float64]
    radius_um: NDArray[np.float64]
    phase: NDArray[np.uint8]
    recall: dict[str, float]
    repaint_r2: float
    radius_bias_um: dict[str, float]
    dropped: int
    specks: float


def recover_spheres(
    labels: NDArray[np.uint8],
    voxel_edge_um: float,
    periodic: tuple[bool, bool] = (True, True),
    *,
    cbd_radius_um: tuple[float, float] = (0.75, 1.0),
    am_radius_um: tuple[float, float] = (1.5, 5.0),
    calibrate: bool = True,
) -> RecoveredSpheres:
    """Find the spheres that were painted into a labelled frame.

    Active material begins at the maxima of the distance to its border, CBD where a ball fits best. All centres and radii are then fitted together to the
    voxels, in rounds; between them doubles are merged, spheres that set too few voxels right are dropped, and voxels that no sphere covers get new ones. The
    spheres so found are painted and recovered once more, which gives the bias of the radii and the recall. That frame has no errors of segmentation and each
    voxel whose centre is in a sphere, as :func:`calandria.calendering.voxels.paint_frame` paints it: frames that were blurred, or painted so that phases keep
    their volume, have a bias of their own that is not taken off.

    Parameters
    ----------
    labels
        (z, y, x) phase codes, z from the current collector. Voxels of void are unknown; slices that are mostly void are above the film.
    voxel_edge_um
        Edge of the cubic voxels.
    periodic
        Whether x and y wrap around; else spheres may reach over the sides.
    cbd_radius_um, am_radius_um
        Smallest and largest radius to expect. The fit may leave the range by 7 % for CBD and 40 % for AM, so a range that is wrong lowers ``repaint_r2``;
        spheres of AM below 0.8 of the smallest are dropped.
    calibrate
        Whether to take the bias off the radii and to estimate the recall, at twice the cost; without it the bias is 0 and the recall NaN.

    Returns
    -------
    RecoveredSpheres
        The same, bit by bit, for the same labels on the same machine.

    Raises
    ------
    ContractError
        Labels that are no (z, y, x) phase codes, or hold no solid; radii that the voxels do not resolve.
    SettingsError
        A range of radii that is none, or an edge that is not above 0.
    """
    radii = {
        CBD: _in_voxels("cbd_radius_um", cbd_radius_um, voxel_edge_um),
        AM: _in_voxels("am_radius_um", am_radius_um, voxel_edge_um),
    }
    volume = _checked(labels)
    filled = np.flatnonzero((volume == VOID).mean(axis=(1, 2)) < 0.5)
    if not np.isin(volume, (CBD, AM)).any():
        raise ContractError(
            f"labels of shape {volume.shape} hold no voxel of CBD ({CBD}) or AM ({AM})",
            hint="give a frame of an electrode; look at the phase codes of the labels",
        )
    film = np.ascontiguousarray(volume[: int(filled[-1]) + 1]) if filled.size else volume
    spheres, dropped, specks = _recover(film, periodic, radii)
    bias, recall = dict.fromkeys((CBD, AM), 0.0), dict.fromkeys((CBD, AM), math.nan)
    if calibrate and len(spheres):
        again, _, _ = _recover(_paint(spheres, film, periodic), periodic, radii)
        bias, recall = _errors_of(again, spheres, period(film.shape, periodic), radii)
        spheres = Spheres(spheres.centre, spheres.radius - _by_phase(spheres, bias), spheres.code)
    repainted = np.full(volume.shape, VOID, np.uint8)
    repainted[: len(film)] = _paint(spheres, film, periodic)
    return RecoveredSpheres(
        (wrapped(spheres.centre + 0.5, period(film.shape, periodic))) * voxel_edge_um,
        spheres.radius * voxel_edge_um,
        spheres.code,
        {NAMES[code]: share for code, share in recall.items()},
        r2(volume.astype(np.float64), repainted.astype(np.float64)),
        {NAMES[code]: error * voxel_edge_um for code, error in bias.items()},
        dropped,
        specks,
    )


def _recover(
    labels: NDArray[np.uint8], periodic: tuple[bool, bool], radii: dict[int, tuple[float, float]]
) -> tuple[Spheres, int, float]:
    """Return the spheres of a film in voxels, how many were dropped on the way, and the share of lonely voxels."""
    cleaned = without_specks(labels, periodic)
    cbd, am = cleaned == CBD, cleaned == AM
    middle = sum(radii[CBD]) / 2
    limits = {code: ((1 - LEEWAY[code]) * low, (1 + LEEWAY[code]) * high) for code, (low, high) in radii.items()}
    box = period(labels.shape, periodic)
    fewest = {CBD: OWN_SHARE * 4 / 3 * math.pi * middle**3, AM: OWN_SHARE * 4 / 3 * math.pi * radii[AM][0] ** 3}
    spheres = seeds_of_am(am, periodic, radii[AM]).joined(
        seeds_of_cbd(cbd, am, periodic, middle, spacing=1.31 * middle, threshold=0.42)
    )
    dropped = 0
    for step in range(ROUNDS):
        spheres = fit(cleaned, periodic, spheres, limits, ITERATIONS, RATE, SOFTNESS)
        kept = _merged(spheres, box, MERGED * middle)
        if step:
            kept &= (spheres.code == CBD) | (spheres.radius >= SMALLEST_AM * radii[AM][0])
        dropped += int((~kept).sum())
        spheres = spheres.chosen(kept)
        painted, gains = own_gains(cleaned, periodic, spheres)
        if step:
            kept = gains >= _by_phase(spheres, fewest)
            dropped += int((~kept).sum())
            spheres = spheres.chosen(kept)
        if step < ROUNDS - 1:
            missing = cbd & (painted != CBD)
            spheres = spheres.joined(
                seeds_of_cbd(missing, am | (cbd & ~missing), periodic, 0.73 * middle, spacing=1.31 * middle, threshold=0.2),
                blobs_of_am(am & (painted != AM), math.ceil(fewest[AM]), radii[AM][0]),
            )
    spheres = fit(labels, periodic, spheres, limits, FINE_ITERATIONS, FINE_RATE, FINE_SOFTNESS)
    spheres = spheres.chosen(np.argsort(-spheres.code.astype(np.int64), kind="stable"))
    return spheres, dropped, float((cleaned != labels).sum() / max(1, (labels != VOID).sum()))


def _by_phase(spheres: Spheres, value: dict[int, float]) -> NDArray[np.float64]:
    return np.where(spheres.code == AM, value[AM], value[CBD])


def _merged(spheres: Spheres, box: NDArray[np.float64], distance: float) -> NDArray[np.bool_]:
    """Return which spheres stay when of two of one phase that are nearer than ``distance`` the smaller goes."""
    kept = np.ones(len(spheres), bool)
    for first, second in close_pairs(spheres.centre, distance, box):
        if spheres.code[first] == spheres.code[second] and kept[first] and kept[second]:
            kept[second if spheres.radius[second] <= spheres.radius[first] else first] = False
    return kept


def _errors_of(
    found: Spheres, true: Spheres, box: NDArray[np.float64], radii: dict[int, tuple[float, float]]
) -> tuple[dict[int, float], dict[int, float]]:
    """Return, per phase, the median error of the radii and the share of the true spheres that were found; 0 and NaN without any."""
    bias, recall = dict.fromkeys((CBD, AM), 0.0), dict.fromkeys((CBD, AM), math.nan)
    for code in (CBD, AM):
        ours, theirs = found.chosen(found.code == code), true.chosen(true.code == code)
        if not len(theirs):
            continue
        nearest, index = matches(ours.centre, theirs.centre, box, radii[code][0] / 2)
        recall[code] = nearest.size / len(theirs)
        if nearest.size:
            bias[code] = float(np.median(ours.radius[index] - theirs.radius[nearest]))
    return bias, recall


def matches(
    found: NDArray[np.float64], true: NDArray[np.float64], box: NDArray[np.float64], within: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair each true centre with the found centre nearest to it, if it is within a distance; a found centre serves the nearest true one only.

    Parameters
    ----------
    found, true
        (m, 3) and (n, 3) centres.
    box
        Periods along the three axes, 0 where there is none.
    within
        Largest distance.

    Returns
    -------
    tuple
        Indices of the paired true centres, and of their partners.
    """
    if not len(found) or not len(true):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    distance, partner = tree(found, box).query(wrapped(true, box))
    order = np.argsort(distance, kind="stable")
    order = order[distance[order] <= within]
    _, first = np.unique(partner[order], return_index=True)
    chosen = np.sort(order[first])
    return chosen, partner[chosen]


def _paint(spheres: Spheres, film: NDArray[np.uint8], periodic: tuple[bool, bool]) -> NDArray[np.uint8]:
    """Paint spheres into a film; its voxels of void stay void."""
    nz, ny, nx = film.shape
    z, y, x = (spheres.centre + 0.5).T[:, None, :]
    sides = np.array([[[0.0, nx], [0.0, ny], [0.0, nz]]])
    particles = Particles(
        x,
        y,
        z,
        spheres.radius[None],
        spheres.code,
        np.arange(1, len(spheres) + 1),
        None,
        sides,
        periodic,
        np.zeros(1, np.int64),
        None,
    )
    painted = paint_frame(particles, 0, nz, Grid(film.shape, 1.0, periodic, 0.0)).labels if len(spheres) else np.zeros_like(film)
    return np.where(film == VOID, np.uint8(VOID), painted)


def _in_voxels(name: str, radius_um: tuple[float, float], voxel_edge_um: float) -> tuple[float, float]:
    if not (math.isfinite(voxel_edge_um) and voxel_edge_um > 0):
        raise SettingsError(f"voxel_edge_um is {voxel_edge_um}; expected a length above 0", hint="give the edge of a voxel in um")
    low, high = radius_um
    if not (math.isfinite(high) and 0 < low <= high):
        raise SettingsError(
            f"{name} is {low:g} to {high:g} um; expected a smallest radius above 0 and a largest not below it",
            hint="give the smallest and the largest radius of the phase's spheres in um",
        )
    if 2 * low < FEWEST_VOXELS_ACROSS * voxel_edge_um:
        raise ContractError(
            f"{name} begins at {low:g} um, {2 * low / voxel_edge_um:.2g} voxels of {voxel_edge_um:g} um across; expected {FEWEST_VOXELS_ACROSS:g} or more",
            hint=f"give a frame of voxels of {2 * low / FEWEST_VOXELS_ACROSS:.3g} um or less, or a larger smallest radius",
        )
    return low / voxel_edge_um, high / voxel_edge_um


def _checked(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    volume = np.ascontiguousarray(labels)
    if volume.ndim != 3 or volume.dtype != np.uint8 or not volume.size:
        raise ContractError(
            f"labels have shape {volume.shape} and type {volume.dtype}; expected (z, y, x) of uint8, not empty",
            hint="give one frame of phase codes; of a series labels[t]",
        )
    unknown = sorted(set(np.unique(volume).tolist()) - set(CODES))
    if unknown:
        raise ContractError(
            f"labels hold the codes {unknown}; expected phase codes {sorted(CODES)}",
            hint=f"relabel the frame: {', '.join(f'{code} {NAMES[code]}' for code in (*ELECTRODE, VOID))}",
        )
    return volume
