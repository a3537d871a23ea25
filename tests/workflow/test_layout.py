"""Names mirror each other: rule, program, log, benchmark; stages, packages, locks."""

import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions

import grimp
import pytest
import yaml

from calandria.study.stages import STAGES
from tests.helpers.rules import rules
from tests.helpers.workflow import REPOSITORY

PACKAGES = ("calandria", "workflow_scripts")
MODULES = sorted(
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    for path in (REPOSITORY / "workflow_scripts").rglob("*.py")
    if path.name != "__init__.py"
)
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
SOFTWARE = sorted(PROJECT["project"]["optional-dependencies"])
IMAGES = [software for software in SOFTWARE if software != "development"]


def pins(software):
    lines = (REPOSITORY / f"envs/{software}.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_the_rules_of_every_stage_are_found():
    assert len(rules()) >= 25 and {rule.file for rule in rules()} == {stage.name for stage in STAGES}


def test_a_rule_its_program_log_and_benchmark_share_one_name():
    for rule in rules():
        program = rule.module.rpartition(".")[2]
        assert rule.name == program or rule.name.startswith(f"{program}_of_"), rule
        assert rule.module == f"workflow_scripts.{rule.file}.{program}"
        (log,) = rule.log
        assert re.fullmatch(rf"logs/demo/{rule.file}/{program}(/.+)?\.log", log), rule
        assert re.fullmatch(rf"results/demo/benchmarks/{rule.file}/{program}(/.+)?\.tsv", rule.benchmark), rule


def test_a_rule_states_what_it_needs():
    """Rules of which the command chooses its Python start containers themselves, so that launchers stay outside."""
    for rule in rules():
        software = re.fullmatch(r"\.\./envs/(\w+)\.yaml", rule.environment)[1]
        assert software in SOFTWARE and (REPOSITORY / f"envs/{software}.yaml").exists(), rule
        chooses = "{params.python} -m" in rule.command or "{params.trainer} -m" in rule.command
        assert (rule.image is None) if chooses else (rule.image.endswith(f"/{software}.sif")), rule
        assert {"mem_mb", "runtime"} <= set(rule.resources) and "{log}" in rule.command and not rule.other_code, rule


def test_no_rule_has_retries_of_its_own():
    assert {rule.retries for rule in rules()} <= {None, 0}, "nested runs would multiply those of the profile"


def test_every_module_with_a_program_is_that_of_a_rule_or_of_a_named_tool():
    tools = {"run_worker", "torchrun", "write_schema", "write_quantities"}
    programs = {name.rpartition(".")[2] for name in MODULES if hasattr(importlib.import_module(name), "main")}
    assert (
        {rule.module.rpartition(".")[2] for rule in rules()}
        <= programs
        <= {rule.module.rpartition(".")[2] for rule in rules()} | tools
    )


@pytest.mark.parametrize("module", MODULES)
def test_a_program_explains_itself(module, capsys):
    main = getattr(importlib.import_module(module), "main", None)
    if main is None:
        assert module.endswith(".options"), "a module of programs is a program, or the options that they share"
        return
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0 and text.startswith("usage: ") and len(text.split("\n\n")) >= 3


def test_every_stage_has_its_rules_and_unit_tests():
    for stage in (stage.name for stage in STAGES):
        assert (REPOSITORY / f"rules/{stage}.smk").exists() and (REPOSITORY / f"tests/unit/{stage}").is_dir()


def test_an_installed_package_has_all_files_of_the_package(tmp_path):
    command = ["git", "ls-files", "-z", *PACKAGES, "pyproject.toml", "setup.py", "README.md", "LICENSE"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split("\0")
    tracked = [name for name in listed if name and (REPOSITORY / name).exists()]
    for name in tracked:  # a copy, for what an earlier build left beside the sources would be taken, too
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / "source" / name)
    build = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path / "built")]
    subprocess.run(build, cwd=tmp_path / "source", check=True, capture_output=True)
    built = {str(path.relative_to(tmp_path / "built")) for path in (tmp_path / "built").rglob("*") if path.is_file()}
    assert {name for name in tracked if name.startswith(tuple(f"{package}/" for package in PACKAGES))} - built == set()


def test_locks_agree_with_each_other_and_with_what_they_are_locks_of():
    versions = {}
    for software in SOFTWARE:
        for name, version in pins(software).items():
            versions.setdefault(name, set()).add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}
    assert {"psycopg2-binary", "pymysql"} <= set(pins("torch")), "searches record their trials in databases"
    for software, wanted in PROJECT["project"]["optional-dependencies"].items():
        names = {re.split(r"[=<>\[ ]", text)[0].lower() for text in [*PROJECT["project"]["dependencies"], *wanted]}
        assert names <= set(pins(software)), software


@pytest.mark.parametrize("software", SOFTWARE)
def test_conda_files_hold_the_pins_of_the_lock_of_their_name(software):
    """They refer to no other file: Snakemake installs a copy of them from a folder of its own."""
    content = yaml.safe_load((REPOSITORY / f"envs/{software}.yaml").read_text())
    assert content["name"] == f"calandria-{software}" and content["channels"] == ["conda-forge"]
    python, pip, pinned = content["dependencies"]
    assert (python, pip) == ("python=3.11", "pip")
    assert dict(pin.split("==") for pin in pinned["pip"]) == pins(software)
    assert sorted(path.stem for path in (REPOSITORY / "envs").glob("*.lock")) == SOFTWARE


def test_every_set_that_rules_use_has_an_image():
    assert {re.fullmatch(r"\.\./envs/(\w+)\.yaml", rule.environment)[1] for rule in rules()} == set(IMAGES)
    for kind in ("Containerfile", "def"):
        found = {path.stem for path in (REPOSITORY / "containers").glob(f"*.{kind}")}
        assert found == {*IMAGES, "template"}


def check_of_written_files(checkout):
    command = [sys.executable, checkout / "envs/write_locks.py", "--check"]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)


def test_definitions_of_images_are_those_of_the_templates_and_a_changed_one_is_noticed(tmp_path):
    for name in ("envs", "containers"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    for name in ("pyproject.toml", "Makefile"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    ended = check_of_written_files(tmp_path)
    assert ended.returncode == 0, ended.stderr
    for name in ("lammps.Containerfile", "torch.def"):
        content = (tmp_path / "containers" / name).read_text()
        (tmp_path / "containers" / name).write_text(content + "RUN true\n")
        ended = check_of_written_files(tmp_path)
        assert ended.returncode != 0 and name in ended.stdout + ended.stderr
        (tmp_path / "containers" / name).write_text(content)


def test_what_the_packages_import_is_named_in_the_extras():
    named = {
        re.split(r"[=<>\[ ]", text)[0].lower()
        for texts in [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
        for text in texts
    }
    graph = grimp.build_graph(*PACKAGES, include_external_packages=True)
    imported = {name.partition(".")[0] for name in graph.modules} - {*PACKAGES, *sys.stdlib_module_names}
    assert {"numpy", "torch", "optuna"} <= imported
    distributions = packages_distributions()
    of_others = {"pydantic_core", "zstandard", "pyzstd", "compression"}  # part of pydantic; for zst files, whichever is there
    for module in imported - of_others:
        assert {name.lower() for name in distributions.get(module, [module])} & named, module


def test_test_files_have_names_of_their_own():
    names = [path.name for path in (REPOSITORY / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))
