"""The base of all typed settings, and how mistakes in them are told: all at once, each with its key, what was found and what is allowed."""

import difflib
import os
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo

from .errors import SettingsError, nearest_name
from .files import read_text

_READER = "restricted to"


class Section(BaseModel):
    """A frozen section of the settings; unknown keys are errors; every field states its range, unit and meaning."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any], where: str, *, partial: bool = False) -> Self:
        """Validate ``content`` (read from ``where``); raises SettingsError with every mistake.

        ``partial`` content holds what one rule reads; checks across fields that may be missing (see :func:`is_partial`) were
        made when the whole study was read.
        """
        try:
            return cls.model_validate(content, context={"partial": True} if partial else None)
        except ValidationError as error:
            raise SettingsError(
                f"{where}: {mistakes(error, cls)}", hint="correct these settings; config/config.yaml explains each of them"
            ) from error

    def restricted(self, keys: Sequence[str], reader: str) -> Self:
        """Return the section with nothing but some dotted keys; reading another one raises SettingsError.

        Parameters
        ----------
        keys
            E.g. ``("film", "motion.mass_scale")``; a key that names a subsection keeps all of it.
        reader
            Who may read these keys, for the message.
        """
        below: dict[str, list[str]] = {}
        for key in keys:
            name, _, rest = key.partition(".")
            below.setdefault(name, []).append(rest)
        unknown = sorted(below.keys() - type(self).model_fields.keys())
        if unknown:
            raise SettingsError(f"{reader} names the settings {unknown}", hint=nearest_name(unknown[0], type(self).model_fields))
        kept = self.model_copy()
        for name in type(self).model_fields:
            if name not in below:
                kept.__dict__.pop(name)
            elif "" not in below[name]:
                kept.__dict__[name] = getattr(self, name).restricted(below[name], reader)
        kept.__dict__[_READER] = reader
        return kept

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Say which rule lacks a setting that its program reads."""
            if name in type(self).model_fields and _READER in self.__dict__:
                raise SettingsError(
                    f"{self.__dict__[_READER]} reads the setting {name!r} of {type(self).__name__}, which it does not declare",
                    hint="add the key to the rule's keys in RULES, so that a change of it runs the rule again",
                )
            return super().__getattr__(name)


def is_partial(info: ValidationInfo) -> bool:
    """Say whether what is validated holds only what one rule reads, so that a check across fields would compare with defaults."""
    return bool(info.context and info.context.get("partial"))


def mistakes(error: ValidationError, model: type[BaseModel]) -> str:
    """Return all mistakes of a validation in one line; parts of a key in brackets tell variants apart and are left out."""
    told = []
    for item in error.errors(include_url=False):
        key = ".".join(str(part) for part in item["loc"] if not str(part).startswith("["))
        if item["type"] == "extra_forbidden":
            known = sorted(_keys(model))
            close = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
            told.append(f"{key} is unknown" + (f" (did you mean {close[0]!r}?)" if close else ""))
        elif item["type"] == "missing":
            told.append(f"{key} is missing")
        else:
            found = item.get("input")
            shown = f", found {found!r}" if not isinstance(found, Mapping) and item["type"] != "password" else ""
            told.append(f"{key}{': ' if key else ''}{_expected(item['type'], item['msg'], item.get('ctx', {}), found)}{shown}")
    return "; ".join(told)


WORDS = {
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "dict_type": "expected a section of keys and values",
    "float_type": "expected a number",
    "int_from_float": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_type": "expected a whole number",
    "list_type": "expected a list",
    "model_type": "expected a section of keys and values",
    "string_type": "expected text; put it into quotes",
    "tuple_type": "expected a list",
}
PATTERNS = {
    r"^[a-z][a-z0-9_]*$": "lower-case letters, digits and underscores, a letter first",
    r"^[A-Za-z0-9_.-]*$": "one word of letters, digits, _, . and -",
    r"^(cpu|cuda(:\d+)?)$": "cpu, cuda or cuda:NUMBER",
}


def _expected(kind: str, message: str, context: Mapping[str, Any], found: object) -> str:
    """Return what is allowed instead, in words that need no knowledge of the validator."""
    if kind == "string_pattern_mismatch":
        return f"expected {PATTERNS.get(context['pattern'], 'the form ' + context['pattern'])}"
    if kind == "float_parsing":
        comma = re.fullmatch(r"\s*([+-]?\d*),(\d+)\s*", str(found))
        return f"expected a number with a decimal point ({comma[1]}.{comma[2]})" if comma else "expected a number"
    if kind in ("too_short", "string_too_short"):
        return "is empty" if context["min_length"] == 1 else f"expected at least {context['min_length']} entries"
    if kind == "literal_error":
        near = difflib.get_close_matches(str(found), re.findall(r"'(.*?)'", context["expected"]), n=1)
        return f"expected {context['expected']}" + (f" (did you mean {near[0]!r}?)" if near else "")
    words = message.removeprefix("Value error, ")
    if kind in WORDS or not words.startswith("Input should be "):
        return WORDS.get(kind, words)
    allowed = words.removeprefix("Input should be ")
    return f"expected {'a value ' if allowed.startswith(('greater', 'less')) else ''}{allowed}"


def _keys(model: type[BaseModel]) -> Iterable[str]:
    for name, info in model.model_fields.items():
        yield name
        for section in _sections(info.annotation):
            yield from _keys(section)


def _sections(annotation: Any) -> Iterable[type[BaseModel]]:
    """Yield the sections that an annotation names, in unions and containers too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _sections(part)


def read_yaml(path: str | os.PathLike) -> dict[str, Any]:
    """Read a YAML file that must hold a mapping."""
    text = read_text(path, "settings file")
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(
            f"{str(path)!r} is not YAML: {error}", hint="check indentation and quotes at the line that is named"
        ) from error
    if not isinstance(content, dict):
        raise SettingsError(
            f"{str(path)!r} holds {type(content).__name__}; expected a mapping of sections", hint="start from config/config.yaml"
        )
    return content


def read_sheet(path: str | os.PathLike, row_model: type[Section]) -> list[Any]:
    """Read a sample sheet (tab-separated, a header line, # comments) and validate it row by row.

    Empty cells are left to the defaults of ``row_model``. All mistakes are told at once with their line numbers.
    """
    lines = read_text(path, "sample sheet").splitlines()
    table = [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if not table:
        return []
    header = [name.strip() for name in table[0][1]]
    rows = []
    told = [f"column {name!r} occurs twice" for name in dict.fromkeys(header) if header.count(name) > 1]
    for number, cells in table[1:]:
        if len(cells) != len(header):
            told.append(f"line {number} has {len(cells)} cells; expected {len(header)}, separated by tabs")
            continue
        content = {name: cell.strip() for name, cell in zip(header, cells, strict=True) if cell.strip()}
        try:
            rows.append(row_model.model_validate(content))
        except ValidationError as error:
            told.append(f"line {number}: {mistakes(error, row_model)}")
    if told:
        raise SettingsError(
            f"{Path(path)}: " + "; ".join(told), hint=f"columns are {', '.join(row_model.model_fields)}; separate cells by tabs"
        )
    return rows
