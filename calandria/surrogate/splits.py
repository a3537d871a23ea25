"""Which windows train, choose the best epoch, and test; and whether test frames were seen in training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..base.errors import InputFileError, SettingsError, nearest_name
from ..base.seeds import generator
from .settings import SplitSettings
from .windows import Run, window_places

PARTS = ("train", "validation", "test")


def split_runs(runs: Sequence[Run], settings: SplitSettings, lag_window: int) -> dict[str, Any]:
    """Return which target frames of each run belong to which part, and which parts share frames.

    Parameters
    ----------
    runs
        All series. A replicate of a film is given the part ``test`` of its own; it never trains.
    settings
        Kind of split, the films it names, and the seed of the validation windows where no validation film is named.
    lag_window
        Frames before a target.

    Raises SettingsError when a named film or degree does not exist or nothing is left for a part, and when a series is
    shorter than a window.
    """
    films = sorted({run.film for run in runs})
    named = [*settings.validation_films, *settings.test_films, *(row.film for row in settings.held_out)]
    for film in named:
        if film not in films:
            raise SettingsError(f"the split names film {film!r}, which no series has", hint=nearest_name(film, films))
    held_out = {(row.film, degree) for row in settings.held_out for degree in row.compression_degrees_percent}
    missing = held_out - {(run.film, run.compression_degree_percent) for run in runs}
    if missing:
        raise SettingsError(
            f"the split holds out runs that do not exist: {sorted(missing)}", hint="correct surrogate.split.held_out"
        )
    targets: list[dict[str, list[int]]] = []
    for run in runs:
        if run.n_frames <= lag_window:
            raise SettingsError(
                f"{run.name} has {run.n_frames} frames; a lag window of {lag_window} needs at least {lag_window + 1}",
                hint="shorten lag_window or leave the run out",
            )
        tested = run.film in settings.test_films or (run.film, run.compression_degree_percent) in held_out or run.replicate_of
        part = "test" if tested else "validation" if run.film in settings.validation_films else "train"
        targets.append({name: list(range(lag_window, run.n_frames)) if name == part else [] for name in PARTS})
    if not settings.validation_films:
        _draw_validation(runs, targets, settings, lag_window)
    for part in PARTS:
        if not any(run[part] for run in targets):
            raise SettingsError(
                f"the split leaves no window for {part} among {_shortened(films)}", hint="correct surrogate.split, or add films"
            )
    overlaps = shared_frames(runs, targets, lag_window)
    tests = tested_runs(runs, targets, overlaps)
    return {
        "kind": settings.kind,
        "lag_window": lag_window,
        "leaking": any(row["leaking"] for row in tests),
        "test_runs": tests,
        "overlaps": overlaps,
        "runs": [
            {
                "film": run.film,
                "compression_degree_percent": run.compression_degree_percent,
                "n_frames": run.n_frames,
                "digest": run.digests[-1],
                **part,
            }
            for run, part in zip(runs, targets)
        ],
    }


def _shortened(films: Sequence[str], most: int = 6) -> str:
    """Return names of films in words, the first of them where there are many."""
    names = ", ".join(films[:most])
    return f"films {names}" if len(films) <= most else f"{len(films)} films ({names}, ...)"


def _draw_validation(runs: Sequence[Run], targets: list[dict], settings: SplitSettings, lag_window: int) -> None:
    """Move blocks of frames of the training films to validation, each from all degrees of its film at once.

    The degrees of a film share their loading, also where they were run apart and differ by rounding; so a block is a range
    of frame numbers, as long as the lag window. Frames of equal content go along, wherever they are.
    """
    families = _families(runs)
    frames: dict[str, set[int]] = {}
    for run, parts in zip(runs, targets):
        frames.setdefault(families[run.film], set()).update(parts["train"])
    total = sum(map(len, frames.values()))
    length = max(1, min(lag_window, total // 2))
    blocks = [
        (film, block)
        for film, numbers in sorted(frames.items())
        for block in np.array_split(sorted(numbers), max(1, len(numbers) // length))
        if block.size
    ]
    drawn: set[tuple[str, int]] = set()
    for index in generator(settings.seed, "validation").permutation(len(blocks))[: len(blocks) - 1]:
        film, block = blocks[index]
        drawn |= {(film, int(number)) for number in block}
        if len(drawn) >= settings.validation_fraction * total:
            break
    kept = {
        run.digests[target]
        for run, parts in zip(runs, targets)
        for target in parts["train"]
        if (families[run.film], target) in drawn
    }
    for run, parts in zip(runs, targets):
        chosen = [t for t in parts["train"] if (families[run.film], t) in drawn or run.digests[t] in kept]
        parts["validation"] = chosen
        parts["train"] = sorted(set(parts["train"]) - set(chosen))


def _families(runs: Sequence[Run]) -> dict[str, str]:
    """Return for each film the one that it repeats, over any number of replicates, or itself."""
    repeats = {run.film: run.replicate_of for run in runs if run.replicate_of}
    families = {}
    for film in {run.film for run in runs}:
        first, seen = film, {film}
        while first in repeats and repeats[first] not in seen:
            first = repeats[first]
            seen.add(first)
        families[film] = first
    return families


def tested_runs(
    runs: Sequence[Run], targets: Sequence[Mapping[str, Sequence[int]]], overlaps: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return a row per test run: film, degree, whether its film is known from training or validation, and by what.

    Frames of one film leak although they were simulated or voxelized apart and no file is alike; so do those of a replicate.
    Frames of equal content, under whatever name, leak too.
    """
    rows = []
    families = _families(runs)
    users: dict[tuple[str, str], list[str]] = {}
    for run, parts in zip(runs, targets):
        for part in ("train", "validation"):
            if parts[part]:
                users.setdefault((families[run.film], part), []).append(run.name)
    shared: dict[str, list[Mapping[str, Any]]] = {}
    for row in overlaps:
        shared.setdefault(row["run"], []).append(row)
    for run, parts in zip(runs, targets):
        if not parts["test"]:
            continue
        used = {part: users.get((families[run.film], part), []) for part in ("train", "validation")}
        told = [
            f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} used for {part} and of the same film"
            for part, names in used.items()
            if names
        ]
        told += [
            f"{len(row['frames'])} frames are those of {', '.join(row['shared_with'])}, used for {row['parts'][1]}"
            for row in shared.get(run.name, ())
            if row["parts"][0] == "test"
        ]
        rows.append(
            {
                "film": run.film,
                "compression_degree_percent": run.compression_degree_percent,
                "leaking": bool(told),
                "reason": "; ".join(told),
            }
        )
    return rows


