"""Spheres recovered from labels that were painted from known spheres: gradient, fit, recall, noise, and what is refused."""

import numpy as np
import pytest
from scipy import ndimage

from calandria.base.errors import ContractError, SettingsError
from calandria.base.phases import AM, CBD, PORE, VOID
from calandria.calendering.dumps import Particles
from calandria.calendering.voxels import Grid, paint_frame
from calandria.recovery.rendering import Spheres, fit, own_gains, rendering_error
from calandria.recovery.seeds import without_specks
from calandria.recovery.spheres import matches, recover_spheres

EDGE = 0.4
BOTH = (True, True)


def painted(centre_um, radius_um, phase, shape, periodic=BOTH, thickness_um=None, edge=EDGE):
    """Paint spheres whose centres (n, 3) are along z, y, x."""
    z, y, x = np.asarray(centre_um, float).T[:, None, :]
    box = np.array([[[0, shape[2] * edge], [0, shape[1] * edge], [0, shape[0] * edge]]])
    radius, code = np.asarray(radius_um, float), np.asarray(phase, np.uint8)
    particles = Particles(
        x, y, z, radius[None], code, np.arange(1, code.size + 1), None, box, periodic, np.zeros(1, np.int64), None
    )
    return paint_frame(particles, 0, thickness_um or shape[0] * edge, Grid(shape, edge, periodic, 0.0)).labels


def packing(seed, side_um=12.0, height_um=10.0, am=8, cbd=150, touch=0.85):
    """Random spheres, no two nearer than ``touch`` times the sum of their radii; x and y wrap around."""
    rng = np.random.default_rng(seed)
    centres, radii, phases = np.zeros((0, 3)), np.zeros(0), np.zeros(0, np.uint8)
    box = np.array([1e9, side_um, side_um])
    for phase, count, low, high in ((AM, am, 1.5, 2.6), (CBD, cbd, 0.75, 1.0)):
        for _ in range(400 * count):
            radius = rng.uniform(low, high)
            centre = np.array([rng.uniform(radius, height_um - radius), *rng.uniform(0, side_um, 2)])
            apart = centres - centre
            apart -= box * np.round(apart / box)
            if (np.linalg.norm(apart, axis=1) >= touch * (radii + radius)).all():
                centres, radii = np.vstack([centres, centre]), np.append(radii, radius)
                phases = np.append(phases, np.uint8(phase))
            if (phases == phase).sum() == count:
                break
    assert phases.size == am + cbd
    return centres, radii, phases


@pytest.fixture(scope="module")
def dense():
    """A dense packing, its labels with void above the film, and the spheres recovered from them."""
    truth = packing(seed=3)
    labels = painted(*truth, (28, 30, 30), thickness_um=10.0)
    return truth, labels, recover_spheres(labels, EDGE)


def shares_found(truth, recovered, within_um=0.4, side_um=12.0):
    """Per phase the share of true spheres with a found sphere of their own near, and the errors of the found centres."""
    centre, _, phase = truth
    box = np.array([0, side_um, side_um])
    shares, errors = {}, {}
    for code in (AM, CBD):
        ours, theirs = recovered.centre_um[recovered.phase == code], centre[phase == code]
        true, found = matches(ours, theirs, box, within_um)
        apart = ours[found] - theirs[true]
        apart[:, 1:] -= side_um * np.round(apart[:, 1:] / side_um)
        shares[code], errors[code] = true.size / len(theirs), np.linalg.norm(apart, axis=1)
    return shares, errors


def flipped(labels, share, seed=0):
    """Give a share of the film's voxels a random other phase."""
    rng = np.random.default_rng(seed)
    chosen = (labels != VOID) & (rng.random(labels.shape) < share)
    noisy = labels.copy()
    noisy[chosen] = (labels[chosen] + rng.integers(1, 3, chosen.sum())) % 3
    return noisy


