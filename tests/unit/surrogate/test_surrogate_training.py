"""Training: the same seed gives the same weights, also after a kill; what is saved is what is loaded."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from calandria.base.errors import ContractError, DeviceError, InputFileError, SettingsError, StoppedError
from calandria.base.records import file_digest, read_table, read_table_record
from calandria.base.volumes import read_labelled
from calandria.learning.training import load_checkpoint, save_checkpoint
from calandria.surrogate import training
from calandria.surrogate.models import stack_windows
from calandria.surrogate.networks import NETWORKS as REGISTERED
from calandria.surrogate.rollout import predict_by_model
from calandria.surrogate.settings import SplitSettings, network_settings
from calandria.surrogate.splits import part_places, split_runs
from calandria.surrogate.training import batches, changed, drawn_changes, load_model, model_record, train
from calandria.surrogate.windows import Window, describe_runs
from tests.helpers.processes import stopping_every
from tests.helpers.series import pressed_film, write_films
from workflow_scripts.surrogate import predict_frames, split_films, train_surrogate

SIZES = {
    "press_unet": {"widths": [4, 6], "detail_width": 2, "dropout": 0.1},
    "conv1d_lags": {"filters": 4, "dense_widths": [6]},
}
TRAINING = {"press_unet": {"epochs": 3, "patience": 9}, "conv1d_lags": {"epochs": 3, "batch_size": 4}}
SPLIT = {"validation_films": ["film_2"], "test_films": ["film_3"]}
NETWORKS = sorted(TRAINING)


def content(kind, training=None, **learning):
    """Return the content of a small network's settings."""
    training = TRAINING[kind] if training is None else training
    return {"kind": kind, **SIZES[kind], "learning": {"checkpoint_every": 1, "training": training, **learning}}


def network(kind, training=None, **learning):
    """Return the settings of a small network."""
    return network_settings(content(kind, training, **learning), "test")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return describe_runs(write_films(tmp_path_factory.mktemp("films"), shape=(10, 8, 8)))


@pytest.fixture(scope="module")
def places(runs):
    split = split_runs(runs, SplitSettings(**SPLIT), 3)
    return [part_places(split, runs, part) for part in ("train", "validation")]


def weights(trained):
    return trained.model.state_dict()


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", NETWORKS)
def test_same_seed_same_weights_and_interrupted_training_too(kind, runs, places, tmp_path):
    settings = network(kind)
    whole = train(settings, 3, runs, *places, tmp_path / "a.pt")

    class Interrupted(Exception):
        pass

    def interrupt(epoch, loss):
        if epoch == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(settings, 3, runs, *places, tmp_path / "b.pt", report=interrupt)
    seen = []
    resumed = train(settings, 3, runs, *places, tmp_path / "b.pt", report=lambda epoch, loss: seen.append(epoch))
    assert equal(weights(whole), weights(resumed)) and whole.rows == resumed.rows and seen == [1, 2, 3]
    other = train(network(kind, seed=2), 3, runs, *places, tmp_path / "b.pt")
    assert not equal(weights(whole), weights(other)), "a checkpoint of another seed is not resumed"


@pytest.mark.parametrize("kind", NETWORKS)
def test_training_stopped_at_any_step_ends_in_the_same_bits(kind, runs, places, tmp_path):
    settings = network(kind, {"epochs": 3, "batch_size": 3}, checkpoint_every=2)
    whole = train(settings, 3, runs, *places, tmp_path / "a.pt")
    stops = 0
    for calls in range(99):
        try:
            stopped = train(settings, 3, runs, *places, tmp_path / "b.pt", stop=stopping_every((4, 2, 6, 3, 8)[calls % 5]))
            break
        except StoppedError as stop:
            assert stop.exit_code == 75
            stops += 1
    assert stops >= 2 and equal(weights(whole), weights(stopped)) and whole.rows == stopped.rows


