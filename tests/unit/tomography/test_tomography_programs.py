"""The three programs, from an image to a table of mini-volumes; each mistake ends in two lines and no output."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from calandria.base.errors import ContractError, SettingsError
from calandria.base.records import read_json, write_json
from calandria.base.volumes import read_labelled
from calandria.cli import import_image as command
from calandria.cli.program import named_files, run
from calandria.tomography.mini_volumes import read_origins
from tests.helpers.images import grey_image, label_image, write_image
from tests.helpers.published import published_table
from workflow_scripts.autoencoder import list_mini_volumes
from workflow_scripts.tomography import import_volume, measure_phases

EXAMPLE = Path(__file__).parents[3] / "examples" / "nmc532_calendered" / "nmc_1_cal_with_cbd.tif"
MAP = "0=pore 1=am 2=cbd"


def import_image(source, output, *options):
    command.main(["--sample", "a", "--source", str(source), "--voxel-edge-um", "0.4", "--output", str(output), *options])
    return read_labelled(output)


def test_labels_are_imported_with_their_facts(tmp_path):
    image = label_image()
    found = import_image(
        write_image(tmp_path, "tiff", image), tmp_path / "out.zarr.zip", "--labels", MAP, "--flip-z", "--crop", ":,1:,:"
    )
    np.testing.assert_array_equal(found.labels, np.array([0, 2, 1], np.uint8)[image[::-1, 1:]])
    assert (found.voxel_edge_um, found.periodic, found.source) == (0.4, (False, False, False), "image_tiff.tif")
    assert found.attributes["sample"] == "a" and found.attributes["label_map"] == MAP
    assert len(found.attributes["provenance"]["inputs_sha256"]["source"]) == 64


def import_row(folder, settings=None, **row):
    """Import by the rule's program, which is given the row of the sheet and the section's settings."""
    content = {"settings": settings or {}, "row": {"sample": "a", "voxel_edge_um": 0.4, **row}, "inputs": "token"}
    write_json(folder / "given.json", content)
    outputs = ["--output", str(folder / "row.zarr.zip"), "--output-inputs", str(folder / "inputs.json")]
    import_volume.main(["--settings", str(folder / "given.json"), *outputs])
    return read_labelled(folder / "row.zarr.zip")


def test_the_state_goes_from_the_sheet_into_the_volume(tmp_path):
    source = write_image(tmp_path, "tiff", label_image())
    volume = import_row(tmp_path, path=str(source), labels=MAP, state="fresh.1")
    assert volume.attributes["state"] == "fresh.1" and volume.attributes["provenance"]["rule"] == "import_volume"
    found = read_json(tmp_path / "inputs.json")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert found["token"] == "token" and found["files"][str(source)] == [source.stat().st_size, source.stat().st_mtime_ns, digest]


def test_a_row_overrules_the_median_filter_of_the_stage(tmp_path):
    grey = grey_image(label_image((8, 9, 10)), {0: 40, 1: 110, 2: 200}, 30).astype(np.uint8)
    row = {"path": str(write_image(tmp_path, "npy", grey)), "segmentation": "multi_otsu", "classes": "pore cbd am"}
    plain, stage, own = (
        import_row(tmp_path, {"median_filter": 1}, **row).labels,
        import_row(tmp_path, {"median_filter": 3}, **row).labels,
        import_row(tmp_path, {"median_filter": 1}, **row, median_filter=3).labels,
    )
    assert (plain != stage).any() and (stage == own).all()


def test_an_image_without_a_word_on_its_labels_names_option_and_column(tmp_path):
    with pytest.raises(ContractError) as caught:
        import_image(write_image(tmp_path, "tiff", label_image()), tmp_path / "out.zarr.zip")
    assert "--labels" in caught.value.hint and "column labels of the sheet" in caught.value.hint


def test_grey_values_are_segmented_with_a_report(tmp_path):
    truth = label_image((8, 9, 10))
    grey = grey_image(truth, {0: 40, 1: 110, 2: 200}, 5).astype(np.uint8)
    out = tmp_path / "out.zarr.zip"
    found = import_image(
        write_image(tmp_path, "folder_png", grey), out, "--segmentation", "multi_otsu", "--classes", "pore cbd am"
    )
    np.testing.assert_array_equal(found.labels, truth)
    report = found.attributes["segmentation"]
    assert report["classes"] == ["pore", "cbd", "am"] and len(report["thresholds"]) == 2
    assert sum(report["shares"]) == pytest.approx(1)


def test_raw_and_dataset_options_reach_the_readers(tmp_path):
    image = label_image()
    raw = write_image(tmp_path, "raw", image)
    one = import_image(raw, tmp_path / "1.zarr.zip", "--shape", "6x7x5", "--dtype", "uint8", "--labels", MAP, "--axes", "xyz")
    two = import_image(write_image(tmp_path, "hdf5", image), tmp_path / "2.zarr.zip", "--dataset", "scan/labels", "--labels", MAP)
    np.testing.assert_array_equal(one.labels.transpose(2, 1, 0), two.labels)


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (label_image(), (), "holds the values 0, 1, 2 of type uint8"),
        (grey_image(label_image(), {0: 0, 1: 1, 2: 2}, 0.1), (), "a grey image; neither labels nor a segmentation"),
        (grey_image(label_image(), {0: 0, 1: 1, 2: 2}, 0.1), ("--labels", MAP), "values that are not whole"),
        (label_image(labels=(0, 255)), ("--labels", MAP), "labels without a name: 255"),
        (label_image().astype(np.int8) - 1, ("--labels", MAP), "labels without a name: -1"),
        (label_image(), ("--labels", MAP, "--crop", "0:9,:,:"), "crop z 0:9 reaches outside"),
        (label_image(), ("--labels", MAP, "--crop", "2:3,:,:"), "at least 2 along each axis"),
        (label_image(), ("--labels", "0=pore 1=amm"), "phase 'amm' is unknown; did you mean 'am'?"),
        (label_image(), ("--labels", MAP, "--segmentation", "otsu"), "leave either labels or segmentation empty"),
        (label_image()[0], ("--labels", MAP), "two-dimensional image of 7 x 5"),
    ],
)
def test_mistakes_end_in_two_lines_and_no_output(tmp_path, capsys, image, options, message):
    source = write_image(tmp_path, "npy", image)
    output = tmp_path / "out.zarr.zip"
    words = ["--sample", "a", "--source", str(source), "--voxel-edge-um", "0.4", "--output", str(output), *options]
    assert run(command.main, words) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: ") and message in first and second.startswith("hint: ")
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_measure_and_list(tmp_path):
    volume = tmp_path / "out.zarr.zip"
    import_image(write_image(tmp_path, "tiff", label_image((12, 7, 5))), volume, "--labels", MAP)
    write_json(tmp_path / "given.json", {"settings": {}, "stage": "tomography"})
    measure_phases.main(
        ["--settings", str(tmp_path / "given.json"), "--volume", str(volume), "--output", str(tmp_path / "phases.json")]
    )
    record = read_json(tmp_path / "phases.json")
    assert record["sample"] == "a" and record["shape"] == [12, 7, 5] and record["thickness_um"] == pytest.approx(4.8)
    assert len(record["profile_phase_fractions"]["pore"]) == 12
    assert record["labels_sha256"] == hashlib.sha256(read_labelled(volume).labels.tobytes()).hexdigest()
    assert record["provenance"]["stage"] == "tomography"


def test_mini_volumes_are_listed_in_each_sample_or_across_them(tmp_path):
    volume = tmp_path / "out.zarr.zip"
    import_image(write_image(tmp_path, "tiff", label_image((12, 7, 5))), volume, "--labels", MAP)

    def listed(**plan):
        write_json(tmp_path / "given.json", {"settings": {}, "slice_window": 4, **plan})
        words = ["--settings", str(tmp_path / "given.json"), "--volumes", f"a={volume}", f"b={volume}"]
        list_mini_volumes.main([*words, "--output", str(tmp_path / "table.csv")])
        return read_origins(tmp_path / "table.csv")

    assert [(o.sample, o.z_start) for o in listed(stride="window")] == [(n, z) for n in "ab" for z in (0, 4, 8)]
    assert len(listed(stride=1, straddle=True)) == 21
    with pytest.raises(SettingsError, match="stride"):
        listed(stride=0)


@pytest.mark.parametrize(
    ("words", "match"), [(["a=b", "a=c"], "named twice"), (["only"], "does not name"), (["a="], "does not name")]
)
def test_mistakes_in_named_files_are_told(words, match):
    with pytest.raises(Exception, match=match):
        named_files(words)


@pytest.mark.published
def test_the_example_cathode_has_its_published_phases(tmp_path):
    """Fractions as in the source's volume: 0.4005 pore, 0.4995 AM, 0.1000 CBD on 251 x 301 x 301 voxels, to four digits."""
    volume = import_image(EXAMPLE, tmp_path / "cathode.zarr.zip", "--labels", MAP)
    assert volume.labels.shape == (251, 301, 301)
    write_json(tmp_path / "given.json", {"settings": {}})
    given = ["--settings", str(tmp_path / "given.json")]
    measure_phases.main([*given, "--volume", str(tmp_path / "cathode.zarr.zip"), "--output", str(tmp_path / "phases.json")])
    record = read_json(tmp_path / "phases.json")
    (known,) = published_table("volumes")
    assert (known["sample"], known["state"]) == ("1", "CAL") and known["shape"] == "x".join(map(str, record["shape"]))
    assert known["labels_sha256"] == record["labels_sha256"]
    fractions = record["phase_fractions"]
    assert {name: round(value, 4) for name, value in fractions.items()} == {"pore": 0.4005, "am": 0.4995, "cbd": 0.1000}


def test_the_example_is_small_and_carries_its_notice():
    assert EXAMPLE.stat().st_size < 4 << 20
    notice = (EXAMPLE.parent / "LICENSE").read_text()
    assert "Alliance for Sustainable Energy" in notice
    quoted = [
        line.removeprefix(">").strip() for line in (EXAMPLE.parent / "README.md").read_text().splitlines() if line.startswith(">")
    ]
    assert quoted == [line.strip() for line in notice.strip().splitlines()]


@pytest.mark.parametrize("name", ["import_volume", "measure_phases"])
def test_programs_explain_themselves(name):
    shown = subprocess.run(
        [sys.executable, "-m", f"workflow_scripts.tomography.{name}", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert "--output" in shown.stdout
