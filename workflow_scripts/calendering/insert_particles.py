"""Program: a random packing of spheres, the suspension from which a film dries."""

import sys
from collections.abc import Sequence

from calandria.base.files import write_text
from calandria.base.seeds import generator
from calandria.base.stage import read_given
from calandria.calendering.films import data_text, insert_film
from calandria.calendering.settings import RULES, CalenderingSettings
from calandria.cli.program import program, run

DESCRIPTION = """Pack spheres of active material and carbon-binder domain at random, without overlap, above the foil.

Writes a LAMMPS data file (units micro: um, pg, us; atom style sphere)."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the spheres and write them."""
    parser = program(DESCRIPTION, "calendering.insert_particles")
    parser.add_argument(
        "--settings", required=True, help="JSON file of what the rule reads: settings of the section calendering, and the seed"
    )
    parser.add_argument("--output", required=True, help="LAMMPS data file to write")
    options = parser.parse_args(arguments)

    given = read_given(options.settings, CalenderingSettings, RULES, "insert_particles")
    film = insert_film(given.settings.film, given.settings.motion, generator(given["seed"], "calendering", "insert"))
    write_text(
        options.output, data_text(film, "sphere", f"suspension of {film.kind.size} spheres, seed {given['seed']}, masses scaled")
    )


if __name__ == "__main__":
    sys.exit(run(main))
