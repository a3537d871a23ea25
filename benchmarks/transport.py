"""Steady diffusion on voxels: our solver against TauFactor, PyAMG, PoreSpy, PETSc and OpenImpala where they are installed.

Run: python benchmarks/transport.py [--volumes NAME ...] [--peers NAME ...] [--repeats 2] [--output FILE.csv]
and: python benchmarks/transport.py --scaling [--sizes 100 200 400] [--ranks 1 2]

Every solve runs in a process of its own on one thread, warmed up on a small volume first; solvers take turns. CPU and wall time are the
best of the repeats, set-up included (of PyAMG and PETSc also the assembly of the matrix); bytes per voxel are the growth of the process's peak
memory over the solve. Errors are relative, of D_eff, against our own solution at tolerance 1e-6 where the convention is ours; PyAMG and PETSc at tight
tolerances check that one. Of a peer with another convention the deviation is shown, which is no error. Peers of our convention run with the
loosest of their tolerances that brings D_eff within 1e-4, others with their default.
"""

import argparse
import csv
import ctypes
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

OURS = "calandria"
TOLERANCE = 1e-4


# ---- volumes --------------------------------------------------------------------------------------------------------------


def blobs(n: int, porosity: float, seed: int = 0, width: float = 4.0) -> NDArray[np.uint8]:
    """Return Gaussian-filtered noise, wrapped, cut at its quantile: 0 pore, 1 solid."""
    field = gaussian_filter(np.random.default_rng(seed).standard_normal((n, n, n)).astype(np.float32), width, mode="wrap")
    return (field > np.quantile(field, porosity)).astype(np.uint8)


def electrode(seed: int = 1, shape: tuple[int, int, int] = (125, 76, 76)) -> NDArray[np.uint8]:
    """Return a stand-in for a calendered electrode: half active material (2), the rest pore (0) and a quarter of it CBD (1)."""
    random = np.random.default_rng(seed)
    coarse = gaussian_filter(random.standard_normal(shape), 5, mode="wrap")
    labels = np.where(coarse > np.quantile(coarse, 0.5), 2, 0).astype(np.uint8)
    fine = gaussian_filter(random.standard_normal(shape), 1.5, mode="wrap")
    labels[(labels == 0) & (fine > np.quantile(fine[labels == 0], 0.75))] = 1
    return labels


def islands(n: int, share: float = 0.2, seed: int = 2) -> NDArray[np.uint8]:
    """Return islands of a good conductor (1) in a poor one (0)."""
    return blobs(n, 1 - share, seed, 2.0)


VOLUMES: dict[str, tuple[Callable[[], NDArray[np.uint8]], dict[int, float], str]] = {
    "electrode 125x76x76, D 1/0.05/0, periodic": (electrode, {0: 1.0, 1: 0.05}, "periodic"),
    "blobs 100^3, porosity 0.50": (lambda: blobs(100, 0.5), {0: 1.0}, "no-flux"),
    "blobs 100^3, porosity 0.35": (lambda: blobs(100, 0.35), {0: 1.0}, "no-flux"),
    "blobs 100^3, porosity 0.25": (lambda: blobs(100, 0.25), {0: 1.0}, "no-flux"),
    "blobs 100^3, near percolation (0.17)": (lambda: blobs(100, 0.17), {0: 1.0}, "no-flux"),
    "islands 100^3, contrast 1e-4": (lambda: islands(100), {0: 1e-4, 1: 1.0}, "no-flux"),
    "blobs 200^3, porosity 0.50": (lambda: blobs(200, 0.5), {0: 1.0}, "no-flux"),
    "blobs 200^3, porosity 0.35": (lambda: blobs(200, 0.35), {0: 1.0}, "no-flux"),
    "blobs 200^3, porosity 0.25": (lambda: blobs(200, 0.25), {0: 1.0}, "no-flux"),
    "blobs 200^3, near percolation (0.15)": (lambda: blobs(200, 0.15), {0: 1.0}, "no-flux"),
}


# ---- peers: each returns D_eff / D_0 -------------------------------------------------------------------------------------------


def by_calandria(labels: NDArray[np.uint8], diffusivities: dict[int, float], sides: str, tolerance: float = TOLERANCE) -> float:
    """Ours."""
    from calandria.transport.solver import tortuosity

    return tortuosity(labels, diffusivities, sides=sides, tolerance=tolerance).relative_diffusivity


