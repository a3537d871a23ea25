"""What a stage says of itself: its settings, what each of its rules reads, its artefacts, and the files that the report reads.

The study, the list of targets, the settings schema and the report iterate over the stages (calandria.study.stages); none of them
asks for a stage by its name.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .errors import InputFileError, SettingsError
from .files import write_text
from .records import canonical_json, content_digest, read_json
from .settings import Section

if TYPE_CHECKING:
    from ..study.study import Study

Settings = TypeVar("Settings", bound=Section)
DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{16})\.json$")


@dataclass(frozen=True)
class Rule:
    """What the program of a rule reads, and with it what makes the rule run again.

    Parameters
    ----------
    keys
        Settings of the stage's section that the program reads, dotted: ``"film"`` is a whole subsection, ``"motion.mass_scale"``
        one value.
    version
        Raise it when a change of the code can alter what the rule writes.
    given
        Function of the study and the job's wildcards that returns what the program needs beside: the row of a sheet, settings of
        other sections. Its ``"settings"`` are values by dotted key that replace those of the section.
    """

    keys: tuple[str, ...] = ()
    version: int = 1
    given: "Callable[[Study, Mapping[str, str]], Mapping[str, Any]] | None" = None


@dataclass(frozen=True)
class Source:
    """Finished files of one job that the report reads together.

    Parameters
    ----------
    stage, kind
        The stage, and which of its readers makes rows of the files.
    rule
        Rule that writes the first of the files.
    files
        Path of each file by its role.
    keys
        What the files belong to: sample, film, degree_percent, case, axis and the like, as far as they apply.
    """

    stage: str
    kind: str
    rule: str
    files: Mapping[str, str]
    keys: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """A figure of the report's page: its file, the section that shows it, and what it shows."""

    path: str
    section: str
    caption: str


def nothing(study: "Study") -> list[Any]:
    """Return no artefacts, sources or figures: what a stage has that names none."""
    return []


@dataclass(frozen=True)
class Stage:
    """A stage of the workflow.

    Parameters
    ----------
    name
        Name of its rules file, programs' package, settings section, results folder and logs folder.
    settings
        Class of its section.
    title
        What the section is about, one sentence; it stands above the section in ``config/config.yaml`` and in the schema.
    rules
        What each of its rules reads, by the rule's name.
    artefacts
        Function of the study that returns all finished files, so that whichever is deleted is made again. Paths begin with
        ``<results>``.
    sources
        Function of the study that returns what the report reads of the stage.
    figures
        Function of the study that returns the stage's figures on the page.
    rows
        Sheets of the stage: name, and function of the section that reads its rows.
    contradictions
        Function of the study that returns what settings and sheets of the stage contradict.
    """

    name: str
    settings: type[Section]
    title: str
    rules: Mapping[str, Rule]
    artefacts: "Callable[[Study], list[str]]" = nothing
    sources: "Callable[[Study], list[Source]]" = nothing
    figures: "Callable[[Study], list[Figure]]" = nothing
    rows: Mapping[str, Callable[[Any], Sequence[Any]]] = field(default_factory=dict)
    contradictions: "Callable[[Study], list[str]]" = nothing


