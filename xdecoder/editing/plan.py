"""What an instruction comes to: steps that a grammar or a language model writes, as data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from xdecoder.config import Config, ConfigError, parse

Operation = Literal["remove", "replace", "restyle", "add", "recolour", "blur", "grey", "keep_only"]
Place = Literal["on", "left of", "right of", "above", "below", "inside"]

MOST_STEPS = 8
MOST_LETTERS = 200  # of one phrase

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 40, 40),
    "orange": (240, 135, 30),
    "yellow": (240, 210, 50),
    "green": (50, 155, 65),
    "blue": (45, 95, 205),
    "purple": (130, 65, 170),
    "violet": (130, 65, 170),
    "pink": (240, 140, 180),
    "brown": (125, 80, 45),
    "white": (245, 245, 245),
    "grey": (135, 135, 135),
    "gray": (135, 135, 135),
    "black": (30, 30, 30),
}
"""Colours that are mixed without a painting network, in sRGB."""

NEEDS_PROMPT = ("replace", "restyle", "add", "recolour")
INVERTIBLE = ("blur", "grey")

Phrase = Field(min_length=1, max_length=MOST_LETTERS)


class Step(Config):
    """One change of a picture."""

    operation: Operation
    """`remove` fills the region from around it; `replace` and `restyle` paint the prompt in the region, `add` beside or on it;
    `recolour` gives the region the colour `prompt`; `blur` and `grey` change how it looks; `keep_only` makes all else white."""

    target: str = Phrase
    """Phrase for the region that is changed, or for the landmark of what is added, such as "the left cup"."""

    prompt: str | None = Field(None, min_length=1, max_length=MOST_LETTERS)
    """What shall be there (replace, add), what it shall look like (restyle), or a colour's name (recolour)."""

    place: Place = "on"
    """Add: where the new thing goes, seen from the target."""

    every: bool = False
    """Whether all instances of the class `target`, in the singular, are meant, instead of the one region of a phrase."""

    invert: bool = False
    """Blur and grey: whether everything but the target changes."""

    @model_validator(mode="after")
    def _check(self) -> Step:
        if self.operation in NEEDS_PROMPT and self.prompt is None:
            raise ValueError(f"operation {self.operation!r} needs a prompt, which says what shall be there")
        if self.operation == "recolour" and self.prompt not in COLOURS:
            raise ValueError(f"operation 'recolour' needs one of the colours {', '.join(COLOURS)}, not {self.prompt!r}")
        if self.invert and self.operation not in INVERTIBLE:
            raise ValueError(f"invert goes with the operations {' and '.join(INVERTIBLE)}, not with {self.operation!r}")
        return self

    def __str__(self) -> str:
        target = f"every {self.target}" if self.every else self.target
        return f"{self.operation} {'all but ' * self.invert}{target}{f' → {self.prompt}' if self.prompt else ''}"


class Plan(Config):
    """Steps in the order in which they are done."""

    steps: tuple[Step, ...] = Field(min_length=1, max_length=MOST_STEPS)


PLAN_SCHEMA: dict[str, Any] = Plan.model_json_schema()
"""JSON schema of a plan, for a language model's tool call; `read_plan` reads what it writes."""


def read_plan(content: Any) -> tuple[Step, ...]:
    """The steps of `{"steps": [{"operation": …, "target": …}, …]}`; raises ConfigError in one sentence."""
    if not isinstance(content, dict):
        raise ConfigError(f"a plan is an object with the key 'steps', not {type(content).__name__}")
    return parse(Plan, content, "plan").steps


def checked(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps; raises ValueError where there are none or more than MOST_STEPS."""
    if not 0 < len(steps) <= MOST_STEPS:
        raise ValueError(f"an edit has 1 to {MOST_STEPS} steps, not {len(steps)}")
    return tuple(steps)
