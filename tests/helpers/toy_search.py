"""Program: a search of the toy objective with the options of the real search programs."""

import json
import sys

from calandria.cli.program import program, run
from tests.helpers.searching import toy_definition
from workflow_scripts.search.options import add_search_options, run_as_asked


def main(arguments=None):
    """Run the search that the options describe."""
    parser = program(__doc__, "toy_search")
    parser.add_argument("--search", type=json.loads, default={}, help="search settings, JSON")
    parser.add_argument("--toy", type=json.loads, default={}, help="settings of the objective, JSON")
    add_search_options(parser)
    options = parser.parse_args(arguments)
    run_as_asked(options, toy_definition(options.directory, search=options.search, **options.toy))


if __name__ == "__main__":
    sys.exit(run(main))
