"""Program: search the hyperparameters of a network."""

import sys
from collections.abc import Sequence

from calandria.base.stage import read_given
from calandria.cli.program import program, run
from calandria.learning.settings import SearchSettings
from calandria.search.study import SearchDefinition
from calandria.surrogate.networks import network_of
from calandria.surrogate.settings import RULES, SurrogateSettings, network_settings
from calandria.surrogate.trial import searched_slice
from workflow_scripts.search.options import add_search_options, control_of, run_as_asked

DESCRIPTION = """Search hyperparameters of one network, by validation loss after a short training.

The study lives in --directory; workers may die at any time, and the same command resumes it. The winner (best.json) is trained in full by
train_surrogate --best. @FILE stands for the options in a file, one word a line."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Define the study and run it."""
    parser = program(DESCRIPTION, "surrogate.search_surrogate")
    parser.fromfile_prefix_chars = "@"
    parser.add_argument(
        "--settings",
        required=True,
        help="JSON file of the rule search_surrogate: lag_window, network with learning.search, budget",
    )
    parser.add_argument("--split", required=True, help="JSON record of split_films")
    parser.add_argument("--frames", required=True, nargs="+", help="the series that were split, *.zarr.zip")
    add_search_options(parser)
    options = parser.parse_args(arguments)

    given = read_given(options.settings, SurrogateSettings, RULES, "search_surrogate")
    network = network_settings(given["network"], options.settings)
    definition = SearchDefinition(
        name=f"surrogate_{network.kind}",
        objective="calandria.surrogate.trial",
        settings=searched_slice(network, given.settings.lag_window),
        data={"split": [options.split], "frames": list(options.frames)},
        search=SearchSettings.from_mapping(given.get("budget", {}), options.settings),
        device=network.learning.device,
        value_name=f"validation loss: {network_of(network.kind).loss}",
        control=control_of(options),
        version=given.version,
    )
    run_as_asked(options, definition)


if __name__ == "__main__":
    sys.exit(run(main))
