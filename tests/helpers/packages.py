"""Debian packages that tests need, installed where something is missing."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence


def install_packages(purpose: str, packages: Sequence[str]) -> None:
    """Install the missing Debian packages; says what it does."""
    missing = [name for name in packages if not _installed(name)]
    if not missing:
        print(f"{purpose}: {', '.join(packages)} are installed")
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(
            f"error: {', '.join(missing)} are not installed\nhint: this needs Debian's apt-get and root; `make test` skips what needs them"
        )
    print(f"{purpose}: installing {' '.join(missing)} by apt-get", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-q"], check=True, env=environment, stdout=subprocess.DEVNULL)
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def _installed(package: str) -> bool:
    command = ["dpkg-query", "-W", "-f", "${db:Status-Status}", package]
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout == "installed"
    return False
