"""The published YAML files, whose keys are in upper case, and their overrides: read strictly, and said in our terms."""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xdecoder.config import ConfigError, merge, parse_yaml, read_yaml
from xdecoder.published.keys import KEYS, ONLY

logger = logging.getLogger(__name__)

_SIMILAR = 0.85  # a key of a file this close to a known one is taken for a slip


Rule = str | Callable[["PublishedSettings"], Any]
"""A published key whose value is taken as it is, or a function of several."""

Rows = Mapping[str, Rule]
"""Rules by dotted keys of ours."""


class PublishedSettings:
    """The tree of a published file; where it has no value, the published Focal-T's counts.

    It remembers what was asked for, so that settings without an effect can be named.
    """

    def __init__(self, tree: Mapping[str, Any], where: str) -> None:
        self._tree, self.where = merge(KEYS, tree), where
        self._asked: set[str] = set()
        self._remarks: list[str] = []
        for key, only in ONLY.items():
            if self[key] != only:
                raise ConfigError(f"{where}: {key} is {self[key]!r}; only {only!r} is supported here")

    def __getitem__(self, key: str) -> Any:
        """The value of a dotted key."""
        self._asked.add(key)
        return _at(self._tree, key)

    def remark(self, text: str) -> None:
        """Something that the user should know if the rule that is being followed counts."""
        self._remarks.append(text)

    def derive(self, rule: Rule) -> tuple[Any, set[str], list[str]]:
        """What a rule makes of the settings, the keys that it asked for, and its remarks."""
        before, self._asked, self._remarks = self._asked, set(), []
        value, keys = (self[rule] if isinstance(rule, str) else rule(self)), self._asked
        self._asked = before | keys
        return value, keys, self._remarks

    def warn_of_idle(self, keys: Sequence[str]) -> None:
        """Name those of the user's `keys` that nothing has asked for."""
        idle = [key for key in keys if not any(key == asked or asked.startswith(key + ".") for asked in self._asked)]
        if idle:
            logger.warning("no effect here: %s", ", ".join(idle))


def is_published(settings: Mapping[str, Any]) -> bool:
    """Whether these are the settings of a published file, not of ours."""
    return any(key.partition(".")[0] in KEYS for key in settings)


def read(paths: Sequence[str | Path]) -> dict[str, Any]:
    """Published files as one tree. As in the original a later file's top-level key replaces an earlier one's whole.

    Raises:
        ConfigError: for a file that cannot be read, a value of the wrong kind, or a key that looks misspelt.
    """
    tree: dict[str, Any] = {}
    for path in paths:
        for key, value in read_yaml(path).items():
            if key == "base_path" or "." not in key:
                tree[key] = value
            else:
                put(tree, key, value)
        _check(tree, KEYS, str(path))
    return tree


