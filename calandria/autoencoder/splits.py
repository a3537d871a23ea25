"""Which mini-volumes train, which validate, and whether a slice is on both sides."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..base.errors import ContractError, SettingsError, nearest_name
from ..base.seeds import generator
from ..tomography.mini_volumes import Origin

Part = Literal["train", "validation", "gap"]
SPLITS = ("blocks", "sample", "random")


@dataclass(frozen=True)
class Split:
    """The part of each mini-volume, and what is to be known about it.

    Parameters
    ----------
    kind
        ``blocks``, ``sample`` or ``random``.
    parts
        ``train``, ``validation`` or ``gap`` (in neither) per mini-volume.
    n_shared_slices
        Slices that are in training and in validation; above 0 the split leaks.
    """

    kind: str
    parts: tuple[Part, ...]
    n_shared_slices: int

    @property
    def leaking(self) -> bool:
        """Whether validation sees slices of training."""
        return self.n_shared_slices > 0

    def indices(self, part: Part) -> list[int]:
        """Return the positions of the mini-volumes of a part."""
        return [index for index, found in enumerate(self.parts) if found == part]

    def counts(self) -> dict[str, int]:
        """Return the number of mini-volumes per part."""
        return {part: self.parts.count(part) for part in ("train", "validation", "gap")}


def split_mini_volumes(origins: Sequence[Origin], kind: str, validation_fraction: float, seed: int) -> Split:
    """Part mini-volumes into training and validation.

    Parameters
    ----------
    origins
        The table of mini-volumes.
    kind
        ``blocks``: in each sample (in the whole stack where windows straddle) a run of consecutive mini-volumes at a random
        depth validates; those that come within one window of its slices are left out. ``sample``: whole samples validate;
        mini-volumes across both sides are left out. ``random``: drawn one by one as in the paper; overlapping ones leak.
    validation_fraction
        Share of mini-volumes (of samples) that validate, at least one; with ``blocks`` the gap comes off training.
    seed
        Seed of the draw.

    Raises
    ------
    SettingsError
        When a part would stay empty.
    ContractError
        When ``blocks`` or ``sample`` would share a slice between the parts.
    """
    if kind not in SPLITS:
        raise SettingsError(f"split {kind!r} is unknown", hint=nearest_name(kind, SPLITS))
    if len(origins) < 2:
        raise SettingsError(f"{len(origins)} mini-volumes cannot be split", hint="take a smaller slice window or stride")
    random = generator(seed, "split", kind)
    draw = {"random": _at_random, "sample": _by_sample, "blocks": _by_blocks}[kind]
    parts = draw(origins, validation_fraction, random)
    split = Split(kind, tuple(parts), len(shared_slices(origins, parts)))
    if not split.indices("train") or not split.indices("validation"):
        raise SettingsError(
            f"split {kind!r} of {len(origins)} mini-volumes leaves {split.counts()}; training and validation need one or more",
            hint="take a smaller slice window or stride, more samples, or another split",
        )
    if kind != "random" and split.leaking:
        raise ContractError(
            f"split {kind!r} has {split.n_shared_slices} slices on both sides; expected none",
            hint="list the mini-volumes again; rows of the table may be edited or missing",
        )
    return split


def shared_slices(origins: Sequence[Origin], parts: Sequence[str]) -> set[int]:
    """Return the slices, as positions in the stack of all samples, that training and validation mini-volumes both hold."""
    sides: dict[str, set[int]] = {"train": set(), "validation": set(), "gap": set()}
    for origin, part in zip(origins, parts, strict=True):
        sides[part].update(range(origin.stack_start, origin.stack_start + origin.n_slices))
    return sides["train"] & sides["validation"]


def _count(total: int, fraction: float) -> int:
    return min(max(1, round(fraction * total)), total - 1)


def _at_random(origins: Sequence[Origin], fraction: float, random: np.random.Generator) -> list[Part]:
    held = set(random.permutation(len(origins))[: _count(len(origins), fraction)].tolist())
    return ["validation" if index in held else "train" for index in range(len(origins))]


def _by_sample(origins: Sequence[Origin], fraction: float, random: np.random.Generator) -> list[Part]:
    samples = sorted({name for origin in origins for name in (origin.sample, origin.last_sample)})
    if len(samples) < 2:
        raise SettingsError(f"there is one sample, {samples[0]!r}, and the split is by sample", hint="split by blocks instead")
    held = {samples[index] for index in random.permutation(len(samples))[: _count(len(samples), fraction)]}
    parts: list[Part] = []
    for origin in origins:
        inside = {origin.sample in held, origin.last_sample in held}
        parts.append("gap" if len(inside) == 2 else "validation" if inside.pop() else "train")
    return parts


def _by_blocks(origins: Sequence[Origin], fraction: float, random: np.random.Generator) -> list[Part]:
    straddling = any(origin.sample != origin.last_sample for origin in origins)
    stacks: dict[str, list[tuple[int, int]]] = {}
    for index, origin in enumerate(origins):
        stacks.setdefault("" if straddling else origin.sample, []).append((origin.stack_start, index))
    parts: list[Part] = ["train"] * len(origins)
    for members in stacks.values():
        members.sort()
        n_held = _count(len(members), fraction)  # none of a sample that has a single mini-volume
        first = int(random.integers(len(members) - n_held + 1))
        block = members[first : first + n_held]
        for start, index in members if block else []:
            window = origins[index].n_slices
            low, high = block[0][0] - window, block[-1][0] + origins[block[-1][1]].n_slices + window
            parts[index] = "train" if start + window <= low or start >= high else "gap"
        for _, index in block:
            parts[index] = "validation"
    return parts
