"""The same answers on 1, 2, 3 and 4 MPI ranks, and one error for all of them."""

import json

import numpy as np
import pytest
import zarr
from scipy.ndimage import gaussian_filter
from zarr.storage import ZipStore

from calandria.base.records import read_json, read_table
from calandria.base.volumes import Labelled, write_labelled
from calandria.transport.solver import tortuosity
from tests.helpers.ranks import start_ranks

pytestmark = pytest.mark.mpi

PROGRAM = """
import json, sys
import numpy as np
from mpi4py import MPI
from calandria.transport.solver import tortuosity
labels = np.load("labels.npy", mmap_mode="r")
found = []
for axis in "zyx":
    for sides in ("no-flux", "periodic"):
        for diffusivities in ({0: 1.0}, {0: 1.0, 1: 0.05}, {0: 1e-4, 1: 1.0, 2: 1e-4}):
            result = tortuosity(labels, diffusivities, axis=axis, sides=sides, communicator=MPI.COMM_WORLD)
            found.append([result.relative_diffusivity, result.connected_fraction, result.flux_in, result.ranks])
thin = tortuosity(labels[:3], {0: 1.0, 1: 1.0, 2: 1.0}, communicator=MPI.COMM_WORLD)
if MPI.COMM_WORLD.rank == 0:
    print(json.dumps([found, thin.tortuosity_factor]))
"""


@pytest.fixture(scope="module")
def labels():
    field = gaussian_filter(np.random.default_rng(3).standard_normal((23, 12, 13)), 1.2, mode="wrap")
    return np.digitize(field, np.quantile(field, [0.35, 0.65])).astype(np.uint8)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_answers_do_not_depend_on_ranks(tmp_path, labels, ranks):
    np.save(tmp_path / "labels.npy", labels)
    done = start_ranks(ranks, ["-c", PROGRAM], tmp_path)
    assert done.returncode == 0, done.stderr
    found, thin = json.loads(done.stdout)
    expected = [
        tortuosity(labels, diffusivities, axis=axis, sides=sides)
        for axis in "zyx"
        for sides in ("no-flux", "periodic")
        for diffusivities in ({0: 1.0}, {0: 1.0, 1: 0.05}, {0: 1e-4, 1: 1.0, 2: 1e-4})
    ]
    assert thin == pytest.approx(1, abs=1e-6)
    for (value, connected, flux_in, parts), alone in zip(found, expected, strict=True):
        assert parts == ranks
        # across odd periodic extents the coarse sweeps of several ranks differ a little; asked for is 1e-4
        assert value == pytest.approx(alone.relative_diffusivity, rel=1e-5)
        assert flux_in == pytest.approx(alone.flux_in, rel=2e-2)  # fluxes are first order in the field's error
        assert connected == alone.connected_fraction


SHARED_LEVELS = """
import json, sys
import numpy as np
from mpi4py import MPI
from calandria.transport import multigrid
from calandria.transport.solver import tortuosity
multigrid.FEW = int(sys.argv[1])
labels = np.load("large.npy", mmap_mode="r")
found = []
for axis, sides in (("z", "no-flux"), ("x", "periodic")):
    for diffusivities in ({0: 1.0}, {0: 1.0, 1: 1e-3, 2: 1e-3}):
        result = tortuosity(labels, diffusivities, axis=axis, sides=sides, tolerance=1e-6, communicator=MPI.COMM_WORLD)
        found.append([result.relative_diffusivity, result.connected_fraction, result.iterations])
if MPI.COMM_WORLD.rank == 0:
    print(json.dumps(found))
"""


@pytest.mark.parametrize(("ranks", "few"), [(2, 2000), (3, 2000), (4, 2000), (3, 20)])
def test_ranks_that_share_coarse_levels_find_the_same(tmp_path, ranks, few):
    labels = np.random.default_rng(7).choice([0, 0, 1, 2], size=(45, 36, 50)).astype(np.uint8)
    np.save(tmp_path / "large.npy", labels)
    done = start_ranks(ranks, ["-c", SHARED_LEVELS, str(few)], tmp_path)
    assert done.returncode == 0, done.stderr
    expected = [
        tortuosity(labels, diffusivities, axis=axis, sides=sides, tolerance=1e-6)
        for axis, sides in (("z", "no-flux"), ("x", "periodic"))
        for diffusivities in ({0: 1.0}, {0: 1.0, 1: 1e-3, 2: 1e-3})
    ]
    for (value, connected, iterations), alone in zip(json.loads(done.stdout), expected, strict=True):
        assert value == pytest.approx(alone.relative_diffusivity, rel=2e-6)
        assert connected == alone.connected_fraction
        assert abs(iterations - alone.iterations) <= 3


def test_fields_of_two_ranks_are_those_of_one(tmp_path, labels):
    np.save(tmp_path / "labels.npy", labels)
    words = "-m calandria.cli.tortuosity labels.npy --axis all --diffusivity 0=1 --diffusivity 1=0.1 --sides periodic"
    for ranks in (1, 2):
        more = f" --tolerance 1e-6 --fields {ranks}.zarr.zip --output {ranks}.json --ranks {ranks}"
        done = start_ranks(ranks, (words + more).split(), tmp_path)
        assert done.returncode == 0, done.stderr
    stores = [ZipStore(tmp_path / f"{ranks}.zarr.zip", mode="r") for ranks in (1, 2)]
    one, two = (zarr.open_group(store, mode="r") for store in stores)
    for axis in "zyx":
        for name, allowed in (("concentration", 1e-3), ("flux", 2e-2), ("profile", 1e-3)):
            np.testing.assert_allclose(two[axis][name][...], one[axis][name][...], atol=allowed)
    for store in stores:
        store.close()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("", "--diffusivity"),
        ("--diffusivity a", "LABEL=VALUE"),
        ("--diffusivity 0=1 --ranks 4", "4 ranks were promised"),
        ("--diffusivity 0=1 --output .", "is a folder"),
        ("--diffusivity 9=1", "label 9"),
    ],
)
def test_a_wrong_option_is_told_once(tmp_path, labels, options, told):
    np.save(tmp_path / "labels.npy", labels)
    done = start_ranks(2, ["-m", "calandria.cli.tortuosity", "labels.npy", *options.split()], tmp_path)
    lines = [line for line in done.stderr.splitlines() if line.startswith(("error", "hint", "Abort", "Traceback"))]
    assert done.returncode == 2 and len(lines) == 2 and lines[0].startswith("error: ") and told in done.stderr


