"""Networks: what they are before training, their weight counts, their symmetries, and that they can learn."""

import pytest
import torch

from calandria.base.errors import ContractError
from calandria.base.phases import VOID
from calandria.surrogate.models import stack_windows
from calandria.surrogate.networks.conv1d_lags import Conv1dLagsSettings
from calandria.surrogate.networks.conv1d_lags_torch import Conv1dLags, n_weights
from calandria.surrogate.networks.press_unet import PressUnetSettings
from calandria.surrogate.networks.press_unet_torch import PressUnet, WrappedConv, sample, squeeze
from calandria.surrogate.windows import PressColumns, WindowReader, describe_runs, window_places
from tests.helpers.series import pressed_film, write_films


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    runs = describe_runs(write_films(tmp_path_factory.mktemp("films"), films=("film_1",), degrees=(20,)))
    with WindowReader(runs, 3) as reader:
        return [reader.window(place) for place in window_places(runs, [range(3, 9)], 3, 2)[:-1]]


@pytest.fixture
def batch(windows):
    return stack_windows(windows[:2], 0.5, (False, True, True))


def unet(**settings):
    torch.manual_seed(1)
    return PressUnet(PressUnetSettings(**{"widths": [8, 12], "detail_width": 4, **settings}), 3)


@pytest.mark.parametrize(
    "settings", [{}, {"conv_layers": 2, "dense_widths": [5, 7], "filters": 6, "kernel": 5}, {"dense_widths": []}]
)
def test_conv1d_weight_count_formula(settings):
    chosen = Conv1dLagsSettings(**settings)
    network = Conv1dLags(chosen, 3, (5, 4, 3))
    assert sum(w.numel() for w in network.parameters()) == n_weights(60, 3, chosen)


def test_conv1d_network_has_about_the_weights_that_the_paper_needs():
    assert 7e8 < n_weights(76 * 76 * 125, 3, Conv1dLagsSettings(filters=256, dense_widths=[256])) < 8e8


def test_conv1d_network_is_bound_to_its_grid():
    with pytest.raises(ContractError, match="built for the grid"):
        Conv1dLags(Conv1dLagsSettings(), 3, (5, 4, 3))(torch.zeros(1, 3, 6, 4, 3))


def test_untrained_unet_is_the_affine_squeeze(batch):
    network = unet()
    state = network.start(batch)
    logits = network(state, batch.press_um[:, 3], batch.thickness_um[:, 3])
    ratio = batch.thickness_um[:, 2] / batch.thickness_um[:, 3]
    expected = squeeze(state.phases[:, -1], ratio)
    assert torch.allclose(torch.log(expected.clamp(min=0.02)), logits, atol=1e-3)


def test_squeeze_by_one_changes_nothing_and_by_two_halves():
    column = torch.arange(8.0)[None, None, :, None, None]
    assert torch.equal(squeeze(column, torch.ones(1)), column)
    assert squeeze(column, torch.tensor([2.0]))[0, 0, :4, 0, 0].tolist() == [0.5, 2.5, 4.5, 6.5]


def test_sample_wraps_only_periodic_sides():
    volume = torch.arange(4.0)[None, None, None, None, :].expand(1, 1, 2, 2, 4)
    points = torch.zeros(1, 3, 1, 1, 2)
    points[0, 2, 0, 0] = torch.tensor([3.5, 4.0])
    assert sample(volume, points, (False, True, True)).flatten().tolist() == [1.5, 0.0]
    assert sample(volume, points, (False, True, False)).flatten().tolist() == [3.0, 3.0]


@pytest.mark.parametrize("height", [1, 2, 3, 8, 9])
def test_one_small_volume_is_convolved_as_it_is_in_a_batch(height):
    torch.manual_seed(3)
    layer, volumes = WrappedConv(3, 4).double(), torch.rand(2, 3, height, 5, 6, dtype=torch.float64)
    sides = (False, True, True)
    torch.testing.assert_close(layer(volumes[:1], sides), layer(volumes, sides)[:1], rtol=1e-12, atol=1e-12)