def run_is_leaking(split: Mapping[str, Any], film: str, compression_degree_percent: float) -> bool:
    """Return whether training or validation knew the film of a test run.

    Raises InputFileError when the run is no test run of the split.
    """
    for row in split.get("test_runs", ()):
        if (row["film"], row["compression_degree_percent"]) == (film, round(compression_degree_percent)):
            return bool(row["leaking"])
    raise InputFileError(
        f"{film} at {compression_degree_percent:g} % is no test run of the split",
        hint="name a run that split_films gave to the test, or run split_films again",
    )


def shared_frames(runs: Sequence[Run], targets: Sequence[Mapping[str, Sequence[int]]], lag_window: int) -> list[dict[str, Any]]:
    """Name the target frames of one part that another part also has, as a target or as a lag frame.

    Frames are compared by content, so a copied file under another film's name is found too. Windows of training and
    validation of one run overlap by their lag frames when validation windows are drawn from the training films.
    """
    seen: dict[str, dict[str, str]] = {part: {} for part in PARTS}
    for run, parts in zip(runs, targets):
        for part in PARTS:
            for target in parts[part]:
                for digest in run.digests[target - lag_window : target + 1]:
                    seen[part].setdefault(digest, run.name)
    rows = []
    for index, run in enumerate(runs):
        for part, others in (("test", ("train", "validation")), ("validation", ("train",))):
            for other in others:
                common = [target for target in targets[index][part] if run.digests[target] in seen[other]]
                if common:
                    partners = sorted({seen[other][run.digests[target]] for target in common})
                    rows.append({"parts": [part, other], "run": run.name, "shared_with": partners, "frames": common})
    return rows


def part_targets(split: Mapping[str, Any], runs: Sequence[Run], part: str) -> list[list[int]]:
    """Return the target frames of ``part`` for each run of ``runs``, as the split file says.

    Raises InputFileError when a run is not in the split or has changed since.
    """
    known = {(row["film"], row["compression_degree_percent"]): row for row in split["runs"]}
    found = []
    for run in runs:
        row = known.get((run.film, run.compression_degree_percent))
        if row is None or row["n_frames"] != run.n_frames or row["digest"] != run.digests[-1]:
            raise InputFileError(
                f"{run.path!r} ({run.name}) is {'not in the split' if row is None else 'another series than the one that was split'}",
                hint="run split_films again with the series that are used now",
            )
        found.append(list(row[part]))
    return found


def part_places(split: Mapping[str, Any], runs: Sequence[Run], part: str, steps: int = 1) -> list:
    """Return the distinct windows of a part (see :func:`windows.window_places`)."""
    return window_places(runs, part_targets(split, runs, part), int(split["lag_window"]), steps)
