"""Program: dry a suspension to a film with LAMMPS."""

import math
import sys
from collections.abc import Sequence

from calandria.base.files import existing_file, write_text
from calandria.base.stage import read_given
from calandria.calendering.films import data_text, read_data
from calandria.calendering.lammps import contact_law, simulation
from calandria.calendering.settings import RULES, CalenderingSettings
from calandria.cli.program import program, run

DESCRIPTION = """Let the liquid surface sink to the film's thickness, take it away, and let the film relax (LAMMPS, one core).

Writes the film at rest as a LAMMPS data file (units micro: um, pg, us; atom style hybrid sphere bond)."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the drying and write the film."""
    parser = program(DESCRIPTION, "calendering.dry_film")
    parser.add_argument("--settings", required=True, help="JSON file of what the rule reads: settings of the section calendering")
    parser.add_argument("--inserted", required=True, help="data file of calendering.insert_particles")
    parser.add_argument("--output", required=True, help="LAMMPS data file to write")
    options = parser.parse_args(arguments)

    settings = read_given(options.settings, CalenderingSettings, RULES, "dry_film").settings
    motion, thickness = settings.motion, settings.film.thickness_um
    text = existing_file(options.inserted, "data file").read_text(encoding="utf-8")
    top = max(thickness * settings.film.suspension_height, read_data(text, options.inserted).top_um) + 0.1
    sinking = math.ceil((top - thickness) / motion.drying_speed_um_us / motion.drying_timestep_us)
    variables = contact_law(settings.contact) | {
        "drying_timestep": motion.drying_timestep_us,
        "drying_speed": motion.drying_speed_um_us,
        "drying_damping": motion.drying_damping,
        "drying_skin": 1.6 * motion.neighbor_skin_um,
        "suspension_top": top,
        "travel": top - thickness,
        "sinking_steps": sinking,
        "relaxation_steps": motion.relaxation_steps,
    }
    steps = sinking + 2 * motion.relaxation_steps
    with simulation("dry_film.lmp", variables, {"inserted.data": text}, "drying", steps) as folder:
        film = read_data((folder / "film.data").read_text(), "film.data of LAMMPS")
    write_text(
        options.output, data_text(film, "hybrid", f"dried film of {film.kind.size} spheres, top at {film.top_um:.6f} um, at rest")
    )


if __name__ == "__main__":
    sys.exit(run(main))
