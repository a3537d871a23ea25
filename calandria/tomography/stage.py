"""The stage ``tomography``: images to labelled volumes and their phases."""

from collections import Counter
from typing import TYPE_CHECKING

from ..base.stage import Source, Stage
from .settings import RULES, TomographySettings

if TYPE_CHECKING:
    from ..study.study import Study


def artefacts(study: "Study") -> list[str]:
    """Return all finished files of the stage."""
    names = ("labels.zarr.zip", "phases.json")
    return [f"<results>/tomography/{sample}/{name}" for sample in study.samples for name in names]


def sources(study: "Study") -> list[Source]:
    """Return what the report reads: the phases of each sample."""
    found = []
    for sample in study.samples:
        folder = f"<results>/tomography/{sample}"
        files = {"record": f"{folder}/phases.json", "volume": f"{folder}/labels.zarr.zip"}
        found.append(Source("tomography", "phases", "measure_phases", files, {"sample": sample}))
    return found


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
    sources=sources,
    rows={"samples": TomographySettings.sample_rows},
    contradictions=contradictions,
)
