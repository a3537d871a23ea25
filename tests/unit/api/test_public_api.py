"""The public functions of the package, with other inputs than the examples in their docstrings."""

import ast
import inspect
import subprocess
import sys

import numpy as np
import pytest

import calandria
from calandria import api
from calandria.base.errors import ContractError, InputFileError, SettingsError
from calandria.base.volumes import write_labelled
from calandria.calendering.settings import VoxelSettings
from calandria.calendering.voxels import choose_grid, paint_frame
from calandria.tomography.images import GreyVolume
from calandria.transport.solver import tortuosity as solver
from tests.helpers.dumps import columns_of, dump_text, random_particles, write_dump


def modules_after(statement: str, folder) -> set[str]:
    """Return the third parties' packages that a fresh Python has imported after a statement, in an empty folder."""
    code = f"import sys; before = set(sys.modules); {statement}; print(sorted({{m.partition('.')[0] for m in set(sys.modules) - before}}))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True).stdout
    return set(ast.literal_eval(shown.splitlines()[-1])) - set(sys.stdlib_module_names) - {"calandria"}


def test_importing_the_package_imports_no_other_package_but_numpy(tmp_path):
    assert modules_after("import calandria", tmp_path) <= {"numpy"}
    assert modules_after("import calandria; [getattr(calandria, name) for name in calandria.__all__]", tmp_path) <= {"numpy"}


def test_the_tortuosity_of_an_open_volume_is_1_from_any_folder_and_needs_numpy_only(tmp_path):
    statement = (
        "import calandria, numpy; "
        "print(f\"{calandria.tortuosity(numpy.zeros((20, 20, 20), 'uint8'), {0: 1.0}).tortuosity_factor:.6f}\")"
    )
    shown = subprocess.run([sys.executable, "-c", statement], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert shown == "1.000000\n"
    assert modules_after(statement, tmp_path) <= {"numpy"}


def test_every_public_name_is_there_listed_and_described():
    assert set(calandria.__all__) <= set(dir(calandria))
    for name in calandria.__all__:
        found = getattr(calandria, name)
        assert name == "__version__" or (inspect.getdoc(found) or "").strip()
    for name, function in vars(api).items():
        if inspect.isfunction(function) and function.__module__ == api.__name__ and not name.startswith("_"):
            assert getattr(calandria, name) is function, f"{name} of calandria.api is no public name"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="tortuousity"):
        calandria.tortuousity  # noqa: B018


def test_the_version_is_that_of_the_installed_package():
    from importlib.metadata import version

    assert calandria.__version__ == version("calandria")


def test_tortuosity_takes_arrays_and_labelled_volumes_and_all_options():
    labels = np.random.default_rng(4).choice(np.array([0, 1, 2], np.uint8), (9, 8, 10), p=[0.6, 0.1, 0.3])
    volume = calandria.Labelled(labels, 0.3, (False, True, True), "a test")
    options = {"axis": "x", "sides": "periodic", "tolerance": 1e-5}
    expected = solver(labels, {0: 1.0, 1: 0.2}, **options)
    for given in (labels, volume):
        found = calandria.tortuosity(given, {0: 1.0, 1: 0.2}, **options)
        assert found.relative_diffusivity == expected.relative_diffusivity
        assert (found.axis, dict(found.sides)) == ("x", {"z": "periodic", "y": "periodic"})


def test_the_tortuosity_of_a_labelled_volume_is_that_of_its_electrode_between_its_own_sides():
    labels = np.random.default_rng(8).choice(np.array([0, 0, 2], np.uint8), size=(9, 6, 7))
    above = np.concatenate([labels, np.full((2, 6, 7), 4, np.uint8)])
    film = calandria.Labelled(above, 0.4, (False, True, False), "a test")
    found = calandria.tortuosity(film, {0: 1.0})
    sides = {"y": "periodic", "x": "no-flux"}
    assert found.tortuosity_factor == calandria.tortuosity(labels, {0: 1.0}, sides=sides).tortuosity_factor is not None
    walls = calandria.tortuosity(film, {0: 1.0}, sides="no-flux").relative_diffusivity
    assert walls == calandria.tortuosity(labels, {0: 1.0}).relative_diffusivity != found.relative_diffusivity


