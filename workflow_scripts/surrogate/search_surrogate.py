"""Program: search the hyperparameters of a network."""

import sys
from collections.abc import Sequence

from calandria.base.errors import SettingsError
from calandria.base.stage import read_given
from calandria.cli.program import program, run
from calandria.search.study import SearchDefinition
from calandria.surrogate.settings import RULES, SurrogateSettings
from calandria.surrogate.trial import VALUE_NAME
from workflow_scripts.search.options import add_search_options, run_as_asked

DESCRIPTION = """Search hyperparameters of the network that surrogate.search names, by validation loss after a short training.

The study lives in --directory; workers may die at any time, and the same command goes on. The winner (best.json) is trained in full by
train_surrogate --best."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Define the study and run it."""
    parser = program(DESCRIPTION, "surrogate.search_surrogate")
    parser.add_argument("--settings", required=True, help="JSON file of the section surrogate")
    parser.add_argument("--split", required=True, help="JSON record of split_films")
    parser.add_argument("--frames", required=True, nargs="+", help="the series that were split, *.zarr.zip")
    add_search_options(parser)
    options = parser.parse_args(arguments)

    settings = read_given(options.settings, SurrogateSettings, RULES, "search_surrogate").settings
    if settings.search.architecture is None:
        raise SettingsError(
            "surrogate.search.architecture is null: no network is searched", hint="name press_unet or paper there"
        )
    study = settings.search.study
    # the study's budget and workers are no part of what a trial depends on, so that a larger budget goes on with the same study
    searched = settings.model_copy(update={"search": settings.search.model_copy(update={"study": type(study)()})})
    definition = SearchDefinition(
        name=f"surrogate_{settings.search.architecture}",
        objective="calandria.surrogate.trial",
        settings=searched.model_dump(mode="json"),
        data={"split": [options.split], "frames": list(options.frames)},
        search=study,
        device=settings.device,
        value_name=f"validation loss: {VALUE_NAME[settings.search.architecture]}",
    )
    run_as_asked(options, definition)


if __name__ == "__main__":
    sys.exit(run(main))
