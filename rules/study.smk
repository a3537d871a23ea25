# What all rules share: the study, the settings that each job reads, runs, containers. No science.
import json
import os
import sys
from pathlib import Path
from shlex import quote

from calandria.cli.program import failures, prefer_own_programs
from calandria.base.errors import CalandriaError
from calandria.cluster.images import (
    exec_command,
    image_address,
    check_images,
    name_code,
)
from calandria.base.processes import name_workflow
from calandria.base.stage import write_contents
from calandria.cluster.runs import guard_runs
from calandria.search.pruning import discard_finished_trainings
from calandria.study.stages import STAGES
from calandria.study.resources import (
    doubling,
    largest_frame,
    memory_mb,
    training_mb,
)
from calandria.study.study import read_study

# Where images are: a folder of SOFTWARE.sif or a registry's address. It belongs to the machine, so it is no setting of the study.
IMAGES = config.pop("images", f"{workflow.basedir}/containers")
CONTAINERS = "apptainer" in {
    method.name.lower() for method in workflow.deployment_settings.deployment_method
}

# The image of a software set, none without --sdm apptainer.
image = lambda software: image_address(software, IMAGES) if CONTAINERS else None

try:
    STUDY = read_study(config)
except CalandriaError as error:
    sys.exit(
        f"error: {error.message}\nhint: {error.hint}"
    )  # Snakemake would add a traceback


pathvars:
    results=STUDY.folder,
    logs=f"logs/{STUDY.settings.name}",
    benchmarks=f"{STUDY.folder}/benchmarks",


# Snakemake's own lock outlives a kill, so the profiles turn it off; this one ends with the process. Dry runs take none.
RUN = guard_runs(workflow, STUDY.folder)


def settings_of(rule):
    """Return the function that names the file of what a rule's program reads; the name changes with the content, and so the job runs again."""

    def path(wildcards):
        name = STUDY.settings_file(rule, dict(wildcards.items()))
        # in the process of a job that waited: what it reads may have been touched since it was planned
        if not workflow.is_main_process:
            write_contents(f"{STUDY.folder}/settings", STUDY.contents([name]))
        return name

    return path


onstart:
    jobs = list(workflow.dag.needrun_jobs())
    named = [job.params.settings for job in jobs if "settings" in job.params.keys()]
    write_contents(f"{STUDY.folder}/settings", STUDY.contents(named))
    STUDY.remember_inputs()
    if CONTAINERS:
        try:
            check_images(
                {
                    Path(job.rule.conda_env).stem
                    for job in jobs
                    if job.rule.conda_env
                },
                IMAGES,
            )
        except CalandriaError as error:
            sys.exit(f"error: {error.message}\nhint: {error.hint}")


onsuccess:
    discard_finished_trainings(Path(STUDY.folder))


onerror:
    for words in failures(f"logs/{STUDY.settings.name}", RUN.started):
        print(words, file=sys.stderr)


# Rules say `python` and `mpiexec`: those of the environment that runs Snakemake, unless conda or a container brings its own.
prefer_own_programs()

# Programs in containers stop where the image holds other code or packages than this checkout.
if CONTAINERS:
    name_code(Path(workflow.basedir) / "envs")

# Programs end with the Snakemake that started them, even if it is killed.
name_workflow()


wildcard_constraints:
    film="[a-z][a-z0-9_]*",
    degree="[0-9]+",
    sample="[a-z][a-z0-9_]*",
    case="[a-z][a-z0-9_]*",
    axis="[zyx]",
    predictor="[a-z][a-z0-9_]*",
    network="[a-z][a-z0-9_]*",
    window="[0-9]+",
    stride="[0-9]+",
    split="[a-z]+",
