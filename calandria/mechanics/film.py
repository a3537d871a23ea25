"""A film as its frames show it: centres, radii and phases of the spheres, and the path of the press."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..base.errors import ContractError
from ..calendering.particles import Run

LARGEST_CHANGE = 1e-6
"""Change of a box or a radius during a run, relative, that counts as rounding."""


@dataclass(frozen=True)
class Film:
    """Frames of a film under the press.

    Parameters
    ----------
    centres_um
        (t, n, 3) x, y, z; heights are counted from the foil.
    radius_um, phase
        (n) radii and phase codes.
    box_um
        (2, 2) bounds of x and y.
    periodic
        Whether x and y wrap around.
    press_um
        (t) height of the press.
    turn
        Index of the last frame before the press turns.
    lowest_um
        Lowest height of the press, which may lie between two frames.
    """

    centres_um: NDArray[np.float64]
    radius_um: NDArray[np.float64]
    phase: NDArray[np.integer]
    box_um: NDArray[np.float64]
    periodic: tuple[bool, bool]
    press_um: NDArray[np.float64]
    turn: int
    lowest_um: float

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.press_um)

    def motion(self, begin: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``end - begin`` (..., 3) by the shortest way around periodic sides."""
        moved = end - begin
        for axis in range(2):
            if self.periodic[axis]:
                length = float(np.diff(self.box_um[axis])[0])
                moved[..., axis] -= length * np.round(moved[..., axis] / length)
        return moved


def film_of_run(run: Run) -> Film:
    """Return the film of a run's particles.

    Raises ContractError where the box or the radii change during the run.
    """
    particles = run.particles
    box, radius = particles.box[:, :2], particles.radius
    for name, values in (("box", box), ("radii of the spheres", radius)):
        change = float(np.abs(values - values[:1]).max() / np.abs(values[0]).max())
        if change > LARGEST_CHANGE:
            raise ContractError(
                f"the {name} change during the run by up to {change:.2%}; expected {LARGEST_CHANGE:g} or less",
                hint="the contact mechanics needs spheres of one size each in one box; leave it out of surrogate.predictors",
            )
    return Film(
        np.stack([particles.x, particles.y, particles.z], axis=-1),
        radius[0].copy(),
        particles.phase.copy(),
        box[0].copy(),
        particles.periodic,
        run.press_position_um.copy(),
        int(run.attributes["turn_frame"]),
        float(run.attributes["lowest_thickness_um"]),
    )
