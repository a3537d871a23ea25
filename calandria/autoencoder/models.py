"""The convolutional auto-encoder of mini-volumes (Faraji Niri et al., Energies 2022, 15, 4489, doi 10.3390/en15124489)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..base.errors import SettingsError

FIRST_CHANNELS, CHANNELS = 8, 16
KERNEL, STEP = 3, 2


def image_sizes(image_size: int, conv_layers: int) -> list[int]:
    """Return the edge of the image before and after each convolution (kernel 3, stride 2, no padding).

    Raises SettingsError when the image is too small for that many convolutions.

    >>> image_sizes(224, 3)
    [224, 111, 55, 27]
    """
    sizes = [image_size]
    for layer in range(conv_layers):
        if sizes[-1] < KERNEL:
            raise SettingsError(
                f"an image of {image_size} pixels is used up after {layer} convolutions; {conv_layers} were asked for",
                hint=f"set image_size to {2 ** (conv_layers + 1) - 1} or more, or take fewer convolutions",
            )
        sizes.append((sizes[-1] - KERNEL) // STEP + 1)
    return sizes


class Autoencoder(nn.Module):
    """Encodes mini-volumes (batch, z, y, x) in a few latent features and decodes them to the same shape.

    All convolutions but the last act within slices (1 x 3 x 3); the last one also spans the whole slice window, so that one
    slice is left. Strides are (1, 2, 2) without padding, two dense layers lead to the latent features, and the decoder
    mirrors the encoder; output paddings (0 or 1 in y and x) give the input's shape back for every image size.

    Shapes and weight counts for three convolutions are those of the paper's Tables 3 and 4. Its search also has four and
    five convolutions without their channels; here they are further 1 x 3 x 3 convolutions with 16 channels before the last.
    The paper does not print its activations: hidden layers have ReLU here, latent features and output are linear.

    Parameters
    ----------
    slice_window
        Slices of a mini-volume.
    image_size
        Edge of its square slices, pixels.
    conv_layers, hidden_neurons, latent_features
        Number of convolutions, width of the hidden dense layers, number of features.
    """

    def __init__(
        self, slice_window: int, image_size: int, *, conv_layers: int = 3, hidden_neurons: int = 128, latent_features: int = 10
    ) -> None:
        super().__init__()
        sizes = image_sizes(image_size, conv_layers)
        channels = [1, FIRST_CHANNELS, *[CHANNELS] * (conv_layers - 1)]
        kernels = [(1, KERNEL, KERNEL)] * (conv_layers - 1) + [(slice_window, KERNEL, KERNEL)]
        step = (1, STEP, STEP)
        flat = CHANNELS * sizes[-1] ** 2
        convolutions = [
            layer
            for (before, after), kernel in zip(pairwise(channels), kernels, strict=True)
            for layer in (nn.Conv3d(before, after, kernel, step), nn.ReLU())
        ]
        self.encoder = nn.Sequential(
            *convolutions, nn.Flatten(), nn.Linear(flat, hidden_neurons), nn.ReLU(), nn.Linear(hidden_neurons, latent_features)
        )
        transposed: list[nn.Module] = []
        for layer in reversed(range(conv_layers)):
            padding = sizes[layer] - (STEP * (sizes[layer + 1] - 1) + KERNEL)
            transposed += [
                nn.ConvTranspose3d(
                    channels[layer + 1], channels[layer], kernels[layer], step, output_padding=(0, padding, padding)
                ),
                nn.ReLU(),
            ]
        self.decoder = nn.Sequential(
            nn.Linear(latent_features, hidden_neurons),
            nn.ReLU(),
            nn.Linear(hidden_neurons, flat),
            nn.ReLU(),
            nn.Unflatten(1, (CHANNELS, 1, sizes[-1], sizes[-1])),
            *transposed[:-1],
        )

    def encode(self, images: Tensor) -> Tensor:
        """Return latent features (batch, features) of mini-volumes (batch, z, y, x)."""
        return self.encoder(images.unsqueeze(1))  # (batch, 1, z, y, x) -> (batch, features)

    def decode(self, features: Tensor) -> Tensor:
        """Return mini-volumes (batch, z, y, x) of latent features (batch, features)."""
        return self.decoder(features).squeeze(1)  # (batch, 1, z, y, x) -> (batch, z, y, x)

    def forward(self, images: Tensor) -> Tensor:
        """Return the reconstruction of mini-volumes (batch, z, y, x)."""
        return self.decode(self.encode(images))


def layer_table(model: Autoencoder, slice_window: int, image_size: int) -> list[dict[str, str | int]]:
    """Return part, kind, output shape (``channels x z x y x x`` or features) and weight count of each layer with weights."""
    kinds = {nn.Conv3d: "conv3d", nn.ConvTranspose3d: "conv_transpose3d", nn.Linear: "linear"}
    rows: list[dict[str, str | int]] = []
    with torch.no_grad():
        flow = next(model.parameters()).new_zeros((1, 1, slice_window, image_size, image_size))
        for part, layers in (("encoder", model.encoder), ("decoder", model.decoder)):
            for layer in layers:
                flow = layer(flow)
                if type(layer) in kinds:
                    shape: Sequence[int] = flow.shape[1:]
                    weights = sum(weight.numel() for weight in layer.parameters())
                    rows.append(
                        {
                            "part": part,
                            "layer": kinds[type(layer)],
                            "output_shape": "x".join(map(str, shape)),
                            "parameters": weights,
                        }
                    )
    return rows
