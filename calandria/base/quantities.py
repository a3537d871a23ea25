"""The quantities of the results: one table of name, symbol, unit, stage and meaning that code, page and docs share.

A quantity has one unit wherever it occurs. What it was measured on (sample, film, degree, frame, predictor, case, axis, phase)
stands in the key columns of a result, never in its name.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from .errors import SettingsError, nearest_name

ERROR = "_relative_error"
"""End of the name of a quantity's relative error: |predicted / true - 1|."""


@dataclass(frozen=True)
class Quantity:
    """A measurable quantity.

    Parameters
    ----------
    name
        Name in tables and code: snake case, without the unit.
    symbol
        Symbol or short name for figures and headings, plain Unicode.
    unit
        Unit as written in tables (``um``, ``um2``, ``m2/s``, ``voxels``, ``faces``); empty for pure numbers. Fractions are of 1.
    stage
        Stage that defines it; another stage may report it too.
    meaning
        One clause that defines it.
    """

    name: str
    symbol: str
    unit: str
    stage: str
    meaning: str


_DEFINED = (
    Quantity("porosity_free", "ε free", "", "tomography", "pore volume outside the binder domain over electrode volume"),
    Quantity(
        "porosity_total",
        "ε total",
        "",
        "tomography",
        "porosity_free plus the binder domain's nanopores: its volume fraction times its nanoporosity, which is assumed",
    ),
    Quantity("phase_fraction", "φ", "", "tomography", "volume of a phase over electrode volume; void is left out"),
    Quantity("thickness", "L", "um", "tomography", "height of the electrode's surface above the current collector"),
    Quantity("relative_diffusivity", "D_eff/D₀", "", "transport", "effective diffusivity over that of the free electrolyte"),
    Quantity(
        "effective_diffusivity", "D_eff", "m2/s", "transport", "relative_diffusivity times the bulk diffusivity of the settings"
    ),
    Quantity(
        "tortuosity_factor",
        "τ",
        "",
        "transport",
        "conducting fraction over relative_diffusivity; no ratio of path lengths; absent where nothing conducts through",
    ),
    Quantity("conducting_fraction", "φ conducting", "", "transport", "share of the voxels of the box that conduct"),
    Quantity(
        "connected_share",
        "connected",
        "",
        "transport",
        "share of the conducting voxels that a conducting path joins to both ends",
    ),
    Quantity("error_estimate", "error", "", "transport", "the solver's estimate of the relative error of relative_diffusivity"),
    Quantity("contact_area", "A", "um2", "transport", "area of voxel faces between two phases, staircases included"),
    Quantity("contact_faces", "faces", "faces", "transport", "voxel faces between two phases"),
    Quantity("frames", "frames", "frames", "calendering", "frames of a series"),
    Quantity(
        "compression_degree",
        "degree reached",
        "",
        "calendering",
        "thickness lost from the first frame to the lowest point, over the first",
    ),
    Quantity(
        "spring_back", "spring-back", "", "calendering", "thickness regained since the lowest point, over the lowest thickness"
    ),
    Quantity("voxel_edge", "edge", "um", "calendering", "edge of the cubic voxels"),
    Quantity(
        "box_stretch",
        "stretch",
        "",
        "calendering",
        "largest relative stretch of positions, not radii, along x and y so that voxels fill the box",
    ),
    Quantity(
        "overlap_loss",
        "lost in overlaps",
        "",
        "calendering",
        "share of the sum of a phase's sphere volumes that its voxels lack (where volume is conserved: in the end); largest of all frames",
    ),
    Quantity(
        "cut_loss",
        "cut off",
        "",
        "calendering",
        "share of the solid voxels above the surface, which became void; largest of all frames",
    ),
    Quantity(
        "grown",
        "grown",
        "",
        "calendering",
        "pore voxels that a phase took so that its volume is conserved, over the sum of its sphere volumes; largest of all frames",
    ),
    Quantity("frames_given", "given", "frames", "surrogate", "true frames that a rollout starts from"),
    Quantity("frames_predicted", "predicted", "frames", "surrogate", "frames that are compared with the true ones"),
    Quantity("label_mse", "MSE", "", "surrogate", "mean squared error of the label values 0, 1, 2 and 4, void included"),
    Quantity("label_mae", "MAE", "", "surrogate", "mean absolute error of the label values, void included"),
    Quantity("r2_with_void", "R²", "", "surrogate", "1 - squared error / variance of the true label values, void included"),
    Quantity("r2_with_void_worst", "R² worst", "", "surrogate", "r2_with_void of the worst predicted frame"),
    Quantity(
        "r2_film",
        "R² film",
        "",
        "surrogate",
        "r2 over voxels that are film in the true or the predicted frame, void counted as pore",
    ),
    Quantity("r2_film_worst", "R² film worst", "", "surrogate", "r2_film of the worst predicted frame"),
    Quantity("accuracy", "accuracy", "", "surrogate", "share of all voxels whose phase is right"),
    Quantity("iou", "IoU", "", "surrogate", "voxels of a phase in both frames over those in either"),
    Quantity("phase_voxels", "voxels", "voxels", "surrogate", "voxels of a phase"),
    Quantity("reconstruction_mse", "MSE", "", "autoencoder", "mean squared error per voxel of labels coded -1, 0 and 1"),
    Quantity(
        "mean_predictor_mse",
        "MSE of the mean",
        "",
        "autoencoder",
        "the same error if the training mean is predicted for every voxel",
    ),
    Quantity(
        "linear_mse",
        "MSE of principal components",
        "",
        "autoencoder",
        "the same error of as many principal components as latent features",
    ),
    Quantity("reconstruction_r2", "R²", "", "autoencoder", "1 - reconstruction_mse / mean_predictor_mse"),
    Quantity("linear_r2", "R² of principal components", "", "autoencoder", "1 - linear_mse / mean_predictor_mse"),
    Quantity("original_mean", "mean, original", "", "autoencoder", "mean of the coded voxels of the original mini-volumes"),
    Quantity(
        "reconstructed_mean",
        "mean, reconstructed",
        "",
        "autoencoder",
        "mean of the coded voxels of the reconstructed mini-volumes",
    ),
    Quantity("mean_shift", "shift of the mean", "", "autoencoder", "reconstructed_mean - original_mean"),
    Quantity(
        "mean_shift_cohens_d",
        "Cohen's d of the shift",
        "",
        "autoencoder",
        "mean_shift over the pooled standard deviation of voxels",
    ),
    Quantity(
        "mean_shift_p_value",
        "p of the shift",
        "",
        "autoencoder",
        "Welch's t-test of the voxels, which wrongly treats them as independent",
    ),
    Quantity(
        "mse_difference",
        "MSE, validation - training",
        "",
        "autoencoder",
        "reconstruction_mse of validation less that of training",
    ),
    Quantity(
        "mse_difference_cohens_d",
        "Cohen's d of the difference",
        "",
        "autoencoder",
        "mse_difference over the pooled standard deviation",
    ),
    Quantity(
        "mse_difference_p_value",
        "p of the difference",
        "",
        "autoencoder",
        "Welch's t-test of the errors of overlapping mini-volumes",
    ),
    Quantity("weights", "weights", "", "autoencoder", "trainable parameters of the network"),
    Quantity("mini_volumes", "mini-volumes", "", "autoencoder", "mini-volumes of a part"),
    Quantity("epochs", "epochs", "", "autoencoder", "epochs that were trained"),
    Quantity("best_epoch", "best epoch", "", "autoencoder", "epoch of the lowest validation loss, whose weights are kept"),
    Quantity("trials_complete", "complete", "", "search", "trials that completed"),
    Quantity("trials_pruned", "pruned", "", "search", "trials that the pruner stopped"),
    Quantity("trials_failed", "failed", "", "search", "trials that failed"),
    Quantity("best_loss", "best", "", "search", "loss of the best trial; searches of different networks cannot be compared"),
)
WITH_ERROR = (
    "porosity_free",
    "porosity_total",
    "thickness",
    "contact_faces",
    "relative_diffusivity",
    "tortuosity_factor",
    "phase_voxels",
)
"""Quantities whose relative error of predicted against true frames is a quantity of its own."""


