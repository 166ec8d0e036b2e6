"""Instructions in plain English become steps, without a language model.

One sentence may hold several: they are parted by "then", ";", a full stop, or by "and" or a comma before another verb. What
stands in double quotes is one phrase, whatever words it holds. Each of RULES is one way to say one thing.
"""

from __future__ import annotations

import re
from typing import Any

from xdecoder.config import parse
from xdecoder.editing.plan import COLOURS, Place, Step, checked

MOST_LETTERS = 500  # of a whole instruction
EXAMPLES = (
    "remove the left cup",
    "replace the cup with a vase of tulips",
    "make the car red",
    "blur everything but the dog",
)

PLACES: dict[str, Place] = {
    "on top of": "above",
    "onto": "on",
    "on": "on",
    "above": "above",
    "over": "above",
    "below": "below",
    "beneath": "below",
    "under": "below",
    "in front of": "below",
    "to the left of": "left of",
    "on the left of": "left of",
    "left of": "left of",
    "to the right of": "right of",
    "on the right of": "right of",
    "right of": "right of",
    "next to": "right of",
    "beside": "right of",
    "near": "right of",
    "inside": "inside",
    "into": "inside",
    "in": "inside",
}

_WHERE = "|".join(sorted(PLACES, key=len, reverse=True))  # "on" must not cut "on top of" short
_COLOUR = "|".join(COLOURS)
_SCENE = r"(?: (?:from|in|out of) (?:the|this) (?:picture|photo|image|scene))?"
_ALL_BUT = r"(?:(?:everything|all)(?: else)?|the rest) (?:but|except(?: for)?|apart from|other than)"
_GREY = r"(?:grey|gray)(?: out)?|desaturate"
_INTO = "into|in to|to"

RULES: tuple[tuple[str, dict[str, Any]], ...] = (
    (rf"(?:remove|delete|erase) {_ALL_BUT} (?P<target>.+?){_SCENE}", {"operation": "keep_only"}),
    (rf"keep (?:only|just|nothing but) (?P<target>.+?){_SCENE}", {"operation": "keep_only"}),
    (
        rf"(?:remove|delete|erase|get rid of|take (?:away|out)|cut out) (?P<target>.+?){_SCENE}",
        {"operation": "remove"},
    ),
    (rf"(?:blur|pixelate)(?: out)? {_ALL_BUT} (?P<target>.+)", {"operation": "blur", "invert": True}),
    (r"(?:blur|pixelate)(?: out)? (?P<target>.+)", {"operation": "blur"}),
    (rf"(?:{_GREY}) {_ALL_BUT} (?P<target>.+)", {"operation": "grey", "invert": True}),
    (rf"(?:{_GREY}) (?P<target>.+)", {"operation": "grey"}),
    (
        rf"(?:change|turn|set) the colou?r of (?P<target>.+) (?:{_INTO}) (?P<prompt>{_COLOUR})",
        {"operation": "recolour"},
    ),
    (
        rf"(?:make|paint|colou?r|dye|turn) (?P<target>.+?) (?:(?:{_INTO}) )?(?P<prompt>{_COLOUR})",
        {"operation": "recolour"},
    ),
    (
        r"(?:replace|swap|exchange|substitute) (?P<target>.+?) (?:with|by|for|against) (?P<prompt>.+)",
        {"operation": "replace"},
    ),
    (
        rf"(?:turn|change|transform|make) (?P<target>.+?) (?:{_INTO}) (?P<prompt>.+)",
        {"operation": "replace"},
    ),
    (r"(?:make|let) (?P<target>.+?) look (?:like )?(?P<prompt>.+)", {"operation": "restyle"}),
    (r"(?:make|paint) (?P<target>.+) (?P<prompt>\S+)", {"operation": "restyle"}),
    (rf"(?:add|put|place|insert|draw) (?P<prompt>.+?) (?P<place>{_WHERE}) (?P<target>.+)", {"operation": "add"}),
)
"""Ways to say a step, tried in turn: what the words must be, with names of the step's fields, and what the step then is."""

