"""The small family of errors that users meet; each says what is wrong and, in a second line, what to do."""

import difflib
import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

Result = TypeVar("Result")


class CalandriaError(Exception):
    """A mistake that the user can correct.

    Parameters
    ----------
    message
        What is wrong, where, what was found and what was expected; one line.
    hint
        What to do about it; one line.
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = " ".join(message.split())
        self.hint = " ".join(hint.split())

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}"

    def __reduce__(self) -> tuple:
        return (functools.partial(type(self), hint=self.hint), (self.message,))


class SettingsError(CalandriaError):
    """A setting or a row of a sample sheet is unknown, missing or out of range."""


class InputFileError(CalandriaError):
    """A file that the user named cannot be read as what it should be."""


class ContractError(CalandriaError):
    """An array or a file breaks the data contract (axes, type, phase codes, voxel edge)."""


class ConvergenceError(CalandriaError):
    """An iteration ended before its tolerance was met; no number is returned.

    Parameters
    ----------
    message, hint
        As of every error.
    bounds
        Proven lower and upper bound of the number that was asked for, where there are any.
    """

    def __init__(self, message: str, *, hint: str, bounds: tuple[float, float] | None = None) -> None:
        super().__init__(message, hint=hint)
        self.bounds = bounds

    def __reduce__(self) -> tuple:
        return (functools.partial(type(self), hint=self.hint, bounds=self.bounds), (self.message,))


class DeviceError(CalandriaError):
    """A device or a launcher that was asked for is not there."""


class ProcessLostError(CalandriaError):
    """Another process of the same training ended or is silent; this one cannot go on alone."""


class StoppedError(CalandriaError):
    """A signal asked for the end, and what was reached is saved; the same command resumes from there."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Return advice naming the known word that is nearest to ``name``.

    >>> nearest_name("porse", ["pore", "cbd", "am"])
    "did you mean 'pore'?"
    >>> nearest_name("x", ["pore", "cbd"])
    'known: pore, cbd'
    """
    words = list(known)
    close = difflib.get_close_matches(name, words, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(words)}"


def shared_outcome(work: Callable[[], Result], gathered: Callable[[Any], Sequence[Any]]) -> Result:
    """Do this process's ``work``; when it is a CalandriaError in any process, all raise the first one.

    ``gathered`` takes what each process gives and returns what all of them gave, in their order; every process calls it.
    """
    result, failed = None, None
    try:
        result = work()
    except CalandriaError as error:
        failed = error
    for first in gathered(failed):
        if first is not None:
            raise first
    return cast(Result, result)


_reporters: list[Callable[[str], object]] = []


def report_errors_by(reporter: Callable[[str], object]) -> None:
    """Hand the two lines of an error to ``reporter`` instead of stderr; so the processes of one run agree on which of them writes."""
    _reporters[:] = [reporter]


def report_error(words: str) -> None:
    """Write the lines of an error to stderr, or hand them to the reporter of :func:`report_errors_by`."""
    for reporter in _reporters or [sys.stderr.write]:
        reporter(words)