def test_phase_fractions_leave_void_out():
    labels = np.zeros((3, 2, 2), np.int64)
    labels[0] = [[2, 2], [2, 1]]
    labels[2] = 4
    assert calandria.phase_fractions(labels) == {"pore": 4 / 8, "cbd": 1 / 8, "am": 3 / 8}
    volume = calandria.Labelled(labels.astype(np.uint8), 1.0, (False,) * 3, "a test")
    assert calandria.phase_fractions(volume) == calandria.phase_fractions(labels.astype(np.uint8))


@pytest.mark.parametrize("function", [calandria.phase_fractions, lambda labels: calandria.contact_areas(labels, voxel_edge_um=1)])
@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.zeros((2, 3, 3, 3), np.uint8), r"4 axes; expected one volume \(z, y, x\)"),
        (np.zeros((3, 3), np.uint8), "2 axes"),
        (np.full((2, 2, 2), 3), r"labels \[3\]"),
        (np.full((2, 2, 2), 256), "uint8"),
        (np.full((2, 2, 2), -1), "uint8"),
        (np.zeros((2, 2, 2)), "float64"),
        (np.zeros((0, 2, 2), np.uint8), "empty"),
    ],
)
def test_what_is_no_volume_of_phase_codes_is_refused(function, labels, words):
    with pytest.raises(ContractError, match=words):
        function(labels)


def test_contact_areas_count_faces_and_wraps():
    labels = np.zeros((2, 3, 4), np.uint8)
    labels[:, :, 0] = 2
    open_sides = calandria.contact_areas(labels, voxel_edge_um=2.0)
    assert open_sides == {"pore_cbd": 0.0, "pore_am": 6 * 4.0, "am_cbd": 0.0}
    wrapping = calandria.contact_areas(labels, voxel_edge_um=2.0, periodic=(False, False, True))
    assert wrapping["pore_am"] == 2 * open_sides["pore_am"]
    volume = calandria.Labelled(labels, 2.0, (False, False, True), "a test")
    assert calandria.contact_areas(volume) == wrapping
    assert calandria.contact_areas(volume, voxel_edge_um=1.0)["pore_am"] == 12.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "voxel_edge_um is None"),
        ({"voxel_edge_um": 0.0}, "voxel_edge_um is 0.0"),
        ({"voxel_edge_um": float("nan")}, "voxel_edge_um is nan"),
        ({"voxel_edge_um": 1.0, "periodic": (True, False)}, "periodic has 2 entries"),
    ],
)
def test_contact_areas_need_an_edge_and_three_sides(options, words):
    with pytest.raises(SettingsError, match=words):
        calandria.contact_areas(np.zeros((2, 2, 2), np.uint8), **options)


def test_read_volume_returns_labelled_files_as_they_were_written(tmp_path):
    labels = np.random.default_rng(1).choice(np.array([0, 1, 2, 4], np.uint8), (5, 6, 7))
    volume = calandria.Labelled(labels, 0.37, (False, True, False), "a test", attributes={"sample": "a"})
    write_labelled(tmp_path / "volume.zarr.zip", volume)
    found = calandria.read_volume(tmp_path / "volume.zarr.zip")
    assert isinstance(found, calandria.Labelled)
    np.testing.assert_array_equal(found.labels, labels)
    assert (found.voxel_edge_um, found.periodic, found.attributes) == (0.37, (False, True, False), {"sample": "a"})
    with pytest.raises(SettingsError, match="found voxel_edge_um, axes, crop"):
        calandria.read_volume(tmp_path / "volume.zarr.zip", voxel_edge_um=1.0, axes="xyz", crop="1:,:,:")


def test_read_volume_maps_labels_turns_and_crops(tmp_path):
    values = np.random.default_rng(2).choice(np.array([7, 9], np.int16), (4, 5, 6))
    np.save(tmp_path / "image.npy", values)
    found = calandria.read_volume(
        tmp_path / "image.npy", voxel_edge_um=0.2, labels={7: "am", 9: "pore"}, axes="xyz", flip_z=True, crop="1:,:,:3"
    )
    assert isinstance(found, calandria.Labelled)
    expected = np.where(values == 7, 2, 0).transpose(2, 1, 0)[::-1][1:, :, :3]
    np.testing.assert_array_equal(found.labels, expected)
    assert (found.voxel_edge_um, found.source) == (0.2, "image.npy")


