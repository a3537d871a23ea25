"""Program: release a pressed film from one compression degree with LAMMPS."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from calandria.base.files import existing_file, replacing, write_text
from calandria.base.stage import read_given
from calandria.calendering.dumps import Frame, frames_of, open_dump
from calandria.calendering.films import bond_commands, touching_pairs
from calandria.calendering.lammps import next_turn_formula, pressing, set_springs, simulation
from calandria.calendering.settings import RULES, CalenderingSettings
from calandria.calendering.trajectories import FILM, joined_frames, joined_tables, packed, read_turns
from calandria.cli.program import program, run

DESCRIPTION = """Raise the press from the turning point of one compression degree until the run has its frames (LAMMPS, one core). Where the
loading kept no restart at this degree, it is resumed from the restart below first; below all restarts it begins with the dried film.

Writes the whole run: the loading frames up to the turn and those of the release (units micro: um, us), and its press table (um, us, kPa)."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the release and write the whole run."""
    parser = program(DESCRIPTION, "calendering.release_film")
    parser.add_argument(
        "--settings",
        required=True,
        help="JSON file of what the rule reads: settings of the section calendering, number of frames",
    )
    parser.add_argument("--restarts", required=True, help="tar file of calendering.load_film")
    parser.add_argument("--loading-dumps", required=True, help="frames of calendering.load_film")
    parser.add_argument("--loading-press", required=True, help="press table of calendering.load_film")
    parser.add_argument(
        "--compression-degree-percent", required=True, type=int, help="degree from which the press turns, per cent"
    )
    parser.add_argument("--output-dumps", required=True, help="frames to write, *.lammpstrj.gz")
    parser.add_argument("--output-press", required=True, help="press table to write, CSV")
    options = parser.parse_args(arguments)

    given = read_given(options.settings, CalenderingSettings, RULES, "release_film")
    settings, degree = given.settings, options.compression_degree_percent
    facts, members = read_turns(existing_file(options.restarts, "restarts").read_bytes(), options.restarts)
    turn = settings.turn_step(degree)
    last = (given["frames"] - 1) * settings.steps_per_frame
    variables = pressing(settings) | {"press_start": facts["press_start_um"], "speed": facts["speed_um_us"], "turn_step": turn}
    with open_dump(Path(options.loading_dumps)) as stream:
        frames = stream.read()
    table = existing_file(options.loading_press, "press table").read_text(encoding="utf-8")
    restart = max((step for step in facts["restart_steps"] if step <= turn), default=None)
    if restart == turn:
        state, snapshot = members[f"turn.{turn}.restart"], members[f"turn.{turn}.lammpstrj"]
    elif restart is None:
        loading = {"last_step": turn, "next_turn_formula": next_turn_formula([turn]), "settling_steps": facts["settling_steps"]}
        loading |= {"loading_damping": settings.motion.loading_damping}
        with simulation("load_film.lmp", variables | loading, {FILM: members[FILM]}, f"loading to {degree} %", turn) as folder:
            frames, table = (folder / "frames.lammpstrj").read_bytes(), (folder / "press.csv").read_text()
            state, snapshot = (folder / f"turn.{turn}.restart").read_bytes(), (folder / f"turn.{turn}.lammpstrj").read_bytes()
    else:
        resumed = variables | {"loading_damping": settings.motion.loading_damping}
        before: dict[str, str | bytes] = {"resumed.restart": members[f"turn.{restart}.restart"]}
        with simulation("continue_loading.lmp", resumed, before, f"loading to {degree} %", turn) as folder:
            frames = joined_frames(frames, (folder / "frames.lammpstrj").read_bytes(), restart)
            table = joined_tables(table, (folder / "press.csv").read_text(), restart)
            state, snapshot = (folder / "turn.restart").read_bytes(), (folder / "turn.lammpstrj").read_bytes()
    variables |= set_springs(settings.contact) | {
        "release_damping": settings.motion.release_damping,
        "release_speed": settings.motion.release_speed,
        "last_step": last,
    }
    bonds = _bonds(next(frames_of(io.BytesIO(snapshot), f"snapshot at {degree} %")))
    files: dict[str, str | bytes] = {"turn.restart": state, "bonds.lmp": bonds}
    with simulation("release_film.lmp", variables, files, f"release from {degree} %", last) as folder:
        frames = joined_frames(frames, (folder / "frames.lammpstrj").read_bytes(), turn)
        table = joined_tables(table, (folder / "press.csv").read_text(), turn)
    with replacing(options.output_dumps) as unfinished:
        unfinished.write_bytes(packed(frames))
    write_text(options.output_press, table)


def _bonds(frame: Frame) -> str:
    pairs = touching_pairs(frame.position, np.asarray(frame.size), frame.box[:2, 1] - frame.box[:2, 0])
    return "\n".join([*bond_commands(pairs, frame.identity, np.asarray(frame.kind)), ""])


if __name__ == "__main__":
    sys.exit(run(main))