def blurred(labels, sigma=0.7):
    """The phase that is strongest after a Gaussian blur of each."""
    shares = [
        ndimage.gaussian_filter((labels == c).astype(float), sigma, mode=("nearest", "wrap", "wrap")) for c in (PORE, CBD, AM)
    ]
    return np.where(labels == VOID, VOID, np.argmax(shares, axis=0)).astype(np.uint8)


@pytest.mark.parametrize("periodic", [(True, True), (False, True), (False, False)])
def test_gradient_is_that_of_finite_differences(periodic):
    rng = np.random.default_rng(5)
    labels = rng.choice(np.array([PORE, CBD, AM, VOID], np.uint8), (9, 8, 10))
    centre = rng.uniform(0, 9, (5, 3))
    radius, code = np.array([2.1, 2.4, 2.2, 3.1, 2.8]), np.array([CBD, CBD, CBD, AM, AM], np.uint8)
    error, gradient = rendering_error(labels, periodic, Spheres(centre, radius, code), softness=0.5, reach=12)
    assert error > 10
    step = 1e-2
    for sphere in range(5):
        for axis in range(4):
            sides = []
            for sign in (1, -1):
                moved, resized = centre.copy(), radius.copy()
                if axis < 3:
                    moved[sphere, axis] += sign * step
                else:
                    resized[sphere] += sign * step
                sides.append(rendering_error(labels, periodic, Spheres(moved, resized, code), softness=0.5, reach=12)[0])
            assert gradient[sphere, axis] == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=5e-3, abs=5e-3)


def test_rendering_error_of_one_sphere_is_the_sum_over_its_voxels():
    labels = np.zeros((11, 12, 13), np.uint8)
    labels[4:7, 4:7, 4:7] = CBD
    labels[:, 0] = VOID
    k, j, i = np.indices(labels.shape)
    distance = np.sqrt((k - 5.2) ** 2 + (j - 5.5) ** 2 + (i - 4.9) ** 2)
    share = 1 / (1 + np.exp((distance - 2.0) / 0.4))
    expected = ((share - (labels == CBD)) ** 2)[labels != VOID].sum()
    error, _ = rendering_error(labels, (False, False), Spheres([[5.2, 5.5, 4.9]], [2.0], [CBD]), softness=0.4, reach=40)
    assert error == pytest.approx(expected, rel=1e-5)


def test_fit_keeps_radii_within_their_limits():
    labels = painted([[4, 4, 4]], [2.4], [AM], (20, 20, 20))
    start = Spheres([[9.5, 9.5, 9.5]], [4.0], [AM])
    assert fit(labels, BOTH, start, {AM: (3.0, 9.0)}, 100, 0.1, 0.3).radius[0] == pytest.approx(6.0, abs=0.1)
    assert fit(labels, BOTH, start, {AM: (3.0, 4.5)}, 60, 0.1, 0.3).radius[0] == 4.5
    assert start.radius[0] == 4.0


def test_own_gains_count_what_each_sphere_alone_sets_right():
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[4, 4, 3:6] = CBD
    spheres = Spheres([[4, 4, 4], [4, 4, 4], [1, 1, 1], [4, 4, 5]], [1.0, 0.4, 1.0, 0.4], [CBD, CBD, CBD, AM])
    result, gains = own_gains(labels, (False, False), spheres)
    # the cross of seven voxels: its middle is shared, one arm is under active material, one is right and four are wrong
    assert gains.tolist() == [1 - 4, 0, -7, -1]
    assert result[4, 4, 5] == AM and result[4, 4, 4] == CBD and (result == CBD).sum() == 6 + 7


def test_specks_go_and_flat_borders_stay():
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[4:] = AM
    labels[7] = VOID
    noisy = labels.copy()
    noisy[5, 5, 5], noisy[1, 0, 0] = PORE, CBD
    assert np.array_equal(without_specks(noisy, BOTH), labels)
    assert np.array_equal(without_specks(labels, BOTH), labels)