def system(
    labels: NDArray[np.uint8], diffusivities: dict[int, float], sides: str
) -> tuple[Any, NDArray, Callable[[NDArray], float]]:
    """Return the matrix and right-hand side of the voxels joined to both ends, and D_eff / D_0 of a solution from its energy."""
    from scipy.ndimage import label
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    d = np.vectorize(lambda code: diffusivities.get(code, 0.0), otypes=[float])(np.arange(256))[labels]
    parts, _ = label(d > 0)
    ends = np.intersect1d(np.unique(parts[0]), np.unique(parts[-1])) if sides == "no-flux" else np.unique(parts)
    d *= np.isin(parts, ends[ends > 0])
    number = np.full(d.shape, -1)
    number[d > 0] = np.arange(np.count_nonzero(d))
    rows, columns, faces = [], [], []
    for axis in range(3):
        low, high = (np.moveaxis(number, axis, 0) for _ in range(2))
        wrapped = sides == "periodic" and axis > 0
        other, d_low = (np.roll(high, -1, 0), np.moveaxis(d, axis, 0)) if wrapped else (high[1:], np.moveaxis(d, axis, 0)[:-1])
        d_high = np.roll(d_low, -1, 0) if wrapped else np.moveaxis(d, axis, 0)[1:]
        low = low if wrapped else low[:-1]
        both = (low >= 0) & (other >= 0)
        rows.append(low[both]), columns.append(other[both])
        faces.append(2 * d_low[both] * d_high[both] / (d_low[both] + d_high[both]))
    i, j, g = map(np.concatenate, (rows, columns, faces))
    n = int(number.max()) + 1
    if sides == "periodic":  # parts that no path joins to both ends, now across the sides too
        component = connected_components(coo_matrix((np.ones(i.size), (i, j)), (n, n)), directed=False)[1]
        low, high = (np.unique(component[number[k][number[k] >= 0]]) for k in (0, -1))
        kept = np.isin(component, np.intersect1d(low, high))
        if not kept.all():
            reduced = labels.copy()
            reduced[d > 0] = np.where(kept, labels[d > 0], 255)
            return system(reduced, diffusivities, sides)
    diagonal = np.bincount(i, g, n) + np.bincount(j, g, n)
    b = np.zeros(n)
    for k, value in ((0, 0.0), (-1, 1.0)):
        at, plate = number[k][number[k] >= 0], 2 * d[k][d[k] > 0]
        diagonal += np.bincount(at, plate, n)
        b += np.bincount(at, plate * value, n)
    diagonal_rows = np.arange(n)
    values = np.concatenate([-g, -g, diagonal])
    matrix = coo_matrix((values, (np.concatenate([i, j, diagonal_rows]), np.concatenate([j, i, diagonal_rows]))), (n, n)).tocsr()
    to = labels.shape[0] ** 2 / labels.size
    ends_energy = float(b.sum())  # energy of the plates at c = 1 with the field at 0

    def diffusivity(c: NDArray) -> float:
        return float(c @ (matrix @ c) - 2 * (b @ c) + ends_energy) * to

    return matrix, b, diffusivity


def by_pyamg(labels: NDArray[np.uint8], diffusivities: dict[int, float], sides: str, tolerance: float = 1e-4) -> float:
    """Smoothed aggregation and conjugate gradients; D_eff from the energy, as ours."""
    import pyamg

    matrix, b, diffusivity = system(labels, diffusivities, sides)
    solver = pyamg.smoothed_aggregation_solver(matrix, symmetry="symmetric")
    return diffusivity(solver.solve(b, tol=tolerance, accel="cg", maxiter=500))


def by_ruge_stuben(labels: NDArray[np.uint8], diffusivities: dict[int, float], sides: str, tolerance: float = 1e-4) -> float:
    """Classical (Ruge-Stueben) algebraic multigrid, as in BoomerAMG, and conjugate gradients; D_eff from the energy, as ours."""
    import pyamg

    matrix, b, diffusivity = system(labels, diffusivities, sides)
    solver = pyamg.ruge_stuben_solver(matrix)
    return diffusivity(solver.solve(b, tol=tolerance, accel="cg", maxiter=500))


