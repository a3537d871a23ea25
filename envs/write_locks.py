"""Write envs/<software>.lock, envs/<software>.yaml and the definitions in containers/ from the environment that runs this program.

One lock per software set (an extra of pyproject.toml plus the package's own dependencies): every package that the set
needs, direct or not, with the exact version that is installed here. The sets that rules use get an image: its two definitions
are the templates in containers/ with the set's name. Usage, from the repository's top:

    .venv/bin/python envs/write_locks.py            # after changing pyproject.toml and installing
    .venv/bin/python envs/write_locks.py --check    # says whether the files are as they would be written
"""

import argparse
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TOP = Path(__file__).resolve().parent.parent
# CUDA parts come with torch on machines that have them; torch pins those itself.
LEFT_TO_TORCH = ("nvidia-", "triton", "cuda-")
WITHOUT_IMAGE = ("development",)
# The base of images where no other is named; the digest is that of the index of all architectures. Apptainer takes no tag beside a digest.
BASE_TAG = "python:3.11.13-slim-bookworm"
BASE_DIGEST = "sha256:86adf8dbadc3d6e82ee5dd2c74bec2e1c2467cdad47886280501df722372d2e1"


def closure(roots: list[str]) -> dict[str, str]:
    """Return name -> version of all packages that the requirements need in this environment."""
    found: dict[str, str] = {}
    queue = [(Requirement(text), frozenset[str]()) for text in roots]
    seen: set[tuple[str, frozenset[str]]] = set()
    while queue:
        requirement, _ = queue.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen or name.startswith(LEFT_TO_TORCH):
            continue
        seen.add((name, extras))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            sys.exit(f"{name} is not installed; install the extras of pyproject.toml first")
        found[name] = package.version.split("+")[0]  # no local label: any build of this version serves
        for text in package.requires or []:
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in (extras or {""})):
                queue.append((needed, frozenset()))
    return found


def lock_files() -> dict[Path, str]:
    """Return the path and text of every lock, its conda file (Snakemake installs a copy of it elsewhere) and its containers."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    files = {}
    for software, wanted in project["optional-dependencies"].items():
        pins = closure(project["dependencies"] + wanted)
        lines = [f"# Software set {software!r}; written by envs/write_locks.py from pyproject.toml."]
        pinned = [f"{name}=={pins[name]}" for name in sorted(pins)]
        files[TOP / f"envs/{software}.lock"] = "\n".join(lines + pinned) + "\n"
        files[TOP / f"envs/{software}.yaml"] = (
            f"# Software set {software!r} for conda users: the pins of {software}.lock, installed by pip; written by envs/write_locks.py.\n"
            f"name: calandria-{software}\nchannels:\n  - conda-forge\ndependencies:\n  - python=3.11\n  - pip\n  - pip:\n"
            + "".join(f"      - {pin}\n" for pin in pinned)
        )
        if software in WITHOUT_IMAGE:
            continue
        for kind in ("Containerfile", "def"):
            text = (TOP / f"containers/template.{kind}").read_text()
            words = {"SOFTWARE": software, "VERSION": project["version"], "LICENCE": project["license"]}
            words |= {"BASE_TAG": BASE_TAG, "BASE_NAME": BASE_TAG.partition(":")[0], "BASE_DIGEST": BASE_DIGEST}
            for word, value in words.items():
                text = text.replace(f"@{word}@", value)
            files[TOP / f"containers/{software}.{kind}"] = text
    return files


def main() -> None:
    """Write or check the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file differs")
    check = parser.parse_args().check
    stale = [path for path, text in lock_files().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(f"{'differs' if check else 'written'}: {path.relative_to(TOP)}")
        if not check:
            path.write_text(lock_files()[path])
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