def test_best_epoch_by_validation_loss_is_what_is_kept(runs, places, tmp_path):
    chosen = network("conv1d_lags", {"epochs": 12, "learning_rate": 0.2, "patience": 3})
    trained = train(chosen, 3, runs, *places, tmp_path / "a.pt")
    losses = [row["loss_validation"] for row in trained.rows]
    assert trained.best_loss == min(losses) and trained.best_epoch == 1 + int(np.argmin(losses))
    assert len(losses) == min(12, trained.best_epoch + 3)


def test_checkpoint_holds_the_best_weights_once_where_they_are_the_last(runs, places, tmp_path):
    train(network("conv1d_lags", {"epochs": 1}), 3, runs, *places, tmp_path / "a.pt")
    held = load_checkpoint(tmp_path / "a.pt")
    assert held["rows"][-1]["is_best"]
    assert all(held["best"][name].data_ptr() == held["model"][name].data_ptr() for name in held["model"])


def test_saved_model_predicts_the_same(runs, places, tmp_path):
    settings = network("press_unet")
    trained = train(settings, 3, runs, *places, tmp_path / "a.pt")
    save_checkpoint(tmp_path / "model.pt", model_record(settings, 3, trained, runs[0]))
    loaded, facts = load_model(tmp_path / "model.pt")
    series = read_labelled(runs[-1].path)
    for mode in ("one_step", "rollout"):
        assert np.array_equal(predict_by_model(trained.model, series, 3, mode)[0], predict_by_model(loaded, series, 3, mode)[0])
    assert facts["n_weights"] == sum(w.numel() for w in loaded.parameters())
    with pytest.raises(InputFileError, match="not a surrogate model"):
        load_model(tmp_path / "a.pt")


def test_model_reads_no_future_but_the_press(runs, places, tmp_path):
    trained = train(network("press_unet"), 3, runs, *places, tmp_path / "a.pt")
    series = read_labelled(runs[-1].path)
    spoilt_labels, spoilt_height = series.labels.copy(), series.frames["thickness_um"].copy()
    spoilt_labels[5:], spoilt_height[5:] = 0, 1.0
    spoilt = type(series)(
        spoilt_labels, series.voxel_edge_um, series.periodic, "", {**series.frames, "thickness_um": spoilt_height}, {}
    )
    for mode, last in (("one_step", 6), ("rollout", 99)):
        true, blind = (predict_by_model(trained.model, one, 3, mode) for one in (series, spoilt))
        assert np.array_equal(true[0][3:last], blind[0][3:last]) and np.array_equal(true[1][3:last], blind[1][3:last])


def test_windows_are_batched_by_steps_and_none_is_lost():
    steps = [2, 1, 2, 2, 1, 2, 2]
    for random in (None, np.random.default_rng(1)):
        found = batches(steps, 2, random)
        assert sorted(index for batch in found for index in batch) == list(range(7))
        assert all(len({steps[index] for index in batch}) == 1 for batch in found)
    assert sorted(map(len, found)) == [2, 2, 3], "no batch of one while learning"


def test_validation_loss_does_not_depend_on_the_order_of_its_windows(runs, places, tmp_path):
    settings = network("press_unet", {"epochs": 1, "batch_size": 3, "rollout_steps": 2})
    split = split_runs(runs, SplitSettings(**SPLIT), 3)
    known, kept = (part_places(split, runs, part, 2) for part in ("train", "validation"))
    assert {place.steps for place in kept} == {1, 2}
    losses = [
        train(settings, 3, runs, known, order, tmp_path / f"{number}.pt").best_loss
        for number, order in enumerate((kept, kept[::-1], kept[::2] + kept[1::2]))
    ]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_thickness_is_learned_from_columns_and_no_labels_are_held(runs, places, tmp_path, monkeypatch):
    """A full-size study has a thousand windows of a hundred megabytes; the fit of the thickness must not stack them."""
    settings = network("press_unet")
    stacked = []
    monkeypatch.setattr(
        training, "stack_windows", lambda windows, *rest: stacked.append(len(windows)) or stack_windows(windows, *rest)
    )
    train(settings, 3, runs, *places, tmp_path / "a.pt")
    assert stacked and max(stacked) <= settings.learning.training.batch_size


