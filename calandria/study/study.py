"""A study: the settings of all stages and the sample sheets that they name, read and checked as one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import Field, create_model, field_validator

from ..base.errors import SettingsError
from ..base.inputs import input_token
from ..base.records import canonical_json, write_json
from ..base.settings import Section
from ..base.stage import Figure, Source, file_name, rule_content
from ..calendering.dumps import possible_dumps
from .stages import RULES, STAGES

if TYPE_CHECKING:
    from ..autoencoder.settings import CaseSettings
    from ..calendering.settings import FilmRow, RunRow
    from ..tomography.settings import SampleRow

NAMES = tuple(stage.name for stage in STAGES)


class _StudyHead(Section):
    """All settings of one study, a section per stage."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Name of the study; results lie in results/NAME, logs in logs/NAME."""
    title: str = Field(min_length=1)
    """Title of the report."""

    @field_validator("*", mode="before")
    @classmethod
    def _null_is_an_empty_section(cls, section: object, info: Any) -> object:
        return {} if section is None and info.field_name in NAMES else section

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


_SECTIONS: dict[str, Any] = {
    stage.name: (stage.settings, Field(default=stage.settings(), description=stage.title)) for stage in STAGES
}
StudySettings: type[_StudyHead] = create_model("StudySettings", __base__=_StudyHead, __doc__=_StudyHead.__doc__, **_SECTIONS)


