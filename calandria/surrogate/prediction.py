"""How each predictor reads what it needs and predicts the frames of a series."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..base.errors import ContractError
from ..base.volumes import Labelled, read_labelled
from ..calendering.particles import read_run_file
from .baselines import (
    Step,
    affine_press_steps,
    affine_spheres_steps,
    affine_voxels_steps,
    copy_steps,
    predict_by_replicate,
    predict_by_steps,
)
from .networks import grid_remedy, network_of
from .predictors import Prediction, Task

if TYPE_CHECKING:  # baselines do without torch, which takes longer to import than they take to predict
    import torch

    from .models import FrameModel


def _stepwise(step: Step, task: Task) -> Prediction:
    return Prediction(lambda mode: predict_by_steps(step, task.series, task.n_given, mode))


def by_copy(task: Task) -> Prediction:
    """Predict by the last known frame."""
    return _stepwise(copy_steps(task.series), task)


def by_affine_voxels(task: Task) -> Prediction:
    """Predict by squeezing voxels to the true thickness."""
    return _stepwise(affine_voxels_steps(task.series), task)


def by_affine_press(task: Task) -> Prediction:
    """Predict by squeezing voxels to the press position."""
    return _stepwise(affine_press_steps(task.series), task)


def by_affine_spheres(task: Task) -> Prediction:
    """Predict by moving the particles' centres to the true thickness."""
    particles = read_run_file(Path(task.files["particles"]))
    return _stepwise(affine_spheres_steps(task.series, particles), task)


def by_replicate(task: Task) -> Prediction:
    """Predict by a second run of the film."""
    replicate = read_labelled(task.files["replicate_frames"])
    return Prediction(lambda mode: predict_by_replicate(task.series, replicate, task.n_given))


def by_network(task: Task) -> Prediction:
    """Predict by a trained network."""
    from .rollout import predict_by_model

    model, device = load_model_for(task.files["model"], task.kind, task.series, task.n_given, task.device)
    return Prediction(
        lambda mode: predict_by_model(model, task.series, task.n_given, mode, device),
        "stated" if model.states_thickness else "voxels",
    )


def load_model_for(path: str, kind: str, series: Labelled, n_given: int, device: str) -> "tuple[FrameModel, torch.device]":
    """Return the network of a model file for the frames of a series, and where it computes.

    Raises ContractError when the model is another network, or one for other lag windows, voxels or grids.
    """
    from ..learning.devices import select_device
    from .training import edges_alike, load_model

    model, facts = load_model(path)
    found = (facts["network"]["kind"], facts["lag_window"], facts["voxel_edge_um"])
    wanted = (kind, n_given, series.voxel_edge_um)
    if found[:2] != wanted[:2] or not edges_alike(found[2], wanted[2]):
        raise ContractError(
            f"{path!r} holds a network, lag window and voxel edge of {found}; expected {wanted}",
            hint="train a model with these settings on films of this voxel edge",
        )
    grids = tuple(facts["grid"]), series.labels.shape[1:]
    if network_of(kind).needs_one_grid and grids[0] != grids[1]:
        raise ContractError(
            f"{path!r} was trained on the grid {grids[0]} (z, y, x), to which the network is bound; the series has {grids[1]}",
            hint=grid_remedy(grids),
        )
    return model, select_device(device)
