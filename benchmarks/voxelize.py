"""Voxelizing of one frame: our kernel against a numpy loop over spheres and a KD-tree over voxels, on equal input and with equal results.

Run: python benchmarks/voxelize.py [--spheres 1544] [--repeats 5]. Times are the best of the repeats, in ms, on one core.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from calandria.base.phases import AM, CBD, VOID
from calandria.calendering.dumps import Particles
from calandria.calendering.voxels import Grid, paint_frame

GRID = Grid((125, 76, 76), 0.4, (True, True), 0.0)
THICKNESS_UM = 46.6


def film(count: int, seed: int = 1) -> Particles:
    """Return a film of random spheres of the calendering paper's sizes, five in six of them CBD, filling the box alike for any count."""
    rng = np.random.default_rng(seed)
    phase = np.where(rng.random(count) < 5 / 6, CBD, AM).astype(np.uint8)
    radius = np.where(phase == CBD, rng.uniform(0.75, 1.0, count), rng.uniform(1.5, 4.5, count))
    x, y, z = (rng.uniform(0, length, (1, count)) for length in (30.4, 30.4, THICKNESS_UM))
    box = np.array([[[0, 30.4], [0, 30.4], [0, 60.0]]])
    return Particles(x, y, z, radius[None], phase, np.arange(1, count + 1), None, box, (True, True), np.zeros(1, np.int64), None)


def by_numpy(particles: Particles, grid: Grid) -> NDArray[np.uint8]:
    """Paint each sphere's block of voxels with numpy."""
    nz, ny, nx = grid.shape
    labels = np.zeros(grid.shape, np.uint8)
    for s in np.argsort(particles.phase, kind="stable"):
        x, y, z = (getattr(particles, axis)[0, s] / grid.edge_um - 0.5 for axis in "xyz")
        r = particles.radius[0, s] / grid.edge_um
        i, j = (np.arange(math.ceil(c - r), math.floor(c + r) + 1) for c in (x, y))
        k = np.arange(max(math.ceil(z - r), 0), min(math.floor(z + r), nz - 1) + 1)
        inside = ((i - x) ** 2 + ((j - y) ** 2)[:, None] + ((k - z) ** 2)[:, None, None]) <= r * r
        block = np.ix_(k, j % ny, i % nx)
        labels[block] = np.where(inside, particles.phase[s], labels[block])
    labels[(np.arange(nz) + 0.5) * grid.edge_um > THICKNESS_UM] = VOID
    return labels


def by_tree(particles: Particles, grid: Grid) -> NDArray[np.uint8]:
    """Ask a KD-tree of all voxel centres for those within each sphere."""
    nz, ny, nx = grid.shape
    axes = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")
    tree = cKDTree(np.stack(axes, axis=-1).reshape(-1, 3), boxsize=[4 * nz, ny, nx])
    labels = np.zeros(nz * ny * nx, np.uint8)
    centres = np.stack([getattr(particles, axis)[0] / grid.edge_um - 0.5 for axis in "zyx"], axis=1)
    centres[:, 1:] %= [ny, nx]
    centres[:, 0] %= 4 * nz
    for phase in (CBD, AM):
        chosen = particles.phase == phase
        for found in tree.query_ball_point(centres[chosen], particles.radius[0, chosen] / grid.edge_um):
            labels[found] = phase
    labels = labels.reshape(grid.shape)
    labels[(np.arange(nz) + 0.5) * grid.edge_um > THICKNESS_UM] = VOID
    return labels


def best_ms(work: Callable[[], object], repeats: int) -> float:
    """Return the shortest CPU time of ``repeats`` runs in ms."""
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return 1e3 * min(times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spheres", type=int, default=1544)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    particles = film(options.spheres)
    ways = {
        "ours": lambda: paint_frame(particles, 0, THICKNESS_UM, GRID).labels,
        "numpy per sphere": lambda: by_numpy(particles, GRID),
        "KD-tree": lambda: by_tree(particles, GRID),
    }
    results = {name: way() for name, way in ways.items()}
    for name, labels in results.items():
        differing = int((labels != results["ours"]).sum())
        print(
            f"{name:18} {best_ms(ways[name], options.repeats if name == 'ours' else 1):9.2f} ms   voxels that differ: {differing}"
        )
        if differing:
            raise SystemExit(f"{name} disagrees with ours")
    print(f"grid {GRID.shape}, {options.spheres} spheres; linear in spheres:")
    for factor in (1, 2, 4, 8, 16):
        many = film(options.spheres * factor)
        many = replace(many, radius=many.radius * factor ** (-1 / 3))
        whole = film(options.spheres * factor)
        print(
            f"{whole.phase.size:8} spheres  {best_ms(lambda p=whole: paint_frame(p, 0, THICKNESS_UM, GRID), options.repeats):8.2f} ms"
            f"   at equal sphere volume {best_ms(lambda p=many: paint_frame(p, 0, THICKNESS_UM, GRID), options.repeats):8.2f} ms"
        )
    print("volume conserved, by the share of the film that the spheres' volumes add up to; times without and with:")
    conserving = replace(GRID, conserve_volume=True)
    volume = 30.4 * 30.4 * THICKNESS_UM
    for share in (0.4, 0.5, 0.6, 0.7, 0.8):
        scale = (share * volume / float((4 / 3 * np.pi * particles.radius**3).sum())) ** (1 / 3)
        scaled = replace(particles, radius=particles.radius * scale)
        times = [
            best_ms(lambda p=scaled, g=grid: paint_frame(p, 0, THICKNESS_UM, g), options.repeats) for grid in (GRID, conserving)
        ]
        painted = paint_frame(scaled, 0, THICKNESS_UM, conserving)
        print(
            f"{share:8.0%} solid  {times[0]:8.2f} ms {times[1]:8.2f} ms   grown: CBD {painted.grown_cbd:.1%}, AM {painted.grown_am:.1%}"
        )


if __name__ == "__main__":
    main()
