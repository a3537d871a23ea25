"""Learns the constants of a contact law from frames alone: evolution of laws whose rollouts stay close to the frames."""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from cmaes import CMA
from numpy.typing import NDArray

from ..base.errors import ContractError
from .film import Film
from .law import ContactLaw
from .packing import Relaxation
from .rollout import roll_out

N_LAG = 2
N_SCANNED = 11
FURTHEST_UM = 3.0
"""A sphere further away counts as so far, so that a few lost ones do not decide."""


@dataclass(frozen=True)
class Constant:
    """A constant that is learned, by the logarithm of its value to base 10.

    Parameters
    ----------
    name
        Field of :class:`ContactLaw`.
    start, low, high
        First guess and bounds of the value, in its unit.
    spread
        Standard deviation of the logarithm of the first guesses.
    """

    name: str
    start: float
    low: float
    high: float
    spread: float


LOADING = (
    Constant("cbd_modulus_gpa", 1.6, 5e-3, 16.0, 0.5),
    Constant("cbd_cbd_surface_energy_mj_m2", 316.0, 1.0, 3.2e4, 0.6),
    Constant("am_cbd_surface_energy_mj_m2", 316.0, 1.0, 3.2e4, 0.6),
    Constant("am_am_surface_energy_mj_m2", 316.0, 1.0, 3.2e4, 0.6),
    Constant("friction", 0.5, 0.01, 1.6, 0.25),
    Constant("rolling_friction", 0.03, 1e-4, 1.0, 0.4),
    Constant("press_friction", 0.5, 0.02, 1.2, 0.3),
    Constant("foil_friction", 0.5, 0.02, 1.2, 0.3),
)
"""Constants that decide the way down. The modulus of the active material is fixed, since only ratios of forces matter."""
RELEASE = tuple(Constant(f"{pair}_set_stiffness_n_m", 1000.0, 1.0, 1e5, 0.5) for pair in ("cbd_cbd", "am_cbd", "am_am", "foil"))
"""Constants that decide the way up."""


@dataclass(frozen=True)
class Stage:
    """A stage of the search.

    Parameters
    ----------
    horizon
        Frames that each rollout predicts.
    windows
        Rollouts that judge a law, drawn anew for each generation; None for ``begins`` in all films.
    generations
        Generations.
    narrowing
        Factor of each constant's spread at the start of the stage.
    substeps
        Substeps of a frame.
    begins
        Last known frames of the fixed windows, as fractions of the loading.
    scanned
        Constants that are first scanned over their whole range, one after another: long windows see what short ones cannot.
    """

    horizon: int
    windows: int | None
    generations: int
    narrowing: float
    substeps: int
    begins: tuple[float, ...] = ()
    scanned: tuple[str, ...] = ()


LOADING_STAGES = (
    Stage(4, 3, 36, 1.0, 40),
    Stage(7, 3, 36, 0.35, 50),
    Stage(11, None, 14, 0.15, 50, (0.08, 0.54), ("press_friction", "foil_friction", "am_am_surface_energy_mj_m2")),
)


@dataclass
class Search:
    """Where a search stands; pickles, so it resumes to the same law.

    Parameters
    ----------
    stage, generation
        What comes next.
    evolution
        State of the covariance matrix adaptation (Hansen 2016) of the running stage.
    centre
        Logarithms of the constants that the running stage began with.
    history
        Stage, generation, best and median loss, and the constants' logarithms, of each generation.
    """

    stage: int
    generation: int
    evolution: CMA | None
    centre: NDArray[np.float64]
    history: list[tuple[int, int, float, float, list[float]]]

    def to_bytes(self) -> bytes:
        """Return the state as bytes."""
        return pickle.dumps(self)


def with_constants(law: ContactLaw, constants: Sequence[Constant], logarithms: NDArray[np.float64]) -> ContactLaw:
    """Return a law with these constants, within their bounds."""
    values = np.clip(10.0**logarithms, [constant.low for constant in constants], [constant.high for constant in constants])
    changed: dict[str, Any] = {constant.name: float(value) for constant, value in zip(constants, values, strict=True)}
    return replace(law, **changed)


def distance(film: Film, predicted: NDArray[np.float64], frame: int) -> float:
    """Return the mean distance of predicted centres (n, 3) from those of a frame, um."""
    far = np.linalg.norm(film.motion(predicted, film.centres_um[frame]), axis=1)
    return float(np.minimum(np.nan_to_num(far, nan=FURTHEST_UM), FURTHEST_UM).mean())


