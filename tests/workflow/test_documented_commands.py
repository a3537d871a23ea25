"""Commands that the guides show: Snakemake takes their options."""

import re
import shlex

import pytest
from snakemake.cli import get_argument_parser

from tests.helpers.workflow import REPOSITORY

FILES = (*sorted((REPOSITORY / "docs").rglob("*.md")), *(REPOSITORY / name for name in ("README.md", "Snakefile")))


def shown(parser):
    """Return file and options of each command of Snakemake, and of each of its options that is shown alone with a value."""
    found = []
    for path in FILES:
        for text in re.findall(
            r"^[# ]*(?:\.venv/bin/)?snakemake (-.*)|`(?:\.venv/bin/)?(?:snakemake )?(--?[^`\n]*)`", path.read_text(), re.MULTILINE
        ):
            words = shlex.split("".join(text), comments=True)
            option = words[0].partition("=")[0]
            is_whole = "..." not in words and (text[0] or len(words) > 1 or "=" in words[0])
            if option in parser._option_string_actions and is_whole:
                found.append((path.name, words))
    return found


def test_options_are_options_of_snakemake(capsys):
    parser = get_argument_parser()
    commands = shown(parser)
    assert len(commands) >= 8 and any(words[0] == "--apptainer-args=--nv" for _, words in commands)
    for name, words in commands:
        try:
            _, unknown = parser.parse_known_args(words)
        except SystemExit:
            pytest.fail(f"{name}: snakemake {shlex.join(words)}: {capsys.readouterr().err.splitlines()[-1]}")
        assert unknown == [], f"{name}: snakemake {shlex.join(words)}"
