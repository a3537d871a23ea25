"""Lag windows of labelled series: views on zarr files, read frame by frame."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

import numpy as np
from numpy.typing import NDArray

from ..base.errors import ContractError, InputFileError
from ..base.volumes import FRAME_DIGESTS, damage_named, frame_digest, open_labelled, open_labels

CACHED_BYTES = 10**9
"""Memory for frames that are read, of all series together."""
OPEN_SERIES = 32
"""Series whose files are open at the same time; a process may have few file handles, and each open file is one."""


@dataclass(frozen=True)
class Run:
    """What is known of one series without holding its labels.

    Parameters
    ----------
    path
        The series' file.
    film, compression_degree_percent
        Which film was pressed, and how far.
    shape
        Frames and voxels (t, z, y, x).
    voxel_edge_um, periodic
        As in the data contract.
    press_position_um, thickness_um
        One value per frame.
    digests
        One digest per frame, of its labels and press position.
    replicate_of
        The film that this one repeats, else empty.
    """

    path: str
    film: str
    compression_degree_percent: int
    shape: tuple[int, int, int, int]
    voxel_edge_um: float
    periodic: tuple[bool, bool, bool]
    press_position_um: tuple[float, ...]
    thickness_um: tuple[float, ...]
    digests: tuple[str, ...]
    replicate_of: str = ""

    @property
    def name(self) -> str:
        """Film and degree in words."""
        return f"{self.film} at {self.compression_degree_percent} %"

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.shape[0]


def describe_run(path: str) -> Run:
    """Read the facts of a series and the digest of each of its frames, which are computed only where the file holds none.

    Raises ContractError when the press position, the thickness, the film or the degree is missing.
    """
    with open_labelled(path) as (array, facts):
        wanted = {"press_position_um", "thickness_um"} - set(facts.frames) | {"film", "compression_degree_percent"} - set(
            facts.attributes
        )
        if wanted or array.ndim != 4:
            raise ContractError(
                f"{str(path)!r}: axes {facts.axes if array.ndim == 4 else ('z', 'y', 'x')}, without {sorted(wanted)}; expected a series (t, z, y, x) with these",
                hint="make the series with workflow_scripts.calendering.voxelize_frames",
            )
        press, thickness = facts.frames["press_position_um"], facts.frames["thickness_um"]
        if not (np.isfinite(press).all() and np.isfinite(thickness).all() and (thickness > 0).all()):
            raise ContractError(
                f"{str(path)!r}: press positions or thicknesses that are not finite or not above 0",
                hint="run its voxelizing again and look at press_position_um and thickness_um",
            )
        digests = facts.attributes.get(FRAME_DIGESTS)
        if not isinstance(digests, list) or len(digests) != array.shape[0]:
            digests = [frame_digest(np.asarray(array[t]), press[t]) for t in range(array.shape[0])]
        return Run(
            str(path), str(facts.attributes["film"]), round(float(facts.attributes["compression_degree_percent"])),
            cast(tuple[int, int, int, int], tuple(array.shape)), facts.voxel_edge_um, facts.periodic, tuple(map(float, press)), tuple(map(float, thickness)),
            tuple(digests), str(facts.attributes.get("replicate_of") or ""),
        )  # fmt: skip


def describe_runs(paths: Iterable[str | Path]) -> list[Run]:
    """Describe several series; raises InputFileError when two are the same film at the same degree."""
    runs = [describe_run(str(path)) for path in paths]
    seen: dict[tuple[str, int], str] = {}
    for run in runs:
        key = (run.film, run.compression_degree_percent)
        if key in seen:
            raise InputFileError(
                f"{run.path!r} and {seen[key]!r} are both {run.name}",
                hint="name each run once, and give films names of their own",
            )
        seen[key] = run.path
    return runs


@dataclass(frozen=True)
class Window:
    """One lag window and the frames that follow it.

    Parameters
    ----------
    labels
        uint8 (lag_window + steps, z, y, x).
    press_position_um, thickness_um
        One value per frame of ``labels``.
    first_um, lowest_um
        Thickness of the film's first frame, and its lowest up to the last lag frame.
    """

    labels: NDArray[np.uint8]
    press_position_um: NDArray[np.float64]
    thickness_um: NDArray[np.float64]
    first_um: float
    lowest_um: float


class PressColumns(NamedTuple):
    """The columns of a window without its labels; as in :class:`Window`."""

    press_position_um: NDArray[np.float64]
    thickness_um: NDArray[np.float64]
    first_um: float
    lowest_um: float


@dataclass(frozen=True)
class WindowPlace:
    """Where a window lies: the run's index and its target, the frame after the last lag frame."""

    run: int
    target: int
    steps: int


