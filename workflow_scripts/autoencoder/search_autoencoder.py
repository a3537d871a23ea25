"""Search the hyper-parameters of the auto-encoder, slice window and stride among them; killed, it goes on where it was.

Mini-volumes are listed anew for each trial's window and stride.
"""

import sys
from collections.abc import Sequence

from calandria.autoencoder.settings import RULES, AutoencoderSettings, training_slice
from calandria.autoencoder.splits import SPLITS
from calandria.base.stage import read_given
from calandria.cli.program import named_files, program, run
from calandria.search.study import SearchDefinition
from workflow_scripts.autoencoder.options import SPLIT_HELP, add_settings, add_volumes
from workflow_scripts.search.options import add_search_options, run_as_asked


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, run the search, write its summary."""
    parser = program(__doc__ or "", "search_autoencoder")
    add_settings(parser)
    add_volumes(parser)
    parser.add_argument("--split", default="blocks", choices=SPLITS, help=SPLIT_HELP)
    parser.add_argument("--straddle", action="store_true", help="run windows across the samples' borders, as in the paper")
    parser.add_argument(
        "--slice-axis", choices=["z", "y", "x"], default="z", help="axis along which slices follow each other; z is the thickness"
    )
    add_search_options(parser)
    options = parser.parse_args(arguments)

    settings = read_given(options.settings, AutoencoderSettings, RULES, "search_autoencoder").settings
    volumes = named_files(options.volumes)
    definition = SearchDefinition(
        name="autoencoder",
        objective="calandria.autoencoder.trial",
        settings={
            "autoencoder": training_slice(settings),
            "space": settings.space.model_dump(mode="json"),
            "split": options.split,
            "straddle": options.straddle,
            "slice_axis": options.slice_axis,
            "samples": list(volumes),
        },
        data={name: [str(path)] for name, path in volumes.items()},
        search=settings.search,
        device=settings.training.device,
        value_name="mean squared error of the validation mini-volumes",
    )
    run_as_asked(options, definition)


if __name__ == "__main__":
    sys.exit(run(main))
