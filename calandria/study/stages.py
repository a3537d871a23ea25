"""The stages of the workflow, in the order of the data. A new stage is one line here: the module that holds its ``STAGE``."""

from importlib import import_module

from ..base.stage import Stage

MODULES = (
    "calandria.calendering.stage",
    "calandria.tomography.stage",
    "calandria.transport.stage",
    "calandria.surrogate.stage",
    "calandria.autoencoder.stage",
    "calandria.study.reporting",
)
STAGES: tuple[Stage, ...] = tuple(import_module(module).STAGE for module in MODULES)
RULES: dict[str, Stage] = {rule: stage for stage in STAGES for rule in stage.rules}
"""The stage of each rule."""
