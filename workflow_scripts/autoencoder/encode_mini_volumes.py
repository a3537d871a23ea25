"""Encode mini-volumes by a trained auto-encoder: a table of latent features, and some reconstructions."""

import sys
from collections.abc import Sequence

import h5py
import numpy as np

from calandria.autoencoder.artefacts import read_model
from calandria.autoencoder.preprocessing import CACHE_MB, CODINGS, open_images
from calandria.autoencoder.reconstruction import encode, examples, feature_columns, pairs
from calandria.autoencoder.settings import RULES, AutoencoderSettings
from calandria.base.files import replacing
from calandria.base.provenance import provenance
from calandria.base.records import canonical_json, write_table
from calandria.base.stage import read_given
from calandria.cli.program import program, run
from workflow_scripts.autoencoder.options import add_mini_volumes, add_settings, table_and_volumes


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, encode, write the features and examples."""
    parser = program(__doc__ or "", "encode_mini_volumes")
    add_settings(parser, "encode_mini_volumes", "evaluation.n_examples, learning.device")
    parser.add_argument("--model", required=True, help="model of train_autoencoder")
    add_mini_volumes(parser)
    parser.add_argument("--cache-mb", type=int, default=CACHE_MB, metavar="MB", help="memory for resized slices, MB")
    parser.add_argument(
        "--output-features",
        required=True,
        help="table (CSV), a row per mini-volume: place (slices), part, latent features, mse, means and stds of its voxels from -1 to 1",
    )
    parser.add_argument(
        "--output-reconstructions", required=True, help="HDF5: original and reconstructed (n, z, y, x) of some mini-volumes"
    )
    options = parser.parse_args(arguments)

    given = read_given(options.settings, AutoencoderSettings, RULES, "encode_mini_volumes")
    settings = given.settings
    model = read_model(options.model)
    origins, volumes = table_and_volumes(options)
    model.check(origins)
    run_on = {"device": settings.learning.device}
    with open_images(origins, volumes, model.settings, options.cache_mb) as images:
        rows = encode(model, images, origins, batch_size=model.settings.learning.training.batch_size, **run_on)
        chosen = [origins[position] for position in examples(rows, settings.evaluation.n_examples)]
        original, rebuilt = pairs(model, images, chosen, **run_on)
    record = provenance(given, inputs={**volumes, "mini_volumes": options.mini_volumes, "model": options.model})
    with replacing(options.output_reconstructions) as unfinished, h5py.File(unfinished, "w") as file:
        file.attrs["axes"] = ["n", "z", "y", "x"]
        file.attrs["coding"] = canonical_json({str(code): value for code, value in CODINGS[model.settings.coding].items()})
        file.attrs["provenance"] = canonical_json(record)
        for name, values in (("original", original), ("reconstructed", rebuilt)):
            file.create_dataset(name, data=values, compression="gzip", shuffle=True)
        file["index"] = np.array([origin.index for origin in chosen])
        file["sample"] = [origin.sample for origin in chosen]
        file["z_start"] = np.array([origin.z_start for origin in chosen])
    write_table(options.output_features, rows, feature_columns(model.settings.network.latent_features))


if __name__ == "__main__":
    sys.exit(run(main))
