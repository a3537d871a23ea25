"""A study: the settings of all stages and the sample sheets that they name, read and checked as one."""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from ..autoencoder.settings import AutoencoderSettings, CaseSettings
from ..base.errors import SettingsError, nearest_name
from ..base.records import canonical_json, content_digest
from ..base.settings import Section, read_sheet
from ..calendering.dumps import possible_dumps
from ..calendering.settings import CalenderingSettings, FilmRow, RunRow
from ..learning.settings import RUN_CONTROL
from ..surrogate.settings import SurrogateSettings
from ..tomography.settings import SampleRow, TomographySettings, import_arguments
from ..transport.settings import TransportSettings
from .report_settings import ReportSettings

STAGES = ("calendering", "tomography", "transport", "surrogate", "autoencoder", "report")


class StudySettings(Section):
    """All settings of one study, a section per stage."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Name of the study; results lie in results/NAME, logs in logs/NAME."""
    title: str = Field(min_length=1)
    """Title of the report."""
    calendering: CalenderingSettings = CalenderingSettings()
    """Films and their pressing; reading of dumps; voxels."""
    tomography: TomographySettings = TomographySettings()
    """Image stacks."""
    transport: TransportSettings = TransportSettings()
    """Effective diffusivity and tortuosity factor."""
    surrogate: SurrogateSettings = SurrogateSettings()
    """The model of the next frame."""
    autoencoder: AutoencoderSettings = AutoencoderSettings()
    """Latent features of mini-volumes."""
    report: ReportSettings = ReportSettings()
    """Tables and page."""

    @field_validator(*STAGES, mode="before")
    @classmethod
    def _null_is_an_empty_section(cls, section: object) -> object:
        return {} if section is None else section

    @model_validator(mode="after")
    def _frames_suffice(self) -> Self:
        shortest = min(self.calendering.compression_degrees_percent)
        frames, lag = self.calendering.frames(shortest), self.surrogate.lag_window
        if self.calendering.films_sheet and self.surrogate.split.tests_something and frames <= lag:
            raise ValueError(
                f"surrogate.lag_window {lag} needs more than {lag} frames; the shortest series (compression degree {shortest} %) has {frames}"
            )
        return self


@dataclass(frozen=True)
class Study:
    """Settings and the rows of the sample sheets, with the look-ups that the workflow's rules need.

    Parameters
    ----------
    settings
        All settings.
    films
        Films that LAMMPS makes, by name.
    runs
        The user's own DEM runs, by film and compression degree in per cent.
    samples
        Tomography samples by name.
    """

    settings: StudySettings
    films: Mapping[str, FilmRow]
    runs: Mapping[tuple[str, int], RunRow]
    samples: Mapping[str, SampleRow]

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

    def predictors(self, film: str) -> list[str]:
        """Return the predictors that can be asked for a film: ``replicate`` only where the film has one."""
        wanted = self.settings.surrogate.compared
        return [name for name in wanted if name != "replicate" or self.replicate_of(film)]

    @staticmethod
    def modes(predictor: str) -> tuple[str, ...]:
        """Return the modes in which a predictor predicts: a replicate sees no true frames on its way, so it is a rollout only."""
        return ("rollout",) if predictor == "replicate" else ("one_step", "rollout")

    def film(self, name: str) -> FilmRow:
        """Return the row of a film that LAMMPS makes."""
        return self.films[name]

    def run_overrides(self, film: str, degree: int) -> dict[str, object]:
        """Return what the runs sheet says of one run beside its files."""
        row = self.runs.get((film, degree))
        return row.overrides() if row else {}

    def dumps(self, film: str, degree: int) -> list[str]:
        """Return the dump files of a run, the user's own (none is opened) or the workflow's; none where the user's are not there (yet)."""
        row = self.runs.get((film, degree))
        if row is None:
            return [f"<results>/calendering/{film}/cd{degree}/dumps.lammpstrj.gz"]
        return possible_dumps([row.dumps])  # read_dumps says what is wrong with them

    def press(self, film: str, degree: int) -> list[str]:
        """Return the press file of a run, in a list that is empty where there is none."""
        row = self.runs.get((film, degree))
        if row is None:
            return [f"<results>/calendering/{film}/cd{degree}/press.csv"]
        return [row.press] if row.press and Path(row.press).exists() else []

    def source(self, sample: str) -> list[str]:
        """Return the files of a tomography sample's image, the slices of a folder one by one; none where it is not there (yet)."""
        path = Path(self.samples[sample].path)
        if not path.is_dir() or path.suffix == ".zarr":
            return [str(path)] if path.exists() else []
        with os.scandir(path) as entries:
            return sorted(entry.path for entry in entries if not entry.name.startswith(".") and entry.is_file())

    def sample(self, name: str) -> SampleRow:
        """Return the row of a tomography sample."""
        return self.samples[name]

    def import_arguments(self, sample: str) -> str:
        """Return the options of import_volume for a sample, quoted for a shell."""
        return import_arguments(self.samples[sample], self.settings.tomography)

    def section(self, stage: str) -> dict[str, Any]:
        """Return the settings of one stage as plain values, without those that say only how a search is run."""
        left_out: dict[str, Any] = dict.fromkeys(RUN_CONTROL, True)
        return dict(getattr(self.settings, stage).model_dump(mode="json", exclude={"search": left_out | {"study": left_out}}))

    def slice(self, stage: str) -> str:
        """Return the file that holds the settings of one stage; it is named by their digest, so an edit names another file."""
        return f"<results>/settings/{stage}-{content_digest(self.section(stage))[:16]}.json"

    def case(self, name: str) -> CaseSettings:
        """Return a case study of the auto-encoder."""
        return self.settings.autoencoder.cases[name]

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


