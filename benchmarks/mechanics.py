"""The contact mechanics against the DEM that it stands beside (LAMMPS), in one run, with the paths checked against each other; and its scaling.

Run: python benchmarks/mechanics.py [--width 30.4] [--thickness 47] [--degree 40] [--copies 1 2 4 8] [--output benchmarks/results/mechanics.csv]

A film of the calendering paper's size is made by the workflow, then pressed twice: by LAMMPS, 1,500 steps a frame, and by the contact mechanics
with the same law, from its three first frames. Times are CPU seconds a frame on one core. ``r2`` is the mean over the predicted frames, void
included; ``r2_affine`` that of spheres moved affinely. For scaling the film is laid out k x k times side by side, and pressed by one frame.
"""

import argparse
import csv
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from calandria.api import read_dumps
from calandria.base.volumes import r2
from calandria.calendering.dumps import Particles
from calandria.calendering.films import read_data
from calandria.calendering.lammps import next_turn_formula, press_speed, pressing, simulation
from calandria.calendering.press import read_press
from calandria.calendering.settings import CalenderingSettings
from calandria.calendering.voxels import choose_grid, paint_frame
from calandria.mechanics.film import Film
from calandria.mechanics.law import ContactLaw
from calandria.mechanics.packing import Packing, Relaxation
from calandria.mechanics.rollout import roll_out

REPOSITORY = Path(__file__).resolve().parents[1]
N_GIVEN = 3
COLUMNS = ("what", "spheres", "frames", "cpu_s_per_frame", "times_cheaper", "r2", "r2_affine", "machine")


def dried_film(settings: dict, folder: Path) -> str:
    """Let the workflow make a dried film, and return its data file's text."""
    (folder / "films.tsv").write_text("film\tseed\treplicate_of\nfilm_1\t1\t\n", encoding="utf-8")
    study = {"name": "bench", "title": "benchmark", "calendering": {"films_sheet": "films.tsv", **settings}}
    (folder / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    target = "results/bench/calendering/film_1/dried.data"
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(folder)]
    command += ["--cores", "1", "--quiet", "all", "--configfile", str(folder / "study.yaml"), "--", target]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"})
    return (folder / target).read_text(encoding="utf-8")


