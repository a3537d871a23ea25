"""The folder of a study: its definition, its journal, and where leases, checkpoints and logs lie."""

import errno
import json
import os
import re
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from sqlalchemy.exc import SQLAlchemyError

from ..base.errors import CalandriaError, InputFileError, SettingsError
from ..base.records import content_digest, file_digest, read_json, write_json
from ..learning.settings import RUN_CONTROL, SearchSettings
from .locks import OwnedLock, Owner
from .sampling import make_pruner

JOURNAL_STALE_SECONDS = 300.0
"""A writer of another machine that holds the journal's lock for longer counts as dead: longer than a network is away as a rule, for
what such a writer has not sent yet would still arrive, over lines of others."""

DATABASE_ERRORS = (optuna.exceptions.StorageInternalError, SQLAlchemyError)
"""What a database raises that does not answer, or refuses; it is never the trial's fault."""

PLACEHOLDER = re.compile(r"\$\{(\w+)\}")

LASTING = (0, 1, 6)
"""Operations of the journal that must outlive a power cut: studies that are made and deleted, trials that end."""


class JournalError(CalandriaError):
    """The journal of a study cannot be written."""


@dataclass(frozen=True)
class SearchDefinition:
    """What is searched.

    Parameters
    ----------
    name
        Name of the study, e.g. ``surrogate``.
    objective
        Module with ``suggest`` and ``run``, e.g. ``calandria.surrogate.trial``.
    settings
        Settings that both get; JSON.
    data
        Lists of paths by name.
    search
        Budget, sampler, pruner, workers.
    device
        ``cpu`` or ``cuda``.
    direction
        ``minimize`` or ``maximize``.
    value_name
        What the value of a trial is, in words; it changes no trial.
    data_sha256, study_name
        Digests of the files of ``data`` and the study's name; :meth:`identified` fills them in.
    control
        Settings of the run that change no value and are no part of the study's name: cache sizes, epochs between checkpoints; JSON.
    version
        Version of the rule that searches; another one makes another study.
    """

    name: str
    objective: str
    settings: dict[str, Any]
    data: dict[str, list[str]]
    search: SearchSettings
    device: str = "cpu"
    direction: str = "minimize"
    data_sha256: dict[str, list[str]] = field(default_factory=dict)
    study_name: str = ""
    value_name: str = "value"
    control: dict[str, Any] = field(default_factory=dict)
    version: int = 0

    def __post_init__(self) -> None:
        if self.direction not in ("minimize", "maximize"):
            raise SettingsError(
                f"direction of study {self.name!r} is {self.direction!r}; expected minimize or maximize",
                hint="correct the definition",
            )

    def identified(self) -> Self:
        """Return the definition with absolute paths, the digests of its files, and the name of its study.

        The name carries a digest of all that a trial's value depends on: another objective, setting, input file, seed, sampler or
        pruner makes another study in the same journal, so trials of different settings never mix. Where the files lie does not count.
        """
        paths = {name: [str(Path(path).resolve()) for path in files] for name, files in self.data.items()}
        digests = {name: [file_digest(path) for path in files] for name, files in paths.items()}
        search = {key: value for key, value in self.search.model_dump().items() if key not in {"n_trials", *RUN_CONTROL}}
        matter = [self.objective, self.version, self.settings, digests, search, self.direction]
        study_name = f"{self.name}-{content_digest(matter)[:12]}"
        return replace(self, data=paths, data_sha256=digests, study_name=study_name)


