import numpy as np
import pytest

from calandria.autoencoder.settings import AutoencoderSettings
from calandria.base.records import write_json
from calandria.base.volumes import Labelled, write_labelled
from workflow_scripts.tomography import list_mini_volumes


@pytest.fixture
def autoencoder_inputs():
    def make(folder, *, epochs=2, depth=60, size=40, split="blocks"):
        random = np.random.default_rng(0)
        labels = random.choice(np.array([0, 1, 2], np.uint8), (depth // 4, size // 4, size // 4))
        for axis in range(3):
            labels = labels.repeat(4, axis=axis)
        write_labelled(folder / "a.zarr.zip", Labelled(labels, 0.4, (False, False, False), "blocks of noise"))
        settings = AutoencoderSettings.model_validate(
            {
                "image_size": 31,
                "network": {"hidden_neurons": 16, "latent_features": 3},
                "training": {"epochs": epochs, "patience": None, "checkpoint_every": 1},
                "evaluation": {"n_examples": 3, "n_resamples": 100},
                "space": {"slice_windows": [4], "epochs": [2], "conv_layers": [3]},
                "search": {"n_trials": 3, "workers": 1},
            }
        )
        write_json(folder / "settings.json", {"settings": settings.model_dump(mode="json")})
        volumes = ["--volumes", f"a={folder / 'a.zarr.zip'}"]
        table = str(folder / "table.csv")
        list_mini_volumes.main([*volumes, "--slice-window", "4", "--stride", "2", "--output", table])
        options = ["--settings", str(folder / "settings.json"), "--mini-volumes", table, *volumes]
        return [*options, "--split", split] if split else options

    return make
