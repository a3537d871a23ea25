import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calandria.base.errors import ContractError
from calandria.base.phases import AM, CBD, PORE, VOID
from calandria.calendering.settings import VoxelSettings
from calandria.calendering.voxels import Grid, choose_grid, paint_frame, volume_missing
from tests.helpers.dumps import random_particles

BOTH = {"AM": AM, "CBD": CBD}


def packing(seed, count, shape=(10, 8, 9), periodic=(True, True), solid=0.7, am_share=0.4):
    """Return random spheres of both phases whose volumes add up to the share ``solid`` of the box; they overlap at random."""
    particles = random_particles(seed, count, shape, periodic)
    rng = np.random.default_rng(seed)
    phase = np.where(np.arange(count) < max(1, round(am_share * count)), AM, CBD).astype(np.uint8)
    radius = np.where(phase == AM, rng.uniform(1.2, 2.0, count), rng.uniform(0.6, 1.0, count))
    scale = (solid * math.prod(shape) / (4 / 3 * math.pi * (radius**3).sum())) ** (1 / 3)
    return replace(particles, phase=phase, radius=np.array([radius * scale]))


def grids(edge, shape=(10, 8, 9), periodic=(True, True)):
    """Return the grid that loses what overlaps, and the one that does not."""
    lossy = Grid(tuple(round(length / edge) for length in shape), edge, periodic, 0.0)
    return lossy, replace(lossy, conserve_volume=True)


def volume(particles, phase, grid):
    """Return the volume of the spheres of a phase in voxels."""
    radius = particles.radius[0, particles.phase == phase] / grid.edge_um
    return 4 / 3 * math.pi * (radius**3).sum()


def distances(particles, phase, grid):
    """Return the distance of every voxel (z, y, x) to the nearest sphere of a phase, over all images, in voxels."""
    nz, ny, nx = grid.shape
    k, j, i = np.ogrid[:nz, :ny, :nx]
    nearest = np.full(grid.shape, np.inf)
    images = [range(-2, 3) if wraps else (0,) for wraps in grid.periodic]
    for s in np.flatnonzero(particles.phase == phase):
        x, y, z = (getattr(particles, axis)[0, s] / grid.edge_um - 0.5 for axis in "xyz")
        for image_x in images[0]:
            for image_y in images[1]:
                dx, dy, dz = i + image_x * nx - x, j + image_y * ny - y, k - z
                nearest = np.minimum(nearest, np.sqrt(dx * dx + dy * dy + dz * dz) - particles.radius[0, s] / grid.edge_um)
    return nearest


def grown_by_hand(particles, thickness, grid):
    """Grow the phases by sorting all pore voxels."""
    labels = paint_frame(particles, 0, thickness, replace(grid, conserve_volume=False)).labels
    for phase in (AM, CBD):
        free = np.flatnonzero(labels == PORE)
        wanted = round(volume(particles, phase, grid)) - int((labels == phase).sum())
        nearest = distances(particles, phase, grid).reshape(-1)[free]
        labels.reshape(-1)[free[np.argsort(nearest, kind="stable")[: max(wanted, 0)]]] = phase
    return labels


