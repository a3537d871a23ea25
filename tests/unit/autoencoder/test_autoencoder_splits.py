import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from calandria.autoencoder.splits import shared_slices, split_mini_volumes
from calandria.base.errors import ContractError, SettingsError
from calandria.tomography.mini_volumes import list_origins


@settings(max_examples=60, deadline=None, derandomize=True)
@example(lengths=[40, 40], window=2, stride=2, straddle=True, seed=16)  # windows that end where the samples do: none straddles
@given(
    lengths=st.lists(st.integers(40, 90), min_size=1, max_size=3),
    window=st.integers(1, 8),
    stride=st.integers(1, 9),
    straddle=st.booleans(),
    seed=st.integers(0, 50),
)
def test_blocks_never_share_a_slice_and_keep_a_window_between(lengths, window, stride, straddle, seed):
    origins = list_origins({f"s{i}": n for i, n in enumerate(lengths)}, window, stride, straddle=straddle)
    assume(len(origins) >= 30)
    split = split_mini_volumes(origins, "blocks", 0.15, seed)
    assert not split.leaking
    one_stack = any(origin.sample != origin.last_sample for origin in origins)
    held = [origins[i] for i in split.indices("validation")]
    for index in split.indices("train"):
        origin = origins[index]
        for other in held:
            if one_stack or other.sample == origin.sample:
                apart = max(origin.stack_start - other.stack_start, other.stack_start - origin.stack_start) - window
                assert apart >= window


@pytest.mark.parametrize("straddle", [False, True])
def test_whole_samples_validate(straddle):
    origins = list_origins({"a": 20, "b": 30, "c": 25}, 5, 2, straddle=straddle)
    split = split_mini_volumes(origins, "sample", 0.15, 3)
    sides = {
        part: {name for i in split.indices(part) for name in (origins[i].sample, origins[i].last_sample)}
        for part in ("train", "validation")
    }
    assert len(sides["validation"]) == 1
    assert not sides["train"] & sides["validation"]
    assert not split.leaking
    assert bool(split.indices("gap")) == straddle


def test_the_papers_split_is_marked_as_leaking_with_overlap_and_not_without():
    overlapping = split_mini_volumes(list_origins({"a": 60}, 24, 1), "random", 0.15, 1)
    assert overlapping.leaking
    apart = split_mini_volumes(list_origins({"a": 60}, 6, 6), "random", 0.15, 1)
    assert not apart.leaking


@pytest.mark.published
@pytest.mark.parametrize(("slices", "window", "stride", "n_train", "n_validation"), [(601, 24, 1, 491, 87), (601, 4, 4, 127, 23)])
def test_the_papers_split_has_its_counts(slices, window, stride, n_train, n_validation):
    counts = split_mini_volumes(list_origins({"cal": slices}, window, stride), "random", 0.15, 1).counts()
    assert abs(counts["train"] - n_train) <= 1
    assert counts["train"] + counts["validation"] == n_train + n_validation


def test_shared_slices_are_found():
    origins = list_origins({"a": 10, "b": 10}, 4, 2)
    parts = ["train", "validation", *["gap"] * (len(origins) - 2)]
    assert shared_slices(origins, parts) == {2, 3}


def test_the_same_seed_gives_the_same_split_and_others_differ():
    origins = list_origins({"a": 200}, 4, 1)
    first, again = (split_mini_volumes(origins, "blocks", 0.15, 1) for _ in range(2))
    assert first == again
    assert len({split_mini_volumes(origins, "blocks", 0.15, seed).parts for seed in range(6)}) > 1


@pytest.mark.parametrize(
    ("n_slices", "window", "kind"), [(20, 5, "sample"), (12, 6, "blocks"), (6, 6, "random"), (20, 5, "block")]
)
def test_splits_that_cannot_be_are_refused(n_slices, window, kind):
    with pytest.raises(SettingsError):
        split_mini_volumes(list_origins({"a": n_slices}, window, "window"), kind, 0.15, 1)


def test_a_table_with_a_hidden_overlap_is_refused():
    origins = list_origins({"a": 8, "b": 8, "c": 8}, 8, 8)
    overlapping = [origins[0], origins[1], origins[2].__class__(**{**vars(origins[2]), "stack_start": 10})]
    seeds = range(10)
    with pytest.raises(ContractError, match="both sides"):
        for seed in seeds:
            split_mini_volumes(overlapping, "sample", 0.34, seed)
