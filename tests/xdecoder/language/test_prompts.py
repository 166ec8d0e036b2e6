from __future__ import annotations

import json
from pathlib import Path

import torch

from xdecoder.language.prompts import TEMPLATES, clean, fill, random_prompt


def test_eighty_one_different_templates() -> None:
    assert len(TEMPLATES) == len(set(TEMPLATES)) == 81
    assert all(template.count("{}") == 1 and template.endswith(".") and "<" not in template for template in TEMPLATES)
    assert TEMPLATES[0] == "{}."


def test_they_are_the_published_ones(shared: Path) -> None:
    published = json.loads((shared / "spec/vocab/prompt_templates.json").read_text())["xdecoder_81"]["templates"]
    assert set(TEMPLATES) == set(published)


def test_names_lose_the_suffixes_of_merged_classes() -> None:
    assert clean("sky-other-merged") == "sky"
    assert clean("door-stuff") == "door"
    assert clean("wall-brick") == "wall-brick"
    assert fill("grass-merged", "a photo of the {}.") == "a photo of the grass."


def test_random_prompts_follow_the_generator() -> None:
    def draw(seed: int) -> list[str]:
        generator = torch.Generator().manual_seed(seed)
        return [random_prompt("wall-other-merged", generator) for _ in range(300)]

    assert draw(1) == draw(1) != draw(2)
    assert set(draw(1)) <= {fill("wall", template) for template in TEMPLATES}
    assert len(set(draw(1))) > 60
    assert "cup mug" in random_prompt("cup+mug", None) and "," not in random_prompt("a,b", None)
