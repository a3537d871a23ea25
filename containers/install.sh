#!/bin/sh
# Installs one software set and Calandria into /opt/calandria of an image that is being built: install.sh SOFTWARE BASE REVISION
set -eu
software=$1 base=$2 revision=$3
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

python3 -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "the base image has another Python than 3.11")'
if ! command -v cc >/dev/null || ! python3 -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null; then
    apt-get update -q
    # Debian's own Python has its headers in a package; others bring them
    headers=$(python3 -c 'import sys; print("python3-dev" if sys.prefix == "/usr" else "")')
    apt-get install -q -y --no-install-recommends gcc libc6-dev $headers
fi

# pip and setuptools stay in the build stage
python3 -m venv /opt/build
python3 -m venv --without-pip /opt/calandria
/opt/build/bin/pip install -q "$(grep '^setuptools==' envs/workflow.lock)" "$(grep '^wheel==' envs/workflow.lock)"
/opt/build/bin/pip --python /opt/calandria/bin/python install -q -r "envs/$software.lock"
/opt/build/bin/pip wheel -q --no-build-isolation --no-deps --wheel-dir /opt/build/wheels .
/opt/build/bin/pip --python /opt/calandria/bin/python install -q --no-deps --no-index /opt/build/wheels/calandria-*.whl

# what programs write into the provenance of what they make
/opt/calandria/bin/python - "$software" "$base" "$revision" >/opt/calandria/image.json <<'PYTHON'
import hashlib, json, sys
from importlib.metadata import version
from pathlib import Path

software, base, revision = sys.argv[1:]
record = {"title": f"calandria-{software}", "version": version("calandria"), "revision": revision, "base": base}
record["lock_sha256"] = hashlib.sha256(Path(f"envs/{software}.lock").read_bytes()).hexdigest()
print(json.dumps(record))
PYTHON
