"""The evaluation of a trained auto-encoder as one record."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from ..base.errors import InputFileError
from ..base.seeds import generator
from .artefacts import Model
from .preprocessing import ResizedSlices
from .reconstruction import MOMENT_COLUMNS
from .settings import EvaluationSettings
from .statistics import (
    Moments,
    bootstrap_interval,
    cohens_d,
    linear_reconstruction_mse,
    mean_predictor_mse,
    moments,
    pooled_moments,
    r2,
    welch_p_value,
)

PARTS = ("train", "validation")
BATCH = 64

METHODS = {
    "p_value_mse": "Welch's t-test of the errors of training against validation mini-volumes; overlapping ones are not independent",
    "p_value_mean": "Welch's t-test of original against reconstructed voxels, all taken as independent, which they are not",
    "interval": "percentile bootstrap of whole mini-volumes, in runs that cover one window where they overlap",
    "baseline_mse": "the mean of the training voxels as prediction of every voxel",
    "linear_mse": "principal components of the training mini-volumes, as many as latent features",
}


def evaluate(
    rows: Sequence[Mapping[str, Any]],
    model: Model,
    settings: EvaluationSettings,
    *,
    example: int,
    linear_mse: Mapping[str, float],
) -> dict[str, Any]:
    """Return how good reconstructions are, with the paper's tests and what they lack.

    Parameters
    ----------
    rows
        Rows of the table of features, in the order of depth.
    model
        The model that made them.
    settings
        Number of resamples, confidence, seed of the resampling.
    example
        Position of the mini-volume on whose voxels alone the paper's test of means is repeated.
    linear_mse
        Error of principal components per part.

    Raises
    ------
    InputFileError
        When the table has no rows of training or validation.
    """
    n_voxels = model.slice_window * model.settings.image_size**2
    columns = {
        part: {name: np.array([float(row[name]) for row in rows if row["part"] == part]) for name in MOMENT_COLUMNS}
        for part in PARTS
    }
    empty = [part for part in PARTS if not columns[part]["mse"].size]
    if empty:
        raise InputFileError(
            f"the table of features has no mini-volumes of {' and '.join(empty)}",
            hint="encode the table with which the model was trained",
        )
    errors = {part: moments(columns[part]["mse"]) for part in PARTS}
    block = -(-model.slice_window // model.stride) if model.stride < model.slice_window else 1
    resampling: dict[str, Any] = {
        "n_resamples": settings.n_resamples,
        "confidence": settings.confidence,
        "block_length": block,
    }
    difference = bootstrap_interval(
        [columns[part]["mse"] for part in PARTS],
        lambda train, validation: float(validation.mean() - train.mean()),
        random=generator(settings.seed, "bootstrap", "mse"),
        **resampling,
    )
    result: dict[str, Any] = {
        "samples": sorted({origin.sample for origin in model.origins}),
        "slice_window": model.slice_window,
        "stride": model.stride,
        "image_size": model.settings.image_size,
        "network": model.settings.network.model_dump(),
        "training": model.settings.learning.training.model_dump(),
        "n_weights": sum(weight.numel() for weight in model.network.parameters()),
        "n_epochs": model.n_epochs,
        "best_epoch": model.best_epoch,
        "split": {
            "kind": model.split.kind,
            "leaking": model.split.leaking,
            "n_shared_slices": model.split.n_shared_slices,
            **{f"n_{part}": count for part, count in model.split.counts().items()},
        },
        "mse_difference": {
            "validation_less_train": errors["validation"].mean - errors["train"].mean,
            "p_value_mse": welch_p_value(errors["train"], errors["validation"]),
            "cohens_d": cohens_d(errors["train"], errors["validation"]),
            "interval": asdict(difference),
        },
        "methods": METHODS,
    }
    for part in PARTS:
        result[part] = _part(
            columns[part],
            errors[part],
            n_voxels,
            model.train_mean,
            linear_mse[part],
            resampling,
            generator(settings.seed, "bootstrap", part),
        )
    row = rows[example]
    original, rebuilt = (
        Moments(n_voxels, float(row[f"{kind}_mean"]), float(row[f"{kind}_std"]) ** 2) for kind in ("original", "reconstructed")
    )
    result["example"] = {"index": int(row["index"]), "part": row["part"], "mse": float(row["mse"]), **_means(original, rebuilt)}
    return result


def _part(
    columns: Mapping[str, NDArray[np.float64]],
    errors: Moments,
    n_voxels: int,
    train_mean: float,
    linear_mse: float,
    resampling: Mapping[str, Any],
    random: np.random.Generator,
) -> dict[str, Any]:
    original, rebuilt = (
        pooled_moments(n_voxels, columns[f"{kind}_mean"], columns[f"{kind}_std"]) for kind in ("original", "reconstructed")
    )
    baseline = mean_predictor_mse(original, train_mean)
    shift = columns["reconstructed_mean"] - columns["original_mean"]
    interval = bootstrap_interval([shift], lambda drawn: float(drawn.mean()), random=random, **resampling)
    error_interval = bootstrap_interval([columns["mse"]], lambda drawn: float(drawn.mean()), random=random, **resampling)
    return {
        "n_mini_volumes": errors.n,
        "mse": errors.mean,
        "mse_std": errors.std,
        "mse_interval": asdict(error_interval),
        "baseline_mse": baseline,
        "linear_mse": linear_mse,
        "r2": r2(errors.mean, baseline),
        "linear_r2": r2(linear_mse, baseline),
        **_means(original, rebuilt),
        "mean_shift_interval": asdict(interval),
    }


def _means(original: Moments, rebuilt: Moments) -> dict[str, Any]:
    shift = rebuilt.mean - original.mean
    return {
        "n_voxels": original.n,
        "original_mean": original.mean,
        "original_std": original.std,
        "reconstructed_mean": rebuilt.mean,
        "reconstructed_std": rebuilt.std,
        "p_value_mean": welch_p_value(original, rebuilt),
        "mean_shift": shift,
        "mean_shift_in_label_std": shift / original.std if original.std > 0 else None,
        "mean_shift_cohens_d": cohens_d(original, rebuilt),
    }


def linear_baseline(images: ResizedSlices, model: Model) -> dict[str, float]:
    """Return the error per voxel of principal components of the training mini-volumes, for both parts.

    As many components as the model has latent features, from inner products of at most 64 mini-volumes at a time.
    """
    origins = {
        part: [model.origins[index] for index in model.split.indices(cast(Literal["train", "validation"], part))]
        for part in PARTS
    }
    n_features = model.settings.network.latent_features
    n_voxels = model.slice_window * model.settings.image_size**2
    batches = [origins["train"][start : start + BATCH] for start in range(0, len(origins["train"]), BATCH)]
    products: dict[str, list[list[NDArray]]] = {part: [] for part in PARTS}
    squares: dict[str, list[float]] = {part: [] for part in PARTS}
    for part in PARTS:
        for start in range(0, len(origins[part]), BATCH):
            rows = images.batch(origins[part][start : start + BATCH]).flatten(1)
            squares[part] += rows.double().square().sum(1).tolist()
            products[part].append([(rows @ images.batch(members).flatten(1).T).double().numpy() for members in batches])
    train, validation = (np.block(products[part]) for part in PARTS)
    np.fill_diagonal(train, squares["train"])
    return {
        part: linear_reconstruction_mse(train, cross, squares[part], n_features) / n_voxels
        for part, cross in (("train", train), ("validation", validation))
    }
