import json

import h5py
import numpy as np
import pytest
from matplotlib.image import imread

from calandria.autoencoder import trial
from calandria.autoencoder.artefacts import read_model
from calandria.autoencoder.settings import AutoencoderSettings, NetworkSettings
from calandria.base.errors import ContractError, InputFileError, SettingsError
from calandria.base.records import read_table, write_json
from calandria.base.volumes import Labelled, write_labelled
from calandria.search.objective import TrialContext
from workflow_scripts.autoencoder import encode_mini_volumes, evaluate_autoencoder, search_autoencoder, train_autoencoder


def run_train(folder, inputs, *more):
    train_autoencoder.main(
        [
            *inputs.of("train"),
            *more,
            *("--checkpoint-directory", str(folder / "scratch")),
            *("--output", str(folder / "model.pt"), "--output-losses", str(folder / "losses.csv")),
        ]
    )


def run_encode(folder, inputs):
    encode_mini_volumes.main(
        [
            *inputs.of("encode"),
            *("--model", str(folder / "model.pt"), "--output-features", str(folder / "features.csv")),
            *("--output-reconstructions", str(folder / "examples.h5")),
        ]
    )


def run_evaluate(folder, inputs):
    names = {"model": "model.pt", "features": "features.csv", "losses": "losses.csv", "output": "evaluation.json"}
    names |= {"output-figure": "images.png", "output-loss-figure": "losses.png"}
    evaluate_autoencoder.main(
        [*inputs.of("evaluate"), *(word for key, name in names.items() for word in (f"--{key}", str(folder / name)))]
    )
    return json.loads((folder / "evaluation.json").read_text())


def test_from_volumes_to_evaluation(tmp_path, autoencoder_inputs):
    inputs = autoencoder_inputs(tmp_path, epochs=3)
    run_train(tmp_path, inputs)
    checkpoints = [path.name for path in (tmp_path / "scratch").iterdir()]
    assert checkpoints == ["training.pt"], "the end of the run deletes it, not the program"
    run_encode(tmp_path, inputs)
    result = run_evaluate(tmp_path, inputs)

    rows, losses = read_table(tmp_path / "features.csv"), read_table(tmp_path / "losses.csv")
    model = read_model(tmp_path / "model.pt")
    assert len(losses) == result["n_epochs"] == 3
    assert [row["part"] for row in rows] == list(model.split.parts)
    assert {"latent_0", "latent_2", "mse"} <= rows[0].keys()
    validation = [float(row["mse"]) for row in rows if row["part"] == "validation"]
    assert result["validation"]["mse"] == pytest.approx(np.mean(validation))
    assert result["validation"]["mse"] == pytest.approx(model.best_mse, rel=1e-5)
    assert result["split"] == {
        "kind": "blocks",
        "leaking": False,
        "n_shared_slices": 0,
        **{f"n_{part}": list(model.split.parts).count(part) for part in ("train", "validation", "gap")},
    }
    with h5py.File(tmp_path / "examples.h5") as file:
        original, rebuilt = file["original"][...], file["reconstructed"][...]
        assert original.shape == rebuilt.shape == (3, 4, 31, 31)
        by_index = {int(row["index"]): row for row in rows}
        for index, true, output in zip(file["index"][...], original, rebuilt, strict=True):
            assert float(by_index[int(index)]["mse"]) == pytest.approx(((true - output) ** 2).mean(), rel=1e-4)
            assert float(by_index[int(index)]["original_mean"]) == pytest.approx(true.mean(), abs=1e-5)
    for name in ("images.png", "losses.png"):
        assert imread(tmp_path / name).std() > 0.05
    assert result["provenance"]["stage"] == "autoencoder"


def test_the_mean_and_principal_components_stand_beside_the_model(tmp_path, autoencoder_inputs):
    inputs = autoencoder_inputs(tmp_path, epochs=1, split="random")
    run_train(tmp_path, inputs)
    run_encode(tmp_path, inputs)
    result = run_evaluate(tmp_path, inputs)
    assert result["split"]["leaking"]
    for part in ("train", "validation"):
        found = result[part]
        assert found["baseline_mse"] == pytest.approx(found["original_std"] ** 2, rel=0.05)
        assert found["r2"] == pytest.approx(1 - found["mse"] / found["baseline_mse"])
    assert 0 < result["train"]["linear_mse"] < result["train"]["baseline_mse"]


def test_best_parameters_are_taken_over_and_other_files_refused(tmp_path, autoencoder_inputs):
    inputs = autoencoder_inputs(tmp_path)
    found = {"hidden_neurons": 7, "epochs": 1, "slice_window": 32, "stride": "window", "batch_size": 2}
    write_json(tmp_path / "best.json", {"parameters": found})
    run_train(tmp_path, inputs, "--best", str(tmp_path / "best.json"))
    model = read_model(tmp_path / "model.pt")
    assert (model.settings.network.hidden_neurons, model.n_epochs, model.slice_window) == (7, 1, 4)
    write_json(tmp_path / "best.json", {"parameters": {"epochs": -1}})
    with pytest.raises(SettingsError, match="epochs"):
        run_train(tmp_path, inputs, "--best", str(tmp_path / "best.json"))
    write_json(tmp_path / "best.json", [])
    with pytest.raises(InputFileError, match="no parameters"):
        run_train(tmp_path, inputs, "--best", str(tmp_path / "best.json"))


