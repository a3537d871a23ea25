#!/usr/bin/env bash
# On a machine with a CUDA device, within 8 minutes: the tests marked gpu, a short training of each registered network on GPU and CPU, and
# a search by two workers on one GPU. It runs this checkout with the Python and torch at hand; nothing is installed, no C code is built.
# Usage: benchmarks/on_gpu.sh [FOLDER]   (tables, CSV; $OUT or ./on_gpu if left out; PYTHON=... names the Python)
set -euo pipefail
out=${1:-${OUT:-on_gpu}}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/.."
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || command -v python3 || echo python3)}
if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2> /dev/null; then
    echo "not run: $python has no torch with a CUDA device"
    echo "start it on a machine with a GPU, or name the Python that has torch: PYTHON=/path/to/python benchmarks/on_gpu.sh"
    exit 0
fi
export PYTHONPATH=$PWD OMP_NUM_THREADS=${OMP_NUM_THREADS:-4} CUBLAS_WORKSPACE_CONFIG=:4096:8
if "$python" -c 'import pytest, hypothesis' 2> /dev/null; then
    # the tests themselves tell what they lack; they must not stop the measurements
    timeout 150 "$python" -m pytest -q -p no:cacheprovider -m gpu --junitxml "$out/tests.xml" tests/unit || echo "tests: exit status $?"
else
    echo "tests: not run, since $python has no pytest or hypothesis"
fi
timeout 300 "$python" benchmarks/on_gpu.py "$out"
