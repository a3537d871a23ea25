import gzip
from dataclasses import replace

import numpy as np
import pytest

from calandria.base.errors import InputFileError
from calandria.calendering.dumps import read_run
from calandria.calendering.press import PressPath, find_surface, frame_times, read_press
from calandria.calendering.settings import DumpSettings
from tests.helpers.dumps import write_loading

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
    assert surface.turn == 4 and "constant speed" in surface.source and surface.press_is_estimated
    assert np.allclose(surface.thickness_um, TRUE, atol=2e-3)
    assert np.allclose(surface.press_position_um, [10, 9.5, 9, 8.5, 8, 8.5, 9], atol=2e-3)
    assert (surface.lowest_source, surface.lowest_um) == ("frames", surface.thickness_um.min())


def test_estimated_press_reads_no_surface_after_the_turn(loaded):
    particles = loaded[0]
    before = find_surface(particles, None, 0.2)
    particles.z[5:] -= 0.05  # the film springs back less
    after = find_surface(particles, None, 0.2)
    assert np.array_equal(before.press_position_um, after.press_position_um)
    assert np.allclose(before.thickness_um[5:] - after.thickness_um[5:], 0.05)
    particles.z[2] -= 0.05  # nor does a frame under a press of constant speed tell where the press is
    assert np.array_equal(before.press_position_um, find_surface(particles, None, 0.2).press_position_um)


def test_estimated_press_touches_the_film_when_it_begins_to_sink(loaded):
    particles = loaded[0]
    for frame in (4, 3, 2, 1):
        particles.z[frame] = particles.z[frame - 1]
    particles.z[5:] = particles.z[:2]  # frames 0, 0, 1, 2, 3, 0, 1: two frames without contact, lowest at 8.5
    surface = find_surface(particles, None, 0.15)
    assert np.allclose(surface.press_position_um, [10.5, 10, 9.5, 9, 8.5, 9, 9.5], atol=2e-3)
    assert np.allclose(surface.thickness_um[:5], [10, 10, 9.5, 9, 8.5], atol=2e-3)


def test_imprint_of_the_press_is_taken_from_the_label(loaded):
    surface = find_surface(loaded[0], None, 0.25)
    assert np.allclose(surface.press_position_um, [10, 9.375, 8.75, 8.125, 7.5, 8.125, 8.75], atol=2e-3)
    assert surface.thickness_um[4] == pytest.approx(7.5, abs=1e-3)


def test_estimated_press_of_changing_speed_follows_the_film_until_the_turn(loaded):
    particles = loaded[0]
    particles.z[1:3] = particles.z[[3, 4]]  # 10, 8.5, 8, 8.5, 8
    particles.z[3] = particles.z[2]
    surface = find_surface(particles, None, 0.25)
    assert surface.turn == 2 and np.allclose(surface.press_position_um[:3], [10, 8.5 - 0.5 * (1.5 / 2) ** 2, 7.5], atol=2e-3)
    assert np.allclose(np.diff(surface.press_position_um)[2:], 1.25, atol=2e-3) and "imprint" in surface.source
    above_the_film = find_surface(particles, None, 0.18)
    assert np.allclose(above_the_film.press_position_um[:3], [10, 8.5, 8], atol=2e-3)


def test_press_of_a_film_that_is_only_released_rests(loaded):
    particles = loaded[0]
    particles.z[:] = particles.z[[4, 4, 4, 5, 5, 6, 6]]
    surface = find_surface(particles, None, 0.2)
    assert surface.turn == 0 and np.allclose(surface.press_position_um, 8, atol=2e-3) and "no loading" in surface.source
    assert surface.degree_source == "frames"  # the label says nothing about such frames


@pytest.mark.parametrize("label", [0.05, 0.16, 0.40, 0.6])
def test_label_that_the_highest_sphere_contradicts_is_refused(loaded, label):
    with pytest.raises(
        InputFileError, match=r"sinks from 10 to 8 um at step 2000, .* between 20\.0% and 36\.0%; the run's label says"
    ):
        find_surface(loaded[0], None, label)


@pytest.mark.parametrize(("last", "accepted"), [(2, False), (4, False), (5, True)])
def test_frames_that_end_while_loading_need_a_press_table(loaded, last, accepted):
    particles, press = loaded
    names = ("x", "y", "z", "radius", "box", "step")
    short = replace(particles, **{name: getattr(particles, name)[: last + 1] for name in names})
    if accepted:
        assert find_surface(short, None, 0.2).degree_source == "label"
    else:
        with pytest.raises(InputFileError, match=f"end at step {500 * last} while the film is still being pressed"):
            find_surface(short, None, 0.05 * last)
        surface = find_surface(short, press, 0.05 * last)
        assert surface.degree_source == "press table" and surface.lowest_um == pytest.approx(10 - 0.5 * last)


@pytest.mark.parametrize("turn_step", [1875, 2000, 2125])
def test_press_that_turns_between_frames(loaded, turn_step):
    particles = loaded[0]
    steps = np.arange(0, 3001, 25)
    path = PressPath(steps, None, 10 - 0.001 * np.minimum(steps, 2 * turn_step - steps))
    particles.z[4:] = particles.z[3] + path.position_um[steps == 2000] - 8.5
    surface = find_surface(particles, path, 0.2)
    assert surface.turn == turn_step // 500
    assert surface.lowest_um == pytest.approx(10 - 0.001 * turn_step) and surface.lowest_source == "press table"
    assert surface.lowest_um <= surface.thickness_um.min() and not surface.press_is_estimated