def pressed_by_lammps(settings: CalenderingSettings, dried: str, kept: Path) -> tuple[Film, float]:
    """Return the film as LAMMPS presses it, and CPU seconds a frame."""
    thickness = read_data(dried, "dried film").top_um
    last = settings.turn_step(settings.restart_degrees_percent[-1])
    variables = pressing(settings) | {
        "press_start": thickness + settings.motion.press_gap_um,
        "speed": press_speed(settings, thickness),
        "last_step": last,
        "settling_steps": settings.motion.settling_steps,
        "loading_damping": settings.motion.loading_damping,
        "next_turn_formula": next_turn_formula([last]),
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with simulation("load_film.lmp", variables, {"film.data": dried}, "loading", last) as folder:
        for name in ("frames.lammpstrj", "press.csv"):
            (kept / name).write_bytes((folder / name).read_bytes())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    particles = read_dumps(kept / "frames.lammpstrj")
    table = read_press(kept / "press.csv", 1.0, 0.0)
    press = np.interp(particles.step, table.step, table.position_um)
    film = Film(
        np.stack([particles.x, particles.y, particles.z], axis=-1),
        particles.radius[0].copy(),
        particles.phase,
        particles.box[0, :2].copy(),
        particles.periodic,
        press,
        len(press) - 1,
        float(press[-1]),
    )
    return film, spent / (len(press) - 1)


def painted(film: Film, centres: NDArray[np.float64], press_um: float, settings: CalenderingSettings) -> NDArray[np.uint8]:
    """Paint centres (n, 3) on the study's grid, below the press."""
    box = np.vstack([film.box_um, [0.0, film.press_um.max()]])[None]
    identity = np.arange(len(film.radius_um))
    x, y, z = (np.ascontiguousarray(centres[None, :, axis]) for axis in range(3))
    particles = Particles(
        x, y, z, film.radius_um[None], film.phase, identity, None, box, film.periodic, np.zeros(1, np.int64), None
    )
    grid = choose_grid(particles, film.press_um[:1], settings.voxels)
    return paint_frame(particles, 0, press_um, grid).labels


def score(true: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> float:
    """Return R2 of phase codes, void included, as in the calendering paper."""
    return r2(true.astype(np.float64), predicted.astype(np.float64))


def rows_of_film(film: Film, lammps_s: float, settings: CalenderingSettings) -> Iterator[dict]:
    """Compare LAMMPS, ours with 100 and 50 substeps, and the affine motion."""
    frames = range(N_GIVEN, film.n_frames)
    true = [painted(film, film.centres_um[t], film.press_um[t], settings) for t in frames]
    affine = []
    for t, labels in zip(frames, true, strict=True):
        centres = film.centres_um[N_GIVEN - 1] * [1, 1, film.press_um[t] / film.press_um[N_GIVEN - 1]]
        affine.append(score(labels, painted(film, centres, film.press_um[t], settings)))
    yield {
        "what": "LAMMPS",
        "spheres": len(film.radius_um),
        "frames": film.n_frames - 1,
        "cpu_s_per_frame": lammps_s,
        "times_cheaper": 1.0,
    }
    contact = settings.contact
    names = {name for name in ContactLaw.__dataclass_fields__ if hasattr(contact, name)}
    law = replace(ContactLaw(foil_friction=contact.friction), **{name: getattr(contact, name) for name in names})
    for substeps in (100, 50):
        start = time.process_time()
        predicted = roll_out(film, N_GIVEN, law, Relaxation(substeps=substeps))
        spent = (time.process_time() - start) / (film.n_frames - 1)  # the lag frames are run through, too
        scores = [
            score(labels, painted(film, predicted.centres_um[t], film.press_um[t], settings))
            for t, labels in zip(frames, true, strict=True)
        ]
        yield {
            "what": f"contact mechanics, {substeps} substeps",
            "spheres": len(film.radius_um),
            "frames": film.n_frames - 1,
            "cpu_s_per_frame": spent,
            "times_cheaper": lammps_s / spent,
            "r2": float(np.mean(scores)),
            "r2_affine": float(np.mean(affine)),
        }


def rows_of_scaling(film: Film, copies: list[int]) -> Iterator[dict]:
    """Press the film laid out k x k times by one frame of 100 substeps."""
    sides = np.diff(film.box_um, axis=1)[:, 0]
    for k in copies:
        shifts = np.array([[i * sides[0], j * sides[1], 0] for i in range(k) for j in range(k)])
        centres = (film.centres_um[5][None] + shifts[:, None]).reshape(-1, 3)
        box = np.column_stack([film.box_um[:, 0], film.box_um[:, 0] + k * sides])
        packing = Packing(
            centres,
            np.tile(film.radius_um, k * k),
            np.tile(film.phase, k * k),
            box,
            film.periodic,
            float(film.press_um[5]),
            ContactLaw(),
        )
        packing.move_press(float(film.press_um[5]), 20)
        start = time.process_time()
        packing.move_press(float(film.press_um[6]), 100)
        yield {
            "what": "contact mechanics, one frame of 100 substeps",
            "spheres": len(centres),
            "frames": 1,
            "cpu_s_per_frame": time.process_time() - start,
        }


def main() -> None:
    """Run the comparison and write its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=30.4, help="width of the film, um")
    parser.add_argument("--thickness", type=float, default=47.0, help="thickness of the dried film, um")
    parser.add_argument("--degree", type=int, default=40, help="compression degree, per cent")
    parser.add_argument("--copies", type=int, nargs="*", default=[1, 2, 4, 8], help="copies of the film along x and along y")
    parser.add_argument("--output", type=Path, help="table to write, CSV")
    options = parser.parse_args()
    given = {
        "steps_per_frame": 1500,
        "restart_degrees_percent": [options.degree],
        "compression_degrees_percent": [options.degree],
        "film": {"width_um": options.width, "thickness_um": options.thickness},
    }
    with tempfile.TemporaryDirectory() as name:
        dried = dried_film(given, Path(name))
        settings = CalenderingSettings.from_mapping(given, "the benchmark")
        film, lammps_s = pressed_by_lammps(settings, dried, Path(name))
    rows = []
    for row in (*rows_of_film(film, lammps_s, settings), *rows_of_scaling(film, options.copies)):
        rows.append({**row, "machine": platform.machine()})
        print(
            "  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()),
            flush=True,
        )
    if options.output:
        with open(options.output, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