def read_study(content: Mapping[str, Any], published: Collection[str] | None = None) -> Study:
    """Return the study of a settings mapping, with its sample sheets; raises SettingsError with what is wrong.

    Parameters
    ----------
    content
        The settings.
    published
        Rows of the published table that samples may name, e.g. ``1 CAL``; None leaves these names unchecked.
    """
    settings = StudySettings.from_mapping(content, "settings")
    calendering, tomography = settings.calendering, settings.tomography
    films = {row.film: row for row in calendering.film_rows()}
    runs = {(row.film, row.compression_degree_percent): row for row in calendering.run_rows()}
    rows: list[SampleRow] = read_sheet(tomography.samples_sheet, SampleRow) if tomography.samples_sheet else []
    study = Study(settings, films, runs, {row.sample: row for row in rows})
    told = _contradictions(study, rows)
    told += [
        f"sample {row.sample!r} is published as {row.published!r}: {nearest_name(row.published, published)}"
        for row in rows
        if published is not None and row.published and row.published not in published
    ]
    if told:
        raise SettingsError(
            "settings and sample sheets: " + "; ".join(told), hint="mend the names in the settings or add the lines to the sheets"
        )
    return study


def _contradictions(study: Study, rows: list[SampleRow]) -> list[str]:
    occurrences = Counter(row.sample for row in rows)
    told = [f"sample {name!r} occurs twice" for name, count in occurrences.items() if count > 1]
    told += [
        f"film {name!r} is in the films sheet and in the runs sheet"
        for name in {film for film, _ in study.runs} & set(study.films)
    ]
    films = study.surrogate_films
    known = set(films)
    told += [
        f"film {row.film!r} replicates {row.replicate_of!r}, which is no film with runs that is no replicate itself"
        for row in {row.film: row for row in study.runs.values()}.values()
        if row.replicate_of is not None and row.replicate_of not in known
    ]
    surrogate, autoencoder = study.settings.surrogate, study.settings.autoencoder
    split = surrogate.split
    if not (study.films or study.runs or study.samples):
        told.append(
            "no sheet has a line; a study names films in calendering.films_sheet, DEM runs in calendering.runs_sheet or images in tomography.samples_sheet"
        )
    if films and surrogate.model_fields_set and not split.tests_something and "test_films" not in split.model_fields_set:
        told.append(
            f"surrogate.split names no film to test; name some of {', '.join(films)} in surrogate.split.test_films, or leave the section surrogate out"
        )
    if study.samples and autoencoder.model_fields_set and "cases" not in autoencoder.model_fields_set:
        told.append("autoencoder.cases names no case study; name one and its samples, or leave the section autoencoder out")
    if films and split.tests_something:
        wanted = [*split.test_films, *split.validation_films, *(row.film for row in split.held_out)]
        told += [
            f"surrogate.split names film {name!r}: {nearest_name(name, films)}"
            for name in dict.fromkeys(wanted)
            if name not in known
        ]
        for row in split.held_out:
            missing = sorted(set(row.compression_degrees_percent) - set(study.degrees(row.film))) if row.film in known else []
            told += [f"surrogate.split holds out {row.film} at {degree} %, which is never pressed" for degree in missing]
        if not known - set(split.test_films) - set(split.validation_films):
            told.append("surrogate.split leaves no film to train on")
    if study.samples:
        for name, case in autoencoder.cases.items():
            told += [
                f"autoencoder.cases.{name} names sample {sample!r}: {nearest_name(sample, study.samples)}"
                for sample in case.samples
                if sample not in study.samples
            ]
    return told


def schema_text() -> str:
    """Return the JSON schema of the settings of a study, for editors that check and complete config files."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **StudySettings.model_json_schema()}
    for stage in STAGES:
        section = schema["properties"][stage]
        section["anyOf"] = [{"$ref": section.pop("$ref")}, {"type": "null"}]
        section["description"] = StudySettings.model_fields[stage].description
    return canonical_json(schema)
