"""Memory that is left: of the machine, of control groups of both versions, of the process's own limit."""

import subprocess
import sys

import pytest

from calandria.base.machine import available_memory

GB = 2**30


def files(root, **content):
    for name, text in content.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def second_version(root, most, **above):
    files(root, **{"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable: {8 * GB // 1024} kB\n", "proc/self/cgroup": "0::/job/step\n"})
    for folder, limit in {"job/step": most, **above}.items():
        files(
            root / "sys/fs/cgroup" / folder,
            **{"memory.max": f"{limit}\n", "memory.current": f"{2 * GB}\n", "memory.stat": f"anon 5\ninactive_file {GB}\n"},
        )


def test_the_machine_tells_what_is_available(tmp_path):
    files(tmp_path, **{"proc/meminfo": "MemTotal: 99 kB\nMemAvailable: 7 kB\n"})
    assert available_memory(tmp_path) == 7 * 1024


def test_nothing_tells(tmp_path):
    assert available_memory(tmp_path) is None


@pytest.mark.parametrize(("most", "job", "left"), [(4 * GB, "max", 3), (6 * GB, 5 * GB, 4), ("max", "max", 8), (GB, "max", 0)])
def test_the_smallest_control_group_counts_and_dropped_pages_are_free(tmp_path, most, job, left):
    second_version(tmp_path, most, job=job)
    assert available_memory(tmp_path) == left * GB


def test_control_groups_of_the_first_version(tmp_path):
    second_version(tmp_path, "max")
    files(tmp_path, **{"proc/self/cgroup": "5:cpu:/\n4:memory:/slurm/job\n"})
    files(
        tmp_path / "sys/fs/cgroup/memory/slurm/job",
        **{
            "memory.limit_in_bytes": f"{3 * GB}",
            "memory.usage_in_bytes": f"{GB}",
            "memory.stat": f"total_inactive_file {GB // 2}\n",
        },
    )
    assert available_memory(tmp_path) == 2 * GB + GB // 2


def test_the_limit_of_addresses_counts():
    code = (
        "import resource; from calandria.base.machine import available_memory\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "left = available_memory(); assert 0 < left < 1 << 30, left\n"
        "block = bytearray(200 << 20)\n"
        "assert left - available_memory() >= 200 << 20\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
