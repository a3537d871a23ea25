"""What is given to container tools: the build command's lines, and those that a run with --sdm apptainer plans. No tool is needed."""

import os
import re
import shlex
import subprocess
import sys
import tomllib

import pytest

from tests.helpers.workflow import REPOSITORY, snakemake

BUILD = REPOSITORY / "containers/build.py"
VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
SETS = ["lammps", "torch", "voxels", "workflow"]


def build(*options, folder=REPOSITORY.parent, **environment):
    words = [sys.executable, BUILD, *map(str, options)]
    return subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, **environment}, cwd=folder)


def planned(*options, folder=REPOSITORY.parent):
    finished = build("--dry-run", *options, folder=folder)
    assert finished.returncode == 0, finished.stderr
    return [shlex.split(line.removeprefix("+ ")) for line in finished.stdout.splitlines()]


@pytest.mark.parametrize("tool", ["docker", "podman", "buildah"])
def test_tools_for_containerfiles_get_the_same_words(tool):
    (words,) = planned(
        "--tool", tool, "--base", "site/python:3.11", "--prefix", "registry.example/me", "torch", "--", "--network", "host"
    )
    assert words[:6] == [
        tool,
        "build",
        "--file",
        "containers/torch.Containerfile",
        "--tag",
        f"registry.example/me/torch:{VERSION}",
    ]
    given = {words[at + 1].split("=")[0]: words[at + 1].split("=")[1] for at, word in enumerate(words) if word == "--build-arg"}
    assert given["BASE"] == "site/python:3.11" and set(given) == {"BASE", "REVISION"}
    assert words[-3:] == ["--network", "host", "."]


def test_without_a_base_the_definition_s_pinned_one_is_taken():
    (words,) = planned("--tool", "podman", "torch")
    assert not any(word.startswith("BASE=") for word in words)


def test_all_sets_are_built_where_none_is_named():
    lines = planned("--tool", "buildah", "--base", "b")
    assert [words[3] for words in lines] == [f"containers/{name}.Containerfile" for name in SETS]


@pytest.mark.parametrize(
    ("base", "bootstrap", "rest"),
    [
        ("registry.example/python:3.11", "docker", "registry.example/python:3.11"),
        ("docker://python:3.11", "docker", "python:3.11"),
        ("docker-archive:///scratch.tar", "docker-archive", "/scratch.tar"),
    ],
)
def test_apptainer_builds_beside_an_image_that_is_in_use(tmp_path, base, bootstrap, rest):
    first, last = planned("--tool", "apptainer", "--base", base, "--output", tmp_path, "lammps")
    assert first[:3] == ["apptainer", "build", "--force"] and f"BOOTSTRAP={bootstrap}" in first and f"BASE={rest}" in first
    made = first[-2]
    assert re.fullmatch(rf"{tmp_path}/\.unfinished-\d+-lammps\.sif", made) and first[-1] == "containers/lammps.def"
    assert last == ["mv", made, str(tmp_path / "lammps.sif")]
    again, _ = planned("--tool", "apptainer", "--base", base, "--output", tmp_path, "lammps")
    assert again[-2] != made, "two builds at once have files of their own"


def test_files_and_folders_are_those_of_where_the_user_is(tmp_path):
    words = ("--pip-conf", "pip.conf", "--base", "docker-archive://base.tar", "--output", "images/new", "voxels")
    _, copied, built, moved = planned("--tool", "apptainer", *words, folder=tmp_path)
    assert copied[1] == str(tmp_path / "pip.conf") and f"BASE={tmp_path}/base.tar" in built
    assert built[-2].startswith(f"{tmp_path}/images/new/.unfinished-") and moved[-1] == f"{tmp_path}/images/new/voxels.sif"
    lines = planned("--tool", "podman", "--pip-conf", "pip.conf", "--sif", "images", "voxels", folder=tmp_path)
    assert f"id=pip.conf,src={tmp_path}/pip.conf" in lines[0] and lines[-1][-1] == f"{tmp_path}/images/voxels.sif"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fails", [False, True])
def test_a_build_makes_its_folder_and_leaves_whole_images_only(tmp_path, fails):
    (tmp_path / "apptainer").write_text(
        f"#!/bin/sh\nfor word; do last=$image image=$word; done\necho image > $last\nexit {int(fails)}\n"
    )
    (tmp_path / "apptainer").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    finished = build("--tool", "apptainer", "--output", "images/new", "voxels", folder=tmp_path, PATH=path)
    assert finished.returncode == int(fails), finished.stderr
    assert [found.name for found in (tmp_path / "images/new").iterdir()] == ([] if fails else ["voxels.sif"])


def test_pips_settings_come_as_a_secret_or_bound_and_never_as_a_file_of_the_image(tmp_path):
    (words,) = planned("--tool", "docker", "--pip-conf", tmp_path / "pip.conf", "voxels")
    assert words[words.index("--secret") + 1] == f"id=pip.conf,src={tmp_path}/pip.conf"
    lines = planned("--tool", "apptainer", "--pip-conf", tmp_path / "pip.conf", "voxels")
    copied = lines[1]
    assert copied[:2] == ["cp", f"{tmp_path}/pip.conf"] and "PIP_CONFIG_FILE=/media/pip.conf" in lines[2]
    assert lines[2][lines[2].index("--bind") + 1] == f"{copied[2].removesuffix('/pip.conf')}:/media"


