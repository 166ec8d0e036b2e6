"""Word stems: "cars" and "car" are one word when queries are contrasted with nouns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

# The rules of the Lancaster stemmer (Paice: Another stemmer, SIGIR Forum 24(3), 1990). Each is an ending read backwards, "*" if
# the word must be unchanged yet, how many letters go, what comes in their place, and whether to go on (">") or to stop (".").
_RULES = """
ai*2. a*1. bb1. city3s. ci2> cn1t> dd1. dei3y> deec2ss. dee1. de2> dooh4> e1> feil1v. fi2> gni3> gai3y. ga2> gg1.
ht*2. hsiug5ct. hsi3> i*1. i1y> ji1d. juf1s. ju1d. jo1d. jeh1r. jrev1t. jsim2t. jn1d. j1s. lbaifi6. lbai4y. lba3> lbi3.
lib2l> lc1. lufi4y. luf3> lu2. lai3> lau3> la2> ll1. mui3. mu*2. msi3> mm1. nois4j> noix4ct. noi3> nai3> na2> nee0. ne2> nn1.
pihs4> pp1. re2> rae0. ra2. ro2> ru2> rr1. rt1> rei3y> sei3y> sis2. si2> ssen4> ss0. suo3> su*2. s*1> s0.
tacilp4y. ta2> tnem4> tne3> tna3> tpir2b. tpro2b. tcud1. tpmus2. tpec2iv. tulo2v. tsis0. tsi3> tt1. uqi3. ugo1.
vis3j> vie0. vi2> ylb1> yli3y> ylp0. yl2> ygo1. yhp1. ymo1. ypo1. yti3> yte3> ytl2. yrtsi5. yra3> yro3> yfi3. ycn2t> yca3>
zi2> zy1s.
"""
_RULE = re.compile(r"([a-z]+)(\*?)(\d)([a-z]*)([>.])")
_VOWELS = "aeiouy"


@lru_cache(maxsize=20_000)
def stem(text: str) -> str:
    """The stem of a word in lower case; a text of several words stays as it stands, in lower case."""
    word = text.lower()
    if not word.isascii() or not word.isalpha():
        return word
    changed, going = False, True
    while going:
        going = False
        for ending, first, cut, new, on in _rules():
            if word.endswith(ending) and not (first and changed) and _acceptable(word, cut):
                word, changed, going = word[: len(word) - cut] + new, True, on
                break
    return word


def _rules() -> Iterator[tuple[str, bool, int, str, bool]]:
    for ending, first, cut, new, on in _RULE.findall(_RULES):
        yield ending[::-1], bool(first), int(cut), new, on == ">"


def _acceptable(word: str, cut: int) -> bool:
    """Whether enough would be left: two letters behind a vowel, else three with a vowel in second or third place."""
    left = len(word) - cut
    if word[0] in _VOWELS:
        return left >= 2
    return left >= 3 and (word[1] in _VOWELS or word[2] in _VOWELS)
