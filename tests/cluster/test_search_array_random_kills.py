"""Twenty kills at random moments of one study whose workers are tasks of SLURM arrays."""

import random
import signal
import subprocess
import time
from collections import Counter

import pytest

from calandria.search.locks import OwnedLock
from tests.helpers.arrays import ArraySearch, kill
from tests.helpers.searching import diary

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

KILLS = (
    ["worker"] * 7 + ["controller"] * 4 + ["stop worker"] * 3 + ["stop controller"] * 2 + ["task"] * 2 + ["array", "torn journal"]
)
N_TRIALS = 24


def test_twenty_random_kills_lose_nothing_and_repeat_nothing(tmp_path):
    dice = random.Random(20)
    with ArraySearch(tmp_path / "s", 4, n_trials=N_TRIALS, toy={"steps": 10, "sleep_s": 0.3}) as search:
        controller = search.start()
        done = Counter()
        for kind in dice.sample(KILLS, len(KILLS)):
            search.wait_for_steps(sum(entry["word"] == "step" for entry in diary(search.study)) + dice.randint(2, 7))
            time.sleep(dice.uniform(0.0, 0.4))
            if kind.endswith("worker"):
                seen = []
                search.wait(lambda seen=seen: seen.extend(search.workers()) or seen)
                done[kind] += kill(dice.choice(seen), signal.SIGKILL if kind == "worker" else signal.SIGTERM)
            elif kind.endswith("controller"):
                controller.send_signal(signal.SIGKILL if kind == "controller" else signal.SIGTERM)
                assert controller.wait(120) == (-signal.SIGKILL if kind == "controller" else 143)
                controller = search.start()
                done[kind] += 1
            elif kind == "torn journal":  # a writer that dies in the middle of a line, with its controller
                controller.kill()
                controller.wait()
                with OwnedLock(f"{search.study.journal_path}.lock", 30.0).held(), open(search.study.journal_path, "ab") as stream:
                    stream.write(b'{"op_code": 6, "worker_id": "dead", "tri')
                controller = search.start()
                done[kind] += 1
            else:
                tasks = [task for task, state in search.tasks().items() if state == "RUNNING"]
                chosen = tasks if kind == "array" else tasks[:1]
                if chosen:
                    subprocess.run(["scancel", *chosen], check=True, timeout=120)
                done[kind] += bool(chosen)
        search.finish(controller)
        assert sum(done.values()) >= 19, done  # one may have hit a worker that was just leaving
        search.check(N_TRIALS)
