"""The tortuosity factors of a real cathode through its thickness; one of them is published (doi 10.3390/en15124489, Table 1)."""

from pathlib import Path

import pytest
import tifffile

from calandria.transport.solver import tortuosity
from tests.helpers.published import published_table

CATHODE = Path(__file__).resolve().parents[2] / "examples" / "nmc532_calendered" / "nmc_1_cal_with_cbd.tif"


pytestmark = pytest.mark.slow


def through_the_thickness(diffusivities):
    result = tortuosity(tifffile.imread(CATHODE), diffusivities, axis="z", sides="no-flux")
    assert result.connected_fraction <= result.conducting_fraction
    return result.tortuosity_factor


@pytest.mark.published
def test_pore_and_binder_of_the_cathode_have_the_printed_tortuosity_factor():
    """Printed to three digits; the paper names neither its solver nor its resolution, so 1 % is left."""
    (row,) = [row for row in published_table("cathodes_nmc532") if (row["sample"], row["state"]) == ("1", "CAL")]
    assert float(row["tau_factor"]) == 1.87
    assert through_the_thickness({0: 1.0, 2: 1.0}) == pytest.approx(float(row["tau_factor"]), rel=0.01)


@pytest.mark.parametrize(
    ("diffusivities", "before"), [({0: 1.0, 2: 1.0}, 1.857), ({0: 1.0}, 2.953)], ids=["pore_and_cbd", "pore_alone"]
)
def test_tortuosity_factors_of_the_cathode_stay_what_they_were(diffusivities, before):
    assert through_the_thickness(diffusivities) == pytest.approx(before, abs=6e-4)
