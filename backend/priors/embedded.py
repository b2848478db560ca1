# SPDX-License-Identifier: GPL-3.0-or-later
"""The priors that are shipped: where they lie, and which words they know."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from ..errors import Gen3DError
from .lexicon import nearest
from .world import CATEGORIES, vocabulary

_HERE = Path(__file__).parent
POINT, SDF, POINTNET = _HERE / "point", _HERE / "sdf", _HERE / "pointnet"
POINT_JUDGE = _HERE / "point_judge"
CLIP, CLIP_SCORER = _HERE / "clip", _HERE / "clip_scorer"
TEXT_TO_IMAGE, TOKENIZER = _HERE / "text_to_image", _HERE / "tokenizer"

ALSO = {"chair": ("armchair",)}
"""Names that are given to some things of a category only."""

# Words without which a prompt means the same to the priors.
_FILLERS = (
    "i we you me it is are be this that these those some any one please make create generate show want would like "
    "for to in at by from as its it's very really just so my your our their his her high quality detailed realistic "
    "3d model render photo picture image illustration object toy cute nice beautiful pretty small style"
)


@lru_cache(maxsize=1)
def known_words() -> frozenset[str]:
    return frozenset(vocabulary())


@lru_cache(maxsize=1)
def things() -> tuple[str, ...]:
    """What the priors can make, each by its first name."""
    return tuple(kind.names[0] for kind in CATEGORIES.values())


def understood(prompt: str) -> str:
    """The prompt in the words that the priors were trained on: lower case, singular, without the others."""
    return " ".join(known for word in _words(prompt) if (known := _known(word)))


def unknown_words(prompt: str) -> list[tuple[str, list[str]]]:
    """Each word that the priors do not know, and up to three that they do and that are near to it."""
    missing = [w for w in dict.fromkeys(_words(prompt)) if w not in _FILLERS.split() and not _known(w)]
    return [(word, nearest(word, set(known_words()))) for word in missing]


def read(prompt: str, install: str) -> tuple[str, list[str]]:
    """The prompt as the priors were taught to read, and notes on what they do not know. ``install``: what else to do.

    Raises Gen3DError where they know none of its words.
    """
    known, can = understood(prompt), f"The embedded prior knows {', '.join(things())}"
    if not known:
        raise Gen3DError(
            f"The embedded prior knows none of the words {prompt[:80]!r}.",
            f"{can}; for other things, {install}.",
            field="prompt",
        )
    missing = [
        f"{word!r}" + (f" (near to it: {', '.join(near)})" if near else "") for word, near in unknown_words(prompt)
    ]
    notes = [f"It does not know {', '.join(missing)} and left that out; for more words, {install}."] if missing else []
    if not thing_in(prompt):
        notes.append(f"The words name no thing that it knows. {can}; for other things, {install}.")
    return known, notes


def thing_in(prompt: str) -> str:
    """The category that a prompt names, under its key in the world; "" where it names none."""
    said = f" {understood(prompt)} "
    found = [
        (said.index(f" {name} "), -len(name), category)
        for category, kind in CATEGORIES.items()
        for name in (*kind.names, *ALSO.get(category, ()))
        if f" {name} " in said
    ]
    return min(found)[2] if found else ""


def metres(prompt: str) -> float:
    """The usual largest side of the thing that a prompt names, in the real world; 1 where it names none."""
    thing = thing_in(prompt)
    return CATEGORIES[thing].metres if thing else 1.0


def _words(prompt: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:'[^\W_]+)?", prompt.lower())


def _known(word: str) -> str:
    for form in (word, word.removesuffix("'s"), word.removesuffix("s"), word.removesuffix("es")):
        if form in known_words():
            return form
    return ""
