"""The one reader of YAML: strict, typed, overridable.

A component declares its settings as a subclass of `Config`; the class is at once the schema of the YAML, the documentation
of its keys and the argument of the component's constructor.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError


class ConfigError(ValueError):
    """A setting the user can mend; the message names the file or key and says what would be right."""


class Config(BaseModel):
    """Base of all settings: frozen, unknown keys refused, a docstring under a field is its documentation."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)


AnyConfig = TypeVar("AnyConfig", bound=Config)


def load(schema: type[AnyConfig], path: str | Path, overrides: Sequence[str] = ()) -> AnyConfig:
    """Read a YAML file and check it against `schema`.

    Args:
        schema: the settings' type.
        path: the YAML file. Its key `base` may name another file, relative to it, whose settings it refines.
        overrides: `key.sub=value` items; a value is parsed as YAML, a list item is addressed by its number.

    Raises:
        ConfigError: for a missing file, broken YAML, an unknown key or a value of the wrong type.
    """
    settings = read_yaml(path)
    for item in overrides:
        settings = _override(settings, item)
    return parse(schema, settings, where=str(path))


def parse(schema: type[AnyConfig], settings: Mapping[str, Any], where: str = "configuration") -> AnyConfig:
    """Check a plain mapping against `schema`; raises ConfigError with one sentence for the first fault."""
    try:
        return schema.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error, schema)}") from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Safe-load one YAML mapping and the chain of `base` files under it; raises ConfigError."""
    return _read_chain(Path(path), ())


def _read_chain(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise ConfigError(f"{path}: its chain of base files comes back to itself")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a text file ({error})") from None
    settings = _parse_yaml(text, str(path))
    if settings is None:
        settings = {}
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: expected a mapping of settings, found {type(settings).__name__}")
    base = settings.pop("base", None)
    if base is None:
        return settings
    return merge(_read_chain(path.parent / str(base), (*seen, path.resolve())), settings)


def merge(base: Mapping[str, Any], refinement: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `refinement` laid over it: mappings merge key by key, anything else is replaced.

    A mapping whose `name` differs from the base's describes another component and replaces it whole.
    """
    merged = dict(base)
    for key, value in refinement.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and value.get("name", old.get("name")) == old.get("name"):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        if mark and any("\t" in row for row in text.splitlines()[mark.line : mark.line + 1]):
            raise ConfigError(f"{where}:{line} YAML does not allow tabs for indentation; use spaces") from None
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"{where}:{line} not valid YAML ({problem})") from None


class _Loader(yaml.SafeLoader):
    """Safe YAML whose numbers include `1e-4`, which YAML 1.1 would read as text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _override(settings: Mapping[str, Any], item: str) -> dict[str, Any]:
    key, sign, text = item.partition("=")
    if not sign or not key.strip():
        raise ConfigError(f"override {item!r}: expected key.sub=value")
    changed: Any = _replace(settings, key.strip().split("."), _parse_yaml(text, f"override {item!r}"), item)
    return changed


def _replace(node: Any, keys: Sequence[str], value: Any, item: str) -> Any:
    if not keys:
        return value
    head, rest = keys[0], keys[1:]
    if isinstance(node, list):
        if not head.isdigit() or int(head) >= len(node):
            raise ConfigError(f"override {item!r}: {head!r} is not one of the list's items 0 to {len(node) - 1}")
        return [_replace(old, rest, value, item) if i == int(head) else old for i, old in enumerate(node)]
    if node is not None and not isinstance(node, Mapping):
        raise ConfigError(f"override {item!r}: {head!r} lies below a plain value")
    node = node or {}
    return {**node, head: _replace(node.get(head), rest, value, item)}


def _explain(error: ValidationError, schema: type[Config]) -> str:
    fault = error.errors()[0]
    path = [str(part) for part in fault["loc"]]
    where = ".".join(path)
    if fault["type"] == "extra_forbidden":
        known = _fields_at(schema, path[:-1])
        close = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys here: {', '.join(sorted(known))}"
        return f"unknown key {where!r}; {hint}"
    if fault["type"] == "missing":
        return f"key {where!r} is required"
    if fault["type"] == "union_tag_invalid":
        return f"key {where + '.name'!r} is {fault['ctx']['tag']!r}; expected one of {fault['ctx']['expected_tags']}"
    message = fault["msg"].removeprefix("Value error, ")
    given = fault.get("input")
    shown = f" (given: {given!r})" if isinstance(given, (str, int, float, bool, type(None))) else ""
    return f"key {where!r}: {message[0].lower() + message[1:]}{shown}" if where else message


def _fields_at(schema: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Names of the fields of the model that `path` (as pydantic reports it) leads to."""
    models: list[type[BaseModel]] = [schema]
    for part in path:
        inner = [model for parent in models for model in _models_in(parent, part)]
        models = inner or models                       # list numbers and union tags stay at the same model
        tagged = [m for m in models if "name" in m.model_fields and part in str(m.model_fields["name"].annotation)]
        models = tagged or models
    return sorted({name for model in models for name in model.model_fields})


def _models_in(parent: type[BaseModel], field: str) -> list[type[BaseModel]]:
    return _models_of(parent.model_fields[field].annotation) if field in parent.model_fields else []


def _models_of(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in getattr(annotation, "__args__", ()) for model in _models_of(inner)]