_VERBS = (
    "remove|delete|erase|get rid of|take away|take out|cut out|keep|blur|pixelate|grey|gray|desaturate|replace|swap|exchange|"
    "substitute|turn|change|transform|make|let|paint|colou?r|dye|set|add|put|place|insert|draw"
)
_PART = re.compile(rf" ?(?:;|\.(?= |$)|,? ?\b(?:and )?then\b,?|(?:, and|,| and)(?= (?:{_VERBS}) )) ?", re.IGNORECASE)
_POLITE = re.compile(r"^(?:please|now|first|finally|could you|can you|i want you to),? |,? please$|[.!?]+$", re.IGNORECASE)
_QUOTED = re.compile(r'"([^"]+)"|“([^”]+)”')

_EVERY = re.compile(r"(?:all of|all|every|each|both|(?:the )?(?:two|three|four|five)) (?:the )?(?P<names>.+)", re.IGNORECASE)
_RELATION = re.compile(r" (?:on|in|at|of|with|near|next|beside|under|above|below|behind|left|right|that|which|who) ")
_ALIKE = ("sheep", "fish", "deer", "glasses", "trousers", "jeans", "scissors", "pants", "shorts", "stairs", "gas", "lens")
_SINGULAR = {
    **{word: word for word in _ALIKE},
    **{"people": "person", "men": "man", "women": "woman", "children": "child", "mice": "mouse", "geese": "goose"},
    **{"knives": "knife", "leaves": "leaf", "shelves": "shelf", "wolves": "wolf", "loaves": "loaf"},
}


def parse_instruction(text: str) -> tuple[Step, ...]:
    """The steps of an instruction, in order.

    Raises:
        ValueError: naming the part that says nothing the grammar knows, with examples of what it does.
    """
    if len(text) > MOST_LETTERS:
        raise ValueError(f"an instruction may have {MOST_LETTERS} letters, not {len(text)}")
    quoted: list[str] = []

    def take(match: re.Match[str]) -> str:
        quoted.append(match[1] or match[2])
        return f"\0{len(quoted) - 1}\0"

    plain = _QUOTED.sub(take, " ".join(text.replace("\0", " ").split()))
    clauses = [clause for part in _PART.split(plain) if (clause := _polished(part))]
    if not clauses:
        raise _refusal(text)
    return checked([_step(clause, quoted) for clause in clauses])


def _polished(clause: str) -> str:
    """The clause without what is only polite."""
    while (shorter := _POLITE.sub("", clause.strip())) != clause:
        clause = shorter
    return clause


def _step(clause: str, quoted: list[str]) -> Step:
    for words, fixed in RULES:
        if match := re.fullmatch(words, clause, re.IGNORECASE):
            found = match.groupdict()
            settings = fixed | {name: _unquoted(phrase, quoted) for name, phrase in found.items()}
            if "place" in found:
                settings["place"] = PLACES[found["place"].lower()]
            if settings["operation"] == "recolour":
                settings["prompt"] = settings["prompt"].lower()
            if "\0" not in found["target"] and (name := class_name(found["target"])):
                settings |= {"target": name, "every": True}
            return parse(Step, settings, repr(_unquoted(clause, quoted)))
    raise _refusal(_unquoted(clause, quoted))


def class_name(phrase: str) -> str | None:
    """The singular of a phrase that means all of a class, such as "all the red cars" or "birds"; None for other phrases."""
    if match := _EVERY.fullmatch(phrase):
        names, every = match["names"], True
    else:
        names, every = re.sub("^the ", "", phrase, flags=re.IGNORECASE), False
    if not every and _RELATION.search(f" {names} "):
        return None
    relation = _RELATION.search(names)
    head, rest = (names[: relation.start()], names[relation.start() :]) if relation else (names, "")
    first, _, noun = head.rpartition(" ")
    single = _singular(noun.lower())
    return f"{first} {single}{rest}".strip() if every or single != noun.lower() else None


def _singular(noun: str) -> str:
    if noun in _SINGULAR:
        return _SINGULAR[noun]
    if noun.endswith("ies") and len(noun) > 4:
        return f"{noun[:-3]}y"
    if noun.endswith(("ches", "shes", "xes", "sses", "zes")):
        return noun[:-2]
    return noun[:-1] if noun.endswith("s") and not noun.endswith(("ss", "us", "is")) else noun


def _unquoted(phrase: str, quoted: list[str]) -> str:
    return re.sub("\0(\\d+)\0", lambda mark: quoted[int(mark[1])], phrase)


def _refusal(clause: str) -> ValueError:
    known = ", ".join(repr(example) for example in EXAMPLES)
    return ValueError(f"{clause[:80]!r} is no instruction that is understood; say, for example, {known}")
