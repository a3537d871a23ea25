"""What a machine lacks for a solve is an error of two lines that says what suffices, before the work."""

import re
import weakref

import numpy as np
import pytest

from calandria.base.errors import DeviceError
from calandria.cli.program import run
from calandria.transport import memory, multigrid, percolation, solver
from calandria.transport.blocks import Blocks
from calandria.transport.memory import MOST_VOXELS, USUAL_BYTES, check_memory, sufficient_ranks
from calandria.transport.solver import tortuosity
from tests.helpers.ranks import start_ranks

OPEN = np.zeros((12, 10, 8), np.uint8)


def blocks(edge):
    return Blocks.of(None, (edge, edge, edge), (False, False, False))


@pytest.mark.parametrize(("gigabytes", "enough"), [(1, False), (3, False), (6, True), (1000, True), (None, True)])
def test_too_little_memory_is_told_with_what_suffices(monkeypatch, gigabytes, enough):
    available = None if gigabytes is None else gigabytes << 30
    monkeypatch.setattr(memory, "available_memory", lambda own=True: available)
    if enough:
        check_memory(blocks(600), 0.5)
        return
    with pytest.raises(
        DeviceError, match=r"at least 3\.42 GB on this machine for 216,000,000 of the volume's 216,000,000"
    ) as caught:
        check_memory(blocks(600), 0.5)
    machines = int(re.search(r"or (\d+) machines", caught.value.hint)[1])
    assert machines * available >= USUAL_BYTES * 600**3 > (machines - 1) * available
    assert "give it 7.24 GB" in caught.value.hint


def test_it_is_told_before_anything_is_solved_and_small_volumes_are_not_looked_at(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda own=True: 1000)
    assert tortuosity(OPEN, {0: 1.0}).tortuosity_factor == pytest.approx(1)
    monkeypatch.setattr(memory, "UNCHECKED_VOXELS", 10)
    monkeypatch.setattr(solver, "Solution", lambda *_, **__: pytest.fail("the work has begun"))
    with pytest.raises(DeviceError, match="the solver needs at least"):
        tortuosity(OPEN, {0: 1.0})


@pytest.mark.parametrize("voxels", [1, MOST_VOXELS, MOST_VOXELS + 1, 2000**3, 5000**3])
def test_ranks_that_suffice_have_blocks_that_never_overflow(voxels):
    ranks = sufficient_ranks(voxels)
    assert voxels / ranks <= MOST_VOXELS and (ranks == 1 or voxels / (ranks - 1) > MOST_VOXELS)


class Without:
    """The kernels, one of which finds no room."""

    def __init__(self, name, returned):
        self.name, self.returned, self.kernels = name, returned, multigrid.kernels()

    def __getattr__(self, name):
        return (lambda *_: self.returned) if name == self.name else getattr(self.kernels, name)


@pytest.mark.parametrize("name", ["fine_build", "fine_connect", "hierarchy_build", "percolation_find"])
@pytest.mark.parametrize("large", [False, True])
def test_a_level_without_room_ends_in_two_lines(monkeypatch, capsys, name, large):
    lacking = Without(name, None)
    module = percolation if name == "percolation_find" else multigrid
    monkeypatch.setattr(module, "kernels", lambda: lacking)
    if large:
        monkeypatch.setattr(memory, "MOST_VOXELS", 100)
    assert run(lambda _: tortuosity(OPEN, {0: 1.0})) == 2
    error, hint = capsys.readouterr().err.splitlines()
    if large:
        assert "2^31" in error and "start at least 10 ranks: mpiexec -n 10" in hint
    else:
        assert "no memory for the solver's" in error and "mem_mb" in hint


@pytest.mark.mpi
def test_ranks_of_which_one_lacks_memory_end_together_in_two_lines(tmp_path):
    (tmp_path / "program.py").write_text(
        "import sys, numpy\n"
        "from calandria.cli.program import run\n"
        "from calandria.transport import memory\n"
        "from calandria.transport.ranks import world\n"
        "from calandria.transport.solver import tortuosity\n"
        "def main(arguments):\n"
        "    communicator = world(2)\n"
        "    memory.UNCHECKED_VOXELS = 10\n"
        "    memory.available_memory = lambda own=True: 100 if communicator.rank else 1 << 40\n"
        "    tortuosity(numpy.zeros((12, 10, 8), 'uint8'), {0: 1.0}, communicator=communicator)\n"
        "sys.exit(run(main))\n"
    )
    ended = start_ranks(2, ["program.py"], tmp_path)
    lines = [line for line in ended.stderr.splitlines() if line.startswith(("error:", "hint:", "Traceback"))]
    assert ended.returncode == 2 and len(lines) == 2, ended.stderr
    assert "960 of the volume's 960 voxels; 9.31e-08 GB are available" in lines[0], "both ranks are on this machine"


def test_one_direction_is_let_go_before_the_next_is_made(monkeypatch):
    alive = weakref.WeakSet()

    class Watched(solver.Solution):
        def __init__(self, *arguments, **options):
            assert not alive, "the solution of the direction before is still held"
            alive.add(self)
            super().__init__(*arguments, **options)

    monkeypatch.setattr(solver, "Solution", Watched)
    found = solver.directions(OPEN, {0: 1.0})
    assert [result.tortuosity_factor for result in found.values()] == pytest.approx([1, 1, 1])
