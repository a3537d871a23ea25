"""The stage ``tomography``: images to labelled volumes and their phases."""

from collections import Counter
from typing import TYPE_CHECKING

from ..base.stage import Stage
from .settings import RULES, TomographySettings

if TYPE_CHECKING:
    from ..study.study import Study


def artefacts(study: "Study") -> list[str]:
    """Return all finished files of the stage."""
    names = ("labels.zarr.zip", "phases.json")
    return [f"<results>/tomography/{sample}/{name}" for sample in study.samples for name in names]


def contradictions(study: "Study") -> list[str]:
    """Return the samples that occur more than once."""
    times = Counter(row.sample for row in study.sheets["samples"])
    return [f"sample {sample!r} occurs twice" for sample, count in times.items() if count > 1]


STAGE = Stage(
    "tomography",
    TomographySettings,
    "Image stacks.",
    RULES,
    artefacts=artefacts,
    rows={"samples": TomographySettings.sample_rows},
    contradictions=contradictions,
)
