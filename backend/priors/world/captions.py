# SPDX-License-Identifier: GPL-3.0-or-later
"""What people would say of a thing."""

from __future__ import annotations

from .categories import CATEGORIES
from .colours import BASE, MATERIAL_SYNONYMS, MATERIALS, SYNONYMS
from .draft import Rng
from .things import Part, Thing

PREFIXES = ("a 3d model of", "a photo of", "a picture of", "a render of", "a toy of")
SHAPE_SYNONYMS = {
    "tall": ("tall", "high"),
    "short": ("short", "small"),
    "low": ("low", "flat"),
    "wide": ("wide", "big", "large"),
    "long": ("long", "big"),
    "small": ("small", "little"),
    "fat": ("fat", "thick", "big"),
    "slim": ("slim", "thin"),
    "narrow": ("narrow", "small"),
}
PHRASED = {"armchair", "raised", "handle left"}  # words that are no adjectives of the thing
UNCOUNTED = {"icing"}
PLURALS = {part for kind in CATEGORIES.values() for part in (*kind.own, *kind.usual) if part.endswith("s")}


def caption(thing: Thing, rng: Rng) -> str:
    """A phrase such as "a tall red chair with a blue seat"; every colour that was chosen on purpose is in it."""
    name = str(rng.choice(thing.kind.names)) if rng.random() < 0.4 else thing.kind.names[0]
    if "armchair" in thing.words and rng.random() < 0.6:
        name = "armchair"
    before, after = [], ""
    for word in thing.words:
        if word not in PHRASED and rng.random() < 0.45:
            before.append(str(rng.choice(SHAPE_SYNONYMS.get(word, (word,)))))
    if rng.random() < 0.3 or not thing.natural:
        words = thing.colour.words
        noun = [long for long, short in MATERIAL_SYNONYMS.items() if short == words]
        if noun and rng.random() < 0.25:
            after = f" made of {rng.choice(noun)}"
        else:
            before.append(words)
    told = [_with(part, thing, rng) for part in _mentioned(thing, rng)]
    if "raised" in thing.words and rng.random() < 0.6:
        told.append("raised arms")
    if "handle left" in thing.words and rng.random() < 0.6:
        told.append("the handle on the left")
    phrase = " ".join([*before, name]) + after
    if told:
        phrase += (" with " if rng.random() < 0.85 else " that has ") + " and ".join(told)
    kind = rng.random()
    if kind < 0.1:
        return phrase
    phrase = f"{article(phrase)} {phrase}"
    return f"{rng.choice(PREFIXES)} {phrase}" if kind < 0.18 else phrase


def _mentioned(thing: Thing, rng: Rng) -> list[Part]:
    """The parts a caption names: all whose colour was chosen, now and then one more."""
    found = [part for part in thing.parts if part.asked]
    others = [part for part in thing.parts if not part.asked and part.name not in thing.kind.own]
    if others and len(found) < 2 and rng.random() < 0.25:
        placed = [part for part in others if part.name in thing.kind.place]
        found.append((placed or others)[int(rng.integers(len(placed or others)))])
    return [found[i] for i in rng.permutation(len(found))]


def _with(part: Part, thing: Thing, rng: Rng) -> str:
    coloured = part.asked or rng.random() < 0.6
    words = f"{part.colour.words} {part.name}" if coloured else part.name
    place = thing.kind.place.get(part.name)
    text = words if part.name in PLURALS | UNCOUNTED else f"{article(words)} {words}"
    return f"{text} {place}" if place and rng.random() < 0.5 else text


def article(phrase: str) -> str:
    return "an" if phrase[0] in "aeiou" and not phrase.startswith("uku") else "a"


def vocabulary() -> set[str]:
    """Every word that a caption can hold."""
    phrases = [*PREFIXES, "a an with that has and made of the on left raised arms handle armchair light dark"]
    phrases += [*BASE, *SYNONYMS, *MATERIALS, *MATERIAL_SYNONYMS, "round leafy flat"]
    phrases += [*SHAPE_SYNONYMS, *(word for words in SHAPE_SYNONYMS.values() for word in words)]
    for kind in CATEGORIES.values():
        phrases += [*kind.names, *kind.own, *kind.usual, *kind.place.values()]
    return {word for phrase in phrases for word in phrase.split()}
