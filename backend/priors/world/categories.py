# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything the procedural world is made of: one literal table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from . import buildings, figures, furniture, household, nature, vehicles
from .draft import Draft, Rng


@dataclass(frozen=True)
class Category:
    """names: its own and its synonyms. build: draws the shape. own: the parts that carry the thing's own colour.
    natural: the colour or material of one whose colour is not spoken of. metres: the usual largest side of one in the
    real world. usual: colours of the other parts where nothing is said of them; "own" is the thing's own colour.
    place: where an optional part is, for captions. made_of: materials it comes in. sideways: it is built with its
    front towards −x.
    """

    names: tuple[str, ...]
    build: Callable[[Rng], Draft]
    own: tuple[str, ...]
    natural: str
    metres: float
    usual: dict[str, tuple[str, ...]] = field(default_factory=dict)
    place: dict[str, str] = field(default_factory=dict)
    made_of: tuple[str, ...] = ()
    sideways: bool = False


WOOD = ("wooden",)
CATEGORIES: dict[str, Category] = {
    "chair": Category(
        ("chair", "stool"),
        furniture.chair,
        ("legs", "back", "armrests"),
        "wooden",
        0.9,
        {"seat": ("own",), "cushion": ("white", "red")},
        {"cushion": "on the seat"},
        ("wooden", "metal", "golden"),
    ),
    "table": Category(
        ("table", "desk"),
        furniture.table,
        ("top",),
        "wooden",
        1.2,
        {"legs": ("own",)},
        {},
        ("wooden", "stone", "metal"),
    ),
    "bed": Category(
        ("bed", "bunk"),
        furniture.bed,
        ("frame", "headboard"),
        "wooden",
        2.0,
        {"blanket": ("blue", "red", "white"), "mattress": ("white",), "pillow": ("white",)},
        {},
        WOOD,
    ),
    "sofa": Category(
        ("sofa", "couch", "settee"),
        furniture.sofa,
        ("body", "armrests"),
        "gray",
        2.0,
        {"cushions": ("own",), "feet": ("brown", "black")},
    ),
    "bookshelf": Category(
        ("bookshelf", "bookcase", "shelf"),
        furniture.bookshelf,
        ("frame",),
        "wooden",
        1.8,
        {"books": ("red", "blue", "green")},
        {"books": "on it"},
        WOOD,
    ),
    "lamp": Category(
        ("lamp", "table lamp"),
        furniture.lamp,
        ("shade",),
        "white",
        0.6,
        {"stand": ("own", "black"), "base": ("own", "black")},
        {},
        ("golden", "metal"),
    ),
    "hat": Category(
        ("hat", "top hat"), furniture.hat, ("crown", "brim"), "black", 0.35, {"band": ("black", "red", "white")}
    ),
    "umbrella": Category(
        ("umbrella", "parasol"),
        furniture.umbrella,
        ("canopy",),
        "red",
        1.0,
        {"handle": ("brown", "black"), "pole": ("gray",), "tip": ("gray",)},
    ),
    "guitar": Category(
        ("guitar", "ukulele"),
        furniture.guitar,
        ("body",),
        "wooden",
        1.0,
        {"neck": ("brown", "black"), "head": ("brown", "black"), "hole": ("black",), "bridge": ("black",)},
        {},
        WOOD,
    ),
    "mug": Category(
        ("mug", "cup"), household.mug, ("body",), "white", 0.12, {"handle": ("own",)}, {}, ("golden", "metal", "stone")
    ),
    "bottle": Category(
        ("bottle", "flask"),
        household.bottle,
        ("body",),
        "green",
        0.3,
        {"cap": ("own", "white", "black"), "label": ("white", "yellow")},
        {"label": "around it"},
    ),
    "teapot": Category(
        ("teapot", "kettle"),
        household.teapot,
        ("body", "spout"),
        "white",
        0.25,
        {"lid": ("own",), "handle": ("own", "black")},
        {},
        ("golden", "metal", "silver"),
    ),
    "hammer": Category(
        ("hammer", "mallet"),
        household.hammer,
        ("head",),
        "metal",
        0.35,
        {"handle": ("brown", "black")},
        {},
        ("metal", "stone", "golden", "silver"),
    ),
    "sword": Category(
        ("sword", "saber"),
        household.sword,
        ("blade",),
        "silver",
        1.0,
        {"handle": ("brown", "black"), "guard": ("yellow", "gray", "black"), "pommel": ("yellow", "gray", "black")},
        {},
        ("metal", "silver", "golden", "wooden"),
    ),
    "cake": Category(
        ("cake", "gateau", "birthday cake"),
        household.cake,
        ("cake",),
        "brown",
        0.3,
        {"icing": ("white", "pink"), "candles": ("yellow", "red", "blue")},
        {"candles": "on top"},
    ),
    "ice cream": Category(
        ("ice cream", "gelato"),
        household.ice_cream,
        ("scoops",),
        "pink",
        0.2,
        {"cone": ("orange", "brown"), "cherry": ("red",)},
        {"cherry": "on top"},
    ),
    "barrel": Category(
        ("barrel", "keg", "cask"),
        household.barrel,
        ("body",),
        "wooden",
        1.0,
        {"bands": ("black", "gray"), "lid": ("own",)},
        {},
        ("wooden", "metal", "golden"),
    ),
    "chest": Category(
        ("chest", "treasure chest"),
        household.chest,
        ("body",),
        "wooden",
        0.8,
        {"lid": ("own",), "lock": ("yellow", "gray"), "bands": ("black", "yellow")},
        {},
        WOOD,
    ),
    "crown": Category(
        ("crown", "tiara"),
        household.crown,
        ("band", "spikes"),
        "golden",
        0.25,
        {"jewels": ("red", "blue", "green")},
        {},
        ("golden", "silver"),
    ),
    "car": Category(
        ("car", "automobile"),
        vehicles.car,
        ("body",),
        "red",
        4.2,
        {"wheels": ("black",), "roof": ("own",), "windows": ("cyan", "black"), "headlights": ("yellow", "white")},
        sideways=True,
    ),
    "truck": Category(
        ("truck", "lorry"),
        vehicles.truck,
        ("cab",),
        "blue",
        6.5,
        {"wheels": ("black",), "box": ("own", "white"), "windows": ("cyan", "black"), "frame": ("black", "gray")},
        sideways=True,
    ),
    "plane": Category(
        ("plane", "airplane", "aircraft", "jet"),
        vehicles.plane,
        ("body",),
        "white",
        12.0,
        {"wings": ("own",), "tail": ("own",), "engines": ("gray",), "propeller": ("black", "gray")},
    ),
    "boat": Category(
        ("boat", "sailboat", "ship"),
        vehicles.boat,
        ("hull",),
        "wooden",
        6.0,
        {"sail": ("white",), "mast": ("brown",), "flag": ("red", "blue")},
        {"flag": "on the mast"},
        WOOD,
        sideways=True,
    ),
    "rocket": Category(
        ("rocket", "spaceship", "missile"),
        vehicles.rocket,
        ("body",),
        "white",
        20.0,
        {"nose": ("own", "red"), "fins": ("own", "red"), "engine": ("gray", "black"), "window": ("cyan", "blue")},
        {},
        ("metal", "silver"),
    ),
    "helicopter": Category(
        ("helicopter", "chopper"),
        vehicles.helicopter,
        ("body", "tail"),
        "red",
        10.0,
        {"rotor": ("black", "gray"), "skids": ("black", "gray"), "window": ("cyan",)},
        sideways=True,
    ),
    "house": Category(
        ("house", "cottage", "home", "hut"),
        buildings.house,
        ("walls",),
        "white",
        9.0,
        {"roof": ("red", "brown"), "door": ("brown", "blue"), "windows": ("cyan", "white"), "chimney": ("red", "gray")},
        {"chimney": "on the roof"},
        ("wooden", "stone"),
    ),
    "castle": Category(
        ("castle", "fortress"),
        buildings.castle,
        ("walls", "towers"),
        "stone",
        30.0,
        {"roofs": ("red", "blue"), "gate": ("brown",), "flag": ("red", "yellow")},
        {"flag": "on top"},
        ("stone", "golden"),
    ),
    "lighthouse": Category(
        ("lighthouse",),
        buildings.lighthouse,
        ("tower",),
        "white",
        20.0,
        {
            "stripes": ("red", "own"),
            "roof": ("red", "black"),
            "lantern": ("yellow",),
            "balcony": ("black", "gray"),
            "door": ("brown",),
        },
    ),
    "tree": Category(("tree", "oak"), nature.tree, ("leaves",), "green", 8.0, {"trunk": ("brown",)}),
    "pine tree": Category(
        ("pine tree", "fir", "conifer", "christmas tree"),
        nature.pine,
        ("leaves",),
        "green",
        8.0,
        {"trunk": ("brown",), "star": ("yellow",)},
        {"star": "on top"},
    ),
    "mushroom": Category(
        ("mushroom", "toadstool", "fungus"),
        nature.mushroom,
        ("cap",),
        "red",
        0.15,
        {"stem": ("white",), "spots": ("white",)},
        {"spots": "on the cap"},
    ),
    "flower": Category(
        ("flower", "daisy", "blossom"),
        nature.flower,
        ("petals",),
        "pink",
        0.4,
        {"center": ("yellow",), "stem": ("green",), "leaves": ("green",)},
    ),
    "cactus": Category(
        ("cactus", "succulent"),
        nature.cactus,
        ("body",),
        "green",
        0.4,
        {"pot": ("orange", "brown"), "flower": ("pink", "red")},
        {"flower": "on top"},
    ),
    "apple": Category(
        ("apple",), nature.apple, ("body",), "red", 0.09, {"stem": ("brown",), "leaf": ("green",)}, {}, ("golden",)
    ),
    "snowman": Category(
        ("snowman",),
        figures.snowman,
        ("body",),
        "white",
        1.6,
        {
            "hat": ("black",),
            "nose": ("orange",),
            "scarf": ("red", "blue"),
            "arms": ("brown",),
            "buttons": ("black",),
            "eyes": ("black",),
        },
        {"hat": "on its head", "scarf": "around its neck"},
    ),
    "robot": Category(
        ("robot", "android"),
        figures.robot,
        ("body", "head"),
        "metal",
        1.5,
        {"arms": ("own",), "legs": ("own",), "eyes": ("black", "yellow"), "antenna": ("red", "own")},
        {},
        ("metal", "golden", "silver"),
    ),
    "dog": Category(
        ("dog", "puppy", "hound"),
        figures.dog,
        ("body", "head", "legs"),
        "brown",
        0.8,
        {"ears": ("own", "brown"), "tail": ("own",), "nose": ("black",), "collar": ("red", "blue")},
        {"collar": "around its neck"},
        sideways=True,
    ),
    "fish": Category(
        ("fish", "goldfish"),
        figures.fish,
        ("body",),
        "orange",
        0.3,
        {"tail": ("own",), "fins": ("own",), "eyes": ("black",)},
        {},
        ("golden",),
        sideways=True,
    ),
    "duck": Category(
        ("duck", "duckling"),
        figures.duck,
        ("body", "head"),
        "yellow",
        0.4,
        {"beak": ("orange",), "wings": ("own",), "eyes": ("black",)},
        sideways=True,
    ),
}
