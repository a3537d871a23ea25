import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calandria.base.errors import ContractError
from calandria.base.phases import AM, CBD, VOID
from calandria.calendering.settings import VoxelSettings
from calandria.calendering.voxels import Grid, choose_grid, grid_of_series, paint_frame
from tests.helpers.dumps import random_particles


def brute_force(particles, grid, thickness):
    """Every voxel against every sphere and its periodic images, d2 <= r2 in voxels."""
    nz, ny, nx = grid.shape
    labels = np.zeros(grid.shape, np.uint8)
    k, j, i = np.ogrid[:nz, :ny, :nx]
    for phase in (CBD, AM):
        for s in np.flatnonzero(particles.phase == phase):
            x, y, z = (getattr(particles, axis)[0, s] / grid.edge_um - 0.5 for axis in "xyz")
            r = particles.radius[0, s] / grid.edge_um
            reach = [
                range(-math.ceil(r / n) - 1, math.ceil(r / n) + 2) if wraps else (0,) for n, wraps in zip((nx, ny), grid.periodic)
            ]
            for image_x in reach[0]:
                for image_y in reach[1]:
                    dx, dy, dz = i + image_x * nx - x, j + image_y * ny - y, k - z
                    labels[dx * dx + dy * dy + dz * dz <= r * r] = phase
    labels[(np.arange(nz) + 0.5) * grid.edge_um > thickness] = VOID
    return labels


def single(x, y, z, radius, phase=AM, size=20.0, periodic=(True, True)):
    particles = random_particles(1, 1, (int(size), int(size), int(size)), periodic)
    return replace(
        particles,
        x=np.array([[x]]),
        y=np.array([[y]]),
        z=np.array([[z]]),
        radius=np.array([[radius]]),
        phase=np.array([phase], np.uint8),
    )


def cube(n, edge, periodic=(True, True)):
    return Grid((n, n, n), edge, periodic, 0.0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 12),
    edge=st.sampled_from([0.25, 0.5, 1.0, 2.0]),
    periodic=st.tuples(st.booleans(), st.booleans()),
)
def test_equal_to_brute_force_on_random_spheres(seed, count, edge, periodic):
    particles = random_particles(seed, count, (6, 4, 8), periodic)
    grid = Grid((round(6 / edge), round(4 / edge), round(8 / edge)), edge, periodic, 0.0)
    assert np.array_equal(paint_frame(particles, 0, 5.0, grid).labels, brute_force(particles, grid, 5.0))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_equal_to_brute_force_where_centres_lie_on_the_surface(data):
    half = st.integers(0, 16).map(lambda value: value / 2)
    x, y, z, radius = (data.draw(half) for _ in range(4))
    particles = single(x, y, z, max(radius, 0.5), size=8)
    assert np.array_equal(paint_frame(particles, 0, 8.0, cube(8, 1.0)).labels, brute_force(particles, cube(8, 1.0), 8.0))


def test_shift_by_whole_voxels_along_periodic_sides_only_shifts_the_labels():
    particles, grid = random_particles(2, 30, (10, 8, 12)), Grid((20, 16, 24), 0.5, (True, True), 0.0)
    before = paint_frame(particles, 0, 9.0, grid).labels
    moved = replace(particles, x=np.mod(particles.x + 7 * 0.5, 12), y=np.mod(particles.y + 3 * 0.5, 8))
    assert np.array_equal(paint_frame(moved, 0, 9.0, grid).labels, np.roll(before, (3, 7), axis=(1, 2)))


def test_sphere_across_the_corner_is_whole_if_periodic_and_a_quarter_if_not():
    whole = (paint_frame(single(10, 10, 10, 3), 0, 20, cube(40, 0.5)).labels == AM).sum()
    corner = paint_frame(single(0, 0, 10, 3), 0, 20, cube(40, 0.5)).labels == AM
    assert corner.sum() == whole and corner[:, 0, 0].any() and corner[:, -1, -1].any() and corner[:, 0, -1].any()
    walls = (False, False)
    assert 4 * (paint_frame(single(0, 0, 10, 3, periodic=walls), 0, 20, cube(40, 0.5, walls)).labels == AM).sum() == whole


def test_volume_of_a_sphere_approaches_the_analytic_one():
    errors = []
    for n in (20, 40, 80):
        painted = paint_frame(single(10.03, 9.98, 10.01, 6), 0, 20, cube(n, 20 / n))
        errors.append(abs((painted.labels == AM).sum() * (20 / n) ** 3 / (4 / 3 * math.pi * 216) - 1))
        assert painted.overlap_loss_am == pytest.approx(
            1 - (painted.labels == AM).sum() * (20 / n) ** 3 / (4 / 3 * math.pi * 216)
        )
    assert errors[-1] < 1e-3 and max(errors) < 1e-2