@pytest.mark.parametrize("tool", ["docker", "podman", "buildah"])
def test_an_image_of_another_tool_becomes_a_sif_file(tool, tmp_path):
    lines = planned("--tool", tool, "--sif", tmp_path, "voxels")
    assert [words[:2] for words in lines] == [
        [tool, "build"],
        [tool, "push" if tool == "buildah" else "save"],
        ["apptainer", "build"],
        ["rm", lines[3][1]],
        ["mv", lines[2][3]],
    ]
    assert lines[2][-1] == f"docker-archive:{lines[3][1]}" and lines[4][2] == str(tmp_path / "voxels.sif")
    assert re.fullmatch(rf"{tmp_path}/\.unfinished-\d+-voxels\.sif", lines[2][3])


def test_mistakes_are_told_before_anything_is_built(tmp_path):
    assert "unknown software set torhc; known: lammps, torch, voxels, workflow" in build("--tool", "podman", "torhc").stderr
    finished = build("--tool", "apptainer", "voxels", PATH=str(tmp_path))
    assert finished.returncode == 2
    assert finished.stderr.splitlines() == ["error: apptainer is not on PATH", "hint: name a tool that is here: --tool"]
    (tmp_path / "apptainer").touch(0o755)
    finished = build("--tool", "apptainer", "--output", tmp_path / "apptainer/images", "voxels", PATH=str(tmp_path))
    assert finished.returncode == 2
    error, hint = finished.stderr.splitlines()
    assert error.startswith(f"error: the folder {tmp_path}/apptainer/images cannot be made") and hint == "hint: name another one"
    finished = build("--tool", "apptainer", "--sif", tmp_path, "voxels")
    assert finished.returncode == 2 and "--output" in finished.stderr


@pytest.fixture
def study(tmp_path):
    """A folder to plan the demo in, and a program that answers as apptainer does when Snakemake asks for its version."""
    for name in ("config", "examples"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/apptainer").write_text("#!/bin/sh\necho apptainer version 1.4.5\n")
    (tmp_path / "bin/apptainer").chmod(0o755)
    return tmp_path


def plan(study, *options):
    """Return the command of one job of each rule."""
    path = f"{study}/bin:{os.environ['PATH']}"
    configuration = ("--config", f"images={study}/images")
    finished = snakemake(study, "--dry-run", "--printshellcmds", *options, *configuration, PATH=path)
    assert finished.returncode == 0, finished.stderr[-3000:]
    commands = {}
    for line in (finished.stdout + finished.stderr).splitlines():
        if "workflow_scripts." in line:
            commands[line.split("workflow_scripts.", 1)[1].split()[0].split(".")[-1]] = line.strip().removeprefix(
                "Shell command: "
            )
    return commands


@pytest.mark.slow
def test_launchers_start_containers_and_never_run_inside(study):
    inside = f"apptainer exec --home {study} --nv {study}/images"
    commands = plan(study, "--sdm", "apptainer", "--apptainer-args=--nv", "--set-resources", "search_surrogate:launch=slurm")
    assert commands["solve_diffusion"].startswith(f"mpiexec -n 2 {inside}/voxels.sif python -m")
    assert commands["train_surrogate"].startswith(f"exec {inside}/torch.sif python -m")
    assert commands["search_autoencoder"].startswith(f"exec {inside}/torch.sif python -m")
    assert commands["search_surrogate"].startswith("exec python -m")
    words = shlex.split(commands["search_surrogate"])
    assert f"--worker-python={inside}/torch.sif python" in words
    assert commands["import_volume"].startswith("python -m")


@pytest.mark.slow
def test_a_site_names_the_python_of_one_rule(study):
    commands = plan(
        study,
        "--sdm",
        "apptainer",
        "--set-resources",
        "solve_diffusion:python=/opt/site/bin/python",
        "solve_diffusion:mpi=srun",
    )
    assert commands["solve_diffusion"].startswith("srun -n 2 /opt/site/bin/python -m")


@pytest.mark.slow
def test_code_and_locks_are_looked_at_for_containers_only(study, tmp_path):
    """A folder in a lock's place is met by whoever reads it."""
    checkout = tmp_path / "checkout"
    (checkout / "envs/broken.lock").mkdir(parents=True)
    for name in ("Snakefile", "rules", "calandria", "workflow_scripts", "tests", "profiles"):
        (checkout / name).symlink_to(REPOSITORY / name)
    options = ("--snakefile", checkout / "Snakefile", "--dry-run")
    assert snakemake(study, *options).returncode == 0
    finished = snakemake(study, *options, "--sdm", "apptainer", PATH=f"{study}/bin:{os.environ['PATH']}")
    assert finished.returncode != 0 and "broken.lock" in finished.stdout + finished.stderr


@pytest.mark.slow
def test_without_containers_their_place_changes_nothing(study):
    commands = plan(study)
    assert commands["solve_diffusion"].startswith("mpiexec -n 2 python -m")
    assert not any("apptainer" in command or ".sif" in command for command in commands.values())
