"""Makers of small pressed films: rigid spheres whose centres follow the press, painted by plain numpy."""

from pathlib import Path

import numpy as np

from calandria.base.phases import AM, CBD, VOID
from calandria.base.seeds import generator
from calandria.base.volumes import Labelled, write_labelled

EDGE_UM = 0.5


def pressed_film(film="film_1", degree_percent=30, seed=1, shape=(16, 12, 12), n_frames=9) -> Labelled:
    """Return a series that is pressed in 2 % steps, then released with some spring-back; one film's loading frames are all alike."""
    random = generator(seed, film)
    nz, ny, nx = shape
    size = np.array([nz, ny, nx]) * EDGE_UM
    centres = random.random((14, 3)) * size
    radii, phases = random.uniform(0.7, 1.4, 14), np.where(np.arange(14) < 7, CBD, AM)
    first, loading = size[0] * 0.97, min(round(degree_percent / 5), n_frames - 2)
    press = first * np.concatenate(
        [1 - 0.05 * np.arange(loading + 1), 1 - 0.05 * loading + 0.05 * np.arange(1, n_frames - loading)]
    )
    regained = 0.02 * first * (1 - 0.5 ** np.arange(1, n_frames - loading))
    thickness = np.concatenate([press[: loading + 1], np.minimum(press[loading] + regained, press[loading + 1 :])])
    labels = np.stack([paint(centres * [h / first, 1, 1], radii, phases, shape, h) for h in thickness])
    frames = {
        "press_position_um": press,
        "thickness_um": thickness,
        "compression_degree": 1 - thickness / first,
        "time_us": 25.0 * np.arange(n_frames),
    }
    attributes = {"film": film, "compression_degree_percent": degree_percent, "frame_interval_us": 25.0}
    return Labelled(labels, EDGE_UM, (False, True, True), "made for a test", frames, attributes)


def paint(centres, radii, phases, shape, thickness_um):
    """Return labels (z, y, x) of spheres (z, y, x in um), periodic in y and x, AM over CBD, void above the thickness."""
    axes = [(np.arange(n) + 0.5) * EDGE_UM for n in shape]
    labels = np.zeros(shape, np.uint8)
    for index in np.argsort(phases, kind="stable"):
        parts = [axis - centre for axis, centre in zip(axes, centres[index])]
        for side in (1, 2):
            length = shape[side] * EDGE_UM
            parts[side] -= length * np.round(parts[side] / length)
        distance = parts[0][:, None, None] ** 2 + parts[1][None, :, None] ** 2 + parts[2][None, None, :] ** 2
        labels[distance <= radii[index] ** 2] = phases[index]
    labels[axes[0] > thickness_um] = VOID
    return labels


def write_films(folder: Path, films=("film_1", "film_2", "film_3"), degrees=(20, 30), **options) -> list[str]:
    """Write a series per film and degree and return their paths."""
    paths = []
    for number, film in enumerate(films):
        for degree in degrees:
            path = folder / f"{film}_cd{degree}.zarr.zip"
            write_labelled(path, pressed_film(film, degree, seed=number + 1, **options))
            paths.append(str(path))
    return paths
