# SPDX-License-Identifier: GPL-3.0-or-later
"""The procedural world that the embedded priors learned from: coloured things and what people would say of them.

One description of a thing gives its triangles, its points, what is inside it and its captions, so that all of them
agree. Everything is drawn from a numpy generator: the same seed gives the same world.
"""

from .captions import article, caption, vocabulary
from .categories import CATEGORIES
from .things import DETAIL, Part, Thing, inside, labelled_points_of, mesh_of, points_of, sample, surface_of

__all__ = [
    "CATEGORIES",
    "DETAIL",
    "Part",
    "Thing",
    "article",
    "caption",
    "inside",
    "labelled_points_of",
    "mesh_of",
    "points_of",
    "sample",
    "surface_of",
    "vocabulary",
]