sides = st.tuples(st.booleans(), st.booleans())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(20, 80), periodic=sides, solid=st.floats(0.3, 0.9))
def test_no_phase_loses_volume_in_dense_packings(seed, count, periodic, solid):
    particles = packing(seed, count, periodic=periodic, solid=solid)
    lossy, grid = grids(0.25, periodic=periodic)
    before, painted = paint_frame(particles, 0, 9.75, lossy), paint_frame(particles, 0, 9.75, grid)
    for name, phase in BOTH.items():
        held, whole = int((painted.labels == phase).sum()), volume(particles, phase, grid)
        assert held == max(round(whole), int((before.labels == phase).sum()))
        assert getattr(painted, f"overlap_loss_{name.lower()}") == pytest.approx(1 - held / whole) and held > 0.99 * whole
        grown = held - int((before.labels == phase).sum())
        assert getattr(painted, f"grown_{name.lower()}") == pytest.approx(grown / whole)
    film = painted.labels != VOID
    assert painted.porosity_free == pytest.approx((painted.labels == PORE).sum() / film.sum())
    assert painted.cut_loss == before.cut_loss
    assert np.array_equal(film, before.labels != VOID), "nothing grows above the surface"
    assert np.array_equal(painted.labels[before.labels != PORE], before.labels[before.labels != PORE]), "only pores change"


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 25),
    periodic=sides,
    solid=st.floats(0.1, 0.9),
    edge=st.sampled_from([0.5, 1.0]),
)
def test_equal_to_a_sort_of_all_voxels_by_distance(seed, count, periodic, solid, edge):
    particles = packing(seed, count, periodic=periodic, solid=solid)
    grid = grids(edge, periodic=periodic)[1]
    assert np.array_equal(paint_frame(particles, 0, 8.0, grid).labels, grown_by_hand(particles, 8.0, grid))


def test_equal_distances_are_taken_in_the_order_of_the_array():
    """Half a sphere is above the surface: what it lost grows back around it, in shells of many voxels at one distance."""
    particles = replace(
        random_particles(1, 1, (20, 20, 20)), x=np.array([[10.5]]), y=np.array([[10.5]]), z=np.array([[8.5]]),
        radius=np.array([[4.0]]), phase=np.array([AM], np.uint8),
    )  # fmt: skip
    lossy, grid = grids(1.0, (20, 20, 20))
    before, labels = (paint_frame(particles, 0, 9.0, one).labels for one in (lossy, grid))
    nearest = distances(particles, AM, grid)
    grown, left = (labels == AM) & (before == PORE), labels == PORE
    edge = nearest[grown].max()
    assert edge == nearest[left].min(), "the last shell is taken in part"
    shell = np.flatnonzero((nearest == edge).reshape(-1) & (before == PORE).reshape(-1))
    taken = grown.reshape(-1)[shell]
    assert 0 < taken.sum() < len(shell) and taken[: taken.sum()].all()


@pytest.mark.parametrize("periodic", [(True, True), (False, True), (False, False)])
def test_grown_voxels_are_nearer_than_those_that_stay_pore(periodic):
    particles = packing(3, 60, periodic=periodic, solid=0.75)
    lossy, grid = grids(0.2, periodic=periodic)
    before, labels = (paint_frame(particles, 0, 9.6, one).labels for one in (lossy, grid))
    left = labels == PORE
    for phase in (AM, CBD):
        grown, nearest = (labels == phase) & (before == PORE), distances(particles, phase, grid)
        assert grown.any() and left.any() and nearest[grown].max() <= nearest[left].min()


def test_sphere_without_overlap_changes_by_its_rounding_only():
    particles = random_particles(1, 3, (20, 20, 20))
    particles = replace(
        particles, x=np.array([[4.1, 10.2, 16.0]]), y=np.array([[4.0, 10.3, 15.9]]), z=np.array([[4.7, 10.0, 15.0]]),
        radius=np.array([[3.0, 3.3, 3.1]]), phase=np.array([AM, CBD, AM], np.uint8),
    )  # fmt: skip
    lossy, grid = grids(0.25, (20, 20, 20))
    before, painted = paint_frame(particles, 0, 20.0, lossy), paint_frame(particles, 0, 20.0, grid)
    assert painted.grown_am < 0.005 and painted.grown_cbd < 0.005
    assert (before.labels != painted.labels).mean() < 2e-4


