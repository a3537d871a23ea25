"""A new stage is a folder of the library, a folder of programs, a rules file, and one line in the list of stages.

The test adds one to a copy of the repository, and runs it to the report.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tifffile
import yaml

from calandria.base.records import read_table
from tests.helpers.workflow import REPOSITORY, job_counts, snakemake

pytestmark = pytest.mark.slow

STAGE = '''"""The toy stage: the share of one phase in every sample, times a factor."""

from pydantic import Field

from ..base.settings import Section
from ..base.stage import Rule, Source, Stage


class ToySettings(Section):
    """How the toy stage weighs."""

    factor: float = Field(1.0, gt=0, le=10)
    """Factor of the share (no unit)."""
    remark: str = ""
    """Free text that no rule reads."""


RULES = {"weigh_phase": Rule(("factor",), given=lambda study, wildcards: {"sample": wildcards["sample"]})}


def artefacts(study):
    """Return all finished files of the stage."""
    return [f"<results>/toy/{sample}/share.json" for sample in study.samples]


def sources(study):
    """Return what the report reads."""
    return [
        Source("toy", "share", "weigh_phase", {"record": f"<results>/toy/{sample}/share.json"}, {"sample": sample})
        for sample in study.samples
    ]


STAGE = Stage("toy", ToySettings, "A toy.", RULES, artefacts=artefacts, sources=sources)
'''
RESULTS = '''"""Rows of results of the toy stage, and its section on the page."""

from ..base.showing import StageSection, Table


def share(reading):
    """Yield the weighed share of a sample."""
    yield reading.result("phase_fraction", reading.json("record")["share"], "record", phase="am")


READERS = {"share": share}
TABLE = Table("Weighed share", {"stage": "toy"}, ("sample",), ("phase_fraction",), ("phase",))
SECTION = StageSection("Toys", lambda facts: "Shares that a toy weighed.", (TABLE,))
'''
PROGRAM = '''"""Weigh the share of active material in a labelled volume."""

import sys

from calandria.base.provenance import provenance
from calandria.base.records import write_json
from calandria.base.stage import read_given
from calandria.base.volumes import read_labelled
from calandria.cli.program import program, run
from calandria.toy.stage import RULES, ToySettings


def main(arguments=None):
    """Read options, weigh one volume."""
    parser = program(__doc__ or "", "weigh_phase")
    parser.add_argument("--settings", required=True, help="JSON file of what the rule reads")
    parser.add_argument("--volume", required=True, help="labelled volume")
    parser.add_argument("--output", required=True, help="record (JSON)")
    options = parser.parse_args(arguments)
    given = read_given(options.settings, ToySettings, RULES, "weigh_phase")
    share = float((read_labelled(options.volume).labels == 2).mean()) * given.settings.factor
    made = provenance(given, inputs={"volume": options.volume})
    write_json(options.output, {"sample": given["sample"], "share": share, "provenance": made})


if __name__ == "__main__":
    sys.exit(run(main))
'''
RULES = """rule weigh_phase:
    input:
        "<results>/tomography/{sample}/labels.zarr.zip",
    output:
        "<results>/toy/{sample}/share.json",
    log:
        "<logs>/toy/weigh_phase/{sample}.log",
    benchmark:
        "<benchmarks>/toy/weigh_phase/{sample}.tsv"
    conda:
        "../envs/voxels.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
    params:
        settings=settings_of("weigh_phase"),
    shell:
        "python -m workflow_scripts.toy.weigh_phase --settings {params.settings} --volume {input} --output {output} 2> {log}"
"""


@pytest.fixture
def checkout(tmp_path):
    """Return a copy of what runs, with the toy stage."""
    folder = tmp_path / "checkout"
    for name in ("calandria", "workflow_scripts", "rules", "envs", "profiles", "config"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "Snakefile", folder / "Snakefile")
    files = {
        "calandria/toy/__init__.py": '"""A toy."""\n',
        "calandria/toy/stage.py": STAGE,
        "calandria/toy/results.py": RESULTS,
        "workflow_scripts/toy/__init__.py": '"""Programs of the toy stage."""\n',
        "workflow_scripts/toy/weigh_phase.py": PROGRAM,
        "rules/toy.smk": RULES,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    listed = folder / "calandria/study/stages.py"
    lines = listed.read_text().splitlines(keepends=True)
    where = lines.index('    "calandria.study.reporting",\n')
    listed.write_text("".join([*lines[:where], '    "calandria.toy.stage",\n', *lines[where:]]))
    return folder


@pytest.fixture
def study(tmp_path):
    """Return a folder with an image, its sheet, and settings that name the toy stage."""
    folder = tmp_path / "study"
    folder.mkdir()
    labels = np.random.default_rng(5).choice(np.array([0, 1, 2], np.uint8), size=(12, 8, 9))
    tifffile.imwrite(folder / "a.tif", labels, photometric="minisblack")
    (folder / "samples.tsv").write_text("sample\tpath\tvoxel_edge_um\tlabels\na\ta.tif\t0.4\t0=pore 1=cbd 2=am\n")
    return folder, float((labels == 2).mean())


def run_study(checkout, folder, *options, **toy):
    settings = {
        "name": "toys",
        "title": "Toys",
        "tomography": {"samples_sheet": "samples.tsv"},
        "transport": {"tomography": {"cases": {"pore": {"pore": 1.0}}}},
        "toy": toy,
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(settings))
    own = ("--snakefile", checkout / "Snakefile", "--configfile", folder / "study.yaml")
    return snakemake(folder, *own, *options, PYTHONPATH=str(checkout))


def test_a_toy_stage_goes_from_its_settings_to_the_report(checkout, study):
    folder, share = study
    finished = run_study(checkout, folder, factor=2.0)
    assert job_counts(finished)["weigh_phase"] == 1
    rows = [row for row in read_table(folder / "results/toys/report/results.csv") if row["stage"] == "toy"]
    (row,) = rows
    assert float(row["value"]) == pytest.approx(2 * share, rel=1e-12) and row["sample"] == "a" and row["rule"] == "weigh_phase"
    assert row["file"] == "toy/a/share.json"
    page = (folder / "results/toys/report/index.html").read_text()
    assert re.search(r'<section[^>]* id="toy"', page) and "Shares that a toy weighed." in page

    assert job_counts(run_study(checkout, folder, "--dry-run", factor=2.0, remark="no rule reads it")) == {}
    again = job_counts(run_study(checkout, folder, "--dry-run", factor=3.0))
    assert again["weigh_phase"] == 1 and "solve_diffusion" not in again and "import_volume" not in again
    (folder / "results/toys/toy/a/share.json").unlink()
    assert job_counts(run_study(checkout, folder, "--dry-run", factor=2.0))["weigh_phase"] == 1

    wrong = run_study(checkout, folder, "--dry-run", factr=2.0)
    assert wrong.returncode != 0 and "toy.factr is unknown (did you mean 'factor'?)" in wrong.stdout + wrong.stderr

    program = "from calandria.study.study import schema_text; print(schema_text())"
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    shown = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, cwd=folder
    )
    schema = json.loads(shown.stdout)
    assert schema["properties"]["toy"]["description"] == "A toy." and "factor" in schema["$defs"]["ToySettings"]["properties"]
