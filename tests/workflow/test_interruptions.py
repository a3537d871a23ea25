"""Failures and kills: what the user sees, and that the same command goes on afterwards."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from calandria.base.errors import InputFileError
from calandria.base.files import lock_folder
from calandria.base.volumes import read_labelled
from tests.helpers.dumps import write_loading
from tests.helpers.workflow import job_counts, snakemake, start_snakemake

pytestmark = pytest.mark.slow

STUDY = {
    "name": "small",
    "title": "Small",
    "calendering": {"films_sheet": None},
    "tomography": {"samples_sheet": "samples.tsv"},
    "autoencoder": {"cases": {}},
}


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a study of one small image."""
    labels = np.random.default_rng(2).choice(np.array([0, 1, 2], np.uint8), size=(12, 10, 8))
    tifffile.imwrite(tmp_path / "noise.tif", labels, photometric="minisblack")
    (tmp_path / "samples.tsv").write_text("sample\tpath\tvoxel_edge_um\tlabels\nnoise\tnoise.tif\t0.4\t0=pore 1=cbd 2=am\n")
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    return tmp_path


def volume_of(folder):
    return folder / "results/small/tomography/noise/labels.zarr.zip"


def run_import(folder, *options):
    return snakemake(folder, "--configfile", folder / "study.yaml", *options, "--", volume_of(folder).relative_to(folder))


def said(finished):
    return finished.stdout + finished.stderr


@pytest.mark.parametrize("options", [(), ("--quiet", "rules", "host")])
def test_what_is_wrong_with_a_file_stands_in_what_snakemake_says(folder, options):
    (folder / "noise.tif").write_bytes((folder / "noise.tif").read_bytes()[:500])
    finished = run_import(folder, *options)
    assert finished.returncode != 0 and not volume_of(folder).exists()
    lines = [line.strip() for line in said(finished).splitlines()]
    (where,) = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    assert "noise.tif" in lines[where] and lines[where + 1].startswith("hint: ")


MISSING = {
    "image": ("tomography/noise/labels.zarr.zip", "noise.tif"),
    "dumps": ("calendering/film_a/cd20/particles.h5", "dem/dump.*.txt"),
    "press": ("calendering/film_b/cd20/particles.h5", "absent.csv"),
}


@pytest.mark.parametrize("what", MISSING)
def test_what_a_sheet_names_but_is_not_there_is_told_by_the_run_and_not_by_the_dry_run(folder, what):
    (folder / "noise.tif").unlink()
    dump, _ = write_loading(folder, 6, 3, 40, 1)
    rows = ["film_a\t20\tdem/dump.*.txt\t", f"film_b\t20\t{dump.name}\tabsent.csv"]
    (folder / "runs.tsv").write_text("\n".join(["film\tcompression_degree_percent\tdumps\tpress", *rows, ""]))
    calendering = {"films_sheet": None, "runs_sheet": "runs.tsv"}
    study = {**STUDY, "calendering": calendering, "surrogate": {"split": {"test_films": ["film_b"]}}}
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    assert snakemake(folder, "--configfile", folder / "study.yaml", "--dry-run").returncode == 0
    target, named = MISSING[what]
    finished = snakemake(folder, "--configfile", folder / "study.yaml", "--", f"results/small/{target}")
    lines = said(finished).splitlines()
    (where,) = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    assert finished.returncode != 0 and named in lines[where] and lines[where + 1].startswith("hint: ")


def test_an_added_slice_is_imported(folder):
    labels = np.random.default_rng(3).integers(0, 3, (4, 6, 5), dtype=np.uint8)
    (folder / "slices").mkdir()
    for number in range(3):
        tifffile.imwrite(folder / f"slices/s{number}.tif", labels[number], photometric="minisblack")
    sheet = folder / "samples.tsv"
    sheet.write_text(sheet.read_text().replace("noise.tif", "slices"))
    assert run_import(folder).returncode == 0
    assert job_counts(run_import(folder, "--dry-run")) == {}
    tifffile.imwrite(folder / "slices/s3.tif", labels[3], photometric="minisblack")
    assert job_counts(run_import(folder)) == {"import_volume": 1}
    assert np.array_equal(read_labelled(volume_of(folder)).labels, labels)


def test_a_folder_is_locked_until_its_holder_ends(tmp_path):
    code = f"import time; from calandria.base.files import lock_folder; held = lock_folder({str(tmp_path)!r}); print(1, flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        holder.stdout.readline()
        with pytest.raises(InputFileError, match=f"is being worked on by process {holder.pid} on "):
            lock_folder(tmp_path)
    finally:
        holder.kill()
        holder.communicate()
    lock_folder(tmp_path).close()


def test_two_runs_of_a_study_exclude_each_other(folder):
    with lock_folder(folder / "results/small"):
        finished = run_import(folder)
        assert run_import(folder, "--dry-run").returncode == 0
    assert finished.returncode != 0 and not volume_of(folder).exists()
    lines = said(finished).splitlines()
    (where,) = [
        number for number, line in enumerate(lines) if line.startswith("error: folder 'results/small' is being worked on by")
    ]
    assert lines[where + 1].startswith("hint: ") and "Traceback" not in said(finished)


def works_in(folder):
    """Return the processes whose working directory is a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            found += [path.parent.name] if path.readlink() == folder else []
    return found


def test_the_same_command_goes_on_after_a_kill(folder):
    """The killed run leaves Snakemake's bookkeeping of a job that never ended, and perhaps the job itself."""
    os.mkfifo(folder / "slow.tif")  # reading it waits for ever
    sheet = folder / "samples.tsv"
    good = sheet.read_text()
    sheet.write_text(good.replace("noise.tif", "slow.tif"))
    log = folder / "logs/small/tomography/import_volume/noise.log"
    running = start_snakemake(folder, "--configfile", folder / "study.yaml", "--", volume_of(folder).relative_to(folder))
    deadline = time.monotonic() + 300
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(running.pid, signal.SIGKILL)
    running.wait(10)
    assert log.exists() and not volume_of(folder).exists()
    sheet.write_text(good)
    again = run_import(folder)
    assert again.returncode == 0, said(again)[-2000:]
    assert volume_of(folder).exists() and list(folder.rglob(".unfinished-*")) == []
    deadline = time.monotonic() + 300
    while (orphans := works_in(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not orphans, "the killed run's program still works"