def _errors(defined: Iterable[Quantity]) -> Iterable[Quantity]:
    for quantity in defined:
        if quantity.name in WITH_ERROR:
            meaning = f"relative error of {quantity.name}, |predicted / true - 1|; over the predicted frames their mean"
            yield Quantity(quantity.name + ERROR, f"error of {quantity.symbol}", "", "surrogate", meaning)


QUANTITIES = {quantity.name: quantity for quantity in (*_DEFINED, *_errors(_DEFINED))}
"""All quantities by name."""


def quantity(name: str) -> Quantity:
    """Return the quantity of a name; raises SettingsError with the nearest one.

    >>> quantity("tortuosity_factor").symbol, quantity("thickness").unit
    ('τ', 'um')
    """
    if name not in QUANTITIES:
        raise SettingsError(f"quantity {name!r} is unknown", hint=nearest_name(name, QUANTITIES))
    return QUANTITIES[name]


def porosity_total(porosity_free: float, cbd_fraction: float, cbd_nanoporosity: float) -> float:
    """Return the porosity with the nanopores of the binder domain.

    Parameters
    ----------
    porosity_free, cbd_fraction
        Fractions of the electrode that are pore outside the binder domain, and binder domain.
    cbd_nanoporosity
        Fraction of the binder domain that is pore; an assumption unless it was measured.

    >>> round(porosity_total(0.3, 0.1, 0.47), 3)
    0.347
    """
    return porosity_free + cbd_fraction * cbd_nanoporosity


def markdown_table(quantities: Iterable[Quantity] | None = None) -> str:
    """Return the table of quantities of the docs, as Markdown: a header and a line per quantity."""
    lines = ["| quantity | symbol | unit | stage | meaning |", "|---|---|---|---|---|"]
    for item in QUANTITIES.values() if quantities is None else quantities:
        cells = (f"`{item.name}`", item.symbol, item.unit, item.stage, item.meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
