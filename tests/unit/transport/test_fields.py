"""Concentration, local flux and profile of a solved volume."""

import numpy as np
import pytest
import zarr
from zarr.storage import ZipStore

from calandria.transport.fields import write_fields
from calandria.transport.solver import directions


def solved(labels, diffusivities, **options):
    return directions(labels, diffusivities, tolerance=1e-6, fields=True, **options)


@pytest.mark.parametrize("axis", "zyx")
def test_open_channel_is_linear(axis):
    field = solved(np.zeros((4, 6, 5), np.uint8), {0: 1.0}, axes=(axis,))[axis].field
    number = "zyx".index(axis)
    n = field.concentration.shape[number]
    expected = (np.arange(n) + 0.5) / n
    along = np.moveaxis(field.concentration, number, 0)
    assert along.reshape(n, -1) == pytest.approx(np.repeat(expected[:, None], along[0].size, 1), abs=1e-6)
    assert field.profile == pytest.approx(expected, abs=1e-9)
    assert field.flux[number] == pytest.approx(np.ones(field.concentration.shape), abs=1e-5)
    assert np.abs(np.delete(field.flux, number, 0)).max() < 1e-5


@pytest.mark.parametrize("sides", ["no-flux", "periodic"])
@pytest.mark.parametrize("shape", [(9, 8, 10), (7, 9, 5)])
def test_flux_adds_up_to_the_diffusivity(shape, sides):
    labels = np.random.default_rng(4).choice([0, 0, 1, 2], size=shape).astype(np.uint8)
    for axis, result in solved(labels, {0: 1.0, 1: 0.1}, sides=sides).items():
        number = "zyx".index(axis)
        assert result.field.flux[number].mean() == pytest.approx(result.relative_diffusivity, rel=1e-3)
        assert result.field.concentration.shape == shape
        joined = np.isfinite(result.field.concentration)
        assert joined.mean() == pytest.approx(result.connected_fraction)
        assert not joined[labels == 2].any()
        inner = result.field.concentration[joined]
        assert inner.min() > 0 and inner.max() < 1


def test_fluxes_balance_in_every_voxel():
    labels = np.random.default_rng(5).choice([0, 1], size=(6, 7, 8)).astype(np.uint8)
    c = solved(labels, {0: 1.0, 1: 0.2}, axes=("y",))["y"].field.concentration.astype(float)
    d = np.where(labels == 0, 1.0, 0.2)
    net = np.zeros_like(c)
    for axis in range(3):
        low, high = (np.moveaxis(array, axis, 0) for array in (c, d))
        flow = 2 * high[:-1] * high[1:] / (high[:-1] + high[1:]) * np.diff(low, axis=0)
        along = np.moveaxis(net, axis, 0)
        along[:-1] += flow
        along[1:] -= flow
    net[:, 0] -= 2 * d[:, 0] * c[:, 0]
    net[:, -1] += 2 * d[:, -1] * (1 - c[:, -1])
    assert np.abs(net).max() < 2e-3 * np.abs(np.diff(c, axis=1)).max()


def test_fields_go_into_one_file(tmp_path):
    labels = np.ones((5, 4, 6), np.uint8)
    labels[:, 1, 2] = 0
    results = solved(labels, {0: 1.0})
    write_fields(tmp_path / "fields.zarr.zip", results)
    with ZipStore(tmp_path / "fields.zarr.zip", mode="r") as store:
        root = zarr.open_group(store, mode="r")
        assert sorted(root.group_keys()) == ["z"]  # nothing conducts along y and x
        assert root["z"].attrs["relative_diffusivity"] == results["z"].relative_diffusivity
        concentration = root["z"]["concentration"][...]
        assert np.isfinite(concentration).sum() == 5
        assert concentration[:, 1, 2] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9], abs=1e-6)
        assert root["z"]["flux"].shape == (3, 5, 4, 6)
        assert root["z"]["profile"][...] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9], abs=1e-6)
