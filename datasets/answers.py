"""Answers to questions about pictures: their one spelling, and what mirroring a picture does to them."""

from __future__ import annotations

import re
from dataclasses import replace

from xdecoder.types import Question

_NUMBERS = "zero one two three four five six seven eight nine ten"
NUMBERS = {"none": "0", **{word: str(value) for value, word in enumerate(_NUMBERS.split())}}
ARTICLES = ("a", "an", "the")
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
STOPS = 32  # the official tool hands a flag of this value over where the number of replacements is expected

# Right spellings; a word that lacks one of the apostrophes is mended.
_CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's how'd
how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock oughtn't
'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
someone's something'd something'd've something'll that's there'd there'd've there're there's they'd they'd've they'll they're
they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll
who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're
you've
"""
CONTRACTIONS = {
    **{word[:at] + word[at + 1 :]: word for word in _CONTRACTIONS.split() for at, letter in enumerate(word) if letter == "'"},
    "somebody'd": "somebodyd",
}

_SIDES = {"left": "right", "right": "left"}


def normalised(answer: str) -> str:
    """An answer without punctuation and articles, in lower case, numbers to ten as digits, apostrophes in their places."""
    words = [NUMBERS.get(word, word) for word in _without_punctuation(answer).lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def _without_punctuation(answer: str) -> str:
    """Marks that stand beside a space vanish, others become one; in a text with a number such as 1,000 all vanish."""
    bare, grouped = answer, re.search(r"\d,\d", answer) is not None
    for mark in PUNCTUATION:
        vanishes = grouped or f"{mark} " in answer or f" {mark}" in answer
        bare = bare.replace(mark, "" if vanishes else " ")
    return re.sub(r"\.(?!\d)", "", bare, count=STOPS)


def mirrored_question(question: Question) -> Question:
    """The question about the mirrored picture: left and right change places, in what is asked and in what was answered."""
    return replace(question, text=_swapped(question.text), answers=tuple(_swapped(answer) for answer in question.answers))


def _swapped(text: str) -> str:
    return re.sub(r"\b(left|right)\b", lambda word: _SIDES[word[0]], text)
