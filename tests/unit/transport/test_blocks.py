"""How a volume is cut among ranks, without any launcher."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

from calandria.transport.blocks import Blocks


@dataclass
class Ranks:
    """Stands for a communicator of which only size and rank are asked."""

    size: int
    rank: int


def cut(size, extents, wraps=(False, False, False)):
    return [Blocks.of(Ranks(size, rank), extents, wraps) for rank in range(size)]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8, 12])
@pytest.mark.parametrize("extents", [(64, 48, 33), (200, 200, 200), (13, 29, 301), (31, 2, 31)])
def test_blocks_cover_every_voxel_once(size, extents):
    count = np.zeros(extents, int)
    blocks = cut(size, extents)
    for block in blocks:
        assert block.size == size
        assert all(start % 2 == 0 for start in block.start)
        count[tuple(slice(*bounds) for bounds in zip(block.start, block.stop, strict=True))] += 1
    assert (count == 1).all()


def test_a_volume_too_small_for_all_ranks_is_held_whole():
    assert all(block.size == 1 and block.shape == (3, 2, 2) for block in cut(8, (3, 2, 2)))


def test_cubes_are_cut_along_several_axes():
    assert sorted(cut(27, (192, 192, 192))[0].counts) == [3, 3, 3]
    assert cut(2, (128, 128, 128))[0].counts[2] == 1  # rows stay whole as long as that costs nothing


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_neighbours_meet_each_other_in_any_order_of_axes(order):
    wraps = (False, True, True)
    blocks = [block.turned(order, wraps) for block in cut(12, (64, 96, 48), wraps)]
    for block in blocks:
        for axis, up, other in block.sides:
            assert blocks[other].neighbour(axis, not up) == block.rank
            edge = block.stop[axis] % block.extents[axis] if up else block.start[axis] or block.extents[axis]
            assert edge == (blocks[other].start[axis] if up else blocks[other].stop[axis])
