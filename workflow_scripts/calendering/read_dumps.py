"""Program: particle dumps of one run to one HDF5 file."""

import itertools
import sys
from collections.abc import Sequence
from dataclasses import replace

from calandria.base.errors import SettingsError
from calandria.base.inputs import write_inputs
from calandria.base.progress import progress
from calandria.base.provenance import provenance
from calandria.base.stage import read_given
from calandria.calendering.dumps import assemble, dump_files, length_unit, possible_dumps, read_frames
from calandria.calendering.particles import write_run
from calandria.calendering.press import find_surface, frame_times, read_press
from calandria.calendering.settings import RULES, CalenderingSettings
from calandria.cli.program import program, run

DESCRIPTION = """Read the particle dumps of one run (LAMMPS dump custom, LIGGGHTS; plain, gz, bz2, xz, zst) into one HDF5 file.

Lengths are written in um with heights counted from the current collector, times in us, fractions as fractions. A row of the runs sheet for
this film and degree may state units, phases, radii and so on of its own."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the dumps, find the surface, write the run."""
    parser = program(DESCRIPTION, "calendering.read_dumps")
    parser.add_argument(
        "--settings", required=True, help="JSON file of what the rule reads: settings of the section calendering, replicate_of"
    )
    parser.add_argument("--dumps", required=True, nargs="+", help="dump files, folders of them, or quoted glob patterns")
    parser.add_argument("--press", help="CSV of the press: step or time_us, and z_press (dump unit) or press_position_um")
    parser.add_argument("--film", required=True, help="name of the film")
    parser.add_argument("--compression-degree-percent", required=True, type=int, help="label of the compression degree, per cent")
    parser.add_argument("--output", required=True, help="HDF5 file to write")
    parser.add_argument("--output-inputs", help="JSON to write: size, time and SHA-256 of each file that was read")
    options = parser.parse_args(arguments)

    given = read_given(options.settings, CalenderingSettings, RULES, "read_dumps")
    replicate_of = given.get("replicate_of")
    if replicate_of == options.film:
        raise SettingsError(
            f"film {options.film!r} is said to replicate itself", hint="name the film that it replicates, or none"
        )
    rules = given.settings.dumps
    files = dump_files(options.dumps)
    frames = itertools.chain.from_iterable(read_frames(path) for path in files)
    first = next(frames)
    frames = itertools.chain([first], frames)
    particles = assemble(progress(frames, f"reading {options.film}", unit="frame"), rules)
    press = None
    if options.press:
        press = read_press(options.press, length_unit(first, rules), rules.collector_z_um)
    surface = find_surface(particles, press, options.compression_degree_percent / 100, rules.frame_interval_us)
    times, time_source = frame_times(particles, press, rules.frame_interval_us, given.settings.motion.timestep_us)
    attributes = {
        "film": options.film,
        "replicate_of": replicate_of,
        "compression_degree_percent": options.compression_degree_percent,
        "frame_interval_us": float(times[1] - times[0]) if times.size > 1 else 0.0,
        "time_source": time_source,
        "source": f"DEM dumps {files[0].name}" + (f" and {len(files) - 1} more" if len(files) > 1 else ""),
    }
    inputs = {f"dumps_{number}": path for number, path in enumerate(files)} | ({"press": options.press} if options.press else {})
    attributes["provenance"] = provenance(given, inputs=inputs)
    write_run(options.output, replace(particles, time_us=times), surface, times, attributes)
    if options.output_inputs:
        unread = set(possible_dumps(options.dumps)) - {str(path) for path in (*files, options.press)}
        inputs |= {f"unread_{number}": path for number, path in enumerate(sorted(unread))}
        write_inputs(options.output_inputs, given.get("inputs"), inputs, attributes["provenance"]["inputs_sha256"])


if __name__ == "__main__":
    sys.exit(run(main))
