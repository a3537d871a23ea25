"""Short trainings of every registered network on GPU and CPU, and a search by two workers on one GPU; called by on_gpu.sh.

Writes trainings.csv (s per epoch, losses, peak GPU memory in MiB), workers.csv (trials by worker) and tests.csv (from tests.xml, if
it is there) to a folder. Films are made here, of 32 x 48 x 48 voxels.
"""

import csv
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

NEEDED = ("numpy", "torch", "pydantic", "yaml", "zarr", "tqdm")
EPOCHS = {"cuda": 6, "cpu": 2}
SHAPE = (32, 48, 48)
TRAININGS_S, ONE_TRAINING_S, SEARCH_S = 190.0, 60.0, 90.0
"""Longest times in s, of all trainings, one of them, and the search; on_gpu.sh ends it all after 300 s."""
SEARCH = ("optuna", "matplotlib", "sqlalchemy")

TRAIN = """
import sys
import torch
from workflow_scripts.surrogate import train_surrogate
train_surrogate.main(sys.argv[1:])
print(torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0)
"""


def write(path: Path, rows: list[dict]) -> None:
    """Write rows as CSV and print them."""
    with open(path, "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(path.read_text().strip(), flush=True)


def program(*words: str, timeout_s: float = 60.0) -> None:
    """Run one of our programs."""
    subprocess.run([sys.executable, "-m", *words], check=True, timeout=timeout_s)


def films(folder: Path) -> tuple[list[str], Path]:
    """Make three films and their split."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.helpers.series import write_films

    paths = write_films(folder, degrees=(20, 30), shape=SHAPE, n_frames=12)
    settings, split = folder / "split_settings.json", folder / "split.json"
    settings.write_text(json.dumps({"settings": {"split": {"validation_films": ["film_2"], "test_films": ["film_3"]}}}))
    program("workflow_scripts.surrogate.split_films", "--settings", str(settings), "--frames", *paths, "--output", str(split))
    return paths, split


def settings_of(folder: Path, network: dict, budget: dict | None = None) -> str:
    """Write the JSON that a program of the surrogate is given."""
    path = folder / f"{network['kind']}_{network['learning']['device']}.json"
    path.write_text(json.dumps({"settings": {}, "network": network, **({"budget": budget} if budget else {})}))
    return str(path)


def trained(folder: Path, kind: str, device: str, paths: list[str], split: Path, longest_s: float) -> dict:
    """Train one network shortly and return its row; where it fails, the row has the last line that it wrote."""
    learning = {"device": device, "training": {"epochs": EPOCHS[device]}}
    name = f"{kind}_{device}"
    words = ["--settings", settings_of(folder, {"kind": kind, "learning": learning}), "--frames", *paths, "--split", str(split)]
    words += ["--checkpoint-directory", str(folder / name), "--output", str(folder / f"{name}.pt")]
    words += ["--output-losses", str(folder / f"{name}.csv")]
    began = time.monotonic()
    try:
        ended = subprocess.run(
            [sys.executable, "-c", TRAIN, *words], capture_output=True, text=True, check=False, timeout=longest_s
        )
        code, said = ended.returncode, (ended.stderr.strip().splitlines() or [""])[-1]
    except subprocess.TimeoutExpired:
        code, said = -1, f"not finished after {longest_s:.0f} s"
    wall = time.monotonic() - began
    row = {"network": kind, "device": device, "epochs": EPOCHS[device], "wall_s": round(wall, 1)}
    if code:
        return row | {"first_loss": "", "best_loss": "", "peak_gpu_mib": "", "error": said[:200]}
    with open(folder / f"{name}.csv", newline="") as stream:
        losses = [float(line["loss_validation"]) for line in csv.DictReader(stream)]
    peak = round(float(ended.stdout.strip().splitlines()[-1]), 1)
    return row | {"first_loss": losses[0], "best_loss": min(losses), "peak_gpu_mib": peak, "error": ""}


def two_workers(folder: Path, kind: str, paths: list[str], split: Path) -> list[dict]:
    """Search with two workers on one GPU; return how many trials each worker ran, and how they ended."""
    learning = {"device": "cuda", "search": {"epochs": 2}}
    settings = settings_of(folder, {"kind": kind, "learning": learning}, {"n_trials": 6, "workers": 2, "pruner": "none"})
    place = folder / "search"
    words = ["workflow_scripts.surrogate.search_surrogate", "--settings", settings, "--frames", *paths, "--split", str(split)]
    words += ["--directory", str(place), "--workers", "2", "--output-trials", str(folder / "trials.csv")]
    words += ["--output-best", str(folder / "best.json"), "--output-importance", str(folder / "importance.png")]
    began = time.monotonic()
    program(*words, timeout_s=SEARCH_S)
    wall = round(time.monotonic() - began, 1)
    with open(folder / "trials.csv", newline="") as stream:
        trials = list(csv.DictReader(stream))
    states = Counter((trial.get("worker", ""), trial["state"]) for trial in trials)
    return [
        {"network": kind, "worker": worker, "state": state, "trials": count, "wall_s": wall}
        for (worker, state), count in sorted(states.items())
    ]


def main(out: Path) -> int:
    """Run what can be run here; say what cannot."""
    if (out / "tests.xml").exists():
        suite = ElementTree.parse(out / "tests.xml").getroot()[0]
        write(out / "tests.csv", [{name: suite.get(name) for name in ("tests", "failures", "errors", "skipped", "time")}])
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(f"trainings and workers: not run, since this Python lacks {', '.join(missing)}")
        print(f"install them, without torch: pip install {' '.join('pyyaml' if name == 'yaml' else name for name in missing)}")
        return 1
    import torch

    from calandria.surrogate.networks import NETWORKS

    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}, Python {sys.version.split()[0]}", flush=True)
    with TemporaryDirectory() as name:
        folder = Path(name)
        paths, split = films(folder)
        rows, until = [], time.monotonic() + TRAININGS_S
        for kind in NETWORKS:
            for device in EPOCHS:
                left = min(ONE_TRAINING_S, max(until - time.monotonic(), 1.0))
                rows.append(trained(folder, kind, device, paths, split, left))
        write(out / "trainings.csv", rows)
        failed = [row for row in rows if row["error"]]
        if lacking := [package for package in SEARCH if find_spec(package) is None]:
            print(f"workers: not run, since this Python lacks {', '.join(lacking)}")
        else:
            write(out / "workers.csv", two_workers(folder, next(iter(NETWORKS)), paths, split))
    return 1 if failed else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).parents[1]))
    sys.path.insert(0, str(Path(__file__).parents[1]))
    sys.exit(main(Path(sys.argv[1])))
