"""Names mirror each other: rule, program, log, benchmark; stages, packages, locks."""

import ast
import importlib
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml

from calandria.study.stages import STAGES
from tests.helpers.workflow import REPOSITORY

PACKAGES = ("calandria", "workflow_scripts")
RULE = re.compile(r"^ *rule (\w+):\n(.*?)(?=^ *(?:rule|def) |\Z)", re.MULTILINE | re.DOTALL)
RULES = {
    name: (path.stem, body)
    for path in sorted((REPOSITORY / "rules").glob("*.smk"))
    for name, body in RULE.findall(path.read_text())
}
PROGRAMS = sorted(
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    for path in (REPOSITORY / "workflow_scripts").rglob("*.py")
    if '\nif __name__ == "__main__":\n' in path.read_text()
)
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
SOFTWARE = sorted(PROJECT["project"]["optional-dependencies"])


def pins(software):
    lines = (REPOSITORY / f"envs/{software}.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_the_rules_are_found():
    assert len(RULES) >= 24 and {stage for stage, _ in RULES.values()} == {stage.name for stage in STAGES}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_its_program_log_and_benchmark_share_one_name(rule):
    stage, body = RULES[rule]
    assert f" -m workflow_scripts.{stage}.{rule}" in body
    assert f"workflow_scripts.{stage}.{rule}" in PROGRAMS
    log, benchmark = (re.search(rf'{word}:\s*"([^"]+)"', body) for word in ("log", "benchmark"))
    assert re.fullmatch(rf"<logs>/{stage}/{rule}(/.+)?\.log", log.group(1))
    assert re.fullmatch(rf"<benchmarks>/{stage}/{rule}(/.+)?\.tsv", benchmark.group(1))


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_states_what_it_needs(rule):
    body = RULES[rule][1]
    software = re.search(r'conda:\s*"\.\./envs/(\w+)\.yaml"', body).group(1)
    assert software in SOFTWARE and (REPOSITORY / f"envs/{software}.yaml").exists()
    if "{params.python} -m" in body or "{params.trainer} -m" in body:  # where Snakemake runs, with what it runs in
        assert "container:" not in body
    else:
        assert re.search(r'container:\s*image\("(\w+)"\)', body).group(1) == software
    for word in ("output:", "threads:", "mem_mb=", "runtime=", "shell:", "{log}"):
        assert word in body
    assert "script:" not in body and "run:" not in body


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_explains_itself(program, capsys):
    main = importlib.import_module(program).main
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0 and text.startswith("usage: ") and len(text.split("\n\n")) >= 3


def test_every_stage_is_a_package_with_a_version():
    for stage in (stage.name for stage in STAGES):
        assert importlib.import_module(f"calandria.{stage}").VERSION >= 1
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
    assert pins("torch")["torch"] == "2.13.0"
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


IMAGES = [software for software in SOFTWARE if software != "development"]


def test_every_set_that_rules_use_has_an_image():
    used = {re.search(r'conda:\s*"\.\./envs/(\w+)\.yaml"', body).group(1) for _, body in RULES.values()}
    assert used == set(IMAGES)
    for kind in ("Containerfile", "def"):
        found = {path.stem for path in (REPOSITORY / "containers").glob(f"*.{kind}")}
        assert found == {*IMAGES, "template"}


@pytest.mark.parametrize("software", IMAGES)
def test_both_definitions_of_an_image_install_its_lock_and_nothing_else(software):
    """Compared are instructions, not comments; what is installed is one script's work, which reads the lock of its argument."""
    texts = {
        kind: [
            line.strip()
            for line in (REPOSITORY / f"containers/{software}.{kind}").read_text().replace("\\\n", " ").splitlines()
            if line.strip() and not line.startswith("#")
        ]
        for kind in ("Containerfile", "def")
    }
    for lines in texts.values():
        assert re.findall(r"sh containers/install\.sh (\w+)", "\n".join(lines)) == [software]
    runs = [line for line in texts["Containerfile"] if line.startswith("RUN")]
    assert len(runs) == 2 and runs[1] == "RUN useradd --uid 1000 --create-home calandria"
    assert texts["Containerfile"].index("USER calandria") > texts["Containerfile"].index(runs[1])
    (pinned,) = re.findall(r"ARG BASE=docker.io/library/(\S+)", "\n".join(texts["Containerfile"]))
    name, tag, digest = re.fullmatch(r"(python):(3\.11\.\d+-\S+)@(sha256:[0-9a-f]{64})", pinned).groups()
    bases = re.findall(r"^BASE=(\S+)$", "\n".join(texts["def"]), re.MULTILINE)
    assert bases == [f"{name}@{digest}"] * 2, "apptainer refuses a tag beside a digest"
    assert f" {name}:{tag}." in (REPOSITORY / f"containers/{software}.def").read_text()
    assert [line for line in texts["Containerfile"] if line.startswith("FROM")] == ["FROM ${BASE} AS build", "FROM ${BASE}"]
    words = {
        "title": f"calandria-{software}",
        "version": PROJECT["project"]["version"],
        "licenses": PROJECT["project"]["license"],
    }
    for word, value in words.items():
        name = re.escape(f"org.opencontainers.image.{word}")
        for kind, lines in texts.items():
            assert re.search(rf'{name}[= ]"?{re.escape(value)}"?(\s|$)', "\n".join(lines)), (kind, word)


def test_the_one_script_that_fills_images_takes_pins_from_locks_only():
    text = (REPOSITORY / "containers/install.sh").read_text()
    installs = re.findall(r"(?:pip|calandria/bin/python) install (.*)", text)
    assert installs and all(
        "envs/$software.lock" in words or "--no-index" in words or words.count("envs/workflow.lock") == words.count("$(") > 0
        for words in installs
    )
    for name in ("setuptools", "wheel"):
        assert name in pins("workflow")


IMPORTED_AS = {
    "PIL": "pillow",
    "pydantic_core": "pydantic",
    "skimage": "scikit-image",
    "snakemake_executor_plugin_slurm": "snakemake-executor-plugin-slurm",
    "yaml": "pyyaml",
}


def test_what_tests_and_programs_import_is_named_in_the_extras():
    named = {
        re.split(r"[=<>\[ ]", text)[0].lower()
        for texts in [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
        for text in texts
    }
    own = {*PACKAGES, "tests", *sys.stdlib_module_names}
    for folder in (*PACKAGES, "tests", "envs"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            nodes = list(ast.walk(ast.parse(path.read_text())))
            modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
            modules |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
            for module in {name.split(".")[0] for name in modules} - own:
                assert IMPORTED_AS.get(module, module) in named, f"{path}: {module}"


def test_no_file_names_a_place_of_one_machine():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    place = re.compile(r"(?<![\w.<>{}~-])/(?:work|home|root|Users|mnt|scratch)/[A-Za-z0-9_]")
    found = []
    for name in filter(None, listed.split("\0")):
        path = REPOSITORY / name
        if path.suffix in (".tif", ".png", ".gz") or not path.is_file():
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if place.search(line):
                found.append(f"{name}:{number}: {line.strip()[:80]}")
    assert found == []


def test_test_files_have_names_of_their_own():
    names = [path.name for path in (REPOSITORY / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))
