"""The rules of the workflow as Snakemake has parsed them, for the demo's study."""

import functools
import itertools
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.workflow import REPOSITORY

PROGRAM = """
import json, sys
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, DeploymentMethod, DeploymentSettings, OutputSettings, Quietness, ResourceSettings

snakefile, folder = map(Path, sys.argv[1:])
deployment = DeploymentSettings(deployment_method={DeploymentMethod.APPTAINER})
with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
    workflow = api.workflow(
        resource_settings=ResourceSettings(cores=2), config_settings=ConfigSettings(), deployment_settings=deployment,
        snakefile=snakefile, workdir=folder,
    )
    workflow.dag()
    rules = [
        {
            "name": rule.name,
            "file": Path(rule.snakefile).stem,
            "command": rule.shellcmd,
            "other_code": bool(rule.script or rule.notebook or rule.wrapper or rule.is_run),
            "log": [str(path) for path in rule.log],
            "benchmark": str(rule.benchmark) if rule.benchmark else None,
            "environment": str(rule.conda_env) if rule.conda_env else None,
            "image": str(rule.container_img) if rule.container_img else None,
            "resources": sorted(rule.resources),
            "retries": rule._restart_times,
            "outputs": [str(path) for path in rule.output],
        }
        for rule in workflow._workflow.rules
    ]
Path("rules.json").write_text(json.dumps(rules))
"""


@dataclass(frozen=True)
class Rule:
    """One rule: the stem of its file, its shell command with its placeholders, and what else Snakemake knows of it."""

    name: str
    file: str
    command: str | None
    other_code: bool
    log: list[str]
    benchmark: str | None
    environment: str | None
    image: str | None
    resources: list[str]
    retries: int | None
    outputs: list[str]

    @property
    def module(self) -> str:
        """The program of ours that the command starts."""
        words = (self.command or "").split()
        modules = [word for before, word in itertools.pairwise(words) if before == "-m"]
        (found,) = (word for word in modules if word.startswith("workflow_scripts."))
        return found


@functools.cache
def rules() -> tuple[Rule, ...]:
    """Return the rules that make files, in their order; they are parsed in a process of their own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("config", "examples"):
            (folder / part).symlink_to(REPOSITORY / part)
        command = [sys.executable, "-c", PROGRAM, str(REPOSITORY / "Snakefile"), name]
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr[-3000:]
        parsed = json.loads((folder / "rules.json").read_text())
    return tuple(Rule(**rule) for rule in parsed if rule["outputs"])
