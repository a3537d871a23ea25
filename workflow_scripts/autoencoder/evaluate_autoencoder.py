"""Evaluate an auto-encoder: the paper's two tests beside effect sizes, intervals from whole mini-volumes and two baselines."""

import sys
from collections.abc import Sequence

from calandria.autoencoder.artefacts import read_model
from calandria.autoencoder.evaluation import evaluate, linear_baseline
from calandria.autoencoder.figures import loss_figure, reconstruction_figure, save_figure
from calandria.autoencoder.preprocessing import CACHE_MB, CODINGS, open_images
from calandria.autoencoder.reconstruction import examples, feature_columns, pairs
from calandria.autoencoder.settings import RULES, AutoencoderSettings
from calandria.base.errors import InputFileError
from calandria.base.provenance import provenance
from calandria.base.records import read_table, write_json
from calandria.base.stage import read_given
from calandria.cli.program import program, run
from calandria.learning.training import LOSS_COLUMNS
from workflow_scripts.autoencoder.options import add_mini_volumes, add_settings, table_and_volumes


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, evaluate, write the record and two figures."""
    parser = program(__doc__ or "", "evaluate_autoencoder")
    add_settings(parser, "evaluate_autoencoder", "evaluation, learning.device")
    parser.add_argument("--model", required=True, help="model of train_autoencoder")
    parser.add_argument("--features", required=True, help="table (CSV) of encode_mini_volumes")
    add_mini_volumes(parser)
    parser.add_argument("--cache-mb", type=int, default=CACHE_MB, metavar="MB", help="memory for resized slices, MB")
    parser.add_argument("--losses", required=True, help="table (CSV) of train_autoencoder")
    parser.add_argument("--output", required=True, help="record (JSON); errors per voxel, labels from -1 to 1, fractions")
    parser.add_argument("--output-figure", required=True, help="PNG: original, reconstructed, difference")
    parser.add_argument("--output-loss-figure", required=True, help="PNG: mean squared error over epochs")
    options = parser.parse_args(arguments)

    given = read_given(options.settings, AutoencoderSettings, RULES, "evaluate_autoencoder")
    settings = given.settings
    model = read_model(options.model)
    origins, volumes = table_and_volumes(options)
    model.check(origins)
    rows = _rows(options.features, feature_columns(model.settings.network.latent_features))
    if [int(row["index"]) for row in rows] != [origin.index for origin in origins]:
        raise InputFileError(
            f"{options.features!r} and {options.mini_volumes!r} list different mini-volumes", hint="encode this table again"
        )
    losses = _rows(options.losses, LOSS_COLUMNS)
    with open_images(origins, volumes, model.settings, options.cache_mb) as images:
        chosen = examples(rows, settings.evaluation.n_examples)
        original, rebuilt = pairs(model, images, [origins[i] for i in chosen], device=settings.learning.device)
        linear_mse = linear_baseline(images, model)
    example = chosen[len(chosen) // 2]
    result = evaluate(rows, model, settings.evaluation, example=example, linear_mse=linear_mse)
    read = {name: getattr(options, name) for name in ("model", "features", "mini_volumes", "losses")}
    record = provenance(given, inputs={**volumes, **read}, seed=settings.evaluation.seed)
    names = {-1.0: "pore", **{value: name for name, value in _phases(model.settings.coding)}}
    captions = [f"{rows[i]['sample']} z={rows[i]['z_start']}\n{rows[i]['part']}, mse {float(rows[i]['mse']):.3f}" for i in chosen]
    save_figure(options.output_figure, reconstruction_figure(original, rebuilt, captions, [names[v] for v in (-1.0, 0.0, 1.0)]))
    columns = [[float(row[name]) for row in losses] for name in ("epoch", "loss_train", "loss_validation")]
    save_figure(
        options.output_loss_figure,
        loss_figure(
            *columns,
            best_epoch=model.best_epoch,
            baseline_mse=result["validation"]["baseline_mse"],
            linear_mse=linear_mse["validation"],
        ),
    )
    write_json(options.output, {**result, "provenance": record})


def _phases(coding: str) -> list[tuple[str, float]]:
    return [("cbd", CODINGS[coding][1]), ("am", CODINGS[coding][2])]


def _rows(path: str, columns: Sequence[str]) -> list[dict[str, str]]:
    rows = read_table(path)
    missing = [name for name in columns if not rows or name not in rows[0]]
    if missing:
        raise InputFileError(
            f"{path!r} lacks {'rows' if not rows else ', '.join(missing)}", hint="make it again by the program that writes it"
        )
    return rows


if __name__ == "__main__":
    sys.exit(run(main))
