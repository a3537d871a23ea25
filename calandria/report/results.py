"""Rows of published numbers that ship with Calandria, shown where no number of the study is the same quantity of the same thing."""

from collections.abc import Iterator
from decimal import Decimal
from importlib.resources import files
from typing import Any

from ..base.quantities import ERROR
from ..base.records import file_digest, read_table
from ..base.results import Fact, Reading, Result

FOLDER = files(__package__) / "published"
"""Published tables (CSV); line 1 of each names its source."""
PAPER_WINDOW = 24
AUTOENCODER = "Energies 2022, 15, 4489, Tables 6 to 8"
CONTACTS = "Adv. Energy Mater. 2024, doi 10.1002/aenm.202400376, Table 3"
PRINTED = "printed; no number of this study"


def published_table(name: str) -> list[dict[str, str]]:
    """Return the rows of a published table by its name, e.g. ``cathodes_nmc532``."""
    return read_table(str(FOLDER / f"{name}.csv"))


def scaled(cell: str, factor: str) -> float:
    """Return a printed number times a power of ten, with no more digits than are printed.

    >>> scaled("13.7", "0.01"), 13.7 * 0.01
    (0.137, 0.13699999999999998)
    """
    return float(Decimal(cell) * Decimal(factor))


def _about(name: str) -> dict[str, Any]:
    return {"file": f"calandria/report/published/{name}.csv", "digest": file_digest(str(FOLDER / f"{name}.csv")), "note": PRINTED}


def autoencoder(reading: Reading) -> Iterator[Result | Fact]:
    """Yield the printed errors of the paper's auto-encoders: random split, 224 pixels."""
    about = _about("autoencoder_results")
    for row in published_table("autoencoder_results"):
        stride = PAPER_WINDOW if row["stride"] == "window" else int(row["stride"])
        for part, column in (("train", "mse_train"), ("validation", "mse_val")):
            yield Result(
                stage="autoencoder",
                sample=row["samples"],
                case=f"published_{row['case']}",
                window=PAPER_WINDOW,
                stride=stride,
                part=part,
                leaking=True,
                quantity="reconstruction_mse",
                value=None,
                reference=float(row[column]),
                reference_source=AUTOENCODER,
                **about,
            )


def contacts(reading: Reading) -> Iterator[Result | Fact]:
    """Yield the printed relative errors of contact areas, model against DEM."""
    about = _about("calendering_contact_area")
    for row in published_table("calendering_contact_area"):
        yield Result(
            stage="surrogate",
            film=f"electrode_{row['electrode']}",
            degree_percent=int(row["cd_percent"]),
            predictor="published",
            phase=row["interface"].replace("-", "_"),
            quantity=f"contact_faces{ERROR}",
            value=None,
            reference=scaled(row["error_percent"], "0.01"),
            reference_source=CONTACTS,
            **about,
        )


READERS = {"published_autoencoder": autoencoder, "published_contacts": contacts}
"""Reader of each kind of source; they read no file of the study."""