def test_unet_follows_a_periodic_shift(batch):
    network = unet()
    for weights in network.parameters():
        torch.nn.init.normal_(weights, std=0.05)
    shifted = type(batch)(**{**vars(batch), "labels": batch.labels.roll((4, 8), (3, 4))})
    press, height = batch.press_um[:, 3], batch.thickness_um[:, 3]
    plain = network(network.start(batch), press, height).roll((4, 8), (3, 4))
    assert torch.allclose(network(network.start(shifted), press, height), plain, atol=1e-4)


@pytest.mark.parametrize("shape", [(16, 12, 12), (7, 5, 9), (3, 1, 2)])
def test_unet_works_on_any_grid(shape):
    film = pressed_film(shape=shape)
    network = unet(widths=[4, 4, 4])
    state = network.start(
        type("B", (), {
            "labels": torch.from_numpy(film.labels[None, :4]), "press_um": torch.tensor(film.frames["press_position_um"][None, :4]).float(),
            "thickness_um": torch.tensor(film.frames["thickness_um"][None, :4]).float(), "first_um": torch.tensor([3.0]),
            "lowest_um": torch.tensor([2.0]), "voxel_edge_um": 0.5, "periodic": (False, True, True),
        })
    )  # fmt: skip
    for press in (1.4, 1.2, 1.6):
        with torch.no_grad():
            labels, thickness, state = network.step(state, torch.tensor([press]))
        assert labels.shape == (1, *shape) and 0 < float(thickness[0]) <= press + 1e-6
        assert bool((labels[0, int(torch.ceil(thickness[0] / 0.5)) + 1 :] == VOID).all())


def test_loading_thickness_is_the_press_and_release_is_between_film_and_press(batch):
    network, state = unet(), unet().start(batch)
    now = state.thickness_um[:, -1]
    assert torch.equal(network.next_thickness(state, now - 0.3), now - 0.3)
    risen = network.next_thickness(state, now + 0.3)
    assert bool(((risen > now) & (risen < now + 0.3)).all())


def test_recovery_is_learned_from_released_frames(windows):
    network = unet()
    columns = [PressColumns(one.press_position_um, one.thickness_um, one.first_um, one.lowest_um) for one in windows]
    before = network.fit_recovery(columns, 0.5, steps=1)
    assert network.fit_recovery(columns, 0.5, steps=300) < 0.1 * before
    assert unet().fit_recovery(columns[:1], 0.5) == 0, "a window that is not released says nothing"


def test_windows_of_different_lengths_are_not_shortened_in_silence(windows):
    short = type(windows[0])(
        windows[0].labels[:4], *(column[:4] for column in (windows[0].press_position_um, windows[0].thickness_um)), 1, 1
    )
    with pytest.raises(ContractError, match=r"\[4, 5\] frames"):
        stack_windows([windows[0], short], 0.5, (False, True, True))


def test_loss_is_a_mean_over_windows_however_they_are_batched(windows):
    network = unet().eval()
    for weights in network.parameters():
        torch.nn.init.normal_(weights, std=0.05)
    with torch.no_grad():
        together = float(network.window_loss(stack_windows(windows, 0.5, (False, True, True))))
        alone = [float(network.window_loss(stack_windows([one], 0.5, (False, True, True)))) for one in windows]
    assert len({round(value, 4) for value in alone}) > 1
    assert together == pytest.approx(sum(alone) / len(alone), rel=1e-5)


def test_unet_overfits_two_windows(batch):
    network = unet()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    first = float(network.window_loss(batch).detach())
    for _ in range(60):
        optimizer.zero_grad()
        loss = network.window_loss(batch)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.4 * first


def test_conv1d_network_overfits_two_windows(batch):
    torch.manual_seed(1)
    network = Conv1dLags(Conv1dLagsSettings(dropout=0.0), 3, batch.labels.shape[2:])
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    for _ in range(80):
        optimizer.zero_grad()
        loss = network.window_loss(batch)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.02
