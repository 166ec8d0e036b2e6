from __future__ import annotations

from itertools import repeat
from typing import Any

import numpy as np
import pytest

from xdecoder.texts import MAX_LENGTH, MAX_TEXTS, check_name, checked
from xdecoder.types import Vocabulary


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("cat", r"names must be a list of texts, such as \['cat', 'sofa'\], not 'cat'"),
        (None, "names must be a list of texts.* not None"),
        ({"cat": 1}, "names must be a list of texts"),
        ({"cat"}, "names must be a list of texts"),
        ([], "names must hold at least one text"),
        (["cat", 1], r"names\[1\] is int and not text: 1"),
        ([None, "star"], r"names\[0\] is NoneType and not text"),
        (["cat", " \t"], r"names\[1\] is blank"),
        (["\ud83d"], r"names\[0\] holds a character that cannot be read \(U\+D83D\): '\\ud83d'"),
        (["a\0b"], r"names\[0\] holds a character that cannot be read \(U\+0000\)"),
        (["x" * (MAX_LENGTH + 1)], r"names\[0\] is 1001 characters long, more than 1000: 'x+\.\.\.x+'"),
        (["x"] * (MAX_TEXTS + 1), f"names must hold at most {MAX_TEXTS}"),
        (repeat("x"), r"names must be a list of texts.* not repeat\('x'\)"),
    ],
)
def test_what_is_no_list_of_texts(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        checked(given, "names")
    assert len(str(error.value)) < 200


def test_texts_stay_as_they_are() -> None:
    assert checked([" a cat\n", "ein Häuschen 🏠"], "names") == (" a cat\n", "ein Häuschen 🏠")
    assert checked(np.array(["a cat"]), "names") == ("a cat",)
    assert checked([], "things", least=0) == ()


@pytest.mark.parametrize("name", ["", "a\nb", "a\tb", "\x1b[31m", "a\u2028b"])
def test_what_no_class_is_called(name: str) -> None:
    with pytest.raises(ValueError, match="a class name "):
        check_name(name)
    with pytest.raises(ValueError, match="a class name "):
        Vocabulary(("cat", name), (True, True))