@pytest.mark.parametrize("edge", [0.3, 0.4])
def test_separated_spheres_are_found_exactly(edge):
    centre = np.array([[2.5, 2.2, 2.4], [2.1, 7.3, 7.7], [6.9, 2.6, 7.2], [7.3, 7.4, 0.1], [5.0, 5.0, 4.7]])
    radius, phase = np.array([1.9, 1.6, 0.9, 0.8, 0.95]), np.array([AM, AM, CBD, CBD, CBD], np.uint8)
    size = round(9.6 / edge)
    recovered = recover_spheres(painted(centre, radius, phase, (size, size, size), edge=edge), edge)
    assert recovered.phase.tolist() == phase.tolist()
    for code in (AM, CBD):
        ours, theirs = recovered.phase == code, phase == code
        true, found = matches(recovered.centre_um[ours], centre[theirs], np.array([0, 9.6, 9.6]), 0.3)
        assert true.size == theirs.sum()
        apart = recovered.centre_um[ours][found] - centre[theirs][true]
        apart[:, 1:] -= 9.6 * np.round(apart[:, 1:] / 9.6)
        assert np.abs(apart).max() < 0.05
        assert np.abs(recovered.radius_um[ours][found] - radius[theirs][true]).max() < 0.05
    assert recovered.repaint_r2 > 0.98
    assert recovered.recall == {"cbd": 1.0, "am": 1.0}


def test_dense_packing_is_recovered(dense):
    truth, labels, recovered = dense
    shares, errors = shares_found(truth, recovered)
    assert shares[AM] == 1.0 and shares[CBD] >= 0.97
    assert np.median(errors[AM]) < 0.02 and np.median(errors[CBD]) < 0.06
    assert abs(recovered.phase.size - truth[2].size) <= 4
    repaint = painted(recovered.centre_um, recovered.radius_um, recovered.phase, labels.shape, thickness_um=10.0)
    squares = ((labels.astype(float) - repaint) ** 2).sum() / ((labels - labels.mean()) ** 2).sum()
    assert recovered.repaint_r2 == pytest.approx(1 - squares, abs=1e-12)
    assert recovered.repaint_r2 > 0.985
    assert recovered.recall["am"] == 1.0 and 0.95 <= recovered.recall["cbd"] <= 1.0


def test_radii_have_no_bias(dense):
    (centre, radius, phase), _, recovered = dense
    for code in (AM, CBD):
        true, found = matches(recovered.centre_um[recovered.phase == code], centre[phase == code], np.array([0, 12.0, 12.0]), 0.3)
        errors = recovered.radius_um[recovered.phase == code][found] - radius[phase == code][true]
        assert abs(np.median(errors)) < 0.01


def test_same_labels_give_the_same_bits(dense):
    _, labels, recovered = dense
    again = recover_spheres(labels.copy(), EDGE)
    for name in ("centre_um", "radius_um", "phase"):
        assert getattr(again, name).tobytes() == getattr(recovered, name).tobytes()
    assert (again.recall, again.repaint_r2, again.dropped) == (recovered.recall, recovered.repaint_r2, recovered.dropped)


def test_shifted_labels_give_shifted_spheres(dense):
    _, labels, recovered = dense
    moved = recover_spheres(np.roll(labels, (7, -11), axis=(1, 2)), EDGE)
    back = moved.centre_um - EDGE * np.array([0, 7, -11])
    for code in (AM, CBD):
        ours, theirs = moved.phase == code, recovered.phase == code
        true, found = matches(back[ours], recovered.centre_um[theirs], np.array([0, 12.0, 12.0]), 0.05)
        assert true.size >= 0.97 * theirs.sum()
        assert np.median(np.abs(moved.radius_um[ours][found] - recovered.radius_um[theirs][true])) < 2e-3
    assert moved.repaint_r2 == pytest.approx(recovered.repaint_r2, abs=3e-3)