def test_active_material_is_painted_over_carbon_binder_whatever_the_order():
    particles = random_particles(1, 2, (20, 20, 20))
    centre = np.full((1, 2), 10.0)
    particles = replace(
        particles, x=centre, y=centre, z=centre, radius=np.array([[3.0, 5.0]]), phase=np.array([AM, CBD], np.uint8)
    )
    painted = paint_frame(particles, 0, 20, cube(40, 0.5))
    assert painted.labels[20, 20, 20] == AM and painted.labels[20, 20, 28] == CBD
    assert painted.overlap_loss_cbd == pytest.approx((3 / 5) ** 3, abs=0.01) and abs(painted.overlap_loss_am) < 0.01


def test_void_begins_at_the_first_centre_above_the_surface():
    particles = single(10, 10, 5, 3)
    for thickness, slices in ((7.24, 14), (7.26, 15), (20.0, 40)):
        labels = paint_frame(particles, 0, thickness, cube(40, 0.5)).labels
        assert np.array_equal((labels == VOID).all(axis=(1, 2)), np.arange(40) >= slices) and not (labels[:slices] == VOID).any()


def test_solid_above_the_surface_is_told_apart_from_overlap():
    painted = paint_frame(single(10, 10, 10, 4), 0, 10.0, cube(80, 0.25))
    assert painted.cut_loss == pytest.approx(0.5) and abs(painted.overlap_loss_am) < 0.01
    assert painted.porosity_free == pytest.approx(1 - 0.5 * 4 / 3 * math.pi * 64 / 4000, rel=1e-3)


def test_sphere_that_reaches_below_the_collector_is_clipped():
    painted = paint_frame(single(10, 10, 0, 4), 0, 20.0, cube(80, 0.25))
    assert painted.overlap_loss_am == pytest.approx(0.5, abs=0.01) and painted.overlap_loss_cbd == 0


def test_grid_follows_box_edge_and_thickness():
    particles = random_particles(1, 5, (25, 15, 30))
    chosen = choose_grid(particles, np.array([24.9, 20.0]), VoxelSettings(voxel_edge_um=0.5))
    assert chosen == Grid((72, 30, 60), 0.5, (True, True), 0.0)
    assert choose_grid(particles, np.array([24.9]), VoxelSettings(voxel_edge_um=0.5, grid_height_voxels=60)).shape[0] == 60
    assert choose_grid(particles, np.array([24.9]), VoxelSettings(voxel_edge_um=0.5, grid_height_multiple=1)).shape[0] == 50
    with pytest.raises(ContractError, match="50 voxels; the grid is 49 high"):
        choose_grid(particles, np.array([24.9]), VoxelSettings(voxel_edge_um=0.5, grid_height_voxels=49))


def boxed(particles, x, y):
    """Return the particles in a box of these sides; a list gives the side in each frame."""
    box = np.concatenate([particles.box[:1]] * np.broadcast(x, y, [0]).size)
    box[:, 0, 1], box[:, 1, 1] = x, y
    return replace(particles, box=box)


@pytest.mark.parametrize(
    ("asked", "edge", "count"), [(0.5, 15.2 / 30, 30), (0.49, 15.2 / 31, 31), (0.4, 0.4, 38), (0.39, 15.2 / 39, 39)]
)
def test_edge_becomes_the_one_that_fills_the_periodic_box(asked, edge, count):
    particles = boxed(random_particles(1, 5, (20, 20, 20)), 15.2, 15.2)
    chosen = choose_grid(particles, np.array([20.0]), VoxelSettings(voxel_edge_um=asked, grid_height_multiple=1))
    assert chosen == Grid((math.floor(20 / edge + 0.5), count, count), edge, (True, True), 0.0)
    walls = replace(particles, periodic=(False, True))
    assert choose_grid(walls, np.array([20.0]), VoxelSettings(voxel_edge_um=asked)).edge_um == edge
    walls = replace(particles, periodic=(False, False))
    assert choose_grid(walls, np.array([20.0]), VoxelSettings(voxel_edge_um=asked)).edge_um == asked


@pytest.mark.parametrize("asked", [0.2525, 0.25, 0.2475])
def test_edge_that_does_not_fit_biases_no_volume(asked):
    particles = boxed(single(3.1, 9.9, 6.2, 4.0), 10.1, 10.1)
    grid = choose_grid(particles, np.array([12.625]), VoxelSettings(voxel_edge_um=asked))
    painted = paint_frame(particles, 0, 12.625, grid)
    assert painted.porosity_free == pytest.approx(1 - 4 / 3 * math.pi * 4**3 / (10.1 * 10.1 * 12.625), abs=0.002)
    assert abs(painted.overlap_loss_am) < 0.003


