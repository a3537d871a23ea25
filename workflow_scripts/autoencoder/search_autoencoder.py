"""Search the hyper-parameters of the auto-encoder, slice window and stride among them; killed, it resumes where it was.

Mini-volumes are listed anew for each trial's window and stride.
"""

import sys
from collections.abc import Sequence

from calandria.autoencoder.settings import RULES, AutoencoderSettings, case_plan
from calandria.base.stage import read_given
from calandria.cli.program import named_files, program, run
from calandria.learning.settings import SearchSettings
from calandria.search.study import SearchDefinition
from workflow_scripts.autoencoder.options import add_settings, add_volumes
from workflow_scripts.search.options import add_search_options, control_of, run_as_asked


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, run the search, write its summary."""
    parser = program(__doc__ or "", "search_autoencoder")
    add_settings(parser, "search_autoencoder", "settings with learning.search, budget, split, straddle, slice_axis")
    add_volumes(parser)
    add_search_options(parser)
    options = parser.parse_args(arguments)

    given = read_given(options.settings, AutoencoderSettings, RULES, "search_autoencoder")
    settings = AutoencoderSettings.from_mapping(given["autoencoder"], options.settings)
    case, volumes = case_plan(given.content, options.settings), named_files(options.volumes)
    definition = SearchDefinition(
        name="autoencoder",
        objective="calandria.autoencoder.trial",
        settings={"autoencoder": settings.searched(), **case.model_dump(mode="json"), "samples": list(volumes)},
        data={name: [str(path)] for name, path in volumes.items()},
        search=SearchSettings.from_mapping(given.get("budget", {}), options.settings),
        device=settings.learning.device,
        value_name="mean squared error of the validation mini-volumes",
        control=control_of(options),
        version=given.version,
    )
    run_as_asked(options, definition)


if __name__ == "__main__":
    sys.exit(run(main))
