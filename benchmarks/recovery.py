"""Recovery of spheres from the frames of a film whose spheres are known: recall, errors, R2 of the repainted frame and CPU time.

Run: python benchmarks/recovery.py PARTICLES.h5 [--frames 2 12] [--output FILE.csv]. The file is a run's particles.h5 of the workflow; the paper's size is
that of config/studies/calendering_paper.yaml. Each frame is painted in voxels of 0.4 um and given clean, with 1 % and 3 % of the film's voxels turned into a
random other phase, and with borders blurred (the phase that is strongest after a Gaussian blur of each, sigma 0.7 voxels). A sphere is found if one of its
own lies within 0.4 um; errors are of those, in um. CPU seconds are of one core, calibration included.
"""

import argparse
import csv
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from calandria.base.phases import AM, CBD, ELECTRODE, NAMES, VOID
from calandria.base.volumes import r2
from calandria.calendering.particles import Run, read_run_file
from calandria.calendering.settings import VoxelSettings
from calandria.calendering.voxels import choose_grid, paint_frame
from calandria.recovery.spheres import RecoveredSpheres, matches, recover_spheres

WITHIN_UM = 0.4


def flipped(labels: NDArray[np.uint8], share: float, seed: int = 1) -> NDArray[np.uint8]:
    """Turn a share of the film's voxels into a random other phase."""
    rng = np.random.default_rng(seed)
    chosen = (labels != VOID) & (rng.random(labels.shape) < share)
    noisy = labels.copy()
    noisy[chosen] = (labels[chosen] + rng.integers(1, 3, chosen.sum())) % 3
    return noisy


def blurred(labels: NDArray[np.uint8], periodic: tuple[bool, bool], sigma: float = 0.7) -> NDArray[np.uint8]:
    """Give each voxel of the film the phase that is strongest after a Gaussian blur of each."""
    modes = ("nearest", *("wrap" if wraps else "nearest" for wraps in periodic[::-1]))
    shares = [gaussian_filter((labels == code).astype(np.float32), sigma, mode=modes) for code in ELECTRODE]
    return np.where(labels == VOID, VOID, np.array(ELECTRODE)[np.argmax(shares, axis=0)]).astype(np.uint8)


def errors(run: Run, frame: int, recovered: RecoveredSpheres, code: int) -> dict[str, Any]:
    """Return recall, spheres too many, and errors of the spheres of a phase that were found."""
    particles = run.particles
    low = particles.box[frame, :, 0]
    sides = np.diff(particles.box[frame])[:, 0]
    periods = np.array([0, *(sides[axis] * particles.periodic[axis] for axis in (1, 0))])
    chosen, ours = particles.phase == code, recovered.phase == code
    true = np.stack([particles.z[frame], particles.y[frame] - low[1], particles.x[frame] - low[0]], axis=1)[chosen]
    index, partner = matches(recovered.centre_um[ours], true, periods, WITHIN_UM)
    apart = recovered.centre_um[ours][partner] - true[index]
    apart -= periods * np.round(apart / np.where(periods > 0, periods, np.inf))
    radius = recovered.radius_um[ours][partner] - particles.radius[frame][chosen][index]
    name = NAMES[code]
    return {
        f"{name}_true": int(chosen.sum()),
        f"{name}_recall": round(index.size / chosen.sum(), 4),
        f"{name}_too_many": int(ours.sum() - index.size),
        f"{name}_centre_error_um": round(float(np.median(np.linalg.norm(apart, axis=1))), 4),
        f"{name}_radius_error_um": round(float(np.median(radius)), 4),
        f"{name}_radius_spread_um": round(float(radius.std()), 4),
        f"{name}_recall_estimate": round(recovered.recall[name], 4),
    }


def main() -> None:
    """Print a row per frame and kind of labels, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("particles", type=Path)
    parser.add_argument("--frames", type=int, nargs="+", default=[2, 12])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    run = read_run_file(options.particles)
    particles = run.particles
    grid = choose_grid(particles, run.thickness_um, VoxelSettings(voxel_edge_um=0.4, grid_height_voxels=125))
    rows = []
    for frame in options.frames:
        labels = paint_frame(particles, frame, float(run.thickness_um[frame]), grid).labels
        kinds: dict[str, Callable[[], NDArray[np.uint8]]] = {
            "clean": lambda clean=labels: clean,
            "1 % flipped": lambda clean=labels: flipped(clean, 0.01),
            "3 % flipped": lambda clean=labels: flipped(clean, 0.03),
            "blurred": lambda clean=labels: blurred(clean, particles.periodic),
        }
        for kind, given in kinds.items():
            damaged = given()
            begin = time.process_time()
            recovered = recover_spheres(damaged, grid.edge_um, particles.periodic)
            seconds = time.process_time() - begin
            row = {"labels": kind, "compression_degree": round(float(run.compression_degree[frame]), 3)}
            row |= {"voxels": "x".join(map(str, labels.shape)), "repaint_r2": round(recovered.repaint_r2, 4)}
            row |= {"r2_of_given_labels_with_true": round(r2(damaged.astype(float), labels.astype(float)), 4)}
            row |= errors(run, frame, recovered, CBD) | errors(run, frame, recovered, AM) | {"cpu_s": round(seconds, 1)}
            print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
            rows.append(row)
    if options.output:
        with options.output.open("w", newline="") as file:
            file.write(
                f"# {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; {time.strftime('%Y-%m-%d')}\n"
            )
            table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            table.writeheader()
            table.writerows(rows)


if __name__ == "__main__":
    main()
