"""Kills on a real SLURM: of Snakemake, of jobs, of nodes, by the time limit; the same command goes on, and never do two write one file."""

import contextlib
import os
import re
import signal
import subprocess
import time

import numpy as np
import pytest
import tifffile
import yaml

from calandria.base.records import read_json
from calandria.base.volumes import read_labelled
from calandria.cluster.runs import TOKEN
from tests.helpers import slurm
from tests.helpers.gates import begun, gated, notes, open_gate
from tests.helpers.workflow import ON_SLURM, TWO_RANKS, job_counts, snakemake, start_snakemake

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

SAMPLES = ("one", "two", "three")
STUDY = {
    "name": "small",
    "title": "Small",
    "calendering": None,
    "surrogate": None,
    "tomography": {"samples_sheet": "samples.tsv"},
    "transport": {"tomography": {"cases": {"pore": {"pore": 1.0}}}, "tolerance": 1e-2},
    "autoencoder": None,
}
# An import takes two cores, so that two of three are at work and one waits.
WAY = (
    *(*ON_SLURM, "--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "10"),
    *("--set-threads", "import_volume=2", "solve_diffusion=1"),
    *("--set-resources", *(f"solve_diffusion:{word}" for word in TWO_RANKS)),
)


class Study:
    """A study of three small images, whose programs wait at gates; its runs, and what must hold at the end."""

    def __init__(self, folder, programs):
        self.folder, self.gates = folder / "study", folder / "gates"
        self.folder.mkdir()
        self.environment = gated(self.gates, programs)
        self.runs, self.images = [], {}
        rows = ["sample\tpath\tvoxel_edge_um\tlabels"]
        for seed, name in enumerate(SAMPLES):
            labels = np.random.default_rng(seed).choice(np.array([0, 1, 2], np.uint8), size=(12, 10, 8), p=[0.7, 0.1, 0.2])
            tifffile.imwrite(self.folder / f"{name}.tif", labels, photometric="minisblack")
            rows.append(f"{name}\t{name}.tif\t0.4\t0=pore 1=cbd 2=am")
            self.images[name] = labels
        (self.folder / "samples.tsv").write_text("\n".join([*rows, ""]))
        (self.folder / "study.yaml").write_text(yaml.safe_dump(STUDY))

    def start(self, *options):
        """Start the run; always the same command, but for the options of one test."""
        log = open(self.folder.parent / f"run_{len(self.runs)}.log", "wb")  # noqa: SIM115
        with log:
            run = start_snakemake(
                self.folder, *WAY, *options, "--configfile", self.folder / "study.yaml", said=log, **self.environment
            )
        self.runs.append(run)
        return run

    def said(self):
        """Return what the latest run says."""
        return (self.folder.parent / f"run_{len(self.runs) - 1}.log").read_text()

    def says(self, pattern, patience_s=240.0):
        """Wait until the latest run says something."""
        deadline = time.monotonic() + patience_s
        while (found := re.search(pattern, self.said())) is None:
            assert time.monotonic() < deadline, f"{pattern!r} is not said in:\n{self.said()[-3000:]}"
            time.sleep(0.2)
        return found

    def jobs(self):
        """Return number -> state of the study's jobs."""
        here = set(slurm.jobs_in(self.folder))
        return {number: state for number, state, _ in slurm.jobs() if number in here}

    def complete(self, run, patience_s=900.0):
        """Wait for a run, which must succeed, and look at everything that it made."""
        assert run.wait(patience_s) == 0, self.said()[-4000:]
        for name, labels in self.images.items():
            assert np.array_equal(read_labelled(self.folder / f"results/small/tomography/{name}/labels.zarr.zip").labels, labels)
            record = read_json(self.folder / f"results/small/transport/{name}/pore_z.json")
            log = self.folder / f"logs/small/transport/solve_diffusion/{name}_pore_z.log"
            assert "solved on 2 ranks" in log.read_text()
            assert record["percolates"] and record["tortuosity_factor"] > 1
        assert "</html>" in (self.folder / "results/small/report/index.html").read_text()
        assert list(self.folder.rglob(".unfinished-*")) == [] and self.jobs() == {}
        again = snakemake(self.folder, *WAY, "--configfile", self.folder / "study.yaml", "--dry-run")
        assert job_counts(again) == {}, "everything is up to date"
        self.never_two_at_one_output()

    def never_two_at_one_output(self):
        """No program began while another one on the same output lived."""
        events = notes(self.gates, "import_volume")
        assert len(events) >= 2 * len(SAMPLES) and "overlap" not in {event for *_, event, _ in events}


@pytest.fixture
def study(tmp_path):
    made = Study(tmp_path, ["import_volume"])
    yield made
    for run in made.runs:
        with contextlib.suppress(ProcessLookupError):
            run.kill()
            run.wait()


def kill(run):
    run.send_signal(signal.SIGKILL)
    run.wait()


def test_snakemake_killed_by_9_twice_and_started_again_never_has_two_writers(study, cluster):
    first = study.start()
    begun(study.gates, "import_volume", 2)
    deadline = time.monotonic() + 60
    while sorted(study.jobs().values()) != ["PENDING", "RUNNING", "RUNNING"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    (waits,) = [number for number, state in study.jobs().items() if state == "PENDING"]
    script = subprocess.run(["scontrol", "write", "batch_script", waits, "-"], capture_output=True, text=True, check=True).stdout
    token = (study.folder / "results/small/.lock").read_text().split()[-1]
    kill(first)
    assert sorted(study.jobs().values()) == ["PENDING", "RUNNING", "RUNNING"], "SLURM's jobs outlive Snakemake"

    second = study.start()
    study.says("waiting for 2 SLURM jobs of an earlier run of this study")
    assert sorted(study.jobs().values()) == ["RUNNING", "RUNNING"], "what had not begun was cancelled"
    third = study.start()
    assert third.wait(60) == 1, "two runs at a time exclude each other"
    study.says("error: folder 'results/small' is being worked on by process")
    study.runs.pop()
    kill(second)

    last = study.start()
    study.says("waiting for 2 SLURM jobs")
    open_gate(study.gates, "import_volume")
    study.complete(last)
    assert len(begun(study.gates, "import_volume", 3)) == 3, "what the killed run had begun was kept and not made again"

    before = {path: path.stat().st_mtime_ns for path in (study.folder / "results/small").rglob("*") if path.is_file()}
    (study.folder.parent / "late.sh").write_text(script)
    environment = {**os.environ, **study.environment, TOKEN: token}
    late = ["sbatch", "--wait", "--output", study.folder.parent / "late.log", study.folder.parent / "late.sh"]
    assert subprocess.run(late, cwd=study.folder, env=environment, check=False, timeout=120).returncode != 0
    assert "error: this job belongs to a run of 'results/small' that has ended" in (study.folder.parent / "late.log").read_text()
    assert before == {path: path.stat().st_mtime_ns for path in before}, "a job of the first run that starts late writes nothing"


def test_an_interrupted_run_cancels_its_jobs_and_goes_on(study, cluster):
    run = study.start()
    begun(study.gates, "import_volume", 2)
    study.says("has been submitted with SLURM jobid [0-9]+(.|\n)*jobid [0-9]+(.|\n)*jobid [0-9]+")
    run.send_signal(signal.SIGINT)
    assert run.wait(90) != 0
    deadline = time.monotonic() + 60
    while study.jobs():
        assert time.monotonic() < deadline, "Ctrl-C cancels the jobs"
        time.sleep(0.5)
    open_gate(study.gates, "import_volume")
    study.complete(study.start())
    assert "waiting for" not in study.said()


def test_a_cancelled_job_and_a_job_on_a_node_that_fails_are_made_again_in_the_same_run(study, cluster):
    run = study.start()
    begun(study.gates, "import_volume", 2)
    at_work = {number: slurm.job_record(number)["NodeList"] for number, state in study.jobs().items() if state == "RUNNING"}
    on_n2 = [number for number, node in at_work.items() if node == "n2"]
    (cancelled,) = [number for number, node in at_work.items() if node == "n1"]
    slurm.cancel(cancelled)
    slurm.set_node("n2", "down")
    try:
        begun(study.gates, "import_volume", 3)
    finally:
        slurm.wait_for_nodes(60)
    open_gate(study.gates, "import_volume")
    study.complete(run)
    assert len(begun(study.gates, "import_volume", 5)) == 5 and on_n2
    assert re.search(rf"Error in group import\n +log: \S+/{cancelled}\.log", study.said())
    assert "Trying to restart job" in study.said()


def test_a_job_that_meets_its_time_limit_is_made_again(study, cluster):
    run = study.start(
        "--groups", "import_volume=alone", "--set-resources", "import_volume:runtime=1", *WAY[WAY.index("--set-resources") + 1 :]
    )
    begun(study.gates, "import_volume", 2)
    study.says("Error in group|Error in rule", patience_s=240)
    open_gate(study.gates, "import_volume")
    study.complete(run)
    assert len(begun(study.gates, "import_volume", 5)) >= 5


def test_a_controller_that_is_away_for_a_while_ends_no_run(study, cluster):
    run = study.start()
    begun(study.gates, "import_volume", 2)
    slurm.end_process("slurmctld")
    time.sleep(8)
    slurm.restart("slurmctld")
    time.sleep(12)  # a step that ends in the first seconds is heard of minutes later
    open_gate(study.gates, "import_volume")
    study.complete(run)
    assert len(begun(study.gates, "import_volume", 3)) == 3