def by_petsc(labels: NDArray[np.uint8], diffusivities: dict[int, float], sides: str, tolerance: float = 1e-4) -> float:
    """CG + GAMG; D_eff from the energy, as ours."""
    from petsc4py import PETSc

    matrix, b, diffusivity = system(labels, diffusivities, sides)
    a = PETSc.Mat().createAIJ(matrix.shape, csr=(matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32), matrix.data))
    solver = PETSc.KSP().create()
    solver.setOperators(a)
    solver.setType("cg")
    solver.getPC().setType("gamg")
    solver.setTolerances(rtol=tolerance, max_it=500)
    x, y = a.createVecs()
    y.setArray(b)
    solver.solve(y, x)
    return diffusivity(x.getArray().copy())


def by_taufactor(labels: NDArray[np.uint8], diffusivities: dict[int, float], sides: str, criterion: float = 0.01) -> float:
    """One conducting phase in our convention, more in its own (plates a full voxel away, no periodic sides)."""
    import taufactor
    import torch

    torch.set_num_threads(1)
    if set(diffusivities.values()) == {1.0}:
        kind = {"no-flux": taufactor.Solver, "periodic": taufactor.PeriodicSolver}[sides]
        solver = kind(np.isin(labels, list(diffusivities)).astype(np.uint8), device="cpu")
    else:
        codes = np.zeros(256, np.uint8)
        codes[list(diffusivities)] = np.arange(1, len(diffusivities) + 1)
        solver = taufactor.MultiPhaseSolver(codes[labels], dict(enumerate(diffusivities.values(), 1)), device="cpu")
    solver.solve(verbose=False, iter_limit=20_000, conv_crit=criterion)
    return float(np.ravel(solver.D_eff)[0])


def by_porespy(labels: NDArray[np.uint8], diffusivities: dict[int, float], sides: str) -> float:
    """tortuosity_fd: plates on the end voxels' centres, no periodic sides, one conducting phase."""
    import porespy

    if set(diffusivities.values()) != {1.0} or sides == "periodic":
        raise NotImplementedError("one conducting phase and no-flux sides only")
    result = porespy.simulations.tortuosity_fd(im=np.isin(labels, list(diffusivities)), axis=0)
    return float(result.effective_porosity / result.tortuosity)


def by_openimpala(labels: NDArray[np.uint8], diffusivities: dict[int, float], sides: str) -> float:
    """Its Python interface with HYPRE; plates on the end voxels' centres."""
    import openimpala as oi

    if set(diffusivities.values()) != {1.0} or sides == "periodic":
        raise NotImplementedError("one conducting phase and no-flux sides only")
    phase = np.isin(labels, list(diffusivities)).astype(np.int32)
    with oi.Session():
        result = oi.tortuosity(phase, phase=1, direction="z", solver="pcg")
    return float(phase.mean() / result.tortuosity)


SAME = "plates on the outer faces (ours)"
CENTRES = "plates on the end voxels' centres, no periodic sides"


@dataclass(frozen=True)
class Peer:
    """A solver, its distribution, its convention, and tolerances of its residual, of which the loosest that gives D_eff within 1e-4 is taken."""

    solve: Callable[..., float]
    distribution: str
    convention: str = SAME
    tolerances: tuple[float, ...] = ()
    of_several_phases: str | None = None

    def convention_for(self, diffusivities: dict[int, float]) -> str:
        """Return how it takes a volume's ends and sides."""
        several = len(set(diffusivities.values())) > 1
        return self.of_several_phases if several and self.of_several_phases else self.convention


RESIDUALS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
PEERS = {
    OURS: Peer(by_calandria, "calandria", tolerances=(TOLERANCE,)),
    "PyAMG SA-CG": Peer(by_pyamg, "pyamg", tolerances=RESIDUALS),
    "PyAMG RS-CG": Peer(by_ruge_stuben, "pyamg", tolerances=RESIDUALS),
    "PETSc CG+GAMG": Peer(by_petsc, "petsc4py", tolerances=(1e-1, *RESIDUALS)),
    "TauFactor": Peer(
        by_taufactor,
        "taufactor",
        tolerances=(1e-2, 2e-3, 5e-4, 1e-4),
        of_several_phases="plates a full voxel away, no periodic sides",
    ),
    "PoreSpy": Peer(by_porespy, "porespy", CENTRES),
    "OpenImpala": Peer(by_openimpala, "openimpala", CENTRES),
}


# ---- measuring ------------------------------------------------------------------------------------------------------------


