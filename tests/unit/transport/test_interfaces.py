"""Contact areas as counts of voxel faces."""

import itertools

import numpy as np
import pytest

from calandria.transport.interfaces import count_interfaces


def slow_count(labels, periodic, a, b):
    total = 0
    for place in itertools.product(*map(range, labels.shape)):
        for axis in range(3):
            there = list(place)
            there[axis] += 1
            if there[axis] == labels.shape[axis]:
                if not periodic[axis] or labels.shape[axis] == 1:
                    continue
                there[axis] = 0
            total += {int(labels[place]), int(labels[tuple(there)])} == {a, b}
    return total


@pytest.mark.parametrize("periodic", list(itertools.product((False, True), repeat=3)))
def test_counts_every_face_once(periodic):
    labels = np.random.default_rng(2).choice([0, 1, 2, 4], size=(4, 3, 1)).astype(np.uint8)
    found = count_interfaces(labels, periodic)
    assert found == {
        "pore_cbd": slow_count(labels, periodic, 0, 1),
        "pore_am": slow_count(labels, periodic, 0, 2),
        "am_cbd": slow_count(labels, periodic, 1, 2),
    }
    assert sum(found.values()) > 0