def test_settings_that_do_nothing_are_refused():
    for name in ("rollout_steps", "crop_voxels", "augment"):
        with pytest.raises(SettingsError, match=name):
            network("conv1d_lags", {name: 1})
    assert [network(kind, {}).loss_steps for kind in NETWORKS] == [1, 2]


def test_a_part_of_a_training_section_leaves_the_rest_of_it_alone():
    """Named alone, the epochs of conv1d_lags do not bring the batches of press_unet, of one window, which batch norm cannot learn from."""
    found, default = (network("conv1d_lags", training).learning.training for training in ({"epochs": 7}, {}))
    assert found == default.model_copy(update={"epochs": 7})


def test_augmentation_keeps_columns_together():
    labels = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    window = Window(labels, np.zeros(2), np.ones(2), 1.0, 1.0)
    random = np.random.default_rng(1)
    for _ in range(8):
        moved = changed(window, drawn_changes((3, 4, 4), (False, True, True), random, True, None), None).labels
        assert np.array_equal(np.sort(moved.reshape(2, 3, -1)), np.sort(labels.reshape(2, 3, -1)))
        assert np.array_equal(moved[1] - moved[0], labels[1] - labels[0])
    walls = [drawn_changes((3, 4, 4), (False, False, False), random, True, None) for _ in range(50)]
    assert {changed(window, one, None).labels[0, 0, 0, 0] for one in walls} <= {0, 3, 12, 15}, "walls stay where they are"
    block = changed(window, drawn_changes((3, 4, 4), (False, True, True), random, False, 3), 3).labels
    assert block.shape == (2, 3, 3, 3) and np.array_equal(block[1] - block[0], (labels[1] - labels[0])[:, :3, :3])


def test_films_voxelized_differently_and_missing_device_are_refused(runs, places, tmp_path):
    nearly = type(runs[0])(**{**vars(runs[1]), "voxel_edge_um": runs[0].voxel_edge_um * 0.98 / 1.02})
    training.check_runs_alike([runs[0], nearly], True)  # both within the misfit that voxelizing allows
    other = type(runs[0])(**{**vars(runs[1]), "voxel_edge_um": 0.4})
    with pytest.raises(ContractError, match="voxel_edge_um"):
        train(network("conv1d_lags"), 3, [runs[0], other], *places, tmp_path / "a.pt")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError):
            train(network("conv1d_lags", device="cuda"), 3, runs, *places, tmp_path / "a.pt")


def test_parameters_of_a_search_enter_the_settings():
    found = (
        REGISTERED["conv1d_lags"]
        .settings()
        .with_parameters({"conv_layers": 2, "hidden_dense_layers": 2, "dense_activation": "mish", "learning_rate": 0.01})
    )
    assert (found.conv_layers, found.dense_widths, found.dense_activation) == (2, [32, 32], "mish")
    assert found.learning.training.learning_rate == 0.01
    before = REGISTERED["press_unet"].settings()
    after = before.with_parameters({"activation": "mish", "base_width": 2 * before.widths[0]})
    assert after.activation == "mish" and after.widths == [2 * width for width in before.widths]
    with pytest.raises(SettingsError, match="does not belong"):
        before.with_parameters({"conv_layers": 2})


def given(path, network=None, **settings):
    """Write the settings file of a rule."""
    path.write_text(json.dumps({"settings": {"lag_window": 3, **settings}} | ({"network": network} if network else {})))
    return str(path)


def command(tmp_path, paths, folder):
    return [
        *("--settings", str(tmp_path / "s.json"), "--split", str(tmp_path / "split.json")),
        *("--frames", *paths, "--checkpoint-directory", str(folder)),
        *("--output", str(folder / "model.pt"), "--output-losses", str(folder / "losses.csv")),
    ]


