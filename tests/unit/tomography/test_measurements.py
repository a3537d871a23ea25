"""Phase measurements of volumes whose values are known by hand."""

import numpy as np
import pytest

from calandria.tomography.measurements import measure
from tests.helpers.images import label_image


def test_void_counts_neither_as_pore_nor_as_thickness():
    labels = np.full((10, 4, 4), 4, np.uint8)
    labels[:6], labels[:3, :2], labels[6, 0] = 0, 2, 1
    found = measure(labels, 0.5)
    assert found.thickness_um == 3.0
    assert found.phase_voxels == {"pore": 72, "cbd": 4, "am": 24, "void": 60}
    assert found.porosity_free == found.phase_fractions["pore"] == pytest.approx(0.72)
    assert found.profile_phase_fractions["pore"] == [0.5] * 3 + [1.0] * 3 + [0.0] + [None] * 3
    assert found.profile_phase_fractions["cbd"][6] == 1.0
    assert found.profile_z_um[:2] == [0.25, 0.75]


def test_profiles_average_to_the_fractions():
    found = measure(label_image((20, 9, 9)), 0.4)
    assert found.thickness_um == pytest.approx(8.0)
    assert sum(found.phase_fractions.values()) == pytest.approx(1)
    for name, profile in found.profile_phase_fractions.items():
        assert np.mean(profile) == pytest.approx(found.phase_fractions[name])
