"""Images built for real from the definitions, filled with unit tests and with a part of the workflow: one test, for images are built once.

The base is a Debian made here, with a name of its own, so that nothing can pass for it. Every software set that has an image is built: one by
buildah from its Containerfile and turned into a SIF file, the others by apptainer from their .def. A set that is added is built, too, and the
programs of its rules start in it. With CALANDRIA_TEST_CLUSTER=1 a part runs on the nodes of a SLURM, too.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
import yaml

from calandria.base.records import read_json, read_table, read_table_record
from calandria.base.volumes import read_labelled
from calandria.cluster.images import code_digest
from tests.helpers import containers, slurm
from tests.helpers.containers import RUN, call, call_with_all_rights
from tests.helpers.dumps import write_loading
from tests.helpers.workflow import ON_SLURM, REPOSITORY, TWO_RANKS, job_counts, snakemake

pytestmark = [pytest.mark.slow, pytest.mark.containers]

BASE = "localhost/calandria-test/base:bookworm"
IMAGE = "localhost/calandria-test/voxels:0.1.0"
UNIT_TESTS = (
    "tests/unit/transport",
    "tests/unit/tomography",
    "tests/unit/calendering/test_voxels.py",
    "tests/unit/base/test_volumes.py",
    "tests/unit/base/test_files.py",
    "tests/unit/base/test_provenance.py",
    "tests/physics/test_diffusion_ranks.py",
)
SETTINGS = {
    "name": "contained",
    "title": "Steps in containers",
    "calendering": {"runs_sheet": "runs.tsv", "voxels": {"voxel_edge_um": 0.5, "grid_height_voxels": 24}},
    "surrogate": {"split": {"test_films": ["other"]}},
    "tomography": {"samples_sheet": "samples.tsv"},
    "transport": {
        "tomography": {"cases": {"pore": {"pore": 1.0}}},
        "series": {"cases": {"pore": {"pore": 1.0}}},
        "tolerance": 1e-2,
    },
}
TARGETS = (
    "results/contained/tomography/noise/phases.json",
    "results/contained/transport/noise/pore_z.json",
    "results/contained/transport/calendering/film/cd15/pore_z.csv",
    "results/contained/surrogate/split.json",
)
TABULATED = {key: value for key, value in SETTINGS.items() if key not in ("calendering", "surrogate")} | {"name": "tabulated"}
SETS = sorted(path.stem for path in (REPOSITORY / "containers").glob("*.def") if path.stem != "template")
BY_APPTAINER = [software for software in SETS if software != "voxels"]


def lines_of(name):
    return [line for line in (REPOSITORY / f"envs/{name}.lock").read_text().splitlines() if not line.startswith("#")]


class Site:
    """A machine with container tools: a checkout, a base image, wheels, all in one scratch folder that is removed at the end."""

    def __init__(self, scratch):
        self.scratch, self.images = scratch, scratch / "images"
        self.images.mkdir()
        self.name = f"Debian GNU/Linux 12, base {uuid.uuid4().hex[:8]} of a test"
        self.environment = {**os.environ, "APPTAINER_MKSQUASHFS_ARGS": "-comp zstd -Xcompression-level 3"}
        self.environment["APPTAINER_CACHEDIR"] = str(scratch / "apptainer-cache")
        containers.use_own_storage(scratch / "storage", self.environment)
        self.checkout = scratch / "checkout"  # the commit, without what lies about here
        call("git", "clone", "--quiet", "--shared", REPOSITORY, self.checkout)
        self.commit = call("git", "-C", self.checkout, "rev-parse", "HEAD").strip()
        programs = containers.install_apptainer(scratch)
        self.environment["PATH"] = f"{programs}:{os.environ['PATH']}"
        containers.make_base(scratch / "base.tar", self.name)
        self.call("podman", "import", scratch / "base.tar", BASE)
        (scratch / "base.tar").unlink()
        self.pip_conf, self.wheels = scratch / "pip.conf", scratch / "wheels"
        self.pip_conf.write_text("[global]\nno-index = true\nfind-links = /srv\n")  # the wheels' place while an image is built
        locks = [word for name in SETS for word in ("-r", f"envs/{name}.lock")]
        wheel = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "-w",
            self.wheels,
        ]  # builds one where a project has none
        call(*wheel, *locks, cwd=REPOSITORY)

    def call(self, *command):
        return call(*command, env=self.environment, cwd=self.scratch)

    def run(self, *command, options=()):
        """Run a command in the image as the user that the image names."""
        return self.call(*RUN, *options, IMAGE, *command)


def build_images(site):
    common = [site.checkout / "containers/build.py", "--pip-conf", site.pip_conf]
    volume = f"{site.wheels}:/srv:ro"
    archive = site.scratch / "base-image.tar"
    site.call("buildah", "push", "-q", BASE, f"docker-archive:{archive}:base:bookworm")

    def by_buildah():
        build = ["--tool", "buildah", "--base", BASE, "--prefix", "localhost/calandria-test", "--sif", site.images, "voxels"]
        site.call(*common, *build, "--", "--isolation", "chroot", "--network", "host", "--volume", volume)

    def by_apptainer(software):
        build = ["--tool", "apptainer", "--base", f"docker-archive://{archive}", "--output", site.images, software]
        call_with_all_rights(*common, *build, "--", "--bind", volume, env=site.environment, cwd=site.scratch)

    with ThreadPoolExecutor(2) as pool:
        building = [pool.submit(by_apptainer, software) for software in BY_APPTAINER] + [pool.submit(by_buildah)]
        for done in building:
            done.result()
    archive.unlink()
    assert sorted(path.name for path in site.images.iterdir()) == [f"{software}.sif" for software in SETS]


def labels_say_what_an_image_is(site):
    inspected = json.loads(site.call("buildah", "inspect", "--type", "image", IMAGE))["OCIv1"]["config"]
    found = {"voxels": inspected["Labels"]}
    for software in BY_APPTAINER:
        about = json.loads(site.call("apptainer", "inspect", "--json", site.images / f"{software}.sif"))
        found[software] = about["data"]["attributes"]["labels"]
    own = {}
    for software, labels in found.items():
        own[software] = {
            word: labels[f"org.opencontainers.image.{word}"] for word in ("title", "version", "revision", "licenses")
        }
        assert own[software]["title"] == f"calandria-{software}" and own[software]["licenses"] == "MIT"
        assert own[software]["version"] == "0.1.0" and own[software]["revision"] == site.commit
    assert inspected["User"] == "calandria"
    return own


def programs_of(software):
    """Return the modules that the rules of a software set run."""
    rules = [rule for path in sorted((REPOSITORY / "rules").glob("*.smk")) for rule in path.read_text().split("\nrule ")[1:]]
    mine = [rule for rule in rules if f'"../envs/{software}.yaml"' in rule]
    return sorted({module for rule in mine for module in re.findall(r"-m (workflow_scripts\.[\w.]+)", rule)})


def programs_of_all_rules_start_in_their_images(site):
    user = ("--security", "uid:1000,gid:1000", "--no-home", "--pwd", "/")
    for software in SETS:
        programs = programs_of(software)
        assert programs, f"no rule runs in the image of {software}"
        loop = f"for program in {' '.join(programs)}; do python -m $program --help || echo $program fails; done"
        text = site.call("apptainer", "exec", *user, site.images / f"{software}.sif", "sh", "-c", loop)
        assert "fails" not in text and text.count("usage: ") == len(programs), text[-3000:]


def an_image_holds_its_lock_and_no_leftovers(site):
    program = (
        'import importlib.metadata as m; print(*sorted(f\'{d.name.lower().replace("_", "-")}=={d.version}\''
        " for d in m.distributions()), sep='\\n')"
    )
    expected = sorted([*lines_of("voxels"), "calandria==0.1.0"])
    assert site.run("python", "-c", program).split() == expected
    assert site.run("id", "-u").strip() == "1000"
    leftovers = (
        "for name in pip cc gcc; do command -v $name; done;"
        " for path in $(getent passwd 0 | cut -d: -f6)/.cache /source /opt/build /etc/pip.conf /tmp/* /var/cache/apt/archives/*.deb; do test ! -e $path || echo $path; done"
    )
    assert site.run("sh", "-c", leftovers, options=["--user", "root"]) == ""
    assert f'PRETTY_NAME="{site.name}"' in site.run("cat", "/etc/os-release")
    digest = "from calandria.cluster.images import code_digest; from calandria.base.provenance import image_record; print(code_digest(), image_record()['lock_sha256'])"
    lock = hashlib.sha256((site.checkout / "envs/voxels.lock").read_bytes()).hexdigest()
    assert site.run("python", "-c", digest).split() == [code_digest(site.checkout), lock]


def unit_tests_pass_inside_as_an_ordinary_user(site):
    """The checkout comes without the package, so that what is tested is the image's own."""
    packages = site.scratch / "test-packages"
    names = ("pytest", "pluggy", "iniconfig", "packaging", "pygments", "hypothesis", "sortedcontainers")
    pins = [pin for pin in lines_of("development") if pin.split("==")[0] in names]
    assert len(pins) == len(names)
    call(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", packages, *pins)
    folder = site.scratch / "tests-only"
    shutil.copytree(site.checkout, folder, ignore=shutil.ignore_patterns("calandria", "workflow_scripts", ".git"))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    options = [
        "--volume",
        f"{packages}:/srv:ro",
        "--volume",
        f"{folder}:/data",
        "--env",
        "PYTHONPATH=/srv",
        "--env",
        "OMP_NUM_THREADS=1",
    ]
    command = ["python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *UNIT_TESTS]
    text = site.run(*command, options=[*options, "--workdir", "/data"])
    passed = int(re.search(r"(\d+) passed", text).group(1))
    assert passed > 200 and "skipped" not in text, text[-2000:]
    print(text.splitlines()[-1])


def lammps_starts_in_its_image_as_an_ordinary_user(site):
    """Its program loads the MPI library of the lock when it starts; no step of the study below does."""
    user = ("--security", "uid:1000,gid:1000", "--no-home", "--pwd", "/")
    text = site.call("apptainer", "exec", *user, site.images / "lammps.sif", "sh", "-c", "id -u && lmp -h")
    assert "1000" in text.splitlines() and "Large-scale Atomic/Molecular Massively Parallel Simulator" in text


def make_study(site):
    folder = site.scratch / "study"
    rows = ["film\tcompression_degree_percent\tdumps\tpress"]
    for seed, film in enumerate(("film", "other")):
        (folder / film).mkdir(parents=True)
        dump, press = write_loading(folder / film, 6, 3, 120, 5 + seed)
        rows.append(f"{film}\t15\t{dump.relative_to(folder)}\t{press.relative_to(folder)}")
    (folder / "runs.tsv").write_text("\n".join(rows) + "\n")
    labels = np.random.default_rng(2).choice(np.array([0, 1, 2], np.uint8), size=(24, 12, 14), p=[0.5, 0.2, 0.3])
    tifffile.imwrite(folder / "noise.tif", labels, photometric="minisblack")
    (folder / "samples.tsv").write_text("sample\tpath\tvoxel_edge_um\tlabels\nnoise\tnoise.tif\t0.4\t0=pore 1=cbd 2=am\n")
    (folder / "study.yaml").write_text(yaml.safe_dump(SETTINGS))
    (folder / "tabulated.yaml").write_text(yaml.safe_dump(TABULATED))
    return folder


def run_study(site, folder, *options, study="study.yaml"):
    """Run Snakemake of this environment with the rules and the code of the checkout's copy."""
    own = ("--snakefile", site.checkout / "Snakefile", "--configfile", folder / study)
    return snakemake(folder, *own, *options, **site.environment, PYTHONPATH=str(site.checkout))


def steps_ran_in_their_images(site, folder, labels):
    finished = run_study(site, folder, "--sdm", "apptainer", "--config", f"images={site.images}", "--", *TARGETS)
    assert job_counts(finished) == {
        "import_volume": 1,
        "measure_phases": 1,
        "solve_diffusion": 1,
        "read_dumps": 2,
        "voxelize_frames": 2,
        "solve_series": 1,
        "split_films": 1,
    }
    options = ("--sdm", "apptainer", "--config", f"images={site.images}")
    finished = run_study(site, folder, *options, "--", "results/tabulated/report/results.csv", study="tabulated.yaml")
    assert job_counts(finished) == {"import_volume": 1, "measure_phases": 1, "solve_diffusion": 1, "tabulate_results": 1}
    assert f"Activating singularity image {site.images}/workflow.sif" in finished.stderr, finished.stderr[-3000:]
    results = folder / "results/contained"
    made = {
        "phases": ("voxels", read_json(results / "tomography/noise/phases.json")["provenance"]),
        "volume": ("voxels", read_labelled(results / "tomography/noise/labels.zarr.zip").attributes["provenance"]),
        "diffusion": ("voxels", read_json(results / "transport/noise/pore_z.json")["provenance"]),
        "series": ("voxels", read_table_record(results / "transport/calendering/film/cd15/pore_z.csv")),
        "frames": ("voxels", read_labelled(results / "calendering/film/cd15/frames.zarr.zip").attributes["provenance"]),
        "particles": (
            "lammps",
            read_labelled(results / "calendering/film/cd15/frames.zarr.zip").attributes["particles_provenance"],
        ),
        "split": ("torch", read_json(results / "surrogate/split.json")["provenance"]),
    }
    for what, (software, record) in made.items():
        assert record["operating_system"] == site.name, what
        image = record["image"]
        assert image["title"] == f"calandria-{software}" and image["revision"] == labels[software]["revision"], what
    assert "solved on 2 ranks" in (folder / "logs/contained/transport/solve_diffusion/noise_pore_z.log").read_text()
    assert len(read_table(results / "transport/calendering/film/cd15/pore_z.csv")) > 0


def ranks_in_containers_run_on_two_nodes(site, folder):
    """The launcher `srun` of a job on two nodes starts a container per rank; jobs of Snakemake run in containers, too."""
    slurm.require()
    target = "results/contained/transport/noise/pore_z.json"
    nodes = site.scratch / "nodes"
    shutil.copytree(folder, nodes, ignore=shutil.ignore_patterns("results", "logs", ".snakemake"))
    options = [*ON_SLURM, "--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "10"]
    options += ["--set-resources", *(f"solve_diffusion:{word}" for word in TWO_RANKS)]
    with open("/tmp/calandria_test_slurm.lock", "a") as lock:  # tests in tests/cluster change what nodes do
        fcntl.flock(lock, fcntl.LOCK_EX)
        slurm.wait_for_nodes(60)
        finished = run_study(site, nodes, *options, "--sdm", "apptainer", "--config", f"images={site.images}", "--", target)
    assert job_counts(finished) == {"import_volume": 1, "solve_diffusion": 1}
    here, there = read_json(folder / target), read_json(nodes / target)
    assert "solved on 2 ranks" in (nodes / "logs/contained/transport/solve_diffusion/noise_pore_z.log").read_text()
    assert {**there["provenance"], "inputs_sha256": None} == {**here["provenance"], "inputs_sha256": None}
    assert there["tortuosity_factor"] == pytest.approx(here["tortuosity_factor"], rel=1e-9)


def the_same_numbers_come_out_without_containers(site, folder):
    bare = folder.parent / "bare"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("results", "logs", ".snakemake"))
    target = "results/contained/transport/noise/pore_z.json"
    finished = snakemake(bare, "--configfile", bare / "study.yaml", "--", target)
    assert finished.returncode == 0, finished.stderr[-3000:]
    inside, outside = read_json(folder / target), read_json(bare / target)
    assert outside["provenance"]["image"] is None and outside["provenance"]["operating_system"] != site.name
    assert inside["tortuosity_factor"] == pytest.approx(outside["tortuosity_factor"], rel=1e-9)


def an_image_of_other_code_is_refused(site, folder):
    with open(site.checkout / "workflow_scripts/tomography/measure_phases.py", "a") as file:
        file.write("# an edit after the images were built\n")
    options = ("--sdm", "apptainer", "--config", f"images={site.images}", "--forcerun", "measure_phases", "--", TARGETS[0])
    finished = run_study(site, folder, *options)
    assert finished.returncode != 0
    assert "error: the image calandria-voxels" in finished.stderr and "holds other code than this checkout" in finished.stderr
    assert "hint: build the images of this checkout: containers/build.py" in finished.stderr


def a_missing_image_is_told_before_anything_runs(site, folder):
    options = ("--sdm", "apptainer", "--config", "images=nowhere", "--forcerun", "measure_phases", "--", TARGETS[0])
    finished = run_study(site, folder, *options)
    assert finished.returncode != 0 and "error: the images nowhere/voxels.sif are missing" in finished.stderr


def test_images_are_built_tested_and_used_by_the_workflow(tmp_path_factory):
    containers.require()
    scratch = tmp_path_factory.mktemp("containers")
    try:
        site = Site(scratch)
        build_images(site)
        labels = labels_say_what_an_image_is(site)
        an_image_holds_its_lock_and_no_leftovers(site)
        unit_tests_pass_inside_as_an_ordinary_user(site)
        lammps_starts_in_its_image_as_an_ordinary_user(site)
        programs_of_all_rules_start_in_their_images(site)
        folder = make_study(site)
        steps_ran_in_their_images(site, folder, labels)
        if os.environ.get(slurm.REQUIRED):
            ranks_in_containers_run_on_two_nodes(site, folder)
        the_same_numbers_come_out_without_containers(site, folder)
        a_missing_image_is_told_before_anything_runs(site, folder)
        an_image_of_other_code_is_refused(site, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
