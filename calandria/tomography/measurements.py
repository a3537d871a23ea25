"""Phase fractions, thickness and profiles through the thickness of a labelled electrode."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from ..base.phases import ELECTRODE, NAMES, PORE
from ..base.volumes import filled_shares, filled_slices, slabs


@dataclass(frozen=True)
class PhaseMeasurement:
    """What a labelled volume consists of; void above the electrode is left out of all fractions.

    Parameters
    ----------
    phase_fractions
        Share of pore, CBD and AM in the electrode.
    phase_voxels
        Voxels of pore, CBD, AM and void in the whole volume.
    porosity_free
        Share of pore outside the binder domain, as in ``phase_fractions``.
    thickness_um
        From the current collector (z = 0) to the surface: the last slice of which less than half is void.
    profile_z_um
        Height of each slice's middle above the current collector.
    profile_phase_fractions
        For each phase its share in each slice's electrode; None where a slice is void altogether.
    """

    phase_fractions: dict[str, float]
    phase_voxels: dict[str, int]
    porosity_free: float
    thickness_um: float
    profile_z_um: list[float]
    profile_phase_fractions: dict[str, list[float | None]]

    def record(self) -> dict:
        """Return the measurement for JSON."""
        return asdict(self)


def measure(labels: NDArray[np.uint8], voxel_edge_um: float) -> PhaseMeasurement:
    """Measure phases and thickness of a volume.

    Parameters
    ----------
    labels
        uint8 phase codes (z, y, x), z from the current collector.
    voxel_edge_um
        Edge of the cubic voxels.

    Examples
    --------
    >>> found = measure(np.array([[[0, 2]], [[1, 2]], [[4, 4]]], np.uint8), 0.5)
    >>> found.porosity_free, found.thickness_um, found.profile_phase_fractions["cbd"]
    (0.25, 1.0, [0.0, 0.5, None])
    """
    counts = PhaseCounts()
    for slab in slabs(labels):
        counts.add(slab)
    return counts.measurement(voxel_edge_um)


class PhaseCounts:
    """Counts the phases of each slice of a volume that comes slab by slab, from the current collector on."""

    def __init__(self) -> None:
        self._per_slice: list[NDArray[np.int64]] = []
        self._filled: list[NDArray[np.float64]] = []

    def add(self, slab: NDArray[np.uint8]) -> None:
        """Count the next slices (n, y, x) of phase codes."""
        self._per_slice += [np.bincount(plane.ravel(), minlength=5) for plane in slab]
        self._filled.append(filled_shares(slab))

    def measurement(self, voxel_edge_um: float) -> PhaseMeasurement:
        """Return phases and thickness of all slices that were added."""
        per_slice = np.array(self._per_slice)
        electrode = per_slice[:, ELECTRODE].sum(axis=1)
        whole = electrode.sum()
        fractions = {NAMES[code]: float(per_slice[:, code].sum() / whole) if whole else 0.0 for code in ELECTRODE}
        return PhaseMeasurement(
            phase_fractions=fractions,
            phase_voxels={name: int(per_slice[:, code].sum()) for code, name in NAMES.items()},
            porosity_free=fractions[NAMES[PORE]],
            thickness_um=filled_slices(np.concatenate(self._filled)).stop * voxel_edge_um,
            profile_z_um=((np.arange(len(per_slice)) + 0.5) * voxel_edge_um).tolist(),
            profile_phase_fractions={
                NAMES[code]: [float(n / total) if total else None for n, total in zip(per_slice[:, code], electrode)]
                for code in ELECTRODE
            },
        )
