"""The nouns of a caption, which the segmentation task contrasts queries with.

Published code asks NLTK's tagger, whose model is a download of its own. Captions are plain sentences, so rules do: the words
that are not function words, numbers, common adjectives, or verbs by their form or their place. Where a caption file states
nouns of its own (key `nouns` of a COCO caption, a list of words), those are taken instead.
"""

from __future__ import annotations

import re
from functools import lru_cache

_WORD = re.compile(r"[A-Za-z]+(?:-[A-Za-z]+)*|[.,;:!?()]")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that begin a noun phrase: what stands between one of them and the next function word is adjectives and nouns.
_OPENING = _words("""
a an the this that these those my your his her its our their some any no every each another other both all several many few
two three four five six seven eight nine ten eleven twelve dozen hundred various different multiple numerous certain
""")

_FUNCTION = _OPENING | _words("""
i you he she it we they me him us them himself herself itself themselves who whom whose which what where when why how one
ones someone somebody something anyone anything everyone everything nothing none of in on at by for with without from to
into onto out off over under above below beneath beside besides between among amongst amid around about across along
alongside against near next behind before after through throughout during toward towards up down upon within inside outside
past beyond like unlike as than until till since per via atop underneath opposite and or but nor so yet if while because
although though whether then is are was were be been being am has have had having do does did doing done can could will
would shall should may might must not n't there here very too also just only even still already almost quite rather really
together away back apart ahead aside forward forth else again once twice soon now today ever never always often sometimes
somewhere nearby indoors outdoors overhead more most much less least such same own ready able
""")

_ADJECTIVES = _words("""
red blue green yellow black white brown gray grey pink purple beige tan golden silver dark bright pale colorful colourful
colored coloured big small large little tiny huge giant tall short long high low wide narrow thick thin fat skinny deep old
new young older younger adult modern ancient vintage antique clean dirty empty full open closed wet dry hot cold warm cool
fresh frozen cute pretty beautiful lovely nice good bad great happy sad smiling sunny cloudy rainy snowy foggy busy crowded
wooden metallic electric digital round square flat sharp soft hard fluffy furry hairy bare naked bald front rear main first
second third last left right middle upper lower single double lone alone asleep awake grassy sandy rocky dusty muddy
muscular bushy leafy tasty delicious healthy raw ripe sliced half whole entire public private professional commercial indoor
outdoor heavy light calm quiet blurry broken fancy elegant stylish casual formal elderly male female asian american british
chinese japanese european urban rural tropical wild domestic tame lush vast steep shiny plain simple messy neat tidy unusual
strange funny odd close
""")

_VERBS = _words("""
sit sits sat stands stood hold holds held wear wears wore worn carry carries rode ridden ran eat eats ate eaten lie lies lay
lays hung stares gazes flew flown swims threw throws thrown caught contain contains include includes make makes made take
takes took taken get gets got give gives given gave go goes went gone come comes came see sees seen saw appear appears seem
seems enjoy enjoys serve serves served perform performs compete competes overlook overlooks prepare prepares surround
surrounds display displays graze grazes pose poses lean leans hangs drove driven drawn grown broken written spread set put
puts try tries tried
""")

# Verbs that are nouns behind a word such as "a" or "small": "she rides a bus", but "a bus ride".
_PERHAPS = _words("""
stand ride rides walk walks drink drinks look looks stare gaze hang fly flies swim jump jumps play plays hit hits throw
catch catches kick kicks swings pull pulls push pushes drive drives travel travels pass passes cross crosses feed feeds
smile smiles laugh laughs talk talks speak speaks show shows feature features use uses watch watches wait waits cook cooks
cut cuts place places share shares sleep sleeps rest rests face faces fill fills cover covers line lines turn turns reach
reaches rise rises land lands roll rolls climb climbs fight fights chase chases touch touches brush brushes run runs park
parks
""")

_NEVER = _FUNCTION | _ADJECTIVES | _VERBS

# Nouns that have a verb's, an adverb's or a participle's form.
_NOUNS = _words("""
building buildings ceiling clothing railing railings painting paintings wedding evening morning string ring king wing wings
thing things topping toppings frosting icing pudding stuffing dressing crossing lightning awning landing siding lighting
bedding earring earrings swing spring sibling duckling dumpling dumplings herring seating railing greeting offspring
covering drawing drawings bed beds shed sled seed seeds reed weed speed moped breed feed steed toolshed bobsled flatbed
family fly jelly belly bully lily butterfly assembly trolley dolly
""")


@lru_cache(maxsize=100_000)
def nouns_of(caption: str) -> tuple[str, ...]:
    """The nouns in the order and the case of the caption, each as often as it stands there."""
    words = _WORD.findall(caption)
    return tuple(word for at, word in enumerate(words) if word[0].isalpha() and _is_noun(words, at))


def _is_noun(words: list[str], at: int) -> bool:
    word = words[at].lower()
    if word in _NOUNS:
        return True
    if len(word) < 2 or word in _NEVER or word.endswith("ing") or (word.endswith(("ed", "ly")) and len(word) > 4):
        return False
    if word in _PERHAPS:
        before = words[at - 1].lower() if at else "."
        return before in _OPENING or before in _ADJECTIVES
    return True
