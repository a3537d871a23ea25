"""The registry of predictors: baselines, a second run of the film, and networks. Each is one entry; nothing here needs torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..base.optional import named_object
from .networks import Network

Predicted = tuple[NDArray[np.uint8], NDArray[np.float64]]
MODES = ("one_step", "rollout")
INPUTS: Mapping[str, str] = {
    "model": "file of train_surrogate, *.pt",
    "particles": "particles.h5 of this run",
    "replicate_frames": "series of a second run of the same film, *.zarr.zip",
}
"""Files that some predictors need beside the series, each with what it is."""


@dataclass(frozen=True)
class Task:
    """What is predicted.

    Parameters
    ----------
    series
        The true series, a ``base.volumes.Labelled``; a predictor says in its sentence what it reads of it.
    n_given
        Frames at its beginning that are given, the lag window.
    files
        Path of each file that the predictor needs, by its name in INPUTS.
    device
        Where a network computes.
    kind
        Kind of the network, empty for a baseline.
    """

    series: Any
    n_given: int
    files: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"
    kind: str = ""


@dataclass(frozen=True)
class Prediction:
    """What a predictor is ready to give.

    Parameters
    ----------
    frames
        ``frames(mode)`` returns labels (t, z, y, x) and thickness (t,) in um of the series, the given frames as they are.
    thickness_source
        ``stated`` by the predictor, or ``voxels`` where it states none.
    """

    frames: Callable[[str], Predicted]
    thickness_source: str = "stated"


@dataclass(frozen=True)
class Predictor:
    """One way to predict the frames of a series.

    Parameters
    ----------
    name
        Its name in settings, files and tables.
    sentence
        What it does and knows, for the report; it follows the name and a colon.
    prepare
        ``prepare(task)`` reads and checks the files and returns a :class:`Prediction`: where that function is, as ``module:name``.
    colour
        Of its curves, as #rrggbb.
    needs
        Which of INPUTS it reads.
    modes
        Which of MODES it has.
    kind
        Kind of the network, empty for a baseline.
    sort
        ``baseline``; ``informed``, a baseline that is given what it should predict; ``network``; or ``ceiling``: what no predictor
        can beat.
    """

    name: str
    sentence: str
    prepare: str
    colour: str
    needs: tuple[str, ...] = ()
    modes: tuple[str, ...] = MODES
    kind: str = ""
    sort: str = "baseline"

    def prepared(self, task: Task) -> Prediction:
        """Read and check what the predictor needs; it predicts thereafter."""
        return cast(Prediction, named_object(self.prepare, f"predictor {self.name}")(task))


_HERE = "calandria.surrogate.prediction"
BASELINES: Mapping[str, Predictor] = {
    predictor.name: predictor
    for predictor in (
        Predictor("copy", "repeats the last known frame", f"{_HERE}:by_copy", "#999999"),
        Predictor(
            "affine_voxels",
            "stretches the last known frame along z to the true thickness of the predicted frame, which a network never sees",
            f"{_HERE}:by_affine_voxels",
            "#56B4E9",
            sort="informed",
        ),
        Predictor(
            "affine_press",
            "stretches the last known frame to the lowest of its thickness and the press positions since: the film follows the press"
            " down and never springs back; it knows the press position alone",
            f"{_HERE}:by_affine_press",
            "#0072B2",
        ),
        Predictor(
            "affine_spheres",
            "moves the centres of the spheres affinely to the true thickness of the predicted frame and keeps their radii",
            f"{_HERE}:by_affine_spheres",
            "#009E73",
            needs=("particles",),
            sort="informed",
        ),
        Predictor(
            "replicate",
            "a second simulation of the same dried film, its particles shifted at the start by amounts of rounding size; contacts"
            " amplify such shifts, so the two runs differ by chance, and no predictor can beat their difference in a free rollout;"
            " it knows no true frame after the given ones, so it has no one-step row",
            f"{_HERE}:by_replicate",
            "#E69F00",
            needs=("replicate_frames",),
            modes=("rollout",),
            sort="ceiling",
        ),
    )
}
"""Predictors that learn nothing, by name."""


def of_network(name: str, network: Network) -> Predictor:
    """Return the predictor that a trained network of a study is, by the network's name there."""
    return Predictor(
        name, network.sentence, f"{_HERE}:by_network", network.colour, needs=("model",), kind=network.kind, sort="network"
    )
