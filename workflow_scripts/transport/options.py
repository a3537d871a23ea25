"""What the programs of this stage share: naming several series, opening them, the columns of their tables."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..common.errors import ContractError, SettingsError
from ..common.volumes import Labelled, read_labelled


def named_files(words: Sequence[str]) -> dict[str, Path]:
    """Return ``NAME=FILE`` words as a mapping.

    >>> named_files(["film_1=a.zarr.zip"])["film_1"].name
    'a.zarr.zip'
    """
    found: dict[str, Path] = {}
    for word in words:
        name, sign, path = word.partition("=")
        if not (name and sign and path):
            raise SettingsError(f"{word!r} does not name a series", hint="write NAME=FILE, e.g. film_1_cd20=film_1.zarr.zip")
        if name in found:
            raise SettingsError(f"the series {name!r} is named twice", hint="give each series its own name")
        found[name] = Path(path)
    return found


def read_all_series(files: dict[str, Path]) -> Iterator[tuple[str, Labelled]]:
    """Yield each name with its series (t, z, y, x)."""
    for name, path in files.items():
        series = read_labelled(path)
        if series.labels.ndim != 4:
            raise ContractError(
                f"{str(path)!r} holds one volume; expected a series (t, z, y, x)",
                hint="solve volumes with transport.solve_diffusion",
            )
        yield name, series