@dataclass(frozen=True)
class Study:
    """Settings and the rows of the sample sheets, with the look-ups that the workflow's rules need.

    Parameters
    ----------
    settings
        All settings.
    sheets
        Rows of each sheet by its name: ``films``, ``runs``, ``samples`` and those of further stages.
    """

    settings: Any
    sheets: Mapping[str, Sequence[Any]]
    _names: dict[Any, str] = field(default_factory=dict, repr=False)
    _contents: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    _seen: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)

    @property
    def folder(self) -> str:
        """Folder of the study's results, relative to the working directory."""
        return f"results/{self.settings.name}"

    @cached_property
    def films(self) -> "Mapping[str, FilmRow]":
        """Films that LAMMPS makes, by name."""
        return {row.film: row for row in self.sheets["films"]}

    @cached_property
    def runs(self) -> "Mapping[tuple[str, int], RunRow]":
        """The user's own DEM runs, by film and compression degree in per cent."""
        return {(row.film, row.compression_degree_percent): row for row in self.sheets["runs"]}

    @cached_property
    def samples(self) -> "Mapping[str, SampleRow]":
        """Tomography samples by name."""
        return {row.sample: row for row in self.sheets["samples"]}

    @property
    def packed_films(self) -> list[str]:
        """Films that are packed from a seed."""
        return [name for name, row in self.films.items() if row.replicate_of is None]

    @property
    def replicates(self) -> list[str]:
        """Films that are rounding-size variations of another, LAMMPS's and the user's."""
        return [name for name in dict.fromkeys([*self.films, *(film for film, _ in self.runs)]) if self.original(name)]

    def original(self, film: str) -> str | None:
        """Return the film that a film replicates, or None."""
        return self._originals.get(film)

    @cached_property
    def _originals(self) -> dict[str, str | None]:
        rows: list[FilmRow | RunRow] = [*self.films.values(), *self.runs.values()]
        return {row.film: row.replicate_of for row in reversed(rows)}

    @cached_property
    def _degrees_of_runs(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for film, degree in sorted(self.runs):
            found.setdefault(film, []).append(degree)
        return found

    @staticmethod
    def alternatives(names: Iterable[str]) -> str:
        """Return a wildcard constraint that matches exactly these names, and nothing if there are none."""
        return "|".join(names) or "(?!)"

    def degrees(self, film: str) -> list[int]:
        """Return the compression degrees of a film, in per cent."""
        if film in self.films:
            return list(self.settings.calendering.compression_degrees_percent)
        return list(self._degrees_of_runs.get(film, ()))

    @property
    def surrogate_films(self) -> list[str]:
        """Films that the surrogate learns from or is tested on: all but replicates."""
        return list(dict.fromkeys([*self.packed_films, *(film for film, _ in self.runs if not self.original(film))]))

    @property
    def surrogate_runs(self) -> list[tuple[str, int]]:
        """Film and degree of every series that the surrogate learns from or is tested on."""
        return [(film, degree) for film in self.surrogate_films for degree in self.degrees(film)]

    @property
    def test_runs(self) -> list[tuple[str, int]]:
        """Film and degree of every series that is rolled out: those of test films, and held-out degrees of the paper's split."""
        split = self.settings.surrogate.split
        held_out = {(row.film, degree) for row in split.held_out for degree in row.compression_degrees_percent}
        test_films = set(split.test_films)
        return [run for run in self.surrogate_runs if run[0] in test_films or run in held_out]

    def replicate_of(self, film: str) -> str | None:
        """Return the name of a film's first replicate that is pressed to the same degrees, if there is one."""
        degrees = set(self.degrees(film))
        return next((name for name in self._replicates_by_film.get(film, ()) if degrees <= set(self.degrees(name))), None)

    @cached_property
    def _replicates_by_film(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self.replicates:
            found.setdefault(str(self.original(name)), []).append(name)
        return found

    @cached_property
    def all_runs(self) -> list[tuple[str, int]]:
        """Film and degree of every series, those of replicates too."""
        return [(film, degree) for film in [*self.surrogate_films, *self.replicates] for degree in self.degrees(film)]

    def keys_of_run(self, film: str, degree: int) -> dict[str, Any]:
        """Return what a run's files belong to, for the report: film, degree and, of a replicate, the film that it replicates."""
        original = self.original(film)
        return {"film": film, "degree_percent": degree, **({"replicate_of": original} if original else {})}

    @property
    def report_runs(self) -> list[tuple[str, int]]:
        """Film and degree of every series that predictions are compared with; none where nothing is predicted."""
        return self.test_runs if self.surrogate_films else []

    def run_overrides(self, film: str, degree: int) -> dict[str, object]:
        """Return what the runs sheet says of one run beside its files."""
        row = self.runs.get((film, degree))
        return row.overrides() if row else {}

    def inputs_record(self, rule: str, name: str) -> str:
        """Return where a rule's program records the user's files that it read: no output, since those are deleted before a job runs."""
        return f"{self.folder}/inputs/{rule}/{name}.json"

    def inputs_of_run(self, film: str, degree: int) -> str | None:
        """Return the token of the files of a user's run, which changes with their content; None for a film that LAMMPS made."""
        row = self.runs.get((film, degree))
        if row is None:
            return None
        files = [*possible_dumps([row.dumps]), *filter(None, [row.press])]  # read_dumps says what is wrong with them
        return self._token(files, self.inputs_record("read_dumps", f"{film}_cd{degree}"))

    def inputs_of_sample(self, sample: str) -> str:
        """Return the token of a sample's image, which changes with its content."""
        return self._token([self.samples[sample].path], self.inputs_record("import_volume", sample))

    def _token(self, files: Sequence[str], record: str) -> str:
        return input_token(files, record, lambda content: self._seen.__setitem__(record, content))

    def remember_inputs(self) -> None:
        """Write what was seen of the user's files while planning, so that they are not read again because of their times alone."""
        for record, content in self._seen.items():
            write_json(record, content)

    def settings_file(self, rule: str, wildcards: Mapping[str, str]) -> str:
        """Return the file that holds what a rule's program reads for one job; its name changes with the content."""
        key = (rule, *sorted(wildcards.items())) if RULES[rule].rules[rule].given else rule
        if key not in self._names:
            stage = RULES[rule]
            given = stage.rules[rule].given
            content = rule_content(stage, rule, self._sections[stage.name], given(self, wildcards) if given else {})
            name = file_name(content)
            self._contents.setdefault(name, content)
            self._names[key] = f"{self.folder}/settings/{name}"
        return self._names[key]

    @cached_property
    def _sections(self) -> dict[str, dict[str, Any]]:
        return {name: getattr(self.settings, name).model_dump(mode="json") for name in NAMES}

    def contents(self, paths: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the content of settings files by their names."""
        names = {path.rpartition("/")[2] for path in paths}
        return {name: self._contents[name] for name in sorted(names)}

    @property
    def artefacts(self) -> list[str]:
        """All finished files of the study, so that whichever is deleted is made again, with what follows from it."""
        return [path for stage in STAGES for path in stage.artefacts(self)]

    @cached_property
    def sources(self) -> list[Source]:
        """What the report reads."""
        return [source for stage in STAGES for source in stage.sources(self)]

    @property
    def figures(self) -> list[Figure]:
        """The page's figures."""
        return [figure for stage in STAGES for figure in stage.figures(self)]

    def case(self, name: str) -> "CaseSettings":
        """Return a case study of the auto-encoder."""
        case: CaseSettings = self.settings.autoencoder.cases[name]
        return case

    @property
    def mini_volume_sets(self) -> list[tuple[str, int, int]]:
        """Case, slice window and stride of every auto-encoder; the stride ``window`` is resolved."""
        found = [
            (name, window, window if stride == "window" else stride)
            for name, case in (self.settings.autoencoder.cases if self.samples else {}).items()
            for window in case.slice_windows
            for stride in case.strides
        ]
        return list(dict.fromkeys(found))  # a stride may be said twice: as a number and as the window


def read_study(content: Mapping[str, Any]) -> Study:
    """Return the study of a settings mapping, with its sample sheets; raises SettingsError with what is wrong."""
    settings = StudySettings.from_mapping(content, "settings")
    sheets = {name: read(getattr(settings, stage.name)) for stage in STAGES for name, read in stage.rows.items()}
    study = Study(settings, sheets)
    found = [] if any(sheets.values()) else [NO_SHEET]
    found += [sentence for stage in STAGES for sentence in stage.contradictions(study)]
    if found:
        raise SettingsError(
            "settings and sample sheets: " + "; ".join(found),
            hint="correct the names in the settings, or add the lines to the sheets",
        )
    return study


NO_SHEET = (
    "no sheet has a line; a study names films in calendering.films_sheet, DEM runs in calendering.runs_sheet or images in"
    " tomography.samples_sheet"
)


def schema_text() -> str:
    """Return the JSON schema of the settings of a study, for editors that check and complete config files."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **StudySettings.model_json_schema()}
    for stage in STAGES:
        section = schema["properties"][stage.name]
        section["anyOf"] = [{"$ref": section.pop("$ref")}, {"type": "null"}]
        section["description"] = stage.title
    return canonical_json(schema)
