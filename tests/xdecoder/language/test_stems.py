import pytest

from xdecoder.language.stems import stem


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("cars", "car"),
        ("car", "car"),
        ("Dogs", "dog"),
        ("women", "wom"),
        ("woman", "wom"),
        ("men", "men"),
        ("grass", "grass"),
        ("building", "build"),
        ("bicycle", "bicyc"),
        # the algorithm's own examples
        ("maximum", "maxim"),
        ("presumably", "presum"),
        ("multiply", "multiply"),
        ("provision", "provid"),
        ("owed", "ow"),
        ("ear", "ear"),
        ("saying", "say"),
        ("crying", "cry"),
        ("string", "string"),
        ("meant", "meant"),
        ("cement", "cem"),
    ],
)
def test_words(word, expected):
    assert stem(word) == expected


def test_other_texts_stay_as_they_stand():
    assert stem("Traffic lights") == "traffic lights" and stem("café") == "café" and stem("") == ""
