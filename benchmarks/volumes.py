"""Peak memory and time of importing, measuring and solving a large volume, each program in a process of its own.

Run: python benchmarks/volumes.py [--edge 600] [--grey] [--output benchmarks/results/volumes.csv]

The volume is EDGE^3 voxels of blobs with three phases (pore 0.4, CBD 0.1, AM 0.5), in a TIFF file without compression; with --grey
there is a second one of 16-bit grey values, segmented after a median filter of 3 voxels. Peak memory is the largest resident
set of the process (MB of 2^20 bytes), with Python and all libraries; the solver's bytes per voxel are what it takes above a run
at 2 % of the voxels. It takes pores and CBD along z.
"""

import argparse
import csv
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter

REPOSITORY = Path(__file__).resolve().parents[1]
COLUMNS = ("what", "voxels", "peak_memory_mb", "bytes_per_voxel", "wall_s", "cpu_s", "labels_sha256", "python", "machine")


def write_images(folder: Path, edge: int, grey: bool) -> None:
    """Write the label image, and the grey one, slab by slab from one random field."""
    random = np.random.default_rng(1)
    field = random.standard_normal((edge, edge, edge), dtype=np.float32)
    gaussian_filter(field, 3, output=field, mode="wrap")
    low, high = np.quantile(field[:: max(1, edge // 100)], [0.4, 0.5])
    tifffile.imwrite(
        folder / "labels.tif",
        (((field > low).astype(np.uint8) + (field > high)) for field in field),
        shape=field.shape,
        dtype=np.uint8,
        photometric="minisblack",
    )
    if grey:
        lowest, highest = float(field.min()), float(field.max())
        planes = (((plane - lowest) * (60000 / (highest - lowest))).astype(np.uint16) for plane in field)
        tifffile.imwrite(folder / "grey.tif", planes, shape=field.shape, dtype=np.uint16, photometric="minisblack")


def spent(*words: object, folder: Path) -> dict[str, float]:
    """Run a program; return its wall and CPU time (s) and peak memory (MB)."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *map(str, words)], cwd=folder, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(process.returncode)
    return {
        "wall_s": round(time.perf_counter() - began, 1),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory_mb": round(usage.ru_maxrss / 1024),
    }


def measure(edge: int, grey: bool) -> list[dict[str, object]]:
    """Run the programs on a volume of this edge."""
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # in a process of its own: what this one holds at the start of another counts as that one's peak
        maker = multiprocessing.get_context("spawn").Process(target=write_images, args=(folder, edge, grey))
        maker.start()
        maker.join()
        (folder / "given.json").write_text(json.dumps({"settings": {}}))
        sources = {"labels": ["--labels", "0=pore 1=cbd 2=am"]}
        if grey:
            sources["grey"] = ["--segmentation", "multi_otsu", "--classes", "pore cbd am", "--median-filter", "3"]
        for source, options in sources.items():
            files = ("--sample", source, "--source", f"{source}.tif", "--output", f"{source}.zarr.zip")
            found = spent("calandria.cli.main", "import", *files, "--voxel-edge-um", "0.4", *options, folder=folder)
            rows.append({"what": f"import of {source}", **found})
        program = "workflow_scripts.tomography.measure_phases"
        record = folder / "phases.json"
        found = spent(program, "--settings", "given.json", "--volume", "labels.zarr.zip", "--output", record, folder=folder)
        rows.append({"what": "measurement", **found, "labels_sha256": json.loads(record.read_text())["labels_sha256"]})
        conducting = ("--diffusivity", "0=1", "--diffusivity", "1=0.05")
        command = ("calandria.cli.main", "tortuosity", "labels.zarr.zip", "--dataset", "labels", *conducting)
        rows.append({"what": "solution along z", **spent(*command, "--output", "solved.json", folder=folder)})
    return [{"voxels": edge**3, **row} for row in rows]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edge", type=int, default=600, help="edge of the volume in voxels")
    parser.add_argument("--grey", action="store_true", help="also import grey values")
    parser.add_argument("--output", type=Path, help="CSV to write")
    options = parser.parse_args()
    small = measure(max(16, round(options.edge * 0.02 ** (1 / 3))), options.grey)
    rows = measure(options.edge, options.grey)
    made = {"python": platform.python_version(), "machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    for row, base in zip(rows, small, strict=True):
        if row["what"] == "solution along z":
            grown = float(str(row["peak_memory_mb"])) - float(str(base["peak_memory_mb"]))
            row["bytes_per_voxel"] = round(grown * 2**20 / (int(str(row["voxels"])) - int(str(base["voxels"]))), 1)
        row.update(made)
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    if options.output:
        with open(options.output, "w", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
