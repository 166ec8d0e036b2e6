"""The published command line: `COMMAND --conf_files FILE … [--config_overrides JSON] [--overrides KEY VALUE …]`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from xdecoder.config import ConfigError

WORDS = ("train", "evaluate")


@dataclass(frozen=True)
class PublishedCommand:
    """What stands on the line."""

    word: str | None  # "train" or "evaluate"
    files: tuple[str, ...]
    json_overrides: tuple[str, ...]
    overrides: tuple[str, ...]
    rest: tuple[str, ...]  # arguments that are not the original's


def is_published(arguments: Sequence[str]) -> bool:
    """Whether the arguments are in the published grammar."""
    return any(argument.partition("=")[0] == "--conf_files" for argument in arguments)


def parse(arguments: Sequence[str]) -> PublishedCommand:
    """Read a line of the published grammar; raises ConfigError for one without files.

    As in the original everything that follows `--overrides` belongs to it.
    """
    arguments, overrides = _split(list(arguments))
    word = _take_word(arguments)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--conf_files", nargs="*", default=[])
    parser.add_argument("--config_overrides", nargs="*", default=[])
    parser.add_argument("--user_dir")  # told the original where its code lay
    options, rest = parser.parse_known_args(arguments)
    files = options.conf_files
    if not files:
        raise ConfigError("--conf_files: expected one or more YAML files")
    return PublishedCommand(word, tuple(files), tuple(options.config_overrides), tuple(overrides), tuple(rest))


def _take_word(arguments: list[str]) -> str | None:
    """Remove the command, which stands first or right before the files."""
    files = next((i for i, argument in enumerate(arguments) if argument.startswith("--conf_files")), 0)
    at = next((i for i in (0, files - 1) if 0 <= i < len(arguments) and arguments[i] in WORDS), None)
    return None if at is None else arguments.pop(at)


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    if "--overrides" not in arguments:
        return arguments, []
    at = arguments.index("--overrides")
    return arguments[:at], arguments[at + 1 :]
