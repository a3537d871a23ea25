"""Mini-volumes: counts as published, windows inside samples unless asked, views instead of copies."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calandria.base.errors import ContractError, InputFileError, SettingsError
from calandria.base.records import write_table
from calandria.base.volumes import Labelled, write_labelled
from calandria.tomography.mini_volumes import (
    COLUMNS,
    MiniVolumes,
    count_windows,
    list_origins,
    open_mini_volumes,
    origin_rows,
    read_origins,
    resolve_stride,
)
from tests.helpers.images import label_image


@pytest.mark.published
@pytest.mark.parametrize(
    ("n_slices", "slice_window", "stride", "n_train", "n_validation"),
    [(601, 24, 1, 491, 87), (601, 4, "window", 127, 23), (1472, 24, 1, 1159, 290), (1472, 4, "window", 294, 74)],
)
def test_window_counts_are_those_of_the_auto_encoder_paper(n_slices, slice_window, stride, n_train, n_validation):
    """Tables 6 to 8 of doi 10.3390/en15124489, from its stack lengths of 601 (calendered) and 1,472 (all seven) slices.

    The paper names a window of 24; with a stride as long as the window its counts fit a window of 4 only.
    """
    three = {"a": n_slices // 3, "b": n_slices // 3, "c": n_slices - 2 * (n_slices // 3)}
    origins = list_origins(three, slice_window, stride, straddle=True)
    assert len(origins) == count_windows(n_slices, slice_window, resolve_stride(stride, slice_window)) == n_train + n_validation


@pytest.mark.published
def test_no_other_window_of_the_paper_gives_its_counts_with_a_stride_of_one_window():
    fits = [w for w in (4, 8, 16, 24, 32) if count_windows(601, w, w) == 150 or count_windows(1472, w, w) == 368]
    assert fits == [4]


@given(st.lists(st.integers(5, 40), min_size=1, max_size=4), st.integers(1, 5), st.integers(1, 7), st.booleans())
def test_origins_lie_where_they_say(lengths, window, stride, straddle):
    n_slices = {f"s{i}": n for i, n in enumerate(lengths)}
    stack = np.concatenate([np.full(n, i) for i, n in enumerate(lengths)])
    within = np.concatenate([np.arange(n) for n in lengths])
    origins = list_origins(n_slices, window, stride, straddle=straddle)
    assert [o.index for o in origins] == list(range(len(origins)))
    expected = count_windows(sum(lengths), window, stride) if straddle else sum(count_windows(n, window, stride) for n in lengths)
    assert len(origins) == expected
    for origin in origins:
        last = origin.stack_start + window - 1
        assert origin.sample == f"s{stack[origin.stack_start]}" and origin.z_start == within[origin.stack_start]
        assert origin.last_sample == f"s{stack[last]}" and origin.z_stop == within[last] + 1
        assert straddle or origin.sample == origin.last_sample


def volumes(lengths=(9, 4, 6), side=(5, 3)):
    return {f"s{i}": label_image((n, *side), (0, 1, 2, 4), seed=i) for i, n in enumerate(lengths)}


def lengths_of(labels, axis=0):
    return {name: array.shape[axis] for name, array in labels.items()}


@pytest.mark.parametrize("straddle", [False, True])
@pytest.mark.parametrize(("window", "stride"), [(4, 1), (3, "window"), (2, 5)])
def test_windows_are_the_slices_of_the_stack(straddle, window, stride):
    labels = volumes()
    stack = np.concatenate(list(labels.values()))
    found = MiniVolumes(list_origins(lengths_of(labels), window, stride, straddle=straddle), labels)
    assert len(found) > 1
    for origin, window_labels in zip(found.origins, found, strict=True):
        np.testing.assert_array_equal(window_labels, stack[origin.stack_start : origin.stack_start + window])


def test_a_window_may_span_three_samples():
    labels = volumes((3, 2, 3))
    found = MiniVolumes(list_origins(lengths_of(labels), 6, 1, straddle=True), labels)
    np.testing.assert_array_equal(found[1], np.concatenate(list(labels.values()))[1:7])


@pytest.mark.parametrize(("axis", "name"), [(0, "z"), (1, "y"), (2, "x")])
def test_slices_may_follow_any_axis(axis, name):
    labels = volumes((9,), (7, 5))
    found = MiniVolumes(list_origins(lengths_of(labels, axis), 3, 2, slice_axis=name), labels)
    np.testing.assert_array_equal(found[1], np.moveaxis(labels["s0"], axis, 0)[2:5])


def test_windows_of_arrays_in_memory_are_views():
    labels = volumes()
    found = MiniVolumes(list_origins(lengths_of(labels), 3, 1), labels)
    assert all(np.shares_memory(found[i], labels[found.origins[i].sample]) for i in range(len(found)))
    assert [o.index for o in found[2:5].origins] == [2, 3, 4]


def test_windows_of_files_are_read_lazily_and_the_table_survives(tmp_path):
    labels = volumes()
    paths = {}
    for name, array in labels.items():
        paths[name] = tmp_path / f"{name}.zarr.zip"
        write_labelled(paths[name], Labelled(array, 0.4, (False, False, False), "made"))
    origins = list_origins(lengths_of(labels), 3, 2, straddle=True)
    write_table(tmp_path / "table.csv", origin_rows(origins), COLUMNS)
    assert read_origins(tmp_path / "table.csv") == origins
    stack = np.concatenate(list(labels.values()))
    for in_memory in (False, True):
        with open_mini_volumes(origins, paths, in_memory=in_memory) as found:
            assert isinstance(found.volumes["s0"], np.ndarray) == in_memory
            for origin, window in zip(origins, found, strict=True):
                np.testing.assert_array_equal(window, stack[origin.stack_start : origin.stack_start + 3])


def test_windows_longer_than_a_sample_are_told():
    with pytest.raises(SettingsError, match="slice window of 5 does not fit s1, which has 4 slices along z"):
        list_origins(lengths_of(volumes()), 5, 1)
    with pytest.raises(SettingsError, match="does not fit the stack of all samples"):
        list_origins(lengths_of(volumes()), 20, 1, straddle=True)


@pytest.mark.parametrize("stride", [0, -1, "widow", "1.5"])
def test_bad_strides_are_told(stride):
    with pytest.raises(SettingsError, match="stride"):
        resolve_stride(stride, 8)


def test_volumes_that_do_not_fit_the_table_are_told():
    labels = volumes()
    origins = list_origins(lengths_of(labels), 4, 1, straddle=True)
    with pytest.raises(ContractError, match="mini-volumes of s1 are listed; volumes given: s0, s2"):
        MiniVolumes(origins, {"s0": labels["s0"], "s2": labels["s2"]})
    with pytest.raises(ContractError, match="s0 has 8 slices along z; its mini-volumes were listed for 9"):
        MiniVolumes(origins, {**labels, "s0": labels["s0"][:8]})
    with pytest.raises(ContractError, match="not the order of the stack"):
        MiniVolumes(origins, {name: labels[name] for name in ("s1", "s0", "s2")})
    with pytest.raises(ContractError, match="different cross-sections"):
        MiniVolumes(origins, {**labels, "s1": labels["s1"][:, :4]})
    with pytest.raises(ContractError, match="slice axes"):
        MiniVolumes([origins[0], replace(origins[1], slice_axis="y")], labels)


def test_another_table_is_told(tmp_path):
    write_table(tmp_path / "other.csv", [{"index": 1}], ["index"])
    with pytest.raises(InputFileError, match="missing columns sample, z_start"):
        read_origins(tmp_path / "other.csv")