def test_read_volume_keeps_grey_values_in_their_type(tmp_path):
    values = np.random.default_rng(3).integers(0, 60000, (3, 4, 5)).astype(np.uint16)
    values.tofile(tmp_path / "image.raw")
    found = calandria.read_volume(str(tmp_path / "image.raw"), shape=(3, 4, 5), dtype="uint16")
    assert isinstance(found, GreyVolume)
    np.testing.assert_array_equal(found.values, values)
    assert (found.values.dtype, found.voxel_edge_um, found.source) == (np.uint16, None, "image.raw")


def test_read_volume_refuses_what_it_cannot_read(tmp_path):
    np.save(tmp_path / "image.npy", np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(SettingsError, match="voxel_edge_um is missing"):
        calandria.read_volume(tmp_path / "image.npy", labels={0: "pore"})
    with pytest.raises(SettingsError, match="phase 'poor' is unknown"):
        calandria.read_volume(tmp_path / "image.npy", labels={0: "poor"}, voxel_edge_um=1.0)
    with pytest.raises(ContractError, match="labels without a name: 0"):
        calandria.read_volume(tmp_path / "image.npy", labels={1: "pore"}, voxel_edge_um=1.0)
    with pytest.raises(ContractError, match="voxel_edge_um is -1"):
        calandria.read_volume(tmp_path / "image.npy", labels={0: "pore"}, voxel_edge_um=-1.0)
    with pytest.raises(InputFileError, match="does not exist"):
        calandria.read_volume(tmp_path / "nothing.tif")


def test_read_dumps_reads_all_frames_in_um(tmp_path):
    frames = [dump_text(step, columns_of(z=[0.5, 1.5, 4.0 - step / 100])) for step in (0, 50)]
    write_dump(tmp_path / "run.10.dump", frames[1])
    write_dump(tmp_path / "run.9.dump", frames[0])
    for sources in (tmp_path, str(tmp_path / "run.*.dump"), [tmp_path / "run.9.dump", str(tmp_path / "run.10.dump")]):
        found = calandria.read_dumps(sources, phase_of_type={1: "am", 2: "cbd"}, collector_z_um=0.25)
        assert found.step.tolist() == [0, 50]
        assert found.phase.tolist() == [2, 1, 2]
        np.testing.assert_allclose(found.z, [[0.25, 1.25, 3.75], [0.25, 1.25, 3.25]])


def test_read_dumps_tells_wrong_arguments_and_files(tmp_path):
    dump = write_dump(tmp_path / "run.dump", dump_text(0, columns_of(radius=None)))
    with pytest.raises(SettingsError, match=r"arguments of read_dumps.*phase_of_type"):
        calandria.read_dumps(dump, phase_of_type={1: "carbon"})
    with pytest.raises(InputFileError, match="neither radius nor diameter"):
        calandria.read_dumps(dump)
    assert calandria.read_dumps(dump, radius_of_type_um={1: 0.5, 2: 1.5}).radius.tolist() == [[0.5, 1.5, 0.5]]
    with pytest.raises(InputFileError, match="found 1 frames; expected 2"):
        calandria.read_dumps(dump, radius_of_type_um={1: 0.5, 2: 1.5}, expected_frames=2)


def test_voxelize_paints_as_the_workflow_does():
    particles = random_particles(5, 12, (9, 8, 10), frames=2)
    thickness = np.array([9.0, 8.0])
    series = calandria.voxelize(particles, 0.5, thickness_um=thickness)
    grid = choose_grid(particles, thickness, VoxelSettings(voxel_edge_um=0.5, grid_height_multiple=1))
    assert series.labels.shape == (2, 18, 16, 20)
    for frame in range(2):
        painted = paint_frame(particles, frame, thickness[frame], grid)
        np.testing.assert_array_equal(series.labels[frame], painted.labels)
        assert series.frames["cut_loss"][frame] == painted.cut_loss
    assert series.periodic == (False, True, True)
    assert series.frames["thickness_um"].tolist() == [9.0, 8.0]


def test_voxelize_takes_the_highest_sphere_or_one_height_for_all_frames():
    particles = random_particles(6, 5, (6, 6, 6), frames=2)
    top = (particles.z + particles.radius).max(axis=1)
    np.testing.assert_array_equal(calandria.voxelize(particles, 1.0).frames["thickness_um"], top)
    fixed = calandria.voxelize(particles, 1.0, thickness_um=4.0, height_voxels=7)
    assert fixed.labels.shape[1] == 7
    assert (fixed.labels[:, 4:] == 4).all() and (fixed.labels[:, :4] != 4).all()


@pytest.mark.parametrize("thickness", [[1.0, 2.0, 3.0], 0.0, float("nan"), [[1.0], [2.0]]])
def test_voxelize_refuses_impossible_heights(thickness):
    with pytest.raises(SettingsError, match="expected a height above 0, or one for each of the 2 frames"):
        calandria.voxelize(random_particles(6, 5, (6, 6, 6), frames=2), 1.0, thickness_um=thickness)


def test_voxelize_refuses_settings_out_of_range_and_a_box_without_whole_voxels():
    particles = random_particles(6, 5, (6, 6, 6))
    with pytest.raises(SettingsError, match="arguments of voxelize: voxel_edge_um"):
        calandria.voxelize(particles, -1.0)
    with pytest.raises(ContractError, match=r"holds no whole voxels of 2\.5 um"):
        calandria.voxelize(particles, 2.5)
    assert calandria.voxelize(particles, 2.5, largest_misfit=0.25).voxel_edge_um == 3.0


def test_to_xarray_has_dimensions_coordinates_and_facts():
    xarray = pytest.importorskip("xarray")
    labels = np.random.default_rng(7).choice(np.array([0, 1, 2, 4], np.uint8), (2, 3, 4, 5))
    frames = {"time_us": np.array([0.0, 75.0]), "thickness_um": np.array([1.2, 1.1])}
    series = calandria.Labelled(labels, 0.4, (False, True, True), "a test", frames, {"film": "film_1"})
    found = calandria.to_xarray(series)
    assert isinstance(found, xarray.DataArray)
    assert found.dims == ("t", "z", "y", "x")
    np.testing.assert_array_equal(found.values, labels)
    np.testing.assert_allclose(found.x, [0.2, 0.6, 1.0, 1.4, 1.8])
    assert found.y.attrs["units"] == "um"
    assert found.coords["thickness_um"].dims == ("t",) and found.coords["time_us"].values.tolist() == [0.0, 75.0]
    assert found.attrs["film"] == "film_1" and found.attrs["periodic"] == [False, True, True]
    assert found.attrs["phases"] == {"pore": 0, "cbd": 1, "am": 2, "void": 4}
    volume = series.frame(1).to_xarray()
    assert volume.dims == ("z", "y", "x") and volume.attrs["thickness_um"] == 1.1


VOLUME = "calandria.Labelled(numpy.zeros((2, 2, 2), 'uint8'), 1.0, (False, False, False), 'a test')"


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("tifffile", "calandria.read_volume('image.npy')"),
        ("h5py", "calandria.read_volume('image.npy')"),
        ("pydantic", "calandria.read_dumps('run.dump')"),
        ("pydantic", "calandria.voxelize(None)"),
        ("xarray", f"calandria.to_xarray({VOLUME})"),
        ("zarr", f"__import__('calandria.base.volumes').base.volumes.write_labelled('a.zarr.zip', {VOLUME})"),
    ],
)
def test_a_missing_package_is_an_error_of_two_lines_with_what_to_install(package, call, tmp_path):
    code = f"import sys; sys.modules[{package!r}] = None\nimport calandria, numpy\ntry: {call}\nexcept calandria.CalandriaError as error: print(error)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    first, second = ended.stdout.splitlines()
    assert f"needs the package {package}, which this Python environment does not have" in first
    assert second == f"install it: pip install {package}"
    assert not list(tmp_path.iterdir())