def test_frame_just_after_the_turn_counts_as_the_turn(loaded):
    particles, press = loaded
    path = PressPath(np.insert(press.step, 4, 1990), None, np.insert(press.position_um, 4, press.position_um[4] - 0.005))
    surface = find_surface(particles, path, 0.2)
    assert surface.turn == 4 and surface.lowest_um == pytest.approx(7.995)
    assert np.allclose(surface.thickness_um, TRUE, atol=2e-3)


def test_lowest_point_is_sought_between_the_frames_only(loaded):
    particles, press = loaded
    longer = PressPath(np.append(press.step, 9000), None, np.append(press.position_um, 1.0))
    assert find_surface(particles, longer, 0.2).lowest_um == pytest.approx(8.0)


def test_standing_press_turns_when_it_rises(loaded):
    particles, press = loaded
    particles.z[5] = particles.z[4]
    standing = PressPath(press.step, None, np.array([10, 9.5, 9, 8.5, 8, 8, 8.5]))
    assert find_surface(particles, standing, 0.2).turn == 5


def test_press_slightly_above_the_film_at_the_turn(loaded):
    particles, press = loaded
    size = np.median(particles.radius[4])
    surface = find_surface(particles, PressPath(press.step, None, press.position_um + 0.05 * size), 0.2)
    assert np.isfinite(surface.thickness_um).all()
    assert np.allclose(surface.thickness_um[4:], np.array(TRUE[4:]) + 0.05 * size, atol=2e-3)


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


@pytest.mark.parametrize(
    ("factor", "offset", "told"),
    [
        (1e3, 0, "puts the press at 8000 um at step 2000, where the highest sphere reaches 8 um"),
        (1e6, 0, "puts the press at 8e.06 um at step 2000"),
        (1e-3, 0, "puts the press at 0.01 um at step 0, where the highest sphere reaches 10 um"),
        (1, 2, "puts the press at 10 um at step 2000, where the highest sphere reaches 8 um; expected 8.1"),
        (1, 0.5, "puts the press at 8.5 um at step 2000"),
        (1, -0.5, "puts the press at 9.5 um at step 0, where the highest sphere reaches 10 um"),
    ],
)
def test_press_that_does_not_meet_the_spheres_is_refused(loaded, factor, offset, told):
    particles, press = loaded
    with pytest.raises(InputFileError, match=told) as caught:
        find_surface(particles, PressPath(press.step, None, press.position_um * factor + offset), 0.2)
    assert "z_press is in the dumps' unit" in caught.value.hint and "this very run" in caught.value.hint


def test_press_sinks_into_the_film_by_less_than_half(loaded):
    particles, press = loaded
    deep = PressPath(press.step, None, np.array([10, 9, 7, 5.5, 3.9, 5, 6]))
    with pytest.raises(InputFileError, match=r"puts the press at 3.9 um at step 2000, where the highest sphere reaches 8 um"):
        find_surface(particles, deep, 0.6)


@pytest.mark.parametrize(("label", "accepted"), [(0.15, False), (0.18, True), (0.22, True), (0.25, False)])
def test_degree_of_the_table_must_be_the_label_s(loaded, label, accepted):
    if accepted:
        assert find_surface(*loaded, label).degree_source == "press table"
    else:
        with pytest.raises(InputFileError, match=rf"pressed from 10 to 8 um, a compression degree of 20.0%; .* says {label:.0%}"):
            find_surface(*loaded, label)


def test_table_of_a_deeper_run_of_the_same_film_is_refused(loaded):
    particles, _ = loaded
    steps = np.arange(0, 5001, 500)
    deeper = PressPath(steps, None, 10 - 0.001 * np.minimum(steps, 10000 - steps))  # presses on where the frames are released
    with pytest.raises(InputFileError, match=r"compression degree of 30.0%; the run's label says 20%"):
        find_surface(particles, deeper, 0.2)


def test_table_of_times_meets_dumps_without_times_by_the_stated_interval(loaded):
    particles, press = loaded
    table = PressPath(None, press.time_us, press.position_um)
    assert np.array_equal(find_surface(particles, table, 0.2, 25.0).press_position_um, press.position_um)
    late = replace(particles, step=particles.step + 1000)
    table = PressPath(None, press.time_us + 50, press.position_um)  # time 0 is at step 0
    assert np.array_equal(find_surface(late, table, 0.2, 25.0).press_position_um, press.position_um)
    with pytest.raises(InputFileError, match="from time 50 to 200, the press table from 0 to 150"):
        find_surface(late, PressPath(None, press.time_us, press.position_um), 0.2, 25.0)
    with pytest.raises(InputFileError, match="times but no steps") as caught:
        find_surface(late, table, 0.2)
    assert "frame_interval_us" in caught.value.hint


def test_table_of_times_is_matched_with_the_clock_of_the_dumps(loaded):
    particles, press = loaded
    for begin in (0.0, 300.0):
        late = replace(particles, time_us=press.time_us + begin)
        table = PressPath(None, press.time_us + begin, press.position_um)
        assert np.allclose(find_surface(late, table, 0.2).press_position_um, press.position_um)
        assert np.allclose(frame_times(late, table, None, 0.05)[0], np.arange(7) * 25)
    late = replace(particles, time_us=np.array([50.0, 75, 100, 125, 150, 175, 200]))
    whole = PressPath(None, np.arange(0, 301, 25.0), np.interp(np.arange(0, 301, 25.0), [0, 50, 150, 300], [11, 10, 8, 11]))
    assert np.allclose(find_surface(late, whole, 0.2).press_position_um, press.position_um)


def test_times_come_from_the_nearest_source(loaded):
    particles, press = loaded
    assert frame_times(particles, press, 75.0, 0.05)[0][1] == 75
    assert np.allclose(frame_times(particles, press, None, 1.0)[0], np.arange(7) * 25)
    times, source = frame_times(particles, None, None, 0.1)
    assert np.allclose(times, np.arange(7) * 50) and "timestep_us" in source
