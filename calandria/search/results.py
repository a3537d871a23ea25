"""Rows of results of a search of hyper-parameters, for the stages that search."""

from collections.abc import Iterator

from ..base.results import Fact, Reading, Result
from ..base.showing import Facts, Table


def search(reading: Reading) -> Iterator[Result | Fact]:
    """Yield how the trials of a search ended and the loss of the best one; its parameters are facts.

    Files: ``best``, the record of the best trial. The table of trials is left out: it holds times, which differ between equal runs.
    """
    record = reading.json("best")
    for state in ("complete", "pruned", "failed"):
        yield reading.result(f"trials_{state}", record[f"n_{state}"], "best")
    yield reading.result("best_loss", record["value"], "best", note=f"{record['value_name']}; trial {record['number']}")
    for name, value in sorted(record["parameters"].items()):
        yield reading.fact("best parameter", str(value), "best", item=name)


NO_SEARCH = "no search"


def not_searched(facts: Facts) -> str:
    """Return a sentence that names what was not searched, empty where everything was."""
    names = list(dict.fromkeys(row.predictor or row.case for row in facts if row.fact == NO_SEARCH))
    return f" Not searched: {', '.join(names)}; their hyper-parameters are those of the settings." if names else ""


TRIALS = ("trials_complete", "trials_pruned", "trials_failed", "best_loss")


def table(stage: str) -> Table:
    """Return the table of a stage's searches."""
    return Table(
        "Searches",
        {"stage": stage},
        ("predictor", "case"),
        TRIALS,
        note="How the trials ended, and the loss of the best one. The best parameters are in facts.csv. Losses of different networks"
        " cannot be compared.",
    )
