# SPDX-License-Identifier: GPL-3.0-or-later
"""The colours and materials of the procedural world, as people name them. sRGB in 0..1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BASE = {
    "red": (0.80, 0.07, 0.08),
    "orange": (0.95, 0.47, 0.06),
    "yellow": (0.96, 0.82, 0.10),
    "green": (0.12, 0.58, 0.17),
    "cyan": (0.10, 0.75, 0.78),
    "blue": (0.10, 0.25, 0.82),
    "purple": (0.50, 0.15, 0.66),
    "pink": (0.96, 0.52, 0.70),
    "brown": (0.42, 0.25, 0.12),
    "black": (0.06, 0.06, 0.07),
    "gray": (0.50, 0.50, 0.52),
    "white": (0.94, 0.94, 0.93),
}
NAMES = tuple(BASE)

# Other words for a colour, and words for a shade of it: (base, towards white (+) or black (−)).
SYNONYMS = {
    "scarlet": ("red", 0.1), "crimson": ("red", -0.2), "ruby": ("red", -0.1), "maroon": ("red", -0.45),
    "amber": ("orange", 0.1), "tangerine": ("orange", 0.0),
    "lemon": ("yellow", 0.2), "mustard": ("yellow", -0.2),
    "emerald": ("green", 0.0), "lime": ("green", 0.4), "olive": ("green", -0.4),
    "turquoise": ("cyan", 0.0), "aqua": ("cyan", 0.3), "teal": ("cyan", -0.35),
    "azure": ("blue", 0.3), "navy": ("blue", -0.5),
    "violet": ("purple", 0.1), "lilac": ("purple", 0.5), "indigo": ("purple", -0.3),
    "rosy": ("pink", 0.1), "magenta": ("pink", -0.25),
    "chocolate": ("brown", -0.2), "tan": ("brown", 0.4),
    "ebony": ("black", 0.0),
    "grey": ("gray", 0.0), "charcoal": ("gray", -0.5),
    "ivory": ("white", 0.0), "snowy": ("white", 0.05),
}  # fmt: skip

# What a thing can be made of: its usual colours, and the base colour each counts as.
MATERIALS = {
    "wooden": ((0.52, 0.33, 0.17), "brown"),
    "golden": ((0.83, 0.64, 0.16), "yellow"),
    "silver": ((0.75, 0.76, 0.79), "gray"),
    "metal": ((0.55, 0.57, 0.60), "gray"),
    "stone": ((0.56, 0.54, 0.50), "gray"),
}
MATERIAL_SYNONYMS = {"wood": "wooden", "gold": "golden", "steel": "metal", "iron": "metal", "rock": "stone"}

SHADES = {"light": 0.42, "dark": -0.45}
JITTER = 0.025


@dataclass(frozen=True)
class Colour:
    """``base`` is one of NAMES; ``words`` is how it is called; rgb is sRGB in 0..1."""

    base: str
    words: str
    rgb: tuple[float, float, float]


def shaded(rgb: NDArray[np.float64], shade: float) -> NDArray[np.float64]:
    """Towards white (shade up to +1) or black (down to −1)."""
    return rgb + (1 - rgb) * shade if shade > 0 else rgb * (1 + shade)


def plain(name: str, rng: np.random.Generator) -> Colour:
    """The colour or the material of this name."""
    if name in MATERIALS:
        rgb, base = MATERIALS[name]
        return Colour(base, name, _jitter(np.array(rgb), rng))
    return _colour(name, name, 0.0, rng)


def pick(rng: np.random.Generator, exclude: tuple[str, ...] = ()) -> Colour:
    """A colour of any base but those in ``exclude``, under one of its names."""
    base = str(rng.choice([name for name in NAMES if name not in exclude]))
    kind = rng.random()
    if kind < 0.12:
        others = [(word, shade) for word, (of, shade) in SYNONYMS.items() if of == base]
        word, shade = others[int(rng.integers(len(others)))]
        return _colour(base, word, shade, rng)
    if kind < 0.26 and base not in ("black", "white"):
        word = "light" if rng.random() < 0.5 else "dark"
        return _colour(base, f"{word} {base}", SHADES[word], rng)
    return _colour(base, base, 0.0, rng)


def material(rng: np.random.Generator) -> Colour:
    """A material, as a colour that is called by it."""
    return plain(str(rng.choice(list(MATERIALS))), rng)


def _colour(base: str, words: str, shade: float, rng: np.random.Generator) -> Colour:
    return Colour(base, words, _jitter(shaded(np.array(BASE[base]), shade), rng))


def _jitter(rgb: NDArray[np.float64], rng: np.random.Generator) -> tuple[float, float, float]:
    red, green, blue = np.clip(rgb + rng.normal(0, JITTER, 3), 0.01, 0.99)
    return float(red), float(green), float(blue)
