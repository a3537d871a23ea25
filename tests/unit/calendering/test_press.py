import gzip

import numpy as np
import pytest

from tests.helpers.dumps import write_loading
from workflow_scripts.calendering.dumps import read_run
from workflow_scripts.calendering.press import PressPath, find_surface, frame_times, read_press
from workflow_scripts.calendering.settings import DumpSettings
from workflow_scripts.common.errors import InputFileError

TRUE = [10, 9.5, 9, 8.5, 8, 8.1, 8.2]


@pytest.fixture
def loaded(tmp_path):
    dump, press = write_loading(tmp_path)
    return read_run([dump], DumpSettings()), read_press(press, 1.0, 0.0)


def test_press_plane_bounds_the_film_and_carriers_lift_it_after_the_turn(loaded):
    surface = find_surface(*loaded, 0.2)
    assert surface.turn == 4 and surface.source == "press table"
    assert np.allclose(surface.thickness_um, TRUE, atol=2e-3)
    assert np.allclose(surface.press_position_um, [10, 9.5, 9, 8.5, 8, 8.5, 9])
    assert np.allclose(surface.compression_degree, 1 - np.array(TRUE) / 10, atol=2e-3)


def test_without_a_table_the_press_is_estimated(loaded):
    surface = find_surface(loaded[0], None, 0.2)
    assert surface.turn == 4 and surface.source.startswith("estimated")
    assert np.allclose(surface.thickness_um, TRUE, atol=2e-3) and np.allclose(surface.press_position_um, TRUE, atol=2e-3)


def test_imprint_of_the_press_is_taken_from_the_label(loaded):
    surface = find_surface(loaded[0], None, 0.25)
    assert surface.thickness_um[4] == pytest.approx(7.5, abs=1e-3) and "imprint" in surface.source
    assert surface.thickness_um[2] == pytest.approx(9 - 0.5 * 0.25, abs=1e-3)
    assert np.allclose(find_surface(loaded[0], None, 0.6).thickness_um, TRUE, atol=2e-3)  # no film is pressed in by half


def test_a_sphere_that_jumps_up_does_not_lift_the_film(loaded):
    particles, press = loaded
    particles.z[5:, -1] = 30.0
    assert np.allclose(find_surface(particles, press, 0.2).thickness_um, TRUE, atol=2e-3)


def test_press_that_is_not_yet_down_does_not_count_as_surface(loaded):
    particles, press = loaded
    high = PressPath(press.step, press.time_us, np.where(press.step == 0, 14.0, press.position_um))
    surface = find_surface(particles, high, 0.2)
    assert surface.press_position_um[0] == 14 and surface.thickness_um[0] == pytest.approx(10, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("time,z_press\n0,1\n1,2\n", "found columns time, z_press"),
        ("", "found columns"),
        ("step,z_press\n0,1\n1,two\n", "column z_press"),
        ("step,z_press\n0,1\n1\n", "column z_press"),
        ("step,z_press\n0,1\n", "two lines"),
        ("step,z_press\n0,1\n1,nan\n", "finite"),
        ("step,z_press\n1,1\n0,2\n", "falls"),
    ],
)
def test_bad_tables_are_refused(tmp_path, text, told):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputFileError, match=told):
        read_press(tmp_path / "p.csv", 1.0, 0.0)


def test_tables_in_other_units_packed_and_with_doubled_lines(tmp_path):
    (tmp_path / "p").write_bytes(gzip.compress(b"time_us,z_press\n0,2e-5\n1,1.5e-5\n1,1.6e-5\n2,1.7e-5\n"))
    press = read_press(tmp_path / "p", 1e6, 5.0)
    assert press.step is None and np.allclose(press.position_um, [15, 11, 12]) and press.time_us.tolist() == [0, 1, 2]
    (tmp_path / "p").write_text("step,press_position_um\n0,20\n1,15\n")
    assert read_press(tmp_path / "p", 1e6, 5.0).position_um.tolist() == [20, 15]


def test_table_of_another_run_is_refused(loaded):
    particles, press = loaded
    with pytest.raises(InputFileError, match="the press table from 0 to 300"):
        find_surface(particles, PressPath(press.step / 10, None, press.position_um), 0.2)
    with pytest.raises(InputFileError, match="times but no steps"):
        find_surface(particles, PressPath(None, press.time_us, press.position_um), 0.2)
    with pytest.raises(InputFileError, match="far below"):
        find_surface(particles, PressPath(press.step, None, press.position_um * 1e-3), 0.2)


def test_times_come_from_the_nearest_source(loaded):
    particles, press = loaded
    assert frame_times(particles, press, 75.0, 0.05)[0][1] == 75
    assert np.allclose(frame_times(particles, press, None, 1.0)[0], np.arange(7) * 25)
    times, source = frame_times(particles, None, None, 0.1)
    assert np.allclose(times, np.arange(7) * 50) and "timestep_us" in source
