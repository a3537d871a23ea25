"""The tortuosity factors of a real cathode through its thickness, against the published one (doi 10.3390/en15124489, Table 1)."""

from pathlib import Path

import pytest
import tifffile

from calandria.transport.solver import tortuosity

CATHODE = Path(__file__).resolve().parents[2] / "examples" / "nmc532_calendered" / "nmc_1_cal_with_cbd.tif"


@pytest.mark.published
@pytest.mark.slow
@pytest.mark.parametrize(
    ("diffusivities", "expected"), [({0: 1.0, 2: 1.0}, 1.857), ({0: 1.0}, 2.953)], ids=["pore_and_cbd", "pore_alone"]
)
def test_tortuosity_factor_of_the_cathode(diffusivities, expected):
    result = tortuosity(tifffile.imread(CATHODE), diffusivities, axis="z", sides="no-flux")
    assert result.tortuosity_factor == pytest.approx(expected, rel=0.01)
    assert result.connected_fraction <= result.conducting_fraction