def window_places(runs: Sequence[Run], targets: Sequence[Sequence[int]], lag_window: int, steps: int = 1) -> list[WindowPlace]:
    """List the distinct windows of ``targets`` (frame indices per run) in order.

    The loading frames of all degrees of one film are the same frames; a window whose lag frames and following frames
    (labels and press positions) were listed before is left out, so that loading does not outweigh release.
    Of ``steps`` following frames those are taken that are targets too, without a gap: a frame that is kept for another part
    is never a second step either.
    """
    places, seen = [], set()
    for index, run in enumerate(runs):
        own = set(targets[index])
        for target in targets[index]:
            taken = next((step for step in range(1, steps) if target + step not in own), steps)
            key = run.digests[target - lag_window : target + taken]
            if key not in seen:
                seen.add(key)
                places.append(WindowPlace(index, target, taken))
    return places


def press_columns(run: Run, place: WindowPlace, lag_window: int) -> PressColumns:
    """Return the press and thickness of the window at ``place`` of ``run``; no labels are read."""
    frames, thickness = slice(place.target - lag_window, place.target + place.steps), np.array(run.thickness_um)
    lowest = float(thickness[: place.target].min())
    return PressColumns(np.array(run.press_position_um)[frames], thickness[frames], float(thickness[0]), lowest)


class WindowReader:
    """Reads windows lazily from the files of ``runs``; a context manager.

    However many series there are, few files are open at a time, and the frames that are kept fit into one budget.

    Parameters
    ----------
    runs
        The series.
    lag_window
        Frames before a target.
    cached_bytes
        Memory for frames of all series together; the frame in use is always kept.
    open_series
        Files that are open at the same time at most.
    """

    def __init__(
        self, runs: Sequence[Run], lag_window: int, cached_bytes: int = CACHED_BYTES, open_series: int = OPEN_SERIES
    ) -> None:
        self.runs, self.lag_window, self.cached_bytes, self.open_series = list(runs), lag_window, cached_bytes, open_series
        self._open: OrderedDict[int, tuple[ExitStack, Any]] = OrderedDict()
        self._frames: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()
        self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        while self._open:
            self._close_oldest()

    def _close_oldest(self) -> None:
        self._open.popitem(last=False)[1][0].close()

    def _array(self, run: int) -> Any:
        if run in self._open:
            self._open.move_to_end(run)
        else:
            while len(self._open) >= self.open_series:
                self._close_oldest()
            stack = ExitStack()
            self._open[run] = stack, stack.enter_context(open_labels(self.runs[run].path))
        return self._open[run][1]

    def frame(self, run: int, index: int) -> NDArray[np.uint8]:
        """Return the labels (z, y, x) of one frame."""
        key = run, index
        if key in self._frames:
            self._frames.move_to_end(key)
            return self._frames[key]
        with damage_named(self.runs[run].path):
            frame = np.asarray(self._array(run)[index])
        self._frames[key] = frame
        self._bytes += frame.nbytes
        while self._bytes > self.cached_bytes and len(self._frames) > 1:
            self._bytes -= self._frames.popitem(last=False)[1].nbytes
        return frame

    def window(self, place: WindowPlace) -> Window:
        """Return the window at ``place``."""
        frames = range(place.target - self.lag_window, place.target + place.steps)
        labels = np.stack([self.frame(place.run, t) for t in frames])
        return Window(labels, *press_columns(self.runs[place.run], place, self.lag_window))
