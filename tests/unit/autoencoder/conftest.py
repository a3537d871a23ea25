import numpy as np
import pytest

from calandria.base.records import write_json
from calandria.base.volumes import Labelled, write_labelled
from workflow_scripts.autoencoder import list_mini_volumes


class Inputs:
    """A volume, its mini-volumes, and the settings file of each rule."""

    def __init__(self, folder, *, epochs=2, depth=60, size=40, split="blocks"):
        random = np.random.default_rng(0)
        labels = random.choice(np.array([0, 1, 2], np.uint8), (depth // 4, size // 4, size // 4))
        for axis in range(3):
            labels = labels.repeat(4, axis=axis)
        write_labelled(folder / "a.zarr.zip", Labelled(labels, 0.4, (False, False, False), "blocks of noise"))
        self.folder, self.table = folder, str(folder / "table.csv")
        self.volumes = ["--volumes", f"a={folder / 'a.zarr.zip'}"]
        learning = {"training": {"epochs": epochs, "patience": None}, "checkpoint_every": 1}
        network = {"image_size": 31, "network": {"hidden_neurons": 16, "latent_features": 3}}
        space = {"slice_window": [4], "epochs": [2], "conv_layers": [3]}
        searched = {**network, "learning": {**learning, "search": {"space": space}}}
        evaluation = {"settings": {"evaluation": {"n_examples": 3}}}
        self.settings = {
            "list": self._given("list", {"slice_window": 4, "stride": 2}),
            "train": self._given("train", {"autoencoder": {**network, "learning": learning}, "split": split}),
            "search": self._given("search", {"autoencoder": searched, "split": split, "budget": {"n_trials": 3}}),
            "encode": self._given("encode", evaluation),
            "evaluate": self._given("evaluate", {"settings": {"evaluation": {"n_examples": 3, "n_resamples": 100}}}),
        }
        self.list_mini_volumes()

    def _given(self, name, content):
        path = self.folder / f"{name}.json"
        write_json(path, {"settings": {}, **content})
        return str(path)

    def list_mini_volumes(self, **changes):
        """List the mini-volumes, with another window where that is said."""
        given = self._given("list", {"slice_window": 4, "stride": 2, **changes})
        list_mini_volumes.main(["--settings", given, *self.volumes, "--output", self.table])

    def of(self, rule):
        """Return the options of a rule's program that name its settings and inputs."""
        return ["--settings", self.settings[rule], "--mini-volumes", self.table, *self.volumes]


@pytest.fixture
def autoencoder_inputs():
    return Inputs
