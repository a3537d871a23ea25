import errno
import os
import pickle
import subprocess
import sys

import pytest

from calandria.base.errors import (
    CalandriaError,
    ContractError,
    ConvergenceError,
    DeviceError,
    InputFileError,
    SettingsError,
    nearest_name,
)
from calandria.base.phases import CODES, NAMES, PHASES, phase_code
from calandria.base.progress import progress
from calandria.cli.program import OSERROR_HINTS, failures, program, run

FAMILY = [SettingsError, InputFileError, ContractError, ConvergenceError, DeviceError]


@pytest.mark.parametrize("kind", FAMILY)
def test_an_error_is_two_lines_whatever_it_is_told(kind):
    error = kind("the file\n  is  short", hint="write\nit again")
    assert isinstance(error, CalandriaError)
    assert str(error) == "the file is short\nwrite it again"


@pytest.mark.parametrize("kind", FAMILY)
def test_an_error_survives_the_way_between_processes(kind):
    again = pickle.loads(pickle.dumps(kind("wrong", hint="mend it")))
    assert type(again) is kind and (again.message, again.hint) == ("wrong", "mend it")


def test_a_hint_is_required():
    with pytest.raises(TypeError):
        CalandriaError("wrong")


def test_nearest_name():
    assert nearest_name("poer", PHASES) == "did you mean 'pore'?"
    assert nearest_name("separator", ["pore", "am"]) == "known: pore, am"
    assert nearest_name("x", iter(["a", "b"])) == "known: a, b"


def test_phase_codes_are_those_of_the_contract():
    assert dict(PHASES) == {"pore": 0, "cbd": 1, "am": 2, "void": 4}
    assert all(phase_code(NAMES[code]) == code for code in CODES)
    with pytest.raises(SettingsError, match="phase 'AM' is unknown"):
        phase_code("AM")
    with pytest.raises(TypeError):
        PHASES["sea"] = 9


def _raiser(error):
    def main(arguments=None):
        if error is not None:
            raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (None, 0, []),
        (ContractError("wrong\naxes", hint="transpose"), 2, ["error: wrong axes", "hint: transpose"]),
        (KeyboardInterrupt(), 130, ["interrupted; finished results are kept"]),
        (BrokenPipeError(), 141, []),
        (
            OSError(errno.ENOSPC, "No space left on device", "volume.zarr.zip"),
            2,
            ["error: No space left on device ('volume.zarr.zip')", f"hint: {OSERROR_HINTS[errno.ENOSPC]}"],
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "out.json"),
            2,
            ["error: Permission denied ('out.json')", "hint: check who may read or write there"],
        ),
    ],
)
def test_exit_codes_and_error_lines(error, code, lines, capsys):
    assert run(_raiser(error)) == code
    captured = capsys.readouterr()
    assert captured.err.splitlines() == lines and captured.out == ""


def test_a_fault_of_the_program_is_not_dressed_as_one_of_the_user():
    with pytest.raises(ZeroDivisionError):
        run(_raiser(ZeroDivisionError()))


def test_an_error_of_the_system_that_says_nothing_to_users_keeps_its_traceback():
    with pytest.raises(OSError, match="odd"):
        run(_raiser(OSError(errno.EDOM, "odd")))


def test_a_file_that_is_not_there_is_two_lines(tmp_path, capsys):
    assert run(lambda arguments: open(tmp_path / "none.txt").close()) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "none.txt" in lines[0] and lines[1].startswith("hint: ")


def test_a_reader_that_has_seen_enough_ends_a_program_without_words():
    code = "import sys; from calandria.cli.program import run; sys.exit(run(lambda a: [print(i) for i in range(100000)]))"
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    program.stdout.readline()
    program.stdout.close()
    assert program.stderr.read() == b"" and program.wait(20) == 141
    program.stderr.close()


def test_failures_are_those_of_logs_that_end_in_an_error(tmp_path):
    (tmp_path / "stage").mkdir()
    for name, text in {
        "good": "note\n",
        "bad": "note\nerror: wrong\nhint: mend\n",
        "fault": "Traceback (most recent call last):\n  File\nValueError: x\n",
        "old": "error: long ago\nhint: forget it\n",
    }.items():
        (tmp_path / f"stage/{name}.log").write_text(text)
    os.utime(tmp_path / "stage/old.log", (100, 100))
    told = failures(tmp_path, since=200)
    assert told == [
        f"in {tmp_path}/stage/bad.log:\nerror: wrong\nhint: mend",
        f"in {tmp_path}/stage/fault.log:\nValueError: x",
    ]


def test_run_hands_the_arguments_on():
    seen = []
    assert run(seen.extend, ["--a", "1"]) == 0 and seen == ["--a", "1"]


def test_help_keeps_paragraphs_and_shows_defaults_and_options_are_not_guessed(capsys):
    parser = program("First.\n\nSecond paragraph.", "thing")
    parser.add_argument("--edge-um", type=float, default=0.4, help="edge in um")
    text = parser.format_help()
    assert "usage: thing" in text and "First.\n\nSecond paragraph." in text and "edge in um (default: 0.4)" in text
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["--edge", "1"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: unrecognized arguments: --edge 1\nhint: all options: thing --help\n"


def test_progress_is_silent_where_nobody_watches(capfd):
    assert list(progress(range(3), "frames", unit="frame")) == [0, 1, 2]
    captured = capfd.readouterr()
    assert captured.err == captured.out == ""


def test_progress_names_itself_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    bar = progress(range(3), "frames", unit="frame")
    assert not bar.disable and bar.desc.startswith("frames") and list(bar) == [0, 1, 2]
    assert "frames" in capsys.readouterr().err
