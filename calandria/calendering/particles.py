"""The file of a run's particles: one HDF5 dataset per quantity; everything after the dumps reads this."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..base.errors import ContractError, InputFileError
from ..base.files import existing_file, raise_machine_error, replacing
from .dumps import Particles
from .press import Surface

CONTRACT = "calandria-particles-3"
UNITS = {"x": "um", "y": "um", "z": "um", "radius": "um", "box": "um", "step": "1", "phase": "1", "id": "1"}


@dataclass(frozen=True)
class Run:
    """A run as it lies in its file: particles, surface, times (t) in us, and attributes."""

    particles: Particles
    press_position_um: NDArray[np.float64]
    thickness_um: NDArray[np.float64]
    compression_degree: NDArray[np.float64]
    time_us: NDArray[np.float64]
    attributes: Mapping[str, Any]


def write_run(
    path: str | os.PathLike, particles: Particles, surface: Surface, time_us: NDArray[np.float64], attributes: Mapping[str, Any]
) -> None:
    """Write a run as HDF5, whole or not at all; attributes that are mappings become JSON texts, None is left out.

    Raises ContractError when a height is no finite number, or the film no thickness above 0.
    """
    columns: dict[str, Any] = {name: getattr(particles, name) for name in ("x", "y", "z", "radius", "phase", "box", "step")}
    columns |= {"id": particles.identity, "time_us": time_us, "press_position_um": surface.press_position_um}
    columns |= {"thickness_um": surface.thickness_um, "compression_degree": surface.compression_degree}
    for name in ("time_us", "press_position_um", "thickness_um", "compression_degree"):
        bad = ~np.isfinite(columns[name]) | ((name == "thickness_um") & (columns[name] <= 0))
        if bad.any():
            frame = int(np.argmax(bad))
            raise ContractError(
                f"{name} is {columns[name][frame]:g} in frame {frame} of {bad.size}; expected a finite number"
                + (" above 0" if name == "thickness_um" else ""),
                hint="look at this frame's particles, and check collector_z_um, the press table and the label",
            )
    if particles.molecule is not None:
        columns["molecule"] = particles.molecule
    facts = {
        **attributes,
        "contract": CONTRACT,
        "periodic": list(particles.periodic),
        "turn_frame": surface.turn,
        "surface_source": surface.source,
        "press_is_estimated": surface.press_is_estimated,
        "lowest_thickness_um": surface.lowest_um,
        "lowest_thickness_source": surface.lowest_source,
        "deepest_compression_degree": float(1 - surface.lowest_um / surface.thickness_um[0]),
        "deepest_compression_degree_source": surface.degree_source,
    }
    with replacing(path) as unfinished, h5py.File(unfinished, "w") as file:
        for name, column in columns.items():
            data = file.create_dataset(name, data=column)
            data.attrs["unit"] = UNITS.get(name, "us" if name.endswith("_us") else "um" if name.endswith("_um") else "1")
        for name, value in facts.items():
            if value is not None:
                file.attrs[name] = json.dumps(value, sort_keys=True) if isinstance(value, Mapping) else value


def read_run_file(path: str | os.PathLike) -> Run:
    """Read a run that :func:`write_run` wrote."""
    try:
        with h5py.File(existing_file(path, "particle file"), "r") as file:
            facts = {name: _plain(value) for name, value in file.attrs.items()}
            if facts.get("contract") != CONTRACT:
                raise InputFileError(
                    f"{str(path)!r} is no particle file of this workflow", hint="make it by calendering.read_dumps"
                )
            data = {name: np.asarray(member[...]) for name, member in file.items()}
    except OSError as error:
        raise_machine_error(error, path)
        raise InputFileError(
            f"{str(path)!r} cannot be read as HDF5 ({error})",
            hint="copy it again if it was cut short, or move it away: calendering.read_dumps makes it again",
        ) from error
    x_wraps, y_wraps = (bool(side) for side in facts.pop("periodic"))
    arrays = {name: data[name] for name in ("x", "y", "z", "radius", "phase", "box", "step", "time_us")}
    particles = Particles(**arrays, identity=data["id"], molecule=data.get("molecule"), periodic=(x_wraps, y_wraps))
    columns = {name: data[name] for name in ("press_position_um", "thickness_um", "compression_degree", "time_us")}
    return Run(particles, **columns, attributes=facts)


def _plain(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("{"):
        return json.loads(value)
    return value.tolist() if hasattr(value, "tolist") else value
