"""Windows and splits: lazily read, each once, and no leak that is not named."""

import numpy as np
import pytest

from calandria.base.errors import ContractError, InputFileError, SettingsError
from calandria.base.volumes import write_labelled
from calandria.surrogate.settings import SplitSettings
from calandria.surrogate.splits import part_places, run_is_leaking, split_runs
from calandria.surrogate.windows import WindowReader, describe_run, describe_runs, window_places
from tests.helpers.series import pressed_film, write_films


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_films(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def runs(paths):
    return describe_runs(paths)


def test_window_holds_the_frames_and_columns_of_the_file(paths, runs):
    truth = pressed_film("film_1", 20, seed=1)
    with WindowReader(runs, 3, cached_bytes=2 * 16 * 12 * 12) as reader:
        window = reader.window(window_places(runs[:1], [[4, 5]], 3, 2)[0])
    assert np.array_equal(window.labels, truth.labels[1:6])
    assert np.array_equal(window.press_position_um, truth.frames["press_position_um"][1:6])
    assert window.first_um == truth.frames["thickness_um"][0]
    assert window.lowest_um == truth.frames["thickness_um"][:4].min()


def test_loading_windows_shared_by_degrees_count_once(runs):
    assert runs[0].digests[:5] == runs[1].digests[:5] and runs[0].digests[5] != runs[1].digests[5]
    targets = [range(3, 9), range(3, 9)]
    places = window_places(runs[:2], targets, 3)
    assert [place.target for place in places] == [3, 4, 5, 6, 7, 8, 5, 6, 7, 8]
    assert len(window_places(runs[:2], targets, 3, steps=2)) == 11, "target 4 differs in its second step"


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_step_of_a_training_window_is_a_validation_or_test_frame(runs, steps, seed):
    split = split_runs(runs, SplitSettings(test_films=["film_3"], validation_fraction=0.4, seed=seed), 3)
    targets = {
        part: {
            runs[place.run].digests[frame]
            for place in part_places(split, runs, part, steps)
            for frame in range(place.target, place.target + place.steps)
        }
        for part in ("train", "validation", "test")
    }
    assert targets["train"] and targets["validation"]
    assert not targets["train"] & (targets["validation"] | targets["test"])
    assert not targets["validation"] & targets["test"]


def test_validation_is_drawn_in_blocks_from_all_degrees_of_a_film(tmp_path):
    """Also where loading frames of the degrees differ by rounding and no content tells that they are the same."""
    paths = write_films(tmp_path, degrees=(20, 30), n_frames=16)
    described = describe_runs(paths)
    apart = [
        type(run)(**{**vars(run), "digests": tuple(f"{run.name} {frame}" for frame in range(run.n_frames))}) for run in described
    ]
    split = split_runs(apart, SplitSettings(test_films=["film_3"], validation_fraction=0.3), 3)
    for shallow, deep in zip(split["runs"][:4:2], split["runs"][1:4:2]):
        assert shallow["validation"] == deep["validation"]
        kept, loose = set(deep["validation"]), [f for f in deep["validation"] if not {f - 1, f + 1} & set(deep["validation"])]
        assert not loose and kept.isdisjoint(deep["train"])
    n_validation = sum(len(row["validation"]) for row in split["runs"])
    assert 0.3 <= n_validation / sum(len(row["train"]) + len(row["validation"]) for row in split["runs"]) < 0.45


def renamed(run, **facts):
    return type(run)(**{**vars(run), "digests": tuple(f"{facts} {digest}" for digest in run.digests), **facts})


def test_a_degree_of_a_trained_film_leaks_though_no_file_is_alike(runs):
    """Dumps that were run apart, or whose press was estimated, share no bytes; their film is known all the same."""
    apart = [renamed(runs[0]), renamed(runs[1], compression_degree_percent=30), *runs[2:]]
    held_out = [{"film": "film_1", "compression_degrees_percent": [30]}]
    settings = SplitSettings(kind="degrees", held_out=held_out, validation_films=["film_2"], test_films=["film_3"])
    split = split_runs(apart, settings, 3)
    assert not split["overlaps"] and split["leaking"] is True
    told = {(row["film"], row["compression_degree_percent"]): row for row in split["test_runs"]}
    assert set(told) == {("film_1", 30), ("film_3", 20), ("film_3", 30)}
    assert told["film_1", 30]["leaking"] and "film_1 at 20 % is used for train" in told["film_1", 30]["reason"]
    assert not told["film_3", 20]["leaking"] and told["film_3", 20]["reason"] == ""
    assert run_is_leaking(split, "film_1", 30.0) and not run_is_leaking(split, "film_3", 20)
    with pytest.raises(InputFileError, match="film_2 at 20 % is no test run"):
        run_is_leaking(split, "film_2", 20)


@pytest.mark.parametrize("used_for", ["train", "validation"])
def test_a_replicate_of_a_known_film_leaks(runs, used_for):
    replicate = renamed(runs[4], film="again", replicate_of="film_2" if used_for == "validation" else "film_1")
    settings = SplitSettings(validation_films=["film_2"], test_films=["film_3"])
    told = {(row["film"], row["leaking"]) for row in split_runs([*runs, replicate], settings, 3)["test_runs"]}
    assert told == {("film_3", False), ("again", True)}
    assert not split_runs([*runs, renamed(replicate, replicate_of="film_3")], settings, 3)["leaking"]


def test_steps_are_fewer_at_the_end_of_a_run_and_before_a_frame_of_another_part(runs):
    assert [place.steps for place in window_places(runs[:1], [[3, 4, 6, 7, 8]], 3, 2)] == [2, 1, 2, 2, 1]
    assert [place.steps for place in window_places(runs[:1], [[7, 8]], 3, 3)] == [2, 1]


def test_film_split_is_clean(runs):
    split = split_runs(runs, SplitSettings(validation_films=["film_2"], test_films=["film_3"]), 3)
    assert split["leaking"] is False and split["overlaps"] == []
    held = {(row["film"], part) for row in split["runs"] for part in ("train", "validation", "test") if row[part]}
    assert held == {("film_1", "train"), ("film_2", "validation"), ("film_3", "test")}


def test_a_split_by_degrees_leaks_and_says_which_frames(runs):
    held_out = [{"film": "film_1", "compression_degrees_percent": [30]}]
    settings = SplitSettings(kind="degrees", held_out=held_out, validation_films=["film_2"], test_films=["film_3"])
    split = split_runs(runs, settings, 3)
    assert split["leaking"] is True
    assert split["overlaps"] == [
        {"parts": ["test", "train"], "run": "film_1 at 30 %", "shared_with": ["film_1 at 20 %"], "frames": [3, 4]}
    ]


def test_copied_film_under_another_name_is_found(tmp_path, paths):
    copy = pressed_film("film_1", 20, seed=1)
    write_labelled(
        tmp_path / "copy.zarr.zip",
        type(copy)(copy.labels, copy.voxel_edge_um, copy.periodic, "", copy.frames, copy.attributes | {"film": "film_9"}),
    )
    runs = describe_runs([*paths, tmp_path / "copy.zarr.zip"])
    split = split_runs(runs, SplitSettings(validation_films=["film_2"], test_films=["film_9"]), 3)
    assert split["leaking"] is True


def test_drawn_validation_windows_are_not_trained_on_in_any_degree(runs):
    split = split_runs(runs, SplitSettings(test_films=["film_3"], validation_fraction=0.4), 3)
    parts = {part: part_places(split, runs, part) for part in ("train", "validation", "test")}
    keys = {part: {runs[p.run].digests[p.target - 3 : p.target + 1] for p in places} for part, places in parts.items()}
    assert keys["train"] and keys["validation"] and not keys["train"] & keys["validation"]
    assert not (keys["train"] | keys["validation"]) & keys["test"]
    assert split == split_runs(runs, SplitSettings(test_films=["film_3"], validation_fraction=0.4), 3)
    assert split["leaking"] is False


@pytest.mark.parametrize(
    ("settings", "lag", "found"),
    [
        ({"test_films": ["film_4"]}, 3, "film_4"),
        ({"validation_films": ["film_1", "film_2"], "test_films": ["film_3"]}, 3, "no window for train"),
        ({"test_films": ["film_3"]}, 9, "lag window of 9"),
        ({"kind": "degrees", "held_out": [{"film": "film_1", "compression_degrees_percent": [45]}], "test_films": []}, 3, "45"),
    ],
)
def test_impossible_splits_are_refused(runs, settings, lag, found):
    with pytest.raises(SettingsError, match=found):
        split_runs(runs, SplitSettings(**settings), lag)


def test_series_without_press_is_refused(tmp_path):
    film = pressed_film()
    write_labelled(tmp_path / "a.zarr.zip", type(film)(film.labels, film.voxel_edge_um, film.periodic, "", {}, film.attributes))
    with pytest.raises(ContractError, match="press_position_um"):
        describe_run(tmp_path / "a.zarr.zip")


def test_same_run_twice_and_changed_run_are_refused(paths, runs):
    with pytest.raises(InputFileError, match="both film_1 at 20 %"):
        describe_runs([paths[0], paths[0]])
    split = split_runs(runs, SplitSettings(test_films=["film_3"]), 3)
    split["runs"][0]["digest"] = "0"
    with pytest.raises(InputFileError, match="another series"):
        part_places(split, runs, "train")