@pytest.fixture
def folder(tmp_path, labels):
    given = {"settings": {}, "diffusivities": {"pore": 1.0, "cbd": 0.05}, "sides": {}}
    (tmp_path / "given.json").write_text(json.dumps(given))
    write_labelled(tmp_path / "volume.zarr.zip", Labelled(labels, 0.4, (False, True, True), "made by a test"))
    series = np.stack([labels, labels[::-1], labels[:, ::-1]])
    write_labelled(tmp_path / "series.zarr.zip", Labelled(series, 0.4, (False, True, True), "made by a test"))
    return tmp_path


def test_programs_share_work_among_two_ranks(folder):
    common = ["--settings", "given.json", "--case", "resistive", "--axis", "z"]
    solve = ["-m", "workflow_scripts.transport.solve_diffusion", *common]
    for ranks in (1, 2):
        words = [*solve, "--volume", "volume.zarr.zip", "--output", f"{ranks}.json", "--ranks", str(ranks)]
        done = start_ranks(ranks, words, folder)
        assert done.returncode == 0, done.stderr
        assert f"solved on {ranks} ranks" in done.stderr, "the log says so; the record is that of equal work"
    one, two = read_json(folder / "1.json"), read_json(folder / "2.json")
    assert not {"ranks", "wall_s"} & set(two)
    assert two["relative_diffusivity"] == pytest.approx(one["relative_diffusivity"], rel=1e-7)
    words = ["--series", "a=series.zarr.zip", "--output", "rows.csv", "--ranks", "2"]
    done = start_ranks(2, ["-m", "workflow_scripts.transport.solve_series", *common, *words], folder)
    assert done.returncode == 0, done.stderr
    rows = read_table(folder / "rows.csv")
    assert [row["frame"] for row in rows] == ["0", "1", "2"]
    assert float(rows[0]["relative_diffusivity"]) == pytest.approx(one["relative_diffusivity"], rel=1e-7)


def test_equal_work_gives_equal_bytes(folder):
    """Frames are solved whole, so their tables are equal for any number of ranks; a volume that ranks share is equal for equal ranks."""
    common = ["--settings", "given.json", "--case", "resistive", "--axis", "z"]
    tables = {}
    for ranks in (1, 2):
        (folder / str(ranks)).mkdir()
        words = ["--series", "a=series.zarr.zip", "--output", f"{ranks}/rows.csv", "--ranks", str(ranks)]
        done = start_ranks(ranks, ["-m", "workflow_scripts.transport.solve_series", *common, *words], folder)
        assert done.returncode == 0, done.stderr
        tables[ranks] = {path.name: path.read_bytes() for path in (folder / str(ranks)).iterdir()}
    assert set(tables[1]) == {"rows.csv", "rows.json"} and tables[1] == tables[2]
    for ranks in (1, 2):
        records = []
        for _ in range(2):
            words = ["--volume", "volume.zarr.zip", "--output", "record.json", "--ranks", str(ranks)]
            done = start_ranks(ranks, ["-m", "workflow_scripts.transport.solve_diffusion", *common, *words], folder)
            assert done.returncode == 0, done.stderr
            records.append((folder / "record.json").read_bytes())
        assert records[0] == records[1]


def test_a_mistake_on_one_rank_ends_all_of_them(folder, labels):
    wrong = labels.astype(np.int16)
    wrong[-1] = 999
    np.save(folder / "wrong.npy", wrong)
    done = start_ranks(
        2,
        ["-m", "calandria.cli.tortuosity", "wrong.npy", "--diffusivity", "0=1", "--output", "out.json"],
        folder,
        60,
    )
    assert done.returncode != 0
    assert "999" in done.stderr and done.stderr.count("error: ") == done.stderr.count("hint: ") == 1
    assert not (folder / "out.json").exists()


def test_a_mistake_that_all_ranks_meet_is_told_once(folder):
    done = start_ranks(2, ["-m", "calandria.cli.tortuosity", "none.npy", "--diffusivity", "0=1"], folder, 60)
    assert done.returncode == 2 and "Abort" not in done.stderr
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error", "hint"]


ONE_FAILS = """
import sys
from calandria.cli.program import run
from calandria.base.errors import InputFileError
from calandria.transport.ranks import world

def main(arguments):
    communicator = world()
    if communicator.rank == {rank}:
        raise InputFileError("this node cannot see the file", hint="mount it")
    communicator.Barrier()

sys.exit(run(main))
"""


@pytest.mark.parametrize("rank", [0, 1])
def test_a_mistake_that_one_rank_alone_meets_is_told_and_ends_all(folder, rank):
    done = start_ranks(2, ["-c", ONE_FAILS.format(rank=rank)], folder, 60)
    assert done.returncode != 0
    assert done.stderr.count("error: this node cannot see the file\nhint: mount it\n") == 1
