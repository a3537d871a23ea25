"""Randomness from explicit generators: one seed in the settings, an independent stream per named purpose."""

import zlib

import numpy as np


def _sequence(seed: int, purpose: tuple[str | int, ...]) -> np.random.SeedSequence:
    keys = [zlib.crc32(str(word).encode()) for word in purpose]
    return np.random.SeedSequence([seed, *keys])


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return the generator of ``purpose``; other purposes and other seeds give independent streams.

    >>> float(generator(1, "insert", "film_1").random()) == float(generator(1, "insert", "film_1").random())
    True
    """
    return np.random.default_rng(_sequence(seed, purpose))


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Return a seed in [1, 2**31) for programs that take one integer (LAMMPS, torch, Optuna)."""
    return int(_sequence(seed, purpose).generate_state(1, np.uint32)[0] % (2**31 - 1)) + 1