@dataclass(frozen=True)
class Given(Generic[Settings]):
    """What a rule's program was given: its settings, of which no others can be read, and what belongs to the job.

    Parameters
    ----------
    stage, rule, version
        The rule and its version.
    settings
        The section with the rule's keys; reading any other key raises SettingsError.
    content
        The whole content of the file.
    """

    stage: str
    rule: str
    version: int
    settings: Settings
    content: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        """Return what the rule gives beside the settings; raises SettingsError where the file lacks it."""
        if name not in self.content:
            raise SettingsError(
                f"the settings of {self.rule} lack {name!r}; found {', '.join(sorted(self.content))}",
                hint=f"add {name!r} to the JSON file, or let the workflow write it",
            )
        return self.content[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return what the rule gives beside the settings, or a default."""
        return self.content.get(name, default)


def subset(content: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Return the entries of a nested mapping that dotted keys name.

    >>> subset({"film": {"width": 1, "height": 2}, "seed": 3}, ["film.width", "seed"])
    {'film': {'width': 1}, 'seed': 3}
    """
    found: dict[str, Any] = {}
    for key in keys:
        source, target = content, found
        *parents, last = key.split(".")
        for name in parents:
            source, target = source[name], target.setdefault(name, {})
        target[last] = source[last]
    return found


def with_values(content: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested mapping with other values at some dotted keys; a value replaces what was there as a whole.

    >>> with_values({"a": {"b": 1, "c": {"d": 2}}}, {"a.c": {"e": 3}})
    {'a': {'b': 1, 'c': {'e': 3}}}
    """
    found = dict(content)
    for key, value in values.items():
        name, _, rest = key.partition(".")
        found[name] = with_values(found.get(name, {}), {rest: value}) if rest else value
    return found


def with_text_keys(content: Any) -> Any:
    """Return nested mappings with their keys as JSON has them, so that they sort alike before and after they are written.

    >>> with_text_keys({2: {10: "am"}})
    {'2': {'10': 'am'}}
    """
    if isinstance(content, Mapping):
        return {str(key): with_text_keys(value) for key, value in content.items()}
    return [with_text_keys(value) for value in content] if isinstance(content, list | tuple) else content


def rule_content(stage: Stage, rule: str, section: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the program of a rule is given: stage, rule, version, the declared settings, and what belongs to the job."""
    declared = stage.rules[rule]
    settings = with_values(subset(section, declared.keys), given.get("settings", {}))
    return with_text_keys({**given, "stage": stage.name, "rule": rule, "version": declared.version, "settings": settings})


def file_name(content: Mapping[str, Any]) -> str:
    """Return the name of the file that holds a rule's content: the rule and the content's digest."""
    return f"{content['rule']}-{content_digest(content)[:16]}.json"


def read_given(path: str | os.PathLike | None, model: type[Settings], rules: Mapping[str, Rule], rule: str) -> Given[Settings]:
    """Read what the workflow wrote for a rule's program; settings that the file lacks have their defaults.

    Parameters
    ----------
    path
        JSON file, None for all defaults: ``settings``, keys of the stage's section, and what else the rule gives.
    model
        Class of the stage's section.
    rules, rule
        The stage's rules, and which of them the program belongs to.

    Raises
    ------
    InputFileError
        The file is missing or no JSON object, or it is not what its name says, because it was edited.
    SettingsError
        A setting is unknown or out of range; the file was written for another rule.
    """
    content = {"settings": {}} if path is None else read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
        raise InputFileError(
            f"{str(path)!r} holds no JSON object with the key settings",
            hint='write e.g. {"settings": {}} for the defaults; the settings of the stage stand below that key',
        )
    wanted = DIGEST_IN_NAME.search(Path(path).name) if path is not None else None
    if wanted and not content_digest(content).startswith(wanted[1]):
        raise InputFileError(
            f"{str(path)!r} was changed: its content has another digest than its name says",
            hint="edit the study's settings instead, or give a copy another name",
        )
    if content.get("rule", rule) != rule:
        raise SettingsError(
            f"{str(path)!r} was written for the rule {content['rule']}; expected {rule}", hint=f"give the settings file of {rule}"
        )
    section = model.from_mapping(content["settings"], str(path), partial=True)
    declared = rules[rule]
    return Given(
        str(content.get("stage") or model.__module__.split(".")[-2]),
        rule,
        declared.version,
        section.restricted(declared.keys, f"the rule {rule}"),
        content,
    )


def write_contents(folder: str | os.PathLike, contents: Mapping[str, Mapping[str, Any]]) -> None:
    """Write settings files by name into a folder; one that was changed since is written again."""
    for name, content in contents.items():
        path, text = Path(folder) / name, canonical_json(content)
        if not path.is_file() or path.read_bytes() != text.encode():
            write_text(path, text)
