"""Container tools for tests: buildah and podman as they run inside of sandboxes, a base image of our own, and apptainer from Debian's unstable branch.

python -m tests.helpers.containers install     # apt-get, where something is missing
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.packages import install_packages

PACKAGES = ("buildah", "podman", "runc", "mmdebstrap", "squashfs-tools", "uidmap", "patchelf", "ca-certificates")
PROGRAMS = ("buildah", "podman", "runc", "mmdebstrap", "mksquashfs", "patchelf", "apt-get", "dpkg-deb")
REQUIRED = "CALANDRIA_TEST_CONTAINERS"  # set in CI
# Neither the right to raise limits nor a cgroup of one's own is there in a sandbox.
RUN = (
    "podman",
    "--runtime",
    "runc",
    "run",
    "--rm",
    "--ulimit",
    "nofile=10000:10000",
    "--ulimit",
    "nproc=4096:4096",
    "--network",
    "none",
)
APPTAINER = ("apptainer", "libc6", "libseccomp2", "libsqlite3-0", "libgcc-s1")


def require() -> None:
    """Skip a test that builds containers unless it is asked for; in CI it is, and what is missing is an error."""
    if not os.environ.get(REQUIRED):
        pytest.skip(f"builds images for minutes, from Debian's packages; {REQUIRED}=1 asks for it")
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        raise RuntimeError(
            f"{REQUIRED} is set, but {', '.join(missing) or 'root'} is missing (python -m tests.helpers.containers install)"
        )


def call(*command: object, **options) -> str:
    """Run a command and return what it printed; a failure shows the end of it."""
    finished = subprocess.run(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=900, **options
    )
    assert finished.returncode == 0, f"{command}\n{finished.stdout[-4000:]}"
    return finished.stdout


def use_own_storage(scratch: Path, environment: dict[str, str]) -> None:
    """Let podman and buildah keep their images in ``scratch``."""
    scratch.mkdir()
    text = f'[storage]\ndriver = "overlay"\ngraphroot = "{scratch}/graph"\nrunroot = "{scratch}/run"\n'
    (scratch / "storage.conf").write_text(text)
    environment["CONTAINERS_STORAGE_CONF"] = str(scratch / "storage.conf")


def make_base(archive: Path, pretty_name: str) -> None:
    """Write the root file system of a small Debian 12 with Python 3.11 whose own name for itself is ``pretty_name``."""
    rename = f"""sed -i 's|^PRETTY_NAME=.*|PRETTY_NAME="{pretty_name}"|' "$1/usr/lib/os-release" """
    packages = "--include=python3,python3-venv,ca-certificates"
    call("mmdebstrap", "--quiet", "--variant=minbase", packages, f"--customize-hook={rename}", "bookworm", archive)


def install_apptainer(folder: Path) -> Path:
    """Put apptainer into ``folder``, with the C library that it was built for, and return the folder of its program.

    Debian 12 has no apptainer. The package of the unstable branch is unpacked, not installed; nothing of the machine changes.
    """
    apt, root, libraries = folder / "apt", folder / "apptainer", folder / "libraries"
    for name in (
        "etc/apt/apt.conf.d",
        "etc/apt/preferences.d",
        "var/lib/apt/lists/partial",
        "var/cache/apt/archives/partial",
        "var/lib/dpkg",
    ):
        (apt / name).mkdir(parents=True)
    (apt / "var/lib/dpkg/status").touch()
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (apt / "etc/apt/sources.list").write_text(f"deb [signed-by={keys}] http://deb.debian.org/debian sid main\n")
    apt_get = [
        "apt-get",
        "-q",
        "-o",
        f"Dir={apt}",
        "-o",
        f"Dir::State::status={apt}/var/lib/dpkg/status",
        "-o",
        "APT::Sandbox::User=root",
    ]
    call(*apt_get, "update")
    call(*apt_get, "download", *(f"{name}/sid" for name in APPTAINER), cwd=apt)
    for package in apt.glob("*.deb"):
        call("dpkg-deb", "-x", package, root if package.name.startswith("apptainer_") else libraries)
    own = libraries / "usr/lib/x86_64-linux-gnu"
    programs = (root / "usr/bin/apptainer", root / "usr/lib/x86_64-linux-gnu/apptainer/bin/starter")
    call("patchelf", "--set-interpreter", own / "ld-linux-x86-64.so.2", "--force-rpath", "--set-rpath", own, *programs)
    for name in ("usr/etc", "usr/lib/var/lib/apptainer/mnt/session", "usr/var/lib/apptainer/mnt/session"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "usr/etc/apptainer").symlink_to("../../etc/apptainer")
    settings = root / "etc/apptainer/apptainer.conf"
    settings.write_text(settings.read_text().replace("root default capabilities = full", "root default capabilities = no"))
    return root / "usr/bin"


def call_with_all_rights(*command: object, **options) -> str:
    """Run a command as `call` does, as root of a user namespace: apptainer builds as root want rights that a sandbox withholds."""
    words = ["unshare", "--user", "--mount", "sh", "-c", 'read go; exec "$@"', "sh", *map(str, command)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(words, text=True, **pipes, **options) as process:
        namespace = Path(f"/proc/{process.pid}/ns/user")
        while namespace.readlink() == Path("/proc/self/ns/user").readlink():
            time.sleep(0.01)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{process.pid}/{name}").write_text("0 0 65536\n")
        text, _ = process.communicate("go\n", timeout=900)
    assert process.returncode == 0, f"{command}\n{text[-4000:]}"
    return text


if __name__ == "__main__":
    if sys.argv[1:] != ["install"]:
        sys.exit(__doc__)
    install_packages("containers for tests", PACKAGES)
