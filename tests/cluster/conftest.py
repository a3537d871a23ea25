"""Tests on a real SLURM: one at a time, for they set nodes down and fill the cluster."""

import fcntl
import time

import pytest

from tests.helpers import slurm


@pytest.fixture(autouse=True)
def cluster():
    """Give a test the whole SLURM; leave both nodes up and none of its jobs behind."""
    slurm.require()
    with open("/tmp/calandria_test_slurm.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        slurm.wait_for_nodes(60)
        before = {row[0] for row in slurm.jobs()}
        yield slurm
        slurm.wait_for_nodes(60)
        left = {row[0] for row in slurm.jobs() if row[1] in ("PENDING", "RUNNING", "COMPLETING")} - before
        if left:
            slurm.cancel(*left)
            deadline = time.monotonic() + 60
            while {row[0] for row in slurm.jobs() if row[1] in ("RUNNING", "COMPLETING")} & left and time.monotonic() < deadline:
                time.sleep(0.5)