def measure(peer: str, volume: str, file: Path, tolerance: float | None, interpreter: str, limit_s: float) -> dict[str, Any]:
    """Solve once in a process of its own."""
    environment = {
        **os.environ,
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"),
    }
    words = [interpreter, __file__, "--one", json.dumps([peer, volume, str(file), tolerance])]
    try:
        done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return {"told": f"stopped after {limit_s:g} s"}
    if done.returncode:
        return {"told": (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def one(peer: str, volume: str, file: str, tolerance: float | None) -> dict[str, Any]:
    """Warm up on a small volume, then solve, and say what it took."""
    solve, distribution = PEERS[peer].solve, PEERS[peer].distribution
    more = () if tolerance is None else (tolerance,)
    _, diffusivities, sides = VOLUMES[volume]
    labels = np.load(file)
    small = np.ascontiguousarray(labels[:24, :24, :24])
    for place, label in enumerate(diffusivities):
        small[:, place, 0] = label
    solve(small, diffusivities, sides, *more)
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # peak memory begins anew
    before, cpu, wall = _status("VmRSS"), time.process_time(), time.perf_counter()
    value = solve(labels, diffusivities, sides, *more)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    grown = (_status("VmHWM") - before) / labels.size
    return {"value": value, "cpu_s": cpu, "wall_s": wall, "bytes_per_voxel": grown, "version": version(distribution)}


def _status(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def installed(peer: str) -> str | None:
    """Return the version of a peer, None where it is missing."""
    try:
        return version(PEERS[peer].distribution)
    except PackageNotFoundError:
        return None


def compare(
    volumes: list[str], peers: list[str], interpreters: dict[str, str], repeats: int, limit_s: float
) -> list[dict[str, Any]]:
    """Solve every volume by every peer in turns; return a row for each."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for volume in volumes:
            make, diffusivities, sides = VOLUMES[volume]
            labels, file = make(), Path(folder) / "labels.npy"
            np.save(file, labels)
            reference = by_calandria(labels, diffusivities, sides, 1e-6)
            found: dict[str, list[dict[str, Any]]] = {peer: [] for peer in peers}
            tolerances = {peer: list(PEERS[peer].tolerances) for peer in peers}
            for _ in range(repeats):
                for peer in peers:
                    while not found[peer] or "told" not in found[peer][-1]:
                        tolerance = tolerances[peer][0] if tolerances[peer] else None
                        run = measure(peer, volume, file, tolerance, interpreters.get(peer, sys.executable), limit_s)
                        same = PEERS[peer].convention_for(diffusivities) == SAME
                        missed = same and "told" not in run and abs(run["value"] / reference - 1) > TOLERANCE
                        if missed and len(tolerances[peer]) > 1:
                            tolerances[peer].pop(0)
                            found[peer].clear()
                            continue
                        found[peer].append({**run, "tolerance": tolerance})
                        break
            ours = min(run["cpu_s"] for run in found[OURS])
            for peer in peers:
                rows.append({"volume": volume, **_row(peer, found[peer], ours, reference, diffusivities)})
                print(" | ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    return rows


def _row(
    peer: str, found: list[dict[str, Any]], ours: float, reference: float, diffusivities: dict[int, float]
) -> dict[str, Any]:
    runs = [run for run in found if "told" not in run]
    if not runs:
        return {"solver": peer, "told": found[-1]["told"][:120]}
    cpu = min(run["cpu_s"] for run in runs)
    convention = PEERS[peer].convention_for(diffusivities)
    return {
        "solver": f"{peer} {runs[-1]['version']}",
        "cpu_s": f"{cpu:.3g}",
        "wall_s": f"{min(run['wall_s'] for run in runs):.3g}",
        "ratio_of_cpu": f"{cpu / ours:.3g}",
        "tolerance": "default" if runs[-1]["tolerance"] is None else f"{runs[-1]['tolerance']:g}",
        "relative_diffusivity": f"{runs[-1]['value']:.7g}",
        "error" if convention == SAME else "deviation_of_convention": f"{runs[-1]['value'] / reference - 1:.1e}",
        "bytes_per_voxel": f"{max(run['bytes_per_voxel'] for run in runs):.0f}",
        "convention": convention,
    }


SCALING = """
import json, os, sys, time
import numpy as np
from calandria.transport.ranks import world
from calandria.transport.solver import tortuosity
communicator = world(int(sys.argv[2]))
labels = np.load(sys.argv[1], mmap_mode="r")
tortuosity(np.zeros((8, 8, 8), np.uint8), {0: 1.0})
if communicator is not None:
    communicator.Barrier()
open("/proc/self/clear_refs", "w").write("5")
kernel = lambda: os.times().system
read = lambda key: next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) * 1024
before, cpu, wall, system = read("VmRSS"), time.process_time(), time.perf_counter(), kernel()
result = tortuosity(labels, {0: 1.0}, communicator=communicator)
mine = (time.process_time() - cpu, time.perf_counter() - wall, read("VmHWM") - before, kernel() - system)
every = [mine] if communicator is None else communicator.gather(mine)
if every:
    print(json.dumps([*(max(x[k] for x in every) for k in range(4)), result.iterations, result.relative_diffusivity]))
"""


def scaling(sizes: list[int], ranks: list[int], porosity: float, repeats: int) -> list[dict[str, Any]]:
    """Solve blobs of several sizes on several ranks; return a row for each."""
    rows = []
    launcher = Path(sys.executable).with_name("mpiexec")
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            file = Path(folder) / f"{size}.npy"
            np.save(file, blobs(size, porosity))
            for many in ranks:
                words = [sys.executable, "-c", SCALING, str(file), str(many)]
                environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
                runs = []
                for _ in range(repeats):
                    done = subprocess.run(
                        words if many == 1 else [str(launcher), "-n", str(many), *words],
                        capture_output=True,
                        text=True,
                        env=environment,
                        check=True,
                    )
                    runs.append(json.loads(done.stdout.strip().splitlines()[-1]))
                best = min(runs, key=lambda run: run[0])
                row = {
                    "volume": f"blobs {size}^3, porosity {porosity}",
                    "ranks": many,
                    "cpu_s_of_busiest_rank": f"{best[0]:.3g}",
                    "of_which_system_s": f"{best[3]:.2g}",
                    "wall_s": f"{min(run[1] for run in runs):.3g}",
                    "bytes_per_voxel_of_largest_rank": f"{max(run[2] for run in runs) / size**3:.1f}",
                    "iterations": runs[-1][4],
                    "relative_diffusivity": f"{runs[-1][5]:.8g}",
                }
                rows.append(row)
                print(" | ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            file.unlink()
    return rows


def write(path: str, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV with the machine's description above."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    processor = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")),
        platform.processor(),
    )
    with open(path, "w", newline="", encoding="utf-8") as stream:
        stream.write(
            f"# {processor}, {os.cpu_count()} cores, {platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}; {time.strftime('%Y-%m-%d')}\n"
        )
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Read options, measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--volumes", nargs="+", choices=VOLUMES, default=list(VOLUMES), metavar="NAME", help=f"of {', '.join(VOLUMES)}"
    )
    parser.add_argument(
        "--peers",
        nargs="+",
        choices=PEERS,
        default=[peer for peer in PEERS if installed(peer)],
        help="solvers; all that are installed",
    )
    parser.add_argument(
        "--interpreter",
        nargs="+",
        default=[],
        metavar="PEER=PYTHON",
        help="Python that has a peer, e.g. 'PETSc CG+GAMG=/usr/bin/python3'",
    )
    parser.add_argument("--repeats", type=int, default=2, help="runs of each; the best counts")
    parser.add_argument("--limit", type=float, default=600, help="seconds after which one solve is stopped")
    parser.add_argument("--scaling", action="store_true", help="measure our solver against size and ranks instead")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 200, 400], help="extents of the cubes (voxels)")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2], help="numbers of MPI ranks")
    parser.add_argument("--porosity", type=float, default=0.35, help="share of pore (no unit)")
    parser.add_argument("--output", default=None, help="table (CSV)")
    parser.add_argument("--one", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(*json.loads(options.one))))
        return
    if options.scaling:
        rows = scaling(options.sizes, options.ranks, options.porosity, options.repeats)
    else:
        interpreters = dict(word.split("=", 1) for word in options.interpreter)
        peers = list(dict.fromkeys([OURS, *options.peers, *interpreters]))
        rows = compare(options.volumes, peers, interpreters, options.repeats, options.limit)
    if options.output:
        write(options.output, rows)


if __name__ == "__main__":
    main()
