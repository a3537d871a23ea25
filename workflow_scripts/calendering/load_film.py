"""Program: press a dried film with LAMMPS and keep restarts on the way."""

import sys
from collections.abc import Sequence

from calandria.base.files import existing_file, replacing, write_text
from calandria.base.records import canonical_json
from calandria.base.stage import read_given
from calandria.calendering.films import read_data
from calandria.calendering.lammps import next_turn_formula, press_speed, pressing, simulation
from calandria.calendering.settings import RULES, CalenderingSettings
from calandria.calendering.trajectories import FILM, TABLE_OF_TURNS, packed, tar_of
from calandria.cli.program import program, run

DESCRIPTION = """Press a dried film at constant speed to the last of restart_degrees_percent (LAMMPS, one core).

Writes the frames (units micro: um, us), the press table (um, us, kPa), and a tar file with a restart at each of these
degrees and the dried film."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the loading and write frames, press table and restarts."""
    parser = program(DESCRIPTION, "calendering.load_film")
    parser.add_argument("--settings", required=True, help="JSON file of what the rule reads: settings of the section calendering")
    parser.add_argument("--dried", required=True, help="data file of calendering.dry_film or perturb_film")
    parser.add_argument("--output-dumps", required=True, help="frames to write, *.lammpstrj.gz")
    parser.add_argument("--output-press", required=True, help="press table to write, CSV")
    parser.add_argument("--output-restarts", required=True, help="restarts to write, tar")
    options = parser.parse_args(arguments)

    settings = read_given(options.settings, CalenderingSettings, RULES, "load_film").settings
    text = existing_file(options.dried, "data file").read_text(encoding="utf-8")
    thickness = read_data(text, options.dried).top_um
    steps = [settings.turn_step(degree) for degree in settings.restart_degrees_percent]
    last, speed = steps[-1], press_speed(settings, thickness)
    start = thickness + settings.motion.press_gap_um
    variables = pressing(settings) | {
        "press_start": start,
        "speed": speed,
        "last_step": last,
        "settling_steps": settings.motion.settling_steps,
        "loading_damping": settings.motion.loading_damping,
        "next_turn_formula": next_turn_formula(steps),
    }
    facts = {"restart_steps": steps, "press_start_um": start, "speed_um_us": speed, "thickness_um": thickness}
    facts |= {"settling_steps": settings.motion.settling_steps}
    with simulation("load_film.lmp", variables, {"film.data": text}, "loading", last) as folder:
        frames = packed((folder / "frames.lammpstrj").read_bytes())
        members = {file.name: file.read_bytes() for file in folder.glob("turn.*.*")}
        table = (folder / "press.csv").read_text()
    restarts = tar_of(members | {FILM: text.encode(), TABLE_OF_TURNS: canonical_json(facts).encode()})
    for path, content in ((options.output_dumps, frames), (options.output_restarts, restarts)):
        with replacing(path) as unfinished:
            unfinished.write_bytes(content)
    write_text(options.output_press, table)


if __name__ == "__main__":
    sys.exit(run(main))
