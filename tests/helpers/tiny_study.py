"""A tiny study from dumps and an image to the report: seconds of computing, every stage."""

import numpy as np
import tifffile
import yaml

from tests.helpers.dumps import write_loading

RUNS = {("film_1", 15): (6, 3, 5), ("film_1", 20): (7, 4, 5), ("film_2", 20): (7, 4, 6)}  # frames, turn, seed
TRAINING = {"epochs": 1, "batch_size": 4, "rollout_steps": 1, "crop_voxels": 8}
SETTINGS = {
    "name": "tiny",
    "title": "A tiny <study>",
    "calendering": {
        "films_sheet": None,
        "runs_sheet": "runs.tsv",
        "voxels": {"voxel_edge_um": 0.5, "grid_height_multiple": 8},
    },
    "tomography": {"samples_sheet": "samples.tsv"},
    "transport": {
        "tomography": {"cases": {"pore_cbd": {"pore": 1.0, "cbd": 1.0}}},
        "series": {"cases": {"pore": {"pore": 1.0}}},
        "tolerance": 1e-2,
    },
    "surrogate": {
        "networks": {
            "unet": {
                "kind": "press_unet",
                "widths": [4, 6],
                "detail_width": 2,
                "learning": {
                    "training": TRAINING,
                    "search": {
                        "epochs": 1,
                        "space": {"base_width": [2, 4]},
                        "budget": {"n_trials": 2, "workers": 1},
                    },
                },
            },
        },
        "split": {"test_films": ["film_2"]},
        "predictors": ["copy", "affine_press", "unet"],
    },
    "autoencoder": {
        "cases": {"noise": {"samples": ["noise"], "slice_windows": [4], "strides": [2]}},
        "image_size": 15,
        "learning": {
            "training": {"epochs": 2},
            "search": {
                "space": {
                    "slice_window": [4],
                    "stride": [2],
                    "conv_layers": [3],
                    "hidden_neurons": [4, 8],
                    "epochs": [1],
                    "batch_size": [4],
                    "learning_rate": [1e-3],
                },
                "budget": {"n_trials": 2, "workers": 1},
            },
        },
        "evaluation": {"n_examples": 2, "n_resamples": 100},
    },
}


def write_study(folder, settings=SETTINGS):
    """Write dumps, image, sheets and settings of the study into a folder; return the option that names it to Snakemake."""
    rows = ["film\tcompression_degree_percent\tdumps\tpress"]
    for (film, degree), (frames, turn, seed) in RUNS.items():
        place = folder / f"dumps/{film}_{degree}"
        place.mkdir(parents=True)
        dump, press = write_loading(place, frames, turn, 120, seed)
        rows.append(f"{film}\t{degree}\t{dump.relative_to(folder)}\t{press.relative_to(folder)}")
    (folder / "runs.tsv").write_text("\n".join([*rows, ""]))
    labels = np.random.default_rng(2).choice(np.array([0, 1, 2], np.uint8), size=(40, 16, 18), p=[0.5, 0.2, 0.3])
    tifffile.imwrite(folder / "noise.tif", labels, photometric="minisblack")
    (folder / "samples.tsv").write_text("sample\tpath\tvoxel_edge_um\tlabels\nnoise\tnoise.tif\t0.4\t0=pore 1=cbd 2=am\n")
    (folder / "study.yaml").write_text(yaml.safe_dump(settings))
    return "--configfile", folder / "study.yaml"