def loading_loss(film: Film, begin: int, horizon: int, law: ContactLaw, relaxation: Relaxation) -> float:
    """Return the mean distance over a rollout of ``horizon`` frames after frame ``begin``, later ones weighing less."""
    end = min(begin + horizon, film.turn)
    try:
        rollout = roll_out(film, begin + 1, law, relaxation, end + 1, N_LAG)
    except ContractError:
        return FURTHEST_UM
    steps = range(begin + 1, end + 1)
    return float(np.mean([distance(film, rollout.centres_um[t], t) / (t - begin) ** 0.5 for t in steps]))


def release_loss(film: Film, law: ContactLaw, relaxation: Relaxation) -> float:
    """Return the mean distance over a rollout of all frames after the true last frame before the turn."""
    try:
        rollout = roll_out(film, film.turn + 1, law, relaxation, None, N_LAG)
    except ContractError:
        return FURTHEST_UM
    return float(np.mean([distance(film, rollout.centres_um[t], t) for t in range(film.turn + 1, film.n_frames)]))


def windows_of(films: Sequence[Film], stage: Stage, generation: int, seed: int) -> list[tuple[Film, int]]:
    """Return the films and last known frames that judge a generation."""
    if stage.windows is None:
        return [
            (film, min(max(round(fraction * film.turn), N_LAG), film.turn - 1)) for film in films for fraction in stage.begins
        ]
    draw = np.random.default_rng([seed, stage.horizon, generation])
    found = []
    for _ in range(stage.windows):
        film = films[int(draw.integers(len(films)))]
        found.append((film, int(draw.integers(N_LAG, max(film.turn - stage.horizon, N_LAG) + 1))))
    return found


def fit(
    loss: Callable[[ContactLaw, Stage, int], float],
    law: ContactLaw,
    constants: Sequence[Constant],
    stages: Sequence[Stage],
    seed: int,
    state: Search | None = None,
    report: Callable[[Search], None] = lambda state: None,
) -> tuple[ContactLaw, Search]:
    """Return the law whose constants make a loss small, by covariance matrix adaptation in stages.

    Parameters
    ----------
    loss
        ``loss(law, stage, generation)``: the smaller, the better.
    law
        Holds what is not learned.
    constants
        What is learned, and where it begins.
    stages
        Stages of the search, one after another.
    seed
        Seed of all draws.
    state
        Where an earlier call stood; None begins anew.
    report
        Called after each generation with the state, which can be stored then.
    """
    spread = np.array([constant.spread for constant in constants])
    bounds = np.log10([[constant.low, constant.high] for constant in constants])
    if state is None:
        state = Search(0, 0, None, np.log10([constant.start for constant in constants]), [])
    while state.stage < len(stages):
        stage = stages[state.stage]
        if state.evolution is None:
            for name in stage.scanned:
                _scan(loss, law, constants, stage, state, name)
            scale = spread * stage.narrowing
            state.evolution = CMA(
                mean=np.zeros(len(constants)),
                sigma=1.0,
                bounds=(bounds - state.centre[:, None]) / scale[:, None],
                population_size=8,
            )
        scale = spread * stage.narrowing
        while state.generation < stage.generations:
            # a stored evolution has no generator of its own, so each generation draws from its own seed
            state.evolution.reseed_rng(int(np.random.SeedSequence([seed, state.stage, state.generation]).generate_state(1)[0]))
            tried = [state.evolution.ask() for _ in range(state.evolution.population_size)]
            losses = [
                loss(with_constants(law, constants, state.centre + scale * step), stage, state.generation) for step in tried
            ]
            state.evolution.tell(list(zip(tried, losses, strict=True)))
            mean = state.centre + scale * state.evolution.mean
            state.history.append((state.stage, state.generation, min(losses), float(np.median(losses)), mean.tolist()))
            state.generation += 1
            report(state)
        state.centre = state.centre + scale * state.evolution.mean
        state.stage, state.generation, state.evolution = state.stage + 1, 0, None
    return with_constants(law, constants, state.centre), state


def _scan(
    loss: Callable[[ContactLaw, Stage, int], float],
    law: ContactLaw,
    constants: Sequence[Constant],
    stage: Stage,
    state: Search,
    name: str,
) -> None:
    """Move one constant of the state to the best of several values over its whole range, or leave it where it is."""
    index = [constant.name for constant in constants].index(name)
    tried = [state.centre.copy() for _ in range(N_SCANNED + 1)]
    grid = np.linspace(np.log10(constants[index].low), np.log10(constants[index].high), N_SCANNED)
    for row, value in zip(tried[1:], grid, strict=True):
        row[index] = value
    state.centre = min(tried, key=lambda row: loss(with_constants(law, constants, row), stage, 0))