def overrides(words: Sequence[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """A tree from `KEY VALUE KEY VALUE …`; values are YAML, checked against the kind of the value they replace.

    Args:
        known: what the files hold; their keys may be overridden too.

    Raises:
        ConfigError: for an unknown key, with the nearest known one, or a value of another kind.
    """
    if len(words) % 2:
        raise ConfigError(f"--overrides: expected pairs of key and value, but {words[-1]!r} has no partner")
    tree: dict[str, Any] = {}
    everything = merge(KEYS, known)
    for key, text in zip(words[::2], words[1::2], strict=True):
        put(tree, key, _value(key, parse_yaml(text, f"override {key}"), everything, "override "))
    return tree


def json_overrides(words: Sequence[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """The tree of `--config_overrides`: one JSON object, whose keys may be dotted."""
    if not words:
        return {}
    try:
        content = json.loads(" ".join(words))
    except json.JSONDecodeError as error:
        raise ConfigError(f"--config_overrides: not valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise ConfigError("--config_overrides: expected one JSON object")
    tree: dict[str, Any] = {}
    for key, value in leaves(content):
        put(tree, key, _value(key, value, merge(KEYS, known), "override "))
    return tree


def put(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key, making the mappings above it."""
    *parents, last = key.split(".")
    for parent in parents:
        below = tree.get(parent)
        tree[parent] = dict(below) if isinstance(below, Mapping) else {}
        tree = tree[parent]
    tree[last] = value


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of everything that is not a mapping."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def translate(settings: PublishedSettings, rows: Rows, touched: Sequence[str] | None = None) -> dict[str, Any]:
    """Our settings as a tree.

    Args:
        rows: which of ours follows from which of theirs.
        touched: only those of ours that follow from one of these keys (and from what is above or below it); None: all.
    """
    tree: dict[str, Any] = {}
    for ours, rule in rows.items():
        value, keys, remarks = settings.derive(rule)
        if touched is None or any(_related(key, other) for key in keys for other in touched):
            put(tree, ours, value)
            for remark in remarks:
                logger.warning("%s: %s", settings.where, remark)
    return tree


def _related(key: str, other: str) -> bool:
    return key == other or key.startswith(other + ".") or other.startswith(key + ".")


def _backbone(settings: PublishedSettings) -> dict[str, Any]:
    kind = settings["MODEL.BACKBONE.NAME"]
    focal, davit = "MODEL.BACKBONE.FOCAL.", "MODEL.BACKBONE.DAVIT."
    match kind:
        case "focal_dw" | "focal":
            return {
                "name": "focal",
                "width": settings[focal + "EMBED_DIM"],
                "depths": settings[focal + "DEPTHS"],
                "levels": _same(settings, focal + "FOCAL_LEVELS"),
                "window": _same(settings, focal + "FOCAL_WINDOWS"),
                "depthwise": kind == "focal_dw",
                "mlp_ratio": settings[focal + "MLP_RATIO"],
                "drop_path": _drop_path(settings, focal),
            }
        case "davit":
            widths = settings[davit + "DIM_EMBED"]
            heads = _first(settings, davit + "NUM_HEADS", davit + "HEADS") or [width // 32 for width in widths]
            head_widths = {width // count for width, count in zip(widths, heads, strict=False)}
            if len(head_widths) != 1:
                raise ConfigError(f"{settings.where}: {davit}NUM_HEADS ({heads}) must grow as DIM_EMBED ({widths}) does")
            return {
                "name": "davit",
                "width": widths[0],
                "depths": settings[davit + "DEPTHS"],
                "kernels": settings[davit + "PATCH_SIZE"],
                "head_width": head_widths.pop(),
                "window": settings[davit + "WINDOW_SIZE"],
                "mlp_ratio": settings[davit + "MLP_RATIO"],
                "drop_path": _drop_path(settings, davit),
            }
    raise ConfigError(f"{settings.where}: MODEL.BACKBONE.NAME is {kind!r}; expected focal_dw, focal or davit")


def _pixel_decoder(settings: PublishedSettings) -> dict[str, Any]:
    encoder, kind = "MODEL.ENCODER.", settings["MODEL.ENCODER.NAME"]
    common = {
        "width": settings[encoder + "CONVS_DIM"],
        "layers": settings[encoder + "TRANSFORMER_ENC_LAYERS"],
        "heads": settings["MODEL.DECODER.NHEADS"],
    }
    match kind:
        case "transformer_encoder_fpn":
            return {"name": "fpn", **common, "hidden": settings["MODEL.DECODER.DIM_FEEDFORWARD"]}
        case "transformer_encoder_deform":
            return {"name": "deformable", **common}  # its inner width was written into the code
    expected = "expected transformer_encoder_fpn or transformer_encoder_deform"
    raise ConfigError(f"{settings.where}: MODEL.ENCODER.NAME is {kind!r}; {expected}")


def _drop_path(settings: PublishedSettings, backbone: str) -> float:
    given = _first(settings, backbone + "DROP_PATH_RATE", backbone + "DROP_PATH")
    return 0.3 if given is None else float(given)


def _first(settings: PublishedSettings, *keys: str) -> Any:
    """The value of the first key that has one; files of different age call the same thing differently."""
    return next((value for value in [settings[key] for key in keys] if value is not None), None)


def _same(settings: PublishedSettings, key: str) -> Any:
    """The one value that a list has for all stages."""
    values = settings[key]
    if len(set(values)) != 1:
        raise ConfigError(f"{settings.where}: {key} is {values}; stages that differ are not supported here")
    return values[0]


def _check(tree: Mapping[str, Any], known: Mapping[str, Any], where: str, prefix: str = "") -> None:
    """Kinds of the values in a file. A key we do not know is passed over aloud, one that looks misspelt is refused."""
    for key, value in tree.items():
        if key in known:
            if isinstance(known[key], Mapping) and isinstance(value, Mapping):
                _check(value, known[key], where, f"{prefix}{key}.")
            else:
                _of_kind(f"{where}: {prefix}{key}", value, known[key])
        elif close := [name for name in difflib.get_close_matches(key, known, n=1, cutoff=_SIMILAR) if name not in tree]:
            raise ConfigError(f"{where}: unknown key {prefix + key!r}; did you mean {prefix + close[0]!r}?")
        else:
            logger.warning("%s: unknown key %s is passed over", where, prefix + key)


def _value(key: str, value: Any, known: Mapping[str, Any], what: str) -> Any:
    """`value` for a dotted key, if the key is known and the value of its kind."""
    return _of_kind(f"{what}{key}", value, _at(known, key, what))


def _at(tree: Mapping[str, Any], key: str, what: str = "") -> Any:
    node: Any = tree
    parts = key.split(".")
    for i, part in enumerate(parts):
        if not isinstance(node, Mapping) or part not in node:
            raise ConfigError(f"{what}{key}: unknown key; {_suggest(tree, key, node, parts[:i])}")
        node = node[part]
    return node


def _suggest(tree: Mapping[str, Any], key: str, node: Any, found: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, [name for name, _ in leaves(tree)], n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    there = ".".join(found) or "the top level"
    return f"{there} has {', '.join(node)}" if isinstance(node, Mapping) else f"{there} is a plain value"


def _of_kind(where: str, value: Any, model: Any) -> Any:
    """`value`, if it is of the kind of `model`; 0 and 1 are booleans where one is expected, numbers are texts."""
    match model:
        case None:
            return value
        case bool():
            if isinstance(value, bool) or value in (0, 1):
                return bool(value)
            raise ConfigError(f"{where}: expected true or false, not {value!r}")
        case int() | float():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ConfigError(f"{where}: expected a number, not {value!r}")
            if isinstance(model, int) and value != int(value):
                raise ConfigError(f"{where}: expected a whole number, not {value!r}")
            return int(value) if isinstance(model, int) else value
        case str():
            if isinstance(value, (list, Mapping)):
                raise ConfigError(f"{where}: expected a text, not {value!r}")
            return "" if value is None else str(value)
        case list():
            if not isinstance(value, (list, tuple)):
                raise ConfigError(f"{where}: expected a list such as '[a, b]', not {value!r}")
            return list(value)
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected a mapping of settings, not {value!r}")
    return dict(value)


MODEL: Rows = {
    "model.backbone": _backbone,
    "model.pixel_decoder": _pixel_decoder,
    "model.decoder.queries": "MODEL.DECODER.NUM_OBJECT_QUERIES",
    "model.decoder.layers": lambda settings: settings["MODEL.DECODER.DEC_LAYERS"] - 1,  # theirs counts the predictions
    "model.decoder.width": "MODEL.DECODER.HIDDEN_DIM",
    "model.decoder.heads": "MODEL.DECODER.NHEADS",
    "model.decoder.hidden": "MODEL.DECODER.DIM_FEEDFORWARD",
    "model.decoder.joint_width": "MODEL.DIM_PROJ",
    "model.decoder.caption_length": "MODEL.TEXT.CONTEXT_LENGTH",
    "model.language.context_length": "MODEL.TEXT.CONTEXT_LENGTH",
    "model.language.width": "MODEL.TEXT.WIDTH",
    "model.language.heads": "MODEL.TEXT.HEADS",
    "model.language.layers": "MODEL.TEXT.LAYERS",
    "model.language.output_width": "MODEL.DIM_PROJ",
    "model.caption_image_size": "VLP.INPUT.IMAGE_SIZE",
    "model.published_quirks": lambda _: True,
}
"""The network."""

_DECODER = "MODEL.DECODER."
_COSTS: dict[str, Rule] = {f"matching.{kind}_cost": f"{_DECODER}{kind.upper()}_WEIGHT" for kind in ("class", "mask", "dice")}
_POINTS: dict[str, Rule] = {"points": _DECODER + "TRAIN_NUM_POINTS", "matching.points": _DECODER + "TRAIN_NUM_POINTS"}

TASKS: Rows = {
    **{f"tasks.{task}.{key}": rule for task in ("segmentation", "referring") for key, rule in (_COSTS | _POINTS).items()},
    **{f"tasks.segmentation.{kind}_weight": f"{_DECODER}{kind.upper()}_WEIGHT" for kind in ("class", "mask", "dice")},
    "tasks.segmentation.background_weight": _DECODER + "NO_OBJECT_WEIGHT",
    "tasks.segmentation.layers": _DECODER + "TOP_MASK_LAYERS",
    "tasks.segmentation.noun_weight": lambda x: x[_DECODER + "CAPTION.ENABLED"] * x[_DECODER + "CAPTION_WEIGHT"],
    "tasks.segmentation.noun_layers": _DECODER + "TOP_CAPTION_LAYERS",
    "tasks.segmentation.postprocessing.object_threshold": _DECODER + "TEST.OBJECT_MASK_THRESHOLD",
    "tasks.segmentation.postprocessing.overlap_threshold": _DECODER + "TEST.OVERLAP_THRESHOLD",
    "tasks.segmentation.postprocessing.detections": "COCO.TEST.DETECTIONS_PER_IMAGE",
    "tasks.referring.class_weight": lambda x: x[_DECODER + "GCLASS_WEIGHT"] * x[_DECODER + "GROUNDING.TEXT_WEIGHT"],
    "tasks.referring.class_name_factor": lambda x: (
        x[_DECODER + "GROUNDING.CLASS_WEIGHT"] / x[_DECODER + "GROUNDING.TEXT_WEIGHT"]
    ),
    "tasks.referring.mask_weight": _DECODER + "GMASK_WEIGHT",
    "tasks.referring.dice_weight": _DECODER + "GDICE_WEIGHT",
    "tasks.referring.layers": _DECODER + "TOP_GROUNDING_LAYERS",
    "tasks.captioning.weight": _DECODER + "CAPTIONING_WEIGHT",
    "tasks.captioning.layers": _DECODER + "TOP_CAPTIONING_LAYERS",
    "tasks.captioning.max_length": _DECODER + "CAPTIONING.STEP",
    "tasks.retrieval.weight": _DECODER + "RETRIEVAL_WEIGHT",
    "tasks.retrieval.backbone_weight": _DECODER + "BACKBONER_WEIGHT",
    "tasks.retrieval.layers": _DECODER + "TOP_RETRIEVAL_LAYERS",
    "tasks.retrieval.backbone_view": _DECODER + "RETRIEVAL.ENSEMBLE",
}
"""Weights and thresholds of the tasks."""
