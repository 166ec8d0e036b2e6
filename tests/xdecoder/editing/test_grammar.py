"""Instructions and the steps that they come to."""

from __future__ import annotations

from typing import Any

import pytest

from xdecoder.config import ConfigError
from xdecoder.editing.grammar import class_name, parse_instruction
from xdecoder.editing.plan import MOST_STEPS, PLAN_SCHEMA, Step, read_plan


def step(operation: str, target: str, prompt: str | None = None, **more: Any) -> Step:
    return Step.model_validate({"operation": operation, "target": target, "prompt": prompt, **more})


PLANS: dict[str, list[Step]] = {
    "remove the left cup": [step("remove", "the left cup")],
    "Please delete the man in the red shirt from the picture.": [step("remove", "the man in the red shirt")],
    "get rid of all birds": [step("remove", "bird", every=True)],
    "erase the two red cars": [step("remove", "red car", every=True)],
    "take away the bus, please": [step("remove", "the bus")],
    "replace the left cup with a vase of tulips": [step("replace", "the left cup", "a vase of tulips")],
    "swap the dog on the sofa for a grey cat": [step("replace", "the dog on the sofa", "a grey cat")],
    "turn the grass into water": [step("replace", "the grass", "water")],
    "make the small star green": [step("recolour", "the small star", "green")],
    "change the colour of the car to blue": [step("recolour", "the car", "blue")],
    "paint the red cube left of the ring yellow": [step("recolour", "the red cube left of the ring", "yellow")],
    "colour every house white": [step("recolour", "house", "white", every=True)],
    "make the tree look like autumn": [step("restyle", "the tree", "autumn")],
    "make the statue golden": [step("restyle", "the statue", "golden")],
    "add a hat on top of the dog": [step("add", "the dog", "a hat", place="above")],
    "put a lamp to the left of the bed": [step("add", "the bed", "a lamp", place="left of")],
    "blur the faces": [step("blur", "face", every=True)],
    "blur everything except the woman with the umbrella": [step("blur", "the woman with the umbrella", invert=True)],
    "grey out everything but the strawberries": [step("grey", "strawberry", every=True, invert=True)],
    "keep only the horse": [step("keep_only", "the horse")],
    "remove everything but the horse": [step("keep_only", "the horse")],
    "remove the cup, then make the table blue and blur the background": [
        step("remove", "the cup"),
        step("recolour", "the table", "blue"),
        step("blur", "the background"),
    ],
    'Replace "the sign that says remove, then stop" with "a tree and a bench".': [
        step("replace", "the sign that says remove, then stop", "a tree and a bench")
    ],
    "replace the cup and the plate with a bowl; delete the fork": [
        step("replace", "the cup and the plate", "a bowl"),
        step("remove", "the fork"),
    ],
}


@pytest.mark.parametrize("instruction", PLANS)
def test_an_instruction_is_planned(instruction: str) -> None:
    assert list(parse_instruction(instruction)) == PLANS[instruction]


def test_lines_and_spaces_do_not_matter() -> None:
    assert parse_instruction("  Remove\n the   cup ") == parse_instruction("remove the cup")


@pytest.mark.parametrize(
    ("phrase", "name"),
    [
        ("all the boxes", "box"),
        ("both cherries", "cherry"),
        ("every glass", "glass"),
        ("all people in the street", "person in the street"),
        ("knives", "knife"),
        ("the cups on the left", None),
        ("the bus", None),
        ("the sheep", None),
        ("the glasses", None),
    ],
)
def test_plural_phrases_name_a_class(phrase: str, name: str | None) -> None:
    assert class_name(phrase) == name


@pytest.mark.parametrize(
    ("instruction", "sentence"),
    [
        ("", "'' is no instruction that is understood; say, for example, 'remove the left cup'"),
        ("what a lovely day", "'what a lovely day' is no instruction"),
        ("remove the cup and then sing", "'sing' is no instruction"),
        ("remove", "'remove' is no instruction"),
        ("x" * 2000, "an instruction may have 500 letters, not 2000"),
        (f"remove the {'very ' * 60}old cup", "target"),
        ("; ".join(["remove the cup"] * (MOST_STEPS + 1)), f"an edit has 1 to {MOST_STEPS} steps, not {MOST_STEPS + 1}"),
    ],
)
def test_what_is_not_understood_is_said(instruction: str, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_instruction(instruction)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_language_models_plan_is_read_as_data() -> None:
    plan = {"steps": [{"operation": "replace", "target": "the cup", "prompt": "a vase"}, {"operation": "blur", "target": "x"}]}
    assert read_plan(plan) == (step("replace", "the cup", "a vase"), step("blur", "x"))
    assert set(PLAN_SCHEMA["properties"]) == {"steps"}
    for wrong, sentence in [
        ("remove it", "a plan is an object with the key 'steps', not str"),
        ({"steps": []}, "steps"),
        ({"steps": [{"operation": "explode", "target": "x"}]}, "operation"),
        ({"steps": [{"operation": "replace", "target": "x"}]}, "operation 'replace' needs a prompt"),
        ({"steps": [{"operation": "recolour", "target": "x", "prompt": "mauve"}]}, "needs one of the colours red, orange"),
        ({"steps": [{"operation": "remove", "target": "x", "invert": True}]}, "invert goes with the operations blur and grey"),
    ]:
        with pytest.raises(ConfigError, match=sentence) as caught:
            read_plan(wrong)
        assert "\n" not in str(caught.value)
