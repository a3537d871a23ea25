"""Program: a replicate of a dried film, its positions moved by rounding-size amounts."""

import sys
from collections.abc import Sequence

from calandria.base.files import existing_file, write_text
from calandria.base.seeds import generator
from calandria.base.stage import read_given
from calandria.calendering.films import data_text, perturbed, read_data
from calandria.calendering.settings import RULES, CalenderingSettings
from calandria.cli.program import program, run

DESCRIPTION = """Move every coordinate of a dried film by at most motion.perturbation_um.

Particle paths are chaotic: what two such films have in common after pressing is all that can be predicted at all."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the film, move its spheres, write the replicate."""
    parser = program(DESCRIPTION, "calendering.perturb_film")
    parser.add_argument(
        "--settings", required=True, help="JSON file of what the rule reads: settings of the section calendering, and the seed"
    )
    parser.add_argument("--dried", required=True, help="data file of calendering.dry_film")
    parser.add_argument("--output", required=True, help="LAMMPS data file to write")
    options = parser.parse_args(arguments)

    given = read_given(options.settings, CalenderingSettings, RULES, "perturb_film")
    film = read_data(existing_file(options.dried, "data file").read_text(encoding="utf-8"), options.dried)
    largest = given.settings.motion.perturbation_um
    replicate = perturbed(film, largest, generator(given["seed"], "calendering", "perturb"))
    write_text(
        options.output,
        data_text(replicate, "hybrid", f"replicate: coordinates moved by up to {largest:g} um, seed {given['seed']}"),
    )


if __name__ == "__main__":
    sys.exit(run(main))
