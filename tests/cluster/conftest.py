"""Tests on a real SLURM: one at a time, for they set nodes down and fill the cluster."""

import fcntl
import time

import pytest

from tests.helpers import slurm


@pytest.fixture(autouse=True)
def cluster(tmp_path):
    """Give a test the whole SLURM; leave both nodes up and none of its jobs behind."""
    slurm.require()
    with open("/tmp/calandria_test_slurm.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        slurm.wait_for_nodes(60)
        yield slurm
        slurm.wait_for_nodes(60)
        deadline = time.monotonic() + 60
        while (left := slurm.jobs_in(tmp_path)) and time.monotonic() < deadline:
            slurm.cancel(*left)
            time.sleep(0.5)