@pytest.mark.parametrize(
    ("damage", "recall", "centre_um", "r2_of_truth"),
    [
        (lambda labels: flipped(labels, 0.01), 0.97, 0.06, 0.985),
        (lambda labels: flipped(labels, 0.03), 0.96, 0.07, 0.98),
        (blurred, 0.95, 0.1, 0.96),
    ],
    ids=["1 % flipped", "3 % flipped", "blurred"],
)
def test_noise_costs_little(dense, damage, recall, centre_um, r2_of_truth):
    truth, labels, _ = dense
    noisy = damage(labels)
    assert (noisy != labels).mean() > 0.005
    recovered = recover_spheres(noisy, EDGE)
    shares, errors = shares_found(truth, recovered)
    assert shares[AM] == 1.0 and shares[CBD] >= recall
    assert np.median(errors[CBD]) < centre_um
    repaint = painted(recovered.centre_um, recovered.radius_um, recovered.phase, labels.shape, thickness_um=10.0)
    assert 1 - ((labels.astype(float) - repaint) ** 2).sum() / ((labels - labels.mean()) ** 2).sum() > r2_of_truth


def test_walled_sides_and_spheres_over_them():
    centre = np.array([[3.0, 0.9, 4.0], [3.0, 6.0, 3.0], [6.0, 3.0, 6.6], [6.3, 6.0, 0.5]])
    radius, phase = np.array([1.8, 1.7, 0.9, 0.9]), np.array([AM, AM, CBD, CBD], np.uint8)
    labels = painted(centre, radius, phase, (22, 20, 18), periodic=(False, False))
    recovered = recover_spheres(labels, EDGE, (False, False))
    assert sorted(recovered.phase.tolist()) == sorted(phase.tolist())
    for code in (AM, CBD):
        true, _ = matches(recovered.centre_um[recovered.phase == code], centre[phase == code], np.zeros(3), 0.15)
        assert true.size == 2


@pytest.mark.parametrize("code", [AM, CBD])
def test_a_frame_of_one_solid_phase(code):
    recovered = recover_spheres(painted([[3, 3, 3]], [1.6 if code == AM else 0.9], [code], (16, 16, 16)), EDGE)
    assert recovered.phase.tolist() == [code]
    found, absent = ("am", "cbd") if code == AM else ("cbd", "am")
    assert recovered.recall[found] == 1.0 and np.isnan(recovered.recall[absent])


def test_without_calibration_nothing_is_taken_off():
    labels = painted([[3, 3, 3]], [0.9], [CBD], (16, 16, 16))
    plain = recover_spheres(labels, EDGE, calibrate=False)
    calibrated = recover_spheres(labels, EDGE)
    assert plain.radius_bias_um == {"cbd": 0.0, "am": 0.0} and np.isnan(plain.recall["cbd"])
    assert calibrated.radius_um[0] == pytest.approx(plain.radius_um[0] - calibrated.radius_bias_um["cbd"], abs=1e-12)


def test_a_found_sphere_serves_one_true_sphere():
    true, found = matches(
        np.array([[0.0, 0.1, 9.9]]), np.array([[0.0, 0.4, 0.2], [0.0, 0.1, 0.0]]), np.array([0, 10.0, 10.0]), 1.0
    )
    assert true.tolist() == [1] and found.tolist() == [0]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.zeros((8, 8, 8), np.uint8), "no voxel of CBD"),
        (np.full((8, 8, 8), VOID, np.uint8), "no voxel of CBD"),
        (np.full((8, 8), AM, np.uint8), r"shape \(8, 8\)"),
        (np.full((8, 8, 8), AM, np.int64), "int64"),
        (np.full((8, 8, 8), 3, np.uint8), r"codes \[3\]"),
    ],
)
def test_labels_that_are_no_frame(labels, words):
    with pytest.raises(ContractError, match=words):
        recover_spheres(labels, EDGE)


def test_sizes_that_make_no_sense():
    labels = painted([[3, 3, 3]], [0.9], [CBD], (16, 16, 16))
    with pytest.raises(ContractError, match=r"voxels of 0\.6 um across"):
        recover_spheres(labels, 0.6)
    with pytest.raises(SettingsError, match=r"cbd_radius_um is 1 to 0\.5 um"):
        recover_spheres(labels, EDGE, cbd_radius_um=(1.0, 0.5))
    with pytest.raises(SettingsError, match="voxel_edge_um is 0"):
        recover_spheres(labels, 0.0)
