"""The one reader of YAML: strict, typed, overridable.

A component declares its settings as a subclass of `Config`; the class is at once the schema of the YAML, the documentation
of its keys and the argument of the component's constructor.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from xdecoder.files import read_text, shown


class ConfigError(ValueError):
    """A setting the user can mend; the message names the file or key and says what would be right."""


class Config(BaseModel):
    """Base of all settings: frozen, unknown keys refused, a docstring under a field is its documentation."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    @classmethod
    def member(cls, settings: Any) -> type[Config]:
        """The class that settings are for: this one, or, for the base of an open union, the one that a key of theirs names."""
        return cls


MAX_YAML = 1 << 20  # bytes
MAX_VALUES = 50_000
MAX_DEPTH = 40

_TOO_MUCH = f"more than {MAX_VALUES} values, or nested more than {MAX_DEPTH} deep"
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")  # in no file name, and in no file

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
        raise ConfigError(f"{where}: {_explain(error, schema, settings)}") from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Safe-load one YAML mapping and the chain of `base` files under it; raises ConfigError."""
    return _read_chain(Path(path), ())


def _read_chain(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    try:
        text = read_text(path, "configuration file", MAX_YAML)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if path.resolve() in seen or len(seen) > MAX_DEPTH:
        raise ConfigError(f"{path}: its chain of base files comes back to itself, or is longer than {MAX_DEPTH}")
    settings = parse_yaml(text, str(path))
    if settings is None:
        settings = {}
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: expected a mapping of settings, found {type(settings).__name__}")
    base = settings.pop("base", None)
    if base is None:
        return settings
    if not isinstance(base, str):
        raise ConfigError(f"{path}: key 'base' must be the path of one other configuration file, not {shown(base)}")
    return merge(_read_chain(path.parent / base, (*seen, path.resolve())), settings)


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


def parse_yaml(text: str, where: str) -> Any:
    """Plain values from YAML text; raises ConfigError that names `where` and the line."""
    if len(text) > MAX_YAML:
        raise ConfigError(f"{where}: is {len(text)} characters long; YAML is read up to {MAX_YAML}")
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        if mark and any("\t" in row for row in text.splitlines()[mark.line : mark.line + 1]):
            raise ConfigError(f"{where}:{line} YAML does not allow tabs for indentation; use spaces") from None
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{where}:{line} not valid YAML ({problem})") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:  # by a tag such as !!timestamp
        raise ConfigError(f"{where}: not valid YAML (a value is not what its tag or form says: {str(error)[:100]})") from None


class _Loader(yaml.SafeLoader):
    """Safe YAML whose numbers include `1e-4`, which YAML 1.1 would read as text, and whose keys may not stand twice.

    What is small as text may be endless as a value: depth and size count what aliases stand for, before anything is made.
    """

    depth = count = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth, self.count = self.depth + 1, self.count + 1
        if self.depth > MAX_DEPTH or self.count > MAX_VALUES:
            raise yaml.composer.ComposerError(None, None, _TOO_MUCH, self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _measure(node, {})
        return node

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        if isinstance(value, str) and _UNWRITABLE.search(value):
            raise yaml.constructor.ConstructorError(None, None, "a NUL, or half of a character", node.start_mark)
        return value

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value: int = super().construct_yaml_int(node)
        if value.bit_length() > 64:
            raise yaml.constructor.ConstructorError(None, None, "a whole number of more than 64 bits", node.start_mark)
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        written: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in written:
                raise yaml.constructor.ConstructorError(None, None, f"key {shown(key.value)} stands twice", key.start_mark)
            written.add(key.value)
        return super().construct_mapping(node, deep)


def _measure(node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """How many values a node stands for, and how deep they nest, aliases written out; raises YAMLError beyond the limits."""
    if id(node) in known:
        measured = known[id(node)]
        if measured is None:
            raise yaml.composer.ComposerError(None, None, "an alias that stands for itself", node.start_mark)
        return measured
    known[id(node)] = None
    inner = node.value if isinstance(node, yaml.CollectionNode) else []
    if isinstance(node, yaml.MappingNode):
        inner = [each for pair in inner for each in pair]
    parts = [_measure(each, known) for each in inner]
    count, depth = 1 + sum(count for count, _ in parts), 1 + max((depth for _, depth in parts), default=0)
    if count > MAX_VALUES or depth > MAX_DEPTH:
        raise yaml.composer.ComposerError(None, None, _TOO_MUCH, node.start_mark)
    known[id(node)] = count, depth
    return count, depth


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def _override(settings: Mapping[str, Any], item: str) -> dict[str, Any]:
    key, sign, text = item.partition("=")
    if not sign or not key.strip():
        raise ConfigError(f"override {shown(item)}: expected key.sub=value")
    keys = key.strip().split(".")
    if len(keys) > MAX_DEPTH:
        raise ConfigError(f"override {shown(item)}: its key has more than {MAX_DEPTH} parts")
    changed: Any = _replace(settings, keys, parse_yaml(text, f"override {shown(item)}"), item)
    return changed


def _replace(node: Any, keys: Sequence[str], value: Any, item: str) -> Any:
    if not keys:
        return value
    head, rest = keys[0], keys[1:]
    if isinstance(node, list):
        if not head.isdecimal() or int(head) >= len(node):
            items = f"one of the list's items 0 to {len(node) - 1}" if node else "in the list, which is empty"
            raise ConfigError(f"override {shown(item)}: {shown(head)} is not {items}")
        return [_replace(old, rest, value, item) if i == int(head) else old for i, old in enumerate(node)]
    if node is not None and not isinstance(node, Mapping):
        raise ConfigError(f"override {shown(item)}: {shown(head)} lies below a plain value")
    node = node or {}
    return {**node, head: _replace(node.get(head), rest, value, item)}


def _explain(error: ValidationError, schema: type[Config], settings: Any) -> str:
    """One sentence for the first fault; an unknown key goes first, since a misspelt key is also a missing one."""
    fault = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    keys, models = _walk(schema, [str(part) for part in fault["loc"]], settings)
    keys = [key[:80] for key in keys]
    where = ".".join(keys)
    match fault["type"]:
        case "extra_forbidden":
            return f"unknown key {where!r}; {_suggest(keys[-1], models)}"
        case "missing":
            return f"key {where!r} is required"
        case "union_tag_invalid":
            tag = shown(fault["ctx"]["tag"])
            return f"key {where + '.name'!r} is {tag}; expected one of {fault['ctx']['expected_tags']}"
        case "union_tag_not_found":
            kinds = [repr(kind) for model in models for kind in _kinds(model)]
            return f"key {where + '.name'!r} is required; expected one of {', '.join(kinds)}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"key {where!r}: expected a mapping of settings (given: {shown(fault['input'])})"
    message = fault["msg"].removeprefix("Value error, ")[:1000]
    given = fault.get("input")
    told = f" (given: {shown(given)})" if isinstance(given, (str, int, float, bool, type(None))) else ""
    return f"key {where!r}: {message[0].lower() + message[1:]}{told}" if where else message


def _suggest(key: str, models: Sequence[type[BaseModel]]) -> str:
    known = sorted({name for model in models for name in model.model_fields})
    close = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known keys here: {', '.join(known)}"


def _walk(schema: type[BaseModel], path: Sequence[str], settings: Any) -> tuple[list[str], list[type[BaseModel]]]:
    """Follow `path`, as pydantic reports it, through the schema and the settings.

    Returns:
        The keys as they stand in the YAML (pydantic puts the tag of a union's chosen member between them), and the models
        that the settings at the end of the path may be, or, if that is a plain value or an unknown key, those around it.
    """
    keys: list[str] = []
    models = [_member(schema, settings)]
    for part in path:
        if _is_tag(part, settings, models):
            models = [model for model in models if part in _kinds(model)] or models
            continue
        inner = [found for model in models if part in model.model_fields for found in _models_of(model, part)]
        keys.append(part)
        settings = _below(settings, part)
        models = [_member(model, settings) for model in inner or models]
    return keys, models


def _is_tag(part: str, settings: Any, models: Sequence[type[BaseModel]]) -> bool:
    """Whether a part of pydantic's path is no key but says which member of a union was chosen."""
    if isinstance(settings, (list, tuple)):
        return not part.isdecimal()
    if any(part in model.model_fields for model in models):
        return False
    if isinstance(settings, Mapping):
        return part not in map(str, settings)
    return settings is not None or any(part in _kinds(model) for model in models)


def _below(settings: Any, key: str) -> Any:
    if isinstance(settings, (list, tuple)):
        return settings[int(key)] if int(key) < len(settings) else None
    return {str(name): value for name, value in settings.items()}.get(key) if isinstance(settings, Mapping) else None


def _member(model: type[BaseModel], settings: Any) -> type[BaseModel]:
    try:
        return model.member(settings) if issubclass(model, Config) else model
    except ValueError:
        return model


def _kinds(model: type[BaseModel]) -> tuple[str, ...]:
    """The values of the literal `name` that tells a union's members apart."""
    field = model.model_fields.get("name")
    return get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()


def _models_of(model: type[BaseModel], field: str) -> list[type[BaseModel]]:
    return _models_in(model.model_fields[field].annotation)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]
