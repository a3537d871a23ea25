# What all rules share: the study, its settings slices, the versions of the stages. No science.
import sys
from pathlib import Path

from workflow_scripts.common.cli import prefer_own_programs
from workflow_scripts.common.errors import CalandriaError
from workflow_scripts.common.provenance import stage_version
from workflow_scripts.common.study import read_study, write_slices

try:
    STUDY = read_study(config)
except CalandriaError as error:
    sys.exit(
        f"error: {error.message}\nhint: {error.hint}"
    )  # Snakemake would add a traceback


pathvars:
    results=f"results/{STUDY.settings.name}",
    logs=f"logs/{STUDY.settings.name}",
    benchmarks=f"results/{STUDY.settings.name}/benchmarks",


# Rules say `python` and `mpiexec`: those of the environment that runs Snakemake, unless conda or a container brings its own.
prefer_own_programs()

# Each stage reads its own slice; a slice is rewritten only when it differs, so an edit re-runs only its stage.
write_slices(STUDY, f"results/{STUDY.settings.name}/settings")


wildcard_constraints:
    film="[a-z][a-z0-9_]*",
    degree="[0-9]+",
    sample="[a-z][a-z0-9_]*",
    case="[a-z][a-z0-9_]*",
    axis="[zyx]",
    predictor="[a-z][a-z0-9_]*",
    architecture="[a-z][a-z0-9_]*",
    window="[0-9]+",
    stride="[0-9]+",
    split="[a-z]+",