def _owner_is_dead(lease: Path) -> bool:
    """Say whether the worker that a lease names has certainly ended."""
    try:
        owner = Owner.parsed(lease.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return False
    return owner is not None and owner.is_dead()


class StudyFolder:
    """The scratch folder of a search; it may be shared by workers on several machines."""

    def __init__(self, directory: str | os.PathLike) -> None:
        self.directory = Path(directory)

    @property
    def definition_path(self) -> Path:
        """Where the definition lies, for workers."""
        return self.directory / "search.json"

    @property
    def journal_path(self) -> Path:
        """Where trials are recorded, unless a database is."""
        return self.directory / "journal.log"

    @property
    def log_folder(self) -> Path:
        """Where workers that the controller started say what they did."""
        return self.directory / "logs"

    def checkpoint_path(self, study_name: str, number: int) -> Path:
        """Return the checkpoint file of a trial."""
        return self.directory / "checkpoints" / study_name / f"trial_{number}.pt"

    def discard_checkpoint(self, study_name: str, number: int) -> None:
        """Delete the checkpoint of a trial that has ended, with what a killed writer left of it."""
        path = self.checkpoint_path(study_name, number)
        for leftover in [path, *path.parent.glob(f".unfinished-*-{path.name}")]:
            leftover.unlink(missing_ok=True)

    def discard_finished(self, study_name: str, finished: Collection[int]) -> None:
        """Delete the checkpoints and leases that workers left which were killed just after a trial had ended."""
        leases = self.lease(study_name, 0, 1.0).path.parent.glob("trial_*.lease")
        for path in [*self.checkpoint_path(study_name, 0).parent.glob("*trial_*.pt"), *leases]:
            number = path.stem.rpartition("_")[2]
            if number.isdigit() and int(number) in finished and (path.suffix == ".pt" or _owner_is_dead(path)):
                path.unlink(missing_ok=True)

    def lease(self, study_name: str, number: int, stale_seconds: float, name: str = "") -> OwnedLock:
        """Return the lease of a trial: whoever holds it runs the trial."""
        return OwnedLock(self.directory / "leases" / study_name / f"trial_{number}.lease", stale_seconds, name)

    def claim_lock(self, study_name: str, stale_seconds: float) -> OwnedLock:
        """Return the lock under which trials are counted, made and taken over."""
        return OwnedLock(self.directory / "leases" / study_name / "claim.lock", stale_seconds)

    def controller_lock(self, stale_seconds: float) -> OwnedLock:
        """Return the lock that keeps a second controller out."""
        return OwnedLock(self.directory / "controller.lock", stale_seconds)

    def write_definition(self, definition: SearchDefinition) -> None:
        """Write an identified definition for the workers and make the folders they need."""
        self.make_folders(definition)
        facts = {entry.name: getattr(definition, entry.name) for entry in fields(definition)}
        write_json(self.definition_path, facts | {"search": definition.search.model_dump()})

    def make_folders(self, definition: SearchDefinition) -> None:
        """Make the folders of a study's leases, checkpoints and logs."""
        for name in ("checkpoints", "leases"):
            (self.directory / name / definition.study_name).mkdir(parents=True, exist_ok=True)
        self.log_folder.mkdir(exist_ok=True)

    def read_definition(self) -> SearchDefinition:
        """Read the definition that the controller wrote."""
        content = read_json(self.definition_path)
        try:
            search = SearchSettings.from_mapping(content.pop("search"), str(self.definition_path))
            return SearchDefinition(search=search, **content)
        except (AttributeError, KeyError, TypeError) as error:
            raise InputFileError(
                f"{str(self.definition_path)!r} is not the definition of a search ({error})",
                hint="start the search again; it writes the definition for its workers",
            ) from error

    def open_storage(self, definition: SearchDefinition) -> BaseStorage:
        """Open the journal, or the database that the settings name."""
        if definition.search.storage is None:
            return JournalStorage(MendedJournal(self.journal_path))
        return open_database(definition.search.storage)

    def open_study(self, definition: SearchDefinition) -> optuna.Study:
        """Open the study of an identified definition, making it if it is new."""
        storage, pruner = self.open_storage(definition), make_pruner(definition.search)
        with suppress(KeyError):  # nothing is written where it is there
            return optuna.load_study(study_name=definition.study_name, storage=storage, pruner=pruner)
        with self.claim_lock(definition.study_name, JOURNAL_STALE_SECONDS).held():
            return optuna.create_study(
                study_name=definition.study_name,
                storage=storage,
                pruner=pruner,
                direction=StudyDirection[definition.direction.upper()],
                load_if_exists=True,
            )


def open_database(url: str, read_only: bool = False) -> RDBStorage:
    """Open a database of trials; ``${NAME}`` in the URL is taken from the environment. No error shows the URL's password."""
    missing = [name for name in PLACEHOLDER.findall(url) if name not in os.environ]
    shown = re.sub(r"//[^/]*@", "//", url)
    if missing:
        raise JournalError(
            f"storage {shown!r} needs the environment variable {missing[0]}, which is not set",
            hint="export it before the same command",
        )
    filled = PLACEHOLDER.sub(lambda found: os.environ[found[1]], url)
    file = Path(filled.removeprefix("sqlite:///"))
    if read_only and filled.startswith("sqlite:///") and not file.exists():
        raise JournalError(f"storage {shown!r} does not exist", hint="the search makes it")
    try:
        return RDBStorage(
            filled,
            engine_kwargs={} if filled.startswith("sqlite") else {"pool_pre_ping": True},
            skip_compatibility_check=read_only,
            skip_table_creation=read_only,
        )
    except Exception as error:  # drivers raise errors of their own kinds
        words = str(error)
        for secret in [password for name in PLACEHOLDER.findall(url) if (password := os.environ[name])]:
            words = words.replace(secret, "***")
        raise JournalError(
            f"storage {shown!r} cannot be opened: {words}",
            hint="check the URL, the server and that its Python driver is installed; or leave storage empty for a journal file",
        ) from None


class MendedJournal(JournalFileBackend):
    """Optuna's journal file, repaired before every write.

    A writer killed in the middle of a line, or a full disk, leaves a torn last line; Optuna would append to it and could never read the
    file again. Under the lock the torn line, which nobody has acted on, is cut off.
    """

    _lock: Any

    def __init__(self, path: str | os.PathLike) -> None:
        self._waiting: list[dict[str, Any]] | None = None
        lock: Any = OwnedLock(str(path) + ".lock", JOURNAL_STALE_SECONDS)
        super().__init__(str(path), lock_obj=lock)
        with self._lock.held():
            mend_journal(path)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records, each whole or not at all; the end of a trial, and with it all before, is flushed to the disk.

        The disk is awaited without the lock: it may take a hundred times as long as the writing. A writer that was cut off for so long
        that it lost the lock looks whether its records arrived whole, and writes them again if not.
        """
        if self._waiting is not None:
            self._waiting += logs
            return
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        size = None
        try:
            with ExitStack() as kept:
                while True:
                    self._lock.acquire()
                    try:
                        if size is not None and lines in Path(self._file_path).read_bytes()[size:]:
                            break
                        size = mend_journal(self._file_path)
                        handle = os.open(self._file_path, os.O_WRONLY | os.O_APPEND)
                        try:
                            keeper = os.dup(handle)
                            kept.callback(os.close, keeper)
                            self._append(handle, lines)
                        except OSError:
                            mend_journal(self._file_path)  # whole lines stay: others may have read and acted on them
                            raise
                    finally:
                        was_mine = self._lock.release()
                    if was_mine:
                        break
                if any(log["op_code"] in LASTING for log in logs):
                    os.fsync(keeper)
        except OSError as error:
            raise JournalError(
                f"journal {self._file_path!r} cannot be written: {error}",
                hint="free space on that disk or check its rights; then start the same command again",
            ) from error

    def _append(self, handle: int, lines: bytes) -> None:
        """Write and close: closing is what makes a network file system show the lines to others before the lock is released."""
        try:
            if os.write(handle, lines) != len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(handle)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write the records of a block at its end, under one lock and with one flush: what costs time is each write, not its length."""
        if self._waiting is not None:
            yield
            return
        self._waiting = []
        try:
            yield
        finally:
            logs, self._waiting = self._waiting, None
            if logs:
                self.append_logs(logs)


def written_together(study: optuna.Study) -> AbstractContextManager[None]:
    """Return a context in which what is told to a study's journal is written at the end; a database has its own ways."""
    backend = getattr(study._storage, "_backend", None)
    return backend.together() if isinstance(backend, MendedJournal) else nullcontext()


def mend_journal(path: str | os.PathLike) -> int:
    """Cut a torn last line off a journal and return its size in bytes; the caller holds the journal's lock."""
    with open(path, "r+b") as stream:
        size = end = stream.seek(0, os.SEEK_END)
        if size and (stream.seek(size - 1), stream.read(1))[1] == b"\n":
            return size
        while end:
            start = max(0, end - 65536)
            stream.seek(start)
            newline = stream.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            stream.truncate(end)
    return end
