"""English captions cut into words as the Penn Treebank does, lower-cased and without punctuation.

The COCO caption scores are defined on the output of a Java program (Stanford's PTBTokenizer). This is what it does to ordinary
captions, in one regular expression; the tests hold the real program's output. It agrees on all of 65 874 captions of COCO and
Flickr8k; telephone numbers, words run together and such may differ, so scores take the program itself where it is installed.
"""

from __future__ import annotations

import re

_ABBREVIATIONS = (
    "adj adm al apr ariz assn atty aug ave bldg blvd bros capt cf co col colo conn corp cos cpl ct dec dept dr esq "
    "est etc feb fig fla fri ft ga gen gov hon inc ind insp jan jr kan ky lt ltd maj mar md messrs mfg mich minn "
    "mme mo mon mr mrs ms mt neb nev nov oct okla penn plc pp pres prof pvt rd rep rev sen sep sept sgt sr st supt "
    "tel tenn thu thurs tue tues univ va vs wed wis wyo"
)
_LETTER = r"[^\W\d_]"
_WORD = r"[^\W_]+"
_CLITIC = r"(?:s|m|d|re|ve|ll)\b"

_TOKEN = re.compile(
    rf"""
    (?<![\w.,/])\d{{1,4}}[ ]\d{{1,4}}/\d{{1,4}}(?![\w/])         # 22 3/4 is one word
  | (?:(?<![\w-])[-+])?\d+(?:[.,:/]\d+)+                        # 3.5  12:43  1,000  1/2
  | https?://\S+\w | [\w.-]+@\w+(?:\.\w+)+ | </?[a-z]\w*>        # addresses and tags
  | (?:{_LETTER}\.)+{_LETTER}\b\.?                              # U.S.  t.v
  | \b{_LETTER}\.(?!\s*$|\s+(?-i:A|The)\b)                      # W. Centre, but no initial where a sentence ends
  | \b(?:{_ABBREVIATIONS.replace(" ", "|")})\.(?!\w)
  | \bno\.(?=\s\d)                                              # no. 5
  | \b(?:can(?=not\b)|gon(?=na\b)|wan(?=na\b)|got(?=ta\b)|lem(?=me\b)|gim(?=me\b))
  | \by'(?=all\b)
  | {_WORD}?(?=n't\b) | n't\b                                   # do n't
  | '(?:{_CLITIC}|n'|\d\ds\b|(?:em|til|cause)\b)                # 's  'n'  '90s
  | (?-i:[A-Z]&[A-Z]\b|[A-Z]{{2}}&[A-Z]\b)                      # R&B  AT&T
  | [\#@]{_LETTER}\w*
  | (?:(?<![\w-])[-+](?=\d))?{_WORD}(?:(?:[-/._]|'(?!{_CLITIC}|n'))(?!{_WORD}?n't\b){_WORD})*
  | [!?]{{2,}}
  | [\#&=/$%*+@<>~^|()\[\]{{}}\\°]
    """,
    re.VERBOSE | re.IGNORECASE,
)
_WRITTEN_AS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_PLAIN = str.maketrans({"\n": " ", "\u2019": "'", "\u2018": "'", "½": "1/2", "¼": "1/4", "¾": "3/4", "€": "$", "£": "#"})
_AND = re.compile(r"(?<!\S)&amp;(?!\S)")


def tokenise(caption: str) -> list[str]:
    """The words of a caption, lower-case: "The dog's hat, isn't it?" -> the dog 's hat is n't it.

    The parts of a number such as 22 3/4 are tied by a no-break space, as the program does it.
    """
    tokens = (token.lower() for token in _TOKEN.findall(_AND.sub("&", caption.translate(_PLAIN))))
    return [_WRITTEN_AS.get(token, token.replace(" ", "\u00a0")) for token in tokens]
