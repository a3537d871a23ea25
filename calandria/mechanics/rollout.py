"""What follows from the given frames of a film: the mechanics builds up the memory of its contacts, then follows the press."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..base.errors import ContractError
from .film import Film
from .law import ContactLaw
from .packing import DEFAULT, Packing, Relaxation

CARRIER_REACH_UM = 0.05
"""A sphere carried the press where its top was at most so far below the press's lowest point."""


@dataclass(frozen=True)
class Rollout:
    """Predicted frames; those that were given are as given.

    Parameters
    ----------
    centres_um
        (t, n, 3) x, y, z.
    surface_um
        (t) height of the film's surface; NaN in the given frames.
    """

    centres_um: NDArray[np.float64]
    surface_um: NDArray[np.float64]


def spin_up(film: Film, frame: int, n_lag: int, law: ContactLaw, relaxation: Relaxation) -> Packing:
    """Return the packing at a frame, with contacts that remember the ``n_lag`` frames before it.

    The mechanics runs from frame to frame, and the centres are put back on the true ones at each, so sliding and rolling build up.
    """
    begin = max(frame - n_lag, 0)
    packing = Packing(
        film.centres_um[begin],
        film.radius_um,
        film.phase,
        film.box_um,
        film.periodic,
        float(film.press_um[begin]),
        law,
        relaxation,
    )
    for known in range(begin, frame):
        step = film.motion(film.centres_um[known], film.centres_um[known + 1]) / relaxation.substeps
        packing.velocity[:] = step
        packing.move_press(float(film.press_um[known + 1]), relaxation.substeps)
        packing.place(packing.centres + film.motion(packing.centres, film.centres_um[known + 1]), step)
    return packing


class _Press:
    """Moves the press from frame to frame, through the turn, and knows the film's surface."""

    def __init__(self, film: Film, packing: Packing) -> None:
        self.film, self.packing = film, packing
        self.lowest: NDArray[np.float64] | None = None

    def turn(self) -> None:
        """Set the contacts at the lowest point."""
        self.packing.set_contacts()
        self.lowest = self.packing.centres.copy()

    def step(self, target: int) -> float:
        """Move to a frame and return the surface there, um."""
        film, packing, substeps = self.film, self.packing, self.packing.relaxation.substeps
        press = float(film.press_um[target])
        if target <= film.turn:
            packing.move_press(press, substeps)
            return press
        if self.lowest is None:
            down, up = abs(packing.press_um - film.lowest_um), abs(press - film.lowest_um)
            before = round(substeps * down / (down + up)) if down + up else 0
            packing.move_press(film.lowest_um, before)
            self.turn()
            packing.move_press(press, substeps - before)
        else:
            packing.move_press(press, substeps)
        return self.surface(press)

    def surface(self, press_um: float) -> float:
        """Return the height of the surface after the turn: it rises with the spheres that carried the press at its lowest point."""
        assert self.lowest is not None
        carriers = self.lowest[:, 2] + self.film.radius_um > self.film.lowest_um - CARRIER_REACH_UM
        rise = float((self.packing.centres[carriers, 2] - self.lowest[carriers, 2]).mean()) if carriers.any() else 0.0
        return min(press_um, self.film.lowest_um + rise)


def roll_out(
    film: Film,
    n_given: int,
    law: ContactLaw,
    relaxation: Relaxation = DEFAULT,
    n_frames: int | None = None,
    n_lag: int | None = None,
) -> Rollout:
    """Predict all frames after the first ``n_given`` from these and the path of the press.

    Parameters
    ----------
    film
        The film; of frames that are not given, only the press is read.
    n_given
        Given frames, all before the press turns.
    law, relaxation
        Contact law, and how the packing relaxes.
    n_frames
        Frames of the rollout, given ones included; None for all.
    n_lag
        Given frames before the last one that contacts remember; None for all.

    Raises
    ------
    ContractError
        No frame is given, or one after the turn; the spheres flew apart.
    """
    _check_given(film, n_given)
    last = n_given - 1
    end = film.n_frames if n_frames is None else min(n_frames, film.n_frames)
    packing = spin_up(film, last, last if n_lag is None else n_lag, law, relaxation)
    centres, surface = np.array(film.centres_um[:end]), np.full(end, np.nan)
    press = _Press(film, packing)
    for target in range(n_given, end):
        surface[target] = press.step(target)
        centres[target] = packing.centres
    return Rollout(centres, surface)


def one_steps(film: Film, n_given: int, law: ContactLaw, relaxation: Relaxation = DEFAULT) -> Rollout:
    """Predict each frame from the true ones before it.

    While the press sinks, every step begins anew with the ``n_given - 1`` frames before its own. Contacts set once, at the turn, from the
    frames before it; afterwards the centres are put back on the true ones at each frame. Raises as :func:`roll_out`.
    """
    _check_given(film, n_given)
    n_lag = n_given - 1
    centres, surface = np.array(film.centres_um), np.full(film.n_frames, np.nan)
    press: _Press | None = None
    for target in range(n_given, film.n_frames):
        if target <= film.turn or press is None:
            press = _Press(film, spin_up(film, target - 1, n_lag, law, relaxation))
        else:
            packing = press.packing
            packing.place(packing.centres + film.motion(packing.centres, film.centres_um[target - 1]))
        surface[target] = press.step(target)
        centres[target] = press.packing.centres
    return Rollout(centres, surface)


def _check_given(film: Film, n_given: int) -> None:
    """Refuse given frames after the turn: the springs that contacts got there do not follow from them."""
    if not 1 <= n_given <= film.turn + 1:
        raise ContractError(
            f"{n_given} frames of a film are given; expected 1 to {film.turn + 1}, since the press turns after frame {film.turn}",
            hint="give fewer frames, or a film whose press turns later",
        )
