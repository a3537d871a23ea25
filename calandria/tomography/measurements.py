"""Phase fractions, thickness and profiles through the thickness of a labelled electrode."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from ..base.phases import ELECTRODE, NAMES, PORE
from ..base.volumes import occupied_slices, volume_fractions


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
    per_slice = np.array([np.bincount(plane.ravel(), minlength=5) for plane in labels])
    electrode = per_slice[:, ELECTRODE].sum(axis=1)
    fractions = volume_fractions(labels)
    return PhaseMeasurement(
        phase_fractions=fractions,
        phase_voxels={name: int(per_slice[:, code].sum()) for code, name in NAMES.items()},
        porosity_free=fractions[NAMES[PORE]],
        thickness_um=occupied_slices(labels).stop * voxel_edge_um,
        profile_z_um=((np.arange(len(labels)) + 0.5) * voxel_edge_um).tolist(),
        profile_phase_fractions={
            NAMES[code]: [float(n / total) if total else None for n, total in zip(per_slice[:, code], electrode)]
            for code in ELECTRODE
        },
    )
