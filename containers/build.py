#!/usr/bin/env python3
"""Build the container images of Calandria's software sets.

One image per software set, from containers/SOFTWARE.Containerfile (docker, podman, buildah) or containers/SOFTWARE.def
(apptainer); both install envs/SOFTWARE.lock and Calandria into the same base. Needs nothing but Python 3.8 and the tool.

    containers/build.py --tool apptainer                       all sets, as containers/SOFTWARE.sif
    containers/build.py --tool podman --sif containers torch   one set, kept by podman and as containers/torch.sif
    containers/build.py --tool buildah --base localhost/base:bookworm voxels -- --isolation chroot

What stands after -- goes to the tool's build command as it is.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
SOFTWARE = sorted(path.stem for path in (TOP / "containers").glob("*.def") if path.stem != "template")
OF_FILES = ("docker-archive", "oci-archive", "localimage")  # addresses of apptainer that name a file
COPIED = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "containers/install.sh", "envs", "calandria", "workflow_scripts")


def version() -> str:
    """Return the version in pyproject.toml."""
    return re.search(r'^version = "(.+)"$', (TOP / "pyproject.toml").read_text(), re.MULTILINE).group(1)


def revision() -> str:
    """Return the commit that is built, with ``-modified`` where files of the image differ from it."""
    git = ["git", "-C", str(TOP)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", *COPIED], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}-modified" if changed else commit


def unfinished(folder: Path, software: str) -> Path:
    """Return where this process builds an image that is then moved to its place."""
    return folder / f".unfinished-{os.getpid()}-{software}.sif"


def build_commands(options: argparse.Namespace, software: str, scratch: str) -> list:
    """Return the commands that build one image, with a folder for what they need on the way."""
    arguments = [f"REVISION={revision()}"]
    if options.tool == "apptainer":
        if options.base:
            scheme, _, rest = options.base.rpartition("://") if "://" in options.base else ("docker", "", options.base)
            arguments += [f"BOOTSTRAP={scheme}", f"BASE={Path(rest).resolve() if scheme in OF_FILES else rest}"]
        command = ["apptainer", "build", "--force", *(word for text in arguments for word in ("--build-arg", text))]
        commands = []
        if options.pip_conf:  # a folder, for apptainer binds to nothing that the base does not have
            commands += [["mkdir", "-p", f"{scratch}/pip"], ["cp", str(options.pip_conf.resolve()), f"{scratch}/pip/pip.conf"]]
            command += ["--bind", f"{scratch}/pip:/media", "--build-arg", "PIP_CONFIG_FILE=/media/pip.conf"]
        made = unfinished(options.folder, software)
        commands.append([*command, *options.extra, str(made), f"containers/{software}.def"])
        return [*commands, ["mv", str(made), str(options.folder / f"{software}.sif")]]
    if options.base:
        arguments.append(f"BASE={options.base}")
    name = f"{options.prefix}/{software}:{version()}"
    command = [options.tool, "build", "--file", f"containers/{software}.Containerfile", "--tag", name]
    command += [word for text in arguments for word in ("--build-arg", text)]
    if options.pip_conf:
        command += ["--secret", f"id=pip.conf,src={options.pip_conf.resolve()}"]
    commands = [[*command, *options.extra, "."]]
    if options.sif:
        archive = f"{scratch}/{software}.tar"
        commands.append(
            {
                "docker": ["docker", "save", "--output", archive, name],
                "podman": ["podman", "save", "--format", "docker-archive", "--output", archive, name],
                "buildah": ["buildah", "push", name, f"docker-archive:{archive}:{name}"],
            }[options.tool]
        )
        made = unfinished(options.folder, software)
        commands += [["apptainer", "build", "--force", str(made), f"docker-archive:{archive}"], ["rm", archive]]
        commands.append(["mv", str(made), str(options.folder / f"{software}.sif")])
    return commands


def read_options(arguments: list) -> argparse.Namespace:
    """Return the options; what stands after -- is kept for the tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "software", nargs="*", metavar="SOFTWARE", help=f"software sets ({', '.join(SOFTWARE)}); all if none is named"
    )
    parser.add_argument("--tool", required=True, choices=("apptainer", "docker", "podman", "buildah"))
    parser.add_argument(
        "--base", help="base image with Python 3.11 instead of the pinned one; apptainer takes docker-archive://FILE too"
    )
    parser.add_argument(
        "--prefix", default="calandria", help="registry and folder before the image's name (default: %(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, default=TOP / "containers", help="folder of apptainer's images (default: containers)"
    )
    parser.add_argument(
        "--sif", type=Path, help="folder in which apptainer puts the image that docker, podman or buildah built, too"
    )
    parser.add_argument("--pip-conf", type=Path, help="pip's settings while the image is built, e.g. your site's package index")
    parser.add_argument("--dry-run", action="store_true", help="only print the commands")
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:cut])
    options.extra = arguments[cut + 1 :]
    options.software = options.software or SOFTWARE
    unknown = sorted(set(options.software) - set(SOFTWARE))
    if unknown:
        parser.error(f"unknown software set {', '.join(unknown)}; known: {', '.join(SOFTWARE)}")
    if options.sif and options.tool == "apptainer":
        parser.error("--sif is for docker, podman and buildah; apptainer writes to --output")
    folder = options.output if options.tool == "apptainer" else options.sif
    options.folder = folder and folder.resolve()  # commands run in the repository, not where the user is
    return options


def run_commands(commands: list, is_dry: bool) -> int:
    """Show and run commands up to the first that fails, and return its exit status."""
    for command in commands:
        print("+", shlex.join(command), flush=True)
        if not is_dry and (
            status := subprocess.run(command, cwd=TOP, env={**os.environ, "DOCKER_BUILDKIT": "1"}, check=False).returncode
        ):
            return status
    return 0


def main(arguments: list) -> int:
    """Build the images, one after the other."""
    options = read_options(arguments)
    needed = {options.tool, *(["apptainer"] if options.sif else [])}
    missing = sorted(tool for tool in needed if not shutil.which(tool))
    if missing and not options.dry_run:
        print(f"error: {' and '.join(missing)} is not on PATH\nhint: name a tool that is here: --tool", file=sys.stderr)
        return 2
    if options.folder and not options.dry_run:
        try:
            options.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            print(f"error: the folder {options.folder} cannot be made: {error.strerror}\nhint: name another one", file=sys.stderr)
            return 2
    for software in options.software:
        try:
            with tempfile.TemporaryDirectory(prefix="calandria-images-") as scratch:
                status = run_commands(build_commands(options, software, scratch), options.dry_run)
        finally:
            if options.folder:
                unfinished(options.folder, software).unlink(missing_ok=True)
        if status:
            print(f"error: the image of {software!r} was not built (exit status {status})", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
