"""Encoding of mini-volumes and what their reconstruction misses."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..base.progress import progress
from ..learning.training import select_device
from ..tomography.mini_volumes import Origin
from .artefacts import Model
from .preprocessing import ResizedSlices

MOMENT_COLUMNS = ("mse", "original_mean", "original_std", "reconstructed_mean", "reconstructed_std")


def feature_columns(latent_features: int) -> tuple[str, ...]:
    """Return the columns of the table of features."""
    latents = tuple(f"latent_{index}" for index in range(latent_features))
    return ("index", "sample", "z_start", "n_slices", "last_sample", "z_stop", "part", *latents, *MOMENT_COLUMNS)


@torch.inference_mode()
def reconstruct(
    model: Model, images: ResizedSlices, origins: Sequence[Origin], device: torch.device, batch_size: int
) -> Iterator[tuple[Sequence[Origin], Tensor, Tensor, Tensor]]:
    """Yield origins, originals (n, z, y, x), latent features (n, features) and reconstructions (n, z, y, x), batch by batch."""
    network = model.network.to(device).eval()
    for start in range(0, len(origins), batch_size):
        members = origins[start : start + batch_size]
        batch = images.batch(members).to(device)
        latent = network.encode(batch)
        yield members, batch, latent, network.decode(latent)


def encode(
    model: Model, images: ResizedSlices, origins: Sequence[Origin], *, device: str, batch_size: int
) -> list[dict[str, str | int | float]]:
    """Return one row per mini-volume: its place and part, latent features, mean squared error, means and stds over its voxels."""
    rows: list[dict[str, str | int | float]] = []
    batches = reconstruct(model, images, origins, select_device(device), batch_size)
    for members, batch, latent, rebuilt in progress(batches, "encoding", total=-(-len(origins) // batch_size), unit="batch"):
        original, output = (part.flatten(1).double() for part in (batch, rebuilt))
        columns = (
            (original - output).square().mean(1),
            original.mean(1),
            original.std(1, correction=0),
            output.mean(1),
            output.std(1, correction=0),
        )
        for origin, features, numbers in zip(members, latent.tolist(), torch.stack(columns, 1).tolist(), strict=True):
            rows.append(
                {
                    "index": origin.index,
                    "sample": origin.sample,
                    "z_start": origin.z_start,
                    "n_slices": origin.n_slices,
                    "last_sample": origin.last_sample,
                    "z_stop": origin.z_stop,
                    "part": model.part_of(origin),
                    **{f"latent_{i}": value for i, value in enumerate(features)},
                    **dict(zip(MOMENT_COLUMNS, numbers, strict=True)),
                }
            )
    return rows


def examples(rows: Sequence[dict], n_examples: int) -> list[int]:
    """Return positions of rows to show: validation first, evenly spread from the best to the worst reconstruction."""
    for part in ("validation", "unseen", "train", "gap"):
        ranked = sorted((float(row["mse"]), position) for position, row in enumerate(rows) if row["part"] == part)
        if ranked:
            chosen = np.unique(np.linspace(0, len(ranked) - 1, min(n_examples, len(ranked))).round().astype(int))
            return [ranked[index][1] for index in chosen]
    return []


def pairs(
    model: Model, images: ResizedSlices, origins: Sequence[Origin], *, device: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return originals and reconstructions (n, z, y, x) of some mini-volumes."""
    found = [
        (batch.cpu(), rebuilt.cpu()) for _, batch, _, rebuilt in reconstruct(model, images, origins, select_device(device), 1)
    ]
    original, rebuilt = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
    return original, rebuilt
