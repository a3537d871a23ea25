"""Mini-volumes: windows of consecutive slices as a table of origins, read lazily and never copied.

The auto-encoder paper (doi 10.3390/en15124489) slides its windows over one stack of all its samples, so that windows straddle two
electrodes (``straddle=True``). Ours stay within a sample unless asked. Its printed counts over stacks of 601 and 1,472 slices: 578 and
1,449 are windows of 24 slices with a stride of 1; 150 and 368, which the paper gives for a stride as long as the window, fit a window
and stride of 4 only (a window of 24 gives 25 and 61).
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from ..base.errors import ContractError, InputFileError, SettingsError
from ..base.records import read_table
from ..base.volumes import open_labelled

Axis = Literal["z", "y", "x"]


@dataclass(frozen=True)
class Origin:
    """Where one mini-volume lies; a row of the table.

    Parameters
    ----------
    index
        Position in the table.
    sample
        Sample of the first slice.
    z_start
        First slice within that sample, along ``slice_axis``.
    n_slices
        Slices of the window.
    stride
        Slices to the next window's start.
    last_sample
        Sample of the last slice; another one than ``sample`` where the window straddles.
    z_stop
        One past the last slice, within ``last_sample``.
    stack_start
        First slice, counted over all samples one after another.
    sample_slices
        Slices that ``sample`` has in all, for splits by blocks of depth.
    slice_axis
        Axis along which the slices follow each other.
    """

    index: int
    sample: str
    z_start: int
    n_slices: int
    stride: int
    last_sample: str
    z_stop: int
    stack_start: int
    sample_slices: int
    slice_axis: Axis = "z"


COLUMNS = tuple(item.name for item in fields(Origin))


def resolve_stride(stride: int | str, slice_window: int) -> int:
    """Return a stride in slices; the word ``window`` stands for as many as the window has.

    >>> resolve_stride("window", 24), resolve_stride("4", 24)
    (24, 4)
    """
    if stride == "window":
        return slice_window
    try:
        number = int(stride)
    except ValueError:
        number = 0
    if number < 1:
        raise SettingsError(f"stride {stride!r} is not a number of slices above 0", hint="say a whole number or the word window")
    return number


def count_windows(n_slices: int, slice_window: int, stride: int) -> int:
    """Return how many windows fit into a stack.

    >>> count_windows(601, 24, 1), count_windows(1472, 24, 1), count_windows(601, 4, 4), count_windows(1472, 4, 4)
    (578, 1449, 150, 368)
    """
    return max(0, (n_slices - slice_window) // stride + 1)


def list_origins(
    n_slices: Mapping[str, int], slice_window: int, stride: int | str, *, straddle: bool = False, slice_axis: Axis = "z"
) -> list[Origin]:
    """List all mini-volumes of one or several samples.

    Parameters
    ----------
    n_slices
        Slices of each sample along ``slice_axis``, in the order in which they are stacked.
    slice_window
        Slices of a mini-volume.
    stride
        Slices between successive starts, or ``"window"``. Within each sample it starts anew at slice 0 unless windows straddle.
    straddle
        Whether windows run over the concatenated stack, across the samples' borders (the paper's way).
    slice_axis
        Axis along which slices are taken.

    Raises
    ------
    SettingsError
        If the window is longer than a sample (or than the stack, where windows straddle).
    """
    step = resolve_stride(stride, slice_window)
    names, lengths = list(n_slices), np.array(list(n_slices.values()), np.int64)
    stack_starts = np.concatenate([[0], np.cumsum(lengths)])
    if slice_window < 1:
        raise SettingsError(f"slice window {slice_window} is not a number of slices above 0", hint="say a whole number, e.g. 8")
    too_short = {"the stack of all samples": int(lengths.sum())} if straddle else n_slices
    for name, length in too_short.items():
        if length < slice_window:
            raise SettingsError(
                f"a slice window of {slice_window} does not fit {name}, which has {length} slices along {slice_axis}",
                hint="take a shorter window or leave this sample out",
            )
    if straddle:
        starts = list(range(0, int(stack_starts[-1]) - slice_window + 1, step))
    else:
        starts = [
            int(begin) + step * i
            for begin, length in zip(stack_starts, lengths)
            for i in range(count_windows(length, slice_window, step))
        ]
    origins = []
    for index, start in enumerate(starts):
        first, last = np.searchsorted(stack_starts, [start, start + slice_window - 1], side="right") - 1
        origins.append(
            Origin(
                index=index,
                sample=names[first],
                z_start=int(start - stack_starts[first]),
                n_slices=slice_window,
                stride=step,
                last_sample=names[last],
                z_stop=int(start + slice_window - stack_starts[last]),
                stack_start=int(start),
                sample_slices=int(lengths[first]),
                slice_axis=slice_axis,
            )
        )
    return origins


def origin_rows(origins: Sequence[Origin]) -> list[dict[str, Any]]:
    """Return origins as rows of a table with the columns ``COLUMNS``."""
    return [asdict(origin) for origin in origins]


def read_origins(path: str | os.PathLike) -> list[Origin]:
    """Read the table that ``list_mini_volumes`` wrote."""
    rows = read_table(path)
    missing = [name for name in COLUMNS if rows and name not in rows[0]]
    if missing or not rows:
        raise InputFileError(
            f"{str(path)!r} is not a table of mini-volumes: {'no rows' if not rows else 'missing columns ' + ', '.join(missing)}",
            hint="make it by list_mini_volumes",
        )
    words = {item.name: item.type for item in fields(Origin)}
    cells: list[dict[str, Any]] = [
        {name: int(row[name]) if words[name] is int else row[name] for name in COLUMNS} for row in rows
    ]
    return [Origin(**row) for row in cells]


class MiniVolumes(Sequence[NDArray[np.uint8]]):
    """Mini-volumes (slice, row, column) read on demand; the first axis is the slice axis, the others keep their order.

    Parameters
    ----------
    origins
        The table's rows.
    volumes
        Labels (z, y, x) of every sample, NumPy or zarr arrays; in the order of the table's stack where windows straddle.
        From NumPy arrays windows are views, except where they straddle.

    Raises
    ------
    ContractError
        If a sample is missing, or its length, or the cross-section of samples that share a window, does not fit the table.
    """

    def __init__(self, origins: Sequence[Origin], volumes: Mapping[str, Any]) -> None:
        self.origins, self.volumes = tuple(origins), dict(volumes)
        axes = {origin.slice_axis for origin in self.origins}
        if len(axes) != 1:
            raise ContractError(
                f"mini-volumes have the slice axes {sorted(axes)}; expected one", hint="list them in one table per axis"
            )
        self._axis = "zyx".index(axes.pop())
        self._names = list(self.volumes)
        self._starts = dict(zip(self._names, np.cumsum([0] + [v.shape[self._axis] for v in self.volumes.values()]).tolist()))
        for origin in {(o.sample, o.last_sample): o for o in self.origins}.values():
            self._check(origin)

    def _check(self, origin: Origin) -> None:
        for name in (origin.sample, origin.last_sample):
            if name not in self.volumes:
                raise ContractError(
                    f"mini-volumes of {name} are listed; volumes given: {', '.join(self.volumes)}", hint="add its volume"
                )
        found = self.volumes[origin.sample].shape[self._axis]
        if found != origin.sample_slices:
            raise ContractError(
                f"{origin.sample} has {found} slices along {origin.slice_axis}; its mini-volumes were listed for {origin.sample_slices}",
                hint="list the mini-volumes again",
            )
        if origin.last_sample == origin.sample:
            return
        if self._starts[origin.sample] != origin.stack_start - origin.z_start:
            raise ContractError(
                f"volumes are given in the order {', '.join(self._names)}, which is not the order of the stack in the table",
                hint="name the volumes in the order in which the mini-volumes were listed",
            )
        across = {name: _cross_section(self.volumes[name], self._axis) for name in self._between(origin)}
        if len(set(across.values())) != 1:
            raise ContractError(
                f"windows straddle samples of different cross-sections: {across}",
                hint="crop them to one size, or do not straddle",
            )

    def _between(self, origin: Origin) -> list[str]:
        return self._names[self._names.index(origin.sample) : self._names.index(origin.last_sample) + 1]

    def __len__(self) -> int:
        return len(self.origins)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...

    @overload
    def __getitem__(self, index: slice) -> "MiniVolumes": ...

    def __getitem__(self, index: int | slice) -> "NDArray[np.uint8] | MiniVolumes":
        if isinstance(index, slice):
            return MiniVolumes(self.origins[index], self.volumes)
        origin = self.origins[index]
        if origin.last_sample == origin.sample:
            return self._slices(origin.sample, origin.z_start, origin.z_stop)
        names = self._between(origin)
        pieces = [
            self._slices(
                name,
                origin.z_start if name == origin.sample else 0,
                origin.z_stop if name == origin.last_sample else self.volumes[name].shape[self._axis],
            )
            for name in names
        ]
        return np.concatenate(pieces)

    def _slices(self, name: str, start: int, stop: int) -> NDArray[np.uint8]:
        box = [slice(None)] * 3
        box[self._axis] = slice(start, stop)
        return np.moveaxis(np.asarray(self.volumes[name][tuple(box)]), self._axis, 0)


def _cross_section(volume: Any, axis: int) -> tuple[int, ...]:
    return tuple(extent for i, extent in enumerate(volume.shape) if i != axis)


@contextmanager
def open_mini_volumes(
    origins: Sequence[Origin], volumes: Mapping[str, str | os.PathLike], *, in_memory: bool = False
) -> Iterator[MiniVolumes]:
    """Open the mini-volumes of labelled files.

    Parameters
    ----------
    origins
        Rows of the table.
    volumes
        Sample and path of its labelled volume.
    in_memory
        Whether each volume is read once and held (one byte per voxel), which suits many epochs; else slices are read from disk.
    """
    with ExitStack() as opened:
        arrays = {name: opened.enter_context(open_labelled(path))[0] for name, path in volumes.items()}
        for name, array in arrays.items():
            if array.ndim != 3:
                raise ContractError(
                    f"{str(volumes[name])!r} has {array.ndim} axes; expected a volume (z, y, x)",
                    hint="take one frame of the series",
                )
        yield MiniVolumes(origins, {name: np.asarray(array[...]) for name, array in arrays.items()} if in_memory else arrays)
