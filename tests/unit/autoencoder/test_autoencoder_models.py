import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calandria.autoencoder.models import Autoencoder, image_sizes, layer_table
from calandria.base.errors import SettingsError
from tests.helpers.published import published_table


@pytest.mark.published
@pytest.mark.parametrize("window", [24, 4])
def test_layers_have_the_printed_shapes_and_weight_counts(window):
    expected = [row for row in published_table("autoencoder_layers") if row["window"] == str(window)]
    assert len(expected) == 10
    model = Autoencoder(window, 224)
    found = [{key: str(value) for key, value in row.items()} for row in layer_table(model, window, 224)]
    assert found == [{key: row[key] for key in ("part", "layer", "output_shape", "parameters")} for row in expected]


@pytest.mark.published
def test_the_encoder_has_as_many_weights_as_the_paper_says():
    assert sum(weight.numel() for weight in Autoencoder(24, 224).encoder.parameters()) == 1_550_970


@settings(max_examples=25, deadline=None)
@given(window=st.integers(1, 6), size=st.integers(15, 80), layers=st.sampled_from([3, 4, 5]))
def test_the_decoder_returns_the_shape_of_the_input(window, size, layers):
    if size < 2 ** (layers + 1) - 1:
        with pytest.raises(SettingsError, match="used up"):
            Autoencoder(window, size, conv_layers=layers)
        return
    model = Autoencoder(window, size, conv_layers=layers, hidden_neurons=5, latent_features=3)
    images = torch.zeros(2, window, size, size)
    assert model.encode(images).shape == (2, 3)
    assert model(images).shape == images.shape


def test_deeper_networks_shrink_the_image_further():
    assert image_sizes(224, 5) == [224, 111, 55, 27, 13, 6]
    assert Autoencoder(4, 224, conv_layers=5).encoder[11].in_features == 16 * 6 * 6


def test_slices_are_mixed_by_the_last_convolution_only():
    model = Autoencoder(3, 31)
    kernels = [layer.kernel_size for layer in model.encoder if isinstance(layer, torch.nn.Conv3d)]
    assert kernels == [(1, 3, 3), (1, 3, 3), (3, 3, 3)]
