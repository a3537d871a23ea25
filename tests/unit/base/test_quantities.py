"""One table of quantities that code, page and docs share."""

import re
from pathlib import Path

import pytest

from calandria.base.errors import InputFileError, SettingsError
from calandria.base.quantities import QUANTITIES, WITH_ERROR, Quantity, markdown_table, porosity_total, quantity
from workflow_scripts.report import write_quantities

TOP = Path(__file__).parents[3]
UNITS = {"", "um", "um2", "m2/s", "voxels", "faces", "frames"}


def test_the_docs_hold_the_table_of_the_code():
    write_quantities.main(["--output", str(TOP / "docs/quantities.md"), "--check"])


def test_a_table_that_is_out_of_date_is_reported_and_rewritten(tmp_path):
    page = tmp_path / "quantities.md"
    page.write_text("# Quantities\n\n" + markdown_table([quantity("thickness")]))
    with pytest.raises(InputFileError, match="is not that of"):
        write_quantities.main(["--output", str(page), "--check"])
    write_quantities.main(["--output", str(page)])
    assert page.read_text() == "# Quantities\n\n" + markdown_table()


def test_names_carry_neither_units_nor_plain_porosity():
    assert "porosity" not in QUANTITIES and {"porosity_free", "porosity_total"} <= set(QUANTITIES)
    for name, item in QUANTITIES.items():
        assert item.name == name and re.fullmatch("[a-z][a-z0-9_]*", name) and item.unit in UNITS
        assert item.meaning and item.symbol and item.stage
        assert not name.endswith(("_um", "_um2", "_m2_s", "_percent"))


def test_each_relative_error_is_a_quantity_without_unit():
    for name in WITH_ERROR:
        assert quantity(f"{name}_relative_error").unit == "" and name in quantity(f"{name}_relative_error").meaning


def test_an_unknown_quantity_names_the_nearest():
    with pytest.raises(SettingsError) as caught:
        quantity("porosity_fre")
    assert "porosity_fre" in caught.value.message and "porosity_free" in caught.value.hint


def test_porosity_total_adds_the_nanopores_of_the_binder_domain():
    assert porosity_total(0.4, 0.0, 0.47) == 0.4
    assert porosity_total(0.4, 0.1, 0.5) == pytest.approx(0.45)


def test_bars_in_a_meaning_do_not_end_a_cell():
    assert markdown_table([Quantity("a", "a", "", "report", "|x|")]).splitlines()[2] == "| `a` | a |  | report | \\|x\\| |"