def test_sphere_that_overlaps_nothing_and_has_voxels_too_many_is_left_alone():
    lossy, grid = grids(1.0, (20, 20, 20))
    particles = replace(
        random_particles(1, 1, (20, 20, 20)), x=np.array([[10.5]]), y=np.array([[10.5]]), z=np.array([[10.5]]),
        radius=np.array([[1.0]]), phase=np.array([CBD], np.uint8),
    )  # fmt: skip
    painted = paint_frame(particles, 0, 20.0, grid)
    assert (painted.labels == CBD).sum() == 7 and painted.overlap_loss_cbd == pytest.approx(1 - 7 / (4 / 3 * math.pi))
    assert painted.grown_cbd == 0 and np.array_equal(painted.labels, paint_frame(particles, 0, 20.0, lossy).labels)


def test_same_film_gives_the_same_voxels_whatever_the_order_of_its_spheres():
    particles, grid = packing(8, 70, solid=0.8), grids(0.25)[1]
    order = np.random.default_rng(1).permutation(70)
    shuffled = replace(
        particles,
        **{name: getattr(particles, name)[:, order] for name in ("x", "y", "z", "radius")},
        phase=particles.phase[order],
    )
    first = paint_frame(particles, 0, 9.0, grid).labels
    assert np.array_equal(first, paint_frame(particles, 0, 9.0, grid).labels)
    # the sum of volumes is rounded in another order, but no voxel hangs on it here
    assert np.array_equal(first, paint_frame(shuffled, 0, 9.0, grid).labels)


def test_pores_that_do_not_hold_the_solid_are_filled_and_the_rest_is_told():
    particles, grid = packing(4, 60, solid=0.95, am_share=0.1), grids(0.25)[1]
    painted = paint_frame(particles, 0, 7.0, grid)
    film = painted.labels[:28]
    assert not (film == PORE).any() and (painted.labels[28:] == VOID).all() and painted.porosity_free == 0
    assert (film == AM).sum() == round(volume(particles, AM, grid)), "AM comes first"
    whole = volume(particles, CBD, grid)
    assert painted.overlap_loss_cbd == pytest.approx(1 - (film == CBD).sum() / whole) and painted.overlap_loss_cbd > 0.2
    measured = {name: np.array([getattr(painted, name), 0.0]) for name in ("overlap_loss_cbd", "overlap_loss_am")}
    assert volume_missing(measured) == f"CBD lacks up to {100 * painted.overlap_loss_cbd:.1f} % of its volume in 1 of 2 frames"
    assert volume_missing({name: np.full(2, 0.01) for name in measured}) == ""


def test_pore_that_holds_the_solid_to_the_last_voxel():
    """AM that fills all but a few voxels leaves these to CBD, wherever they are."""
    particles, grid = packing(4, 60, solid=0.98), grids(0.5)[1]
    painted = paint_frame(particles, 0, 10.0, grid)
    assert (painted.labels == PORE).sum() == max(
        np.prod(grid.shape) - sum(round(volume(particles, p, grid)) for p in (AM, CBD)), 0
    )


def test_film_above_its_surface_stays_empty():
    particles, grid = packing(4, 10), grids(0.5)[1]
    painted = paint_frame(particles, 0, 0.1, grid)
    assert (painted.labels == VOID).all() and painted.overlap_loss_am == painted.overlap_loss_cbd == 1


def test_clumps_are_refused_as_their_volume_is_not_the_sum_of_spheres():
    particles = packing(5, 6)
    conserving = VoxelSettings(voxel_edge_um=0.5, conserve_volume=True)
    for molecule in (None, np.arange(1, 7), np.zeros(6, int)):
        assert choose_grid(replace(particles, molecule=molecule), np.array([10.0]), conserving).conserve_volume
    clumps = replace(particles, molecule=np.array([1, 1, 1, 2, 2, 3]))
    with pytest.raises(ContractError, match="2 particles are clumps of up to 3 spheres") as caught:
        choose_grid(clumps, np.array([10.0]), conserving)
    assert "conserve_volume" in caught.value.hint
    lossy = VoxelSettings(voxel_edge_um=0.5)
    assert not choose_grid(clumps, np.array([10.0]), lossy).conserve_volume