def test_a_table_of_another_window_is_refused(tmp_path, autoencoder_inputs):
    inputs = autoencoder_inputs(tmp_path, epochs=1)
    run_train(tmp_path, inputs)
    inputs.list_mini_volumes(slice_window=6)
    with pytest.raises(ContractError, match="the model takes 4"):
        run_encode(tmp_path, inputs)


def test_a_table_of_features_of_other_mini_volumes_is_refused(tmp_path, autoencoder_inputs):
    inputs = autoencoder_inputs(tmp_path, epochs=1)
    run_train(tmp_path, inputs)
    run_encode(tmp_path, inputs)
    lines = (tmp_path / "features.csv").read_text().splitlines(keepends=True)
    (tmp_path / "features.csv").write_text("".join(lines[:-1]))
    with pytest.raises(InputFileError, match="different mini-volumes"):
        run_evaluate(tmp_path, inputs)
    (tmp_path / "features.csv").write_text(lines[0].replace("mse", "error") + lines[1])
    with pytest.raises(InputFileError, match="mse"):
        run_evaluate(tmp_path, inputs)


def test_mixed_windows_in_one_table_are_refused(tmp_path, autoencoder_inputs):
    inputs = autoencoder_inputs(tmp_path)
    table = tmp_path / "table.csv"
    first, *rest = table.read_text().splitlines(keepends=True)
    cells = rest[0].split(",")
    cells[first.split(",").index("n_slices")] = "5"
    table.write_text(first + ",".join(cells) + "".join(rest[1:]))
    with pytest.raises(ContractError, match="several windows"):
        run_train(tmp_path, inputs)


@pytest.mark.slow
def test_a_search_finds_parameters_with_which_to_train(tmp_path, autoencoder_inputs):
    inputs = autoencoder_inputs(tmp_path)
    outputs = {
        name: str(tmp_path / f"search.{end}") for name, end in (("trials", "csv"), ("best", "json"), ("importance", "png"))
    }
    search_autoencoder.main(
        [
            *("--settings", inputs.settings["search"], *inputs.volumes),
            *("--directory", str(tmp_path / "study")),
            *(word for name, path in outputs.items() for word in (f"--output-{name}", path)),
        ]
    )
    best = json.loads((tmp_path / "search.json").read_text())
    assert best["parameters"].keys() >= {"slice_window", "stride", "conv_layers", "hidden_neurons", "batch_size", "learning_rate"}
    assert 0 < best["value"] < 2
    assert len(read_table(tmp_path / "search.csv")) == 3
    run_train(tmp_path, inputs, "--best", outputs["best"])
    assert read_model(tmp_path / "model.pt").n_epochs == 2


def test_a_trial_stacks_samples_in_their_order_along_their_axis(tmp_path):
    data = {}
    for name, shape in (("b", (31, 31, 20)), ("a", (31, 31, 15))):
        labels = np.random.default_rng(len(data)).choice(np.array([0, 1, 2], np.uint8), shape)
        data[name] = [str(tmp_path / f"{name}.zarr.zip")]
        write_labelled(data[name][0], Labelled(labels, 0.4, (False, False, False), "noise"))
    settings = AutoencoderSettings(image_size=31, network=NetworkSettings(hidden_neurons=8)).searched()
    wanted = {"autoencoder": settings, "split": "blocks", "straddle": True, "slice_axis": "x"}
    parameters = {"slice_window": 3, "stride": 1, "epochs": 1}

    def value(samples):
        steps = []
        context = TrialContext(
            {**wanted, "samples": samples},
            dict(sorted(data.items())),
            seed=1,
            device="cpu",
            checkpoint_path=tmp_path / f"{samples}.pt",
            report=lambda step, value: steps.append((step, value)),
        )
        found = trial.run(parameters, context)
        assert steps == [(1, found)]
        return found

    assert value(["b", "a"]) != value(["a", "b"])


def test_settings_are_checked_across_fields():
    for content in (
        {"image_size": 14},
        {"cases": {"one": {"samples": ["a"], "split": "sample"}}},
        {"learning": {"training": {"epochs": 0}}},
        {"learning": {"search": {"space": {"learning_rate": [2.0]}}}},
        {"learning": {"search": {"space": {"learning_rate": {"low": 0.1, "high": 0.01}}}}},
        {"image_size": 31, "learning": {"search": {"space": {"conv_layers": [5]}}}},
    ):
        with pytest.raises(SettingsError):
            AutoencoderSettings.from_mapping(content, "test")


def test_a_plan_for_searching_changes_no_model():
    plans = ({"learning": {"search": {"budget": {"n_trials": n}}, "checkpoint_every": n}, "cache_mb": n} for n in (1, 2))
    one, other = (AutoencoderSettings.model_validate(plan) for plan in plans)
    assert one.trained() == other.trained() == AutoencoderSettings().trained()
    assert one.searched() == other.searched() != AutoencoderSettings().searched()


def test_a_case_may_be_kept_out_of_the_search():
    cases = {"one": {"samples": ["a"]}, "two": {"samples": ["a"], "searched": False}}
    assert AutoencoderSettings.from_mapping({"cases": cases}, "test").searched_cases == []
    settings = AutoencoderSettings.from_mapping({"cases": cases, "learning": {"search": {}}}, "test")
    assert settings.searched_cases == ["one"]