def test_killed_training_ends_in_bitwise_the_same_weights(tmp_path):
    given(tmp_path / "s.json", content("press_unet", {"epochs": 14, "patience": 99}))
    paths = write_films(tmp_path, degrees=(20,), shape=(10, 8, 8))
    to_split = given(tmp_path / "to_split.json", split=SPLIT)
    split_films.main(["--settings", to_split, "--frames", *paths, "--output", str(tmp_path / "split.json")])
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for folder in (killed, whole):
        folder.mkdir()
    program = [sys.executable, "-m", "workflow_scripts.surrogate.train_surrogate", *command(tmp_path, paths, killed)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    kills = 0
    for epochs in (2, 6):
        process = subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and _epochs(killed / "training.pt") < epochs:
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills == 2 and not (killed / "model.pt").exists()
    train_surrogate.main(command(tmp_path, paths, killed))
    train_surrogate.main(command(tmp_path, paths, whole))
    assert equal(load_model(killed / "model.pt")[0].state_dict(), load_model(whole / "model.pt")[0].state_dict())
    assert (killed / "losses.csv").read_bytes() == (whole / "losses.csv").read_bytes()
    assert [row["epoch"] for row in read_table(whole / "losses.csv")] == [str(epoch) for epoch in range(1, 15)]
    assert (whole / "training.pt").exists(), "the end of the run deletes checkpoints, not the program"


def _epochs(checkpoint):
    return torch.load(checkpoint, weights_only=True)["epoch"] + 1 if checkpoint.exists() else 0


def test_programs_from_series_to_metrics(tmp_path):
    from workflow_scripts.surrogate import evaluate_predictions

    given(tmp_path / "s.json", content("press_unet"))
    settings = ["--settings", given(tmp_path / "compare.json")]
    paths = write_films(tmp_path, degrees=(20,), shape=(10, 8, 8))
    to_split = given(tmp_path / "to_split.json", split=SPLIT)
    split_films.main(["--settings", to_split, "--frames", *paths, "--output", str(tmp_path / "split.json")])
    train_surrogate.main(command(tmp_path, paths, tmp_path))
    predictions = []
    for predictor, more, facts in (
        ("unet", ["--model", str(tmp_path / "model.pt")], {"kind": "press_unet"}),
        ("copy", [], {}),
        ("replicate", ["--replicate-frames", paths[2]], {}),
    ):
        modes = ("rollout",) if predictor == "replicate" else ("one_step", "rollout")
        outputs = {mode: str(tmp_path / f"{predictor}_{mode}.zarr.zip") for mode in modes}
        named = [word for mode, path in outputs.items() for word in (f"--output-{mode.replace('_', '-')}", path)]
        (tmp_path / "p.json").write_text(json.dumps({"settings": {}, "predictor": predictor, **facts}))
        predict_frames.main(["--settings", str(tmp_path / "p.json"), "--frames", paths[2], *more, *named])
        predictions += [f"{predictor}:{mode}={path}" for mode, path in outputs.items()]
    names = ["true", "copy:one_step"]
    rows = [f"{name},{frame},pore,z,0.25,{1.5 + frame if frame > 3 else ''}" for name in names for frame in range(9)]
    (tmp_path / "transport.csv").write_text("\n".join(["series,frame,case,axis,relative_diffusivity,tortuosity_factor", *rows]))
    header = "series,frame,contact_area_faces_pore_cbd,contact_area_faces_pore_am,contact_area_faces_am_cbd"
    (tmp_path / "contacts.csv").write_text(
        "\n".join([header, *(f"{name},{frame},1,2,{frame}" for name in names for frame in range(9))])
    )
    compared = [*settings, "--frames", paths[2], "--prediction", *predictions, "--transport", str(tmp_path / "transport.csv"),
        "--interfaces", str(tmp_path / "contacts.csv"), "--output", str(tmp_path / "metrics.csv")]  # fmt: skip
    evaluate_predictions.main([*compared, "--split", str(tmp_path / "split.json")])
    table = read_table(tmp_path / "metrics.csv")
    assert len(table) == 5 * 6 and {row["leaking"] for row in table} == {"false"}
    record = read_table_record(tmp_path / "metrics.csv")
    assert record["stage"] == "surrogate" and record["inputs_sha256"]["frames"] == file_digest(paths[2])
    assert set(record["inputs_sha256"]) == {
        "frames",
        "split",
        "transport_transport",
        "interfaces",
        *(p.split("=")[0] for p in predictions),
    }
    leaking = json.loads((tmp_path / "split.json").read_text())
    leaking["test_runs"][0]["leaking"] = True
    (tmp_path / "split.json").write_text(json.dumps(leaking))
    for more, expected in ((["--split", str(tmp_path / "split.json")], {"true"}), ([], {""})):
        evaluate_predictions.main([*compared, *more])
        assert {row["leaking"] for row in read_table(tmp_path / "metrics.csv")} == expected
    given(tmp_path / "other.json", lag_window=4)
    with pytest.raises(ContractError, match="n_given_frames 3; expected the lag window of the settings, 4"):
        evaluate_predictions.main(["--settings", str(tmp_path / "other.json"), *compared[2:]])
    perfect = [row for row in table if row["predictor"] == "replicate"]
    assert all(
        float(row["r2_film"]) == float(row["accuracy"]) == 1 and row["spring_back_true"] == row["spring_back_predicted"]
        for row in perfect
    )
    copied = [row for row in table if (row["predictor"], row["mode"]) == ("copy", "one_step")]
    assert copied[0]["frame"] == "3" and copied[0]["tortuosity_factor_pore_z_true"] == ""
    assert copied[1]["tortuosity_factor_pore_z_predicted"] == "5.5" and copied[1]["contact_area_faces_am_cbd_true"] == "4.0"
    series = pressed_film("film_3", 20, seed=3, shape=(10, 8, 8))
    assert float(copied[0]["mse"]) == pytest.approx(((series.labels[3].astype(float) - series.labels[2]) ** 2).mean())
    assert [row["is_release"] for row in copied] == [str(frame > 4).lower() for frame in range(3, 9)]


def films_of_unlike_grids(folder, shapes=((10, 8, 8), (12, 9, 6), (11, 7, 10))):
    return [
        write_films(folder, films=(f"film_{number}",), degrees=(20,), shape=shape)[0] for number, shape in enumerate(shapes, 1)
    ]


def test_films_of_unlike_grids_are_trained_predicted_and_evaluated_together(tmp_path):
    from workflow_scripts.surrogate import evaluate_predictions

    given(tmp_path / "s.json", content("press_unet", {"epochs": 1, "batch_size": 3, "rollout_steps": 2, "crop_voxels": 8}))
    (tmp_path / "p.json").write_text(json.dumps({"settings": {}, "predictor": "unet", "kind": "press_unet"}))
    paths, to_split = films_of_unlike_grids(tmp_path), given(tmp_path / "to_split.json", split={"test_films": ["film_3"]})
    split_films.main(["--settings", to_split, "--frames", *paths, "--output", str(tmp_path / "split.json")])
    train_surrogate.main(command(tmp_path, paths, tmp_path))
    for path, shape in zip(paths, ((10, 8, 8), (12, 9, 6), (11, 7, 10))):
        outputs = {mode: str(tmp_path / f"model_{mode}.zarr.zip") for mode in ("one_step", "rollout")}
        named = ["--output-one-step", outputs["one_step"], "--output-rollout", outputs["rollout"]]
        model = ["--model", str(tmp_path / "model.pt")]
        predict_frames.main(["--settings", str(tmp_path / "p.json"), "--frames", path, *model, *named])
        assert read_labelled(outputs["rollout"]).labels.shape == (9, *shape)
        predictions = [f"unet:{mode}={output}" for mode, output in outputs.items()]
        compared = ["--frames", path, "--prediction", *predictions, "--output", str(tmp_path / "metrics.csv")]
        evaluate_predictions.main(["--settings", given(tmp_path / "compare.json"), *compared])
        table = read_table(tmp_path / "metrics.csv")
        assert len(table) == 2 * 6 and all(0 <= float(row["accuracy"]) <= 1 for row in table)


def test_windows_of_unlike_grids_keep_the_voxel_edge_and_sides_of_their_run(tmp_path, monkeypatch):
    settings = network("press_unet", {"epochs": 1, "batch_size": 4, "crop_voxels": 8})
    runs = describe_runs(films_of_unlike_grids(tmp_path))
    runs[1] = type(runs[1])(**{**vars(runs[1]), "voxel_edge_um": 0.505})
    split = split_runs(runs, SplitSettings(test_films=["film_3"]), 3)
    kept = []
    monkeypatch.setattr(
        training,
        "stack_windows",
        lambda windows, edge, sides, device: (
            kept.append((windows[0].labels.shape[1:], edge, sides, len(windows))) or stack_windows(windows, edge, sides, device)
        ),
    )
    train(settings, 3, runs, *(part_places(split, runs, part, 2) for part in ("train", "validation")), tmp_path / "a.pt")
    assert {(shape[0], edge) for shape, edge, _, _ in kept} == {(10, 0.5), (12, 0.505)}
    assert max(count for *_, count in kept) > 1
    assert {sides for shape, _, sides, _ in kept if shape == (12, 8, 6)} == {(False, False, True)}, "cut in y, whole in x"


def test_a_network_of_one_grid_names_all_grids_and_the_remedy_that_helps(tmp_path):
    settings = network("conv1d_lags")
    for shapes, remedy in (
        (((10, 8, 8), (12, 8, 8), (10, 8, 8)), "grid_height_voxels to 12 or more"),
        (((10, 8, 8), (12, 9, 6), (10, 8, 8)), "give all films one width .* leave the network out of surrogate.networks"),
    ):
        runs = describe_runs(films_of_unlike_grids(tmp_path, shapes))
        split = split_runs(runs, SplitSettings(test_films=["film_3"]), 3)
        parts = [part_places(split, runs, part) for part in ("train", "validation")]
        with pytest.raises(ContractError) as caught:
            train(settings, 3, runs, *parts, tmp_path / "a.pt")
        assert f"{shapes[0]}: film_1 at 20 %, film_3 at 20 %; {shapes[1]}: film_2 at 20 %" in str(caught.value)
        assert re.search(remedy, caught.value.hint)
    alike = [runs[0], runs[2]]
    record = model_record(settings, 3, train(settings, 3, alike, parts[0][:4], parts[0][:4], tmp_path / "a.pt"), alike[0])
    save_checkpoint(tmp_path / "lags.pt", record)
    (tmp_path / "p.json").write_text(json.dumps({"settings": {}, "predictor": "lags", "kind": "conv1d_lags"}))
    wanted = ["--settings", str(tmp_path / "p.json"), "--model", str(tmp_path / "lags.pt")]
    found = "the grid (10, 8, 8) (z, y, x), to which the network is bound; the series has (12, 9, 6)"
    with pytest.raises(ContractError, match=re.escape(found)):
        predict_frames.main([*wanted, "--frames", runs[1].path, "--output-rollout", str(tmp_path / "b.zarr.zip")])


@pytest.mark.parametrize(
    ("predictor", "options", "error", "found"),
    [
        ({"predictor": "copi"}, [], SettingsError, "copi"),
        ({"predictor": "unet", "kind": "press_unt"}, [], SettingsError, "press_unt"),
        ({"predictor": "unet", "kind": "press_unet"}, [], InputFileError, "needs --model"),
        ({"predictor": "affine_spheres"}, [], InputFileError, "needs --particles"),
        ({"predictor": "replicate"}, [], InputFileError, "needs --replicate-frames"),
        ({"predictor": "replicate"}, ["--output-one-step", "a"], InputFileError, "one or more of rollout"),
        ({"predictor": "copy"}, ["--output-rollout", ""], InputFileError, "one or more of one_step, rollout"),
    ],
)
def test_wrong_options_of_predict_frames(tmp_path, predictor, options, error, found):
    (tmp_path / "s.json").write_text(json.dumps({"settings": {}, **predictor}))
    path = write_films(tmp_path, films=("film_1",), degrees=(20,))[0]
    with pytest.raises(error, match=found):
        predict_frames.main(["--settings", str(tmp_path / "s.json"), "--frames", path, "--output-rollout", "b", *options])