def test_sides_without_a_common_edge_are_stretched_to_their_mean():
    particles = boxed(random_particles(1, 1, (20, 20, 20)), 20.1, 20.0)
    box = particles.box.copy()
    box[:, 0] += 100.0
    particles = replace(
        particles, box=box, x=np.array([[120.0]]), y=np.array([[10.0]]), z=np.array([[10.0]]), radius=np.array([[3.0]])
    )
    chosen = choose_grid(particles, np.array([20.0]), VoxelSettings(voxel_edge_um=0.5))
    assert chosen.shape[1:] == (40, 40) and chosen.edge_um == pytest.approx(math.sqrt(20.1 * 20.0) / 40)
    assert chosen.misfit == pytest.approx(0.0025, rel=0.01)
    solid = paint_frame(particles, 0, 20.0, chosen).labels[20, 20] != 0
    assert solid[0] and solid[-1] and 11 <= solid.sum() <= 13


@pytest.mark.parametrize(
    ("x", "y", "settings", "what", "remedy"),
    [
        (
            20,
            20,
            {"voxel_edge_um": 0.7, "largest_misfit": 0.01},
            "nearest edge is 0.689655 um, 1.48% off",
            "0.689655 um or 0.714286 um",
        ),
        (20, 20.4, {"voxel_edge_um": 1.0}, "edge of 1.00995 um stretches it by 1.00%", "0.58554 um"),
        (20, [20, 18], {"voxel_edge_um": 0.5}, "changes during the run (20 to 20 um, 18 to 20 um)", "largest_stretch"),
    ],
)
def test_box_without_whole_voxels_is_refused_with_edges_that_fit(x, y, settings, what, remedy):
    particles = boxed(random_particles(1, 1, (20, 20, 20)), x, y)
    with pytest.raises(ContractError) as caught:
        choose_grid(particles, np.array([20.0]), VoxelSettings(**settings))
    assert what in caught.value.message and remedy in caught.value.hint


def test_walls_cover_the_box_of_all_frames():
    particles = random_particles(1, 3, (20, 20, 20), (False, True), frames=2)
    box = particles.box.copy()
    box[1, 0] = [-2.0, 19.0]
    particles = replace(
        particles, box=box, x=np.full((2, 3), -1.9), y=np.full((2, 3), 10.0), z=np.full((2, 3), 10.0), radius=np.full((2, 3), 1.0)
    )
    chosen = choose_grid(particles, np.array([20.0, 20.0]), VoxelSettings(voxel_edge_um=0.5))
    assert chosen.shape[1:] == (40, 44) and chosen.periodic == (False, True)
    assert (paint_frame(particles, 1, 20.0, chosen).labels[20, 20, :3] != 0).any()


@pytest.mark.parametrize(("size", "periodic"), [(20.2, (True, True)), (21.5, (True, True)), (20.0, (False, True))])
def test_grid_of_a_series_is_the_one_it_was_voxelized_on(size, periodic):
    particles = random_particles(3, 20, (20, 20, 20), periodic, frames=3)
    box = particles.box.copy()
    box[:, 0] = [[-1.0, size - 1], [-3.0, size - 3], [-1.0, size - 1]]
    particles = replace(particles, box=box)
    chosen = choose_grid(particles, np.full(3, 20.0), VoxelSettings(voxel_edge_um=1.0, largest_stretch=0.09))
    again = grid_of_series(box, chosen.shape, chosen.edge_um, (False, periodic[1], periodic[0]), False)
    assert again == chosen and (chosen.misfit > 0) == periodic[0]
    # one frame taken out of the run, as a baseline does, is painted where the whole run's was
    alone = replace(particles, **{name: getattr(particles, name)[:1] for name in ("x", "y", "z", "radius", "box")})
    expected = paint_frame(particles, 0, 20.0, chosen).labels
    assert np.array_equal(paint_frame(alone, 0, 20.0, again).labels, expected)


def test_series_of_another_box_is_refused():
    box = random_particles(3, 2, (20, 15, 30)).box
    assert grid_of_series(box, (24, 15, 30), 1.0, (False, True, True), False).shape == (24, 15, 30)
    with pytest.raises(ContractError, match="15 x 30 voxels"):
        grid_of_series(box, (24, 30, 15), 1.0, (False, True, True), False)
