"""How long Snakemake plans a large study and how much memory that takes: dry runs of many films at seven degrees and many images.

Run: python benchmarks/planning.py [--samples 50 200 500 2000] [--dumps 31] [--output benchmarks/results/planning.csv]

A study of N samples has N films, each at 7 compression degrees, read from dumps (read, voxelized, solved, measured), and nothing trained on them.
With ``--dumps D`` each run has D dump files on the disk, of one atom each; without, the patterns of the runs sheet match nothing.
Wall time, CPU time and peak memory are those of one ``snakemake --dry-run --quiet`` with the profile for clusters; ``job_...`` those of planning
a single file, which every SLURM job does twice when it starts. With ``--batches B`` the same
study is cut into B parts by films, as docs/cluster.md advises; times and memory are then those of one part.
"""

import argparse
import csv
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
DEGREES = (5, 10, 15, 20, 25, 30, 35)
DUMP = """ITEM: TIMESTEP
{step}
ITEM: NUMBER OF ATOMS
1
ITEM: BOX BOUNDS pp pp ff
0 8
0 8
0 10
ITEM: ATOMS id type x y z radius
1 2 4 4 2 2
"""
COLUMNS = (
    "samples",
    "batches",
    "dumps",
    "jobs",
    "wall_s",
    "cpu_s",
    "peak_memory_mb",
    "job_cpu_s",
    "job_memory_mb",
    "python",
    "snakemake",
    "machine",
)


def write_study(folder: Path, samples: int, batches: int, dumps: int) -> None:
    """Write sheet, settings and dumps of the first of so many parts of a study."""
    rows = ["film\tcompression_degree_percent\tdumps\tpress"]
    for number in range(samples // batches):
        rows += [f"film_{number:05d}\t{degree}\tdumps/{number:05d}/cd{degree}/dump.*\t" for degree in DEGREES]
        for degree in DEGREES if dumps else ():
            place = folder / f"dumps/{number:05d}/cd{degree}"
            place.mkdir(parents=True)
            for step in range(dumps):
                (place / f"dump.{1500 * step}").write_text(DUMP.format(step=1500 * step))
    (folder / "runs.tsv").write_text("\n".join([*rows, ""]))
    calendering = {"films_sheet": None, "runs_sheet": "runs.tsv"}
    study = {
        "name": "large",
        "title": "Large",
        "calendering": calendering,
        "surrogate": None,
        "tomography": None,
        "autoencoder": None,
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))


def plan(folder: Path, *targets: str) -> tuple[str, float, float, int]:
    """Plan once; return what Snakemake says, wall time and CPU time in s, and peak memory in MB."""
    command = [Path(sys.executable).parent / "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--directory", folder]
    command += [
        "--profile",
        REPOSITORY / "slurm_profile",
        "--configfile",
        folder / "study.yaml",
        "--dry-run",
        "--quiet",
        "rules",
        "--",
    ]
    began = time.perf_counter()
    with open(folder / "said", "w+") as said:
        process = subprocess.Popen([*map(str, command), *targets], stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - began
        said.seek(0)
        text = said.read()
    if status != 0:
        sys.exit(text[-3000:])
    return text, round(wall, 1), round(usage.ru_utime + usage.ru_stime, 1), round(usage.ru_maxrss / 1024)


def measure(samples: int, batches: int, dumps: int) -> dict[str, object]:
    """Plan a study and one file of it; return what that took."""
    from snakemake.common import __version__ as snakemake_version

    with tempfile.TemporaryDirectory() as name:
        write_study(Path(name), samples, batches, dumps)
        text, wall, cpu, memory = plan(Path(name))
        _, _, job_cpu, job_memory = plan(Path(name), f"results/large/calendering/film_00000/cd{DEGREES[0]}/particles.h5")
    jobs = int(re.search(r"^total +(\d+)", text, re.MULTILINE).group(1))
    spent = {"wall_s": wall, "cpu_s": cpu, "peak_memory_mb": memory, "job_cpu_s": job_cpu, "job_memory_mb": job_memory}
    made = {
        "python": platform.python_version(),
        "snakemake": snakemake_version,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    return {"samples": samples, "batches": batches, "dumps": dumps, "jobs": jobs, **spent, **made}


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[50, 200, 500, 2000], help="films of the study")
    parser.add_argument("--batches", type=int, default=1, help="parts into which the study is cut")
    parser.add_argument("--dumps", type=int, default=0, help="dump files of each run")
    parser.add_argument("--output", type=Path, help="CSV to write, or to append to")
    options = parser.parse_args()
    for samples in options.samples:
        row = measure(samples, options.batches, options.dumps)
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        if options.output:
            new = not options.output.exists()
            with open(options.output, "a", newline="") as stream:
                writer = csv.DictWriter(stream, COLUMNS)
                if new:
                    writer.writeheader()
                writer.writerow(row)


if __name__ == "__main__":
    main()
