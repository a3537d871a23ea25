"""An independent solution of steady diffusion through voxels: a SciPy sparse matrix, assembled face by face, and a direct solver."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import generate_binary_structure, label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu


def reference_diffusivity(
    labels: NDArray, diffusivities: Mapping[int, float], axis: str = "z", periodic: tuple[bool, bool, bool] = (False,) * 3
) -> float:
    """Return D_eff / D_0 in float64; 0 when nothing joins the ends. ``periodic`` along ``axis`` is ignored."""
    direction = "zyx".index(axis)
    d = np.zeros(labels.shape)
    for code, value in diffusivities.items():
        d[labels == code] = value
    number = np.arange(d.size).reshape(d.shape)
    sources, targets, conductances = [], [], []
    for a in range(3):
        pairs = [(np.arange(d.shape[a] - 1), np.arange(1, d.shape[a]))]
        if periodic[a] and a != direction and d.shape[a] > 1:
            pairs.append((np.array([d.shape[a] - 1]), np.array([0])))
        for low, high in pairs:
            da, db = d.take(low, a).ravel(), d.take(high, a).ravel()
            both = (da > 0) & (db > 0)
            sources.append(number.take(low, a).ravel()[both])
            targets.append(number.take(high, a).ravel()[both])
            conductances.append(2.0 / (1.0 / da[both] + 1.0 / db[both]))
    i, j, g = (np.concatenate(part) for part in (sources, targets, conductances))
    first, last = number.take(0, direction).ravel(), number.take(-1, direction).ravel()
    flat = d.ravel()
    component = connected_components(coo_array((np.ones(i.size), (i, j)), shape=(d.size, d.size)), directed=False)[1]
    both_ends = np.intersect1d(component[first[flat[first] > 0]], component[last[flat[last] > 0]])
    inside = np.isin(component, both_ends) & (flat > 0)
    if not inside.any():
        return 0.0
    place = np.cumsum(inside) - 1
    kept = inside[i]
    i, j, g = place[i[kept]], place[j[kept]], g[kept]
    n = int(inside.sum())
    in_plate, out_plate = (nodes[inside[nodes]] for nodes in (first, last))
    diagonal = (np.bincount(i, g, n) + np.bincount(j, g, n)).astype(np.float64)  # empty input makes integers
    np.add.at(diagonal, place[in_plate], 2 * flat[in_plate])
    np.add.at(diagonal, place[out_plate], 2 * flat[out_plate])
    b = np.zeros(n)
    np.add.at(b, place[out_plate], 2 * flat[out_plate])
    rows, columns = np.concatenate([i, j, np.arange(n)]), np.concatenate([j, i, np.arange(n)])
    matrix = coo_array((np.concatenate([-g, -g, diagonal]), (rows, columns)), shape=(n, n)).tocsc()
    factor = splu(matrix)
    c = factor.solve(b)
    c += factor.solve(b - matrix @ c)
    energy = np.sum(g * (c[i] - c[j]) ** 2)
    energy += np.sum(2 * flat[in_plate] * c[place[in_plate]] ** 2) + np.sum(2 * flat[out_plate] * (1 - c[place[out_plate]]) ** 2)
    return float(energy * d.shape[direction] ** 2 / d.size)


def reference_percolates(conducting: NDArray[np.bool_]) -> bool:
    """Return whether face neighbours (no periodic sides) join the first and last slice along z."""
    parts = label(conducting, structure=generate_binary_structure(3, 1))[0]
    return bool(np.intersect1d(parts[0][parts[0] > 0], parts[-1][parts[-1] > 0]).size)
