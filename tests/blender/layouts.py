# SPDX-License-Identifier: GPL-3.0-or-later
"""A layout that takes what a panel draws, and asks Blender whether there is such a thing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy

FUNCTIONS = bpy.types.UILayout.bl_rna.functions
PANES = {"box", "column", "column_flow", "grid_flow", "row", "split"}


class Layout:
    """All methods of Blender's, checked: names, arguments, choices, properties, operators with their own arguments.

    lines: the texts of labels and progress bars; shown: the properties and operators; pictures: icon values.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.shown: list[str] = []
        self.pictures: list[int] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        assert name in FUNCTIONS, f"{name} is no method of a layout in Blender {bpy.app.version_string}"
        return lambda *given, **named: self._call(name, given, named)

    def _call(self, name: str, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        known = {key: item for key, item in FUNCTIONS[name].parameters.items() if not item.is_output}
        values = {**dict(zip(known, given, strict=False)), **named}
        assert set(values) <= set(known), f"{name} does not take {set(values) - set(known)}"
        for key, value in values.items():
            _check(known[key], value)
        if name in PANES:
            return self
        if name == "panel":
            return self, self  # as if it were open
        if text := values.get("text"):
            self.lines.append(text)
        if name == "prop":
            assert values["property"] in values["data"].bl_rna.properties
            self.shown.append(values["property"])
        if name == "operator":
            self.shown.append(values["operator"])
            return Arguments(values["operator"])
        if name in ("menu", "popover"):
            assert hasattr(bpy.types, values.get("menu") or values["panel"])
        if name == "template_icon":
            self.pictures.append(values["icon_value"])
        return None


class Arguments:
    """Takes an operator's arguments, those it has."""

    def __init__(self, operator: str) -> None:
        area, verb = operator.split(".")
        self.__dict__["_known"] = getattr(getattr(bpy.ops, area), verb).get_rna_type().properties

    def __setattr__(self, name: str, value: Any) -> None:
        assert name in self._known


def _check(parameter: bpy.types.Property, value: Any) -> None:
    match parameter.type:
        case "ENUM":
            assert value in parameter.enum_items, f"{parameter.identifier}: there is no {value}"
        case "STRING":
            assert isinstance(value, str)
        case "FLOAT" | "INT":
            assert parameter.hard_min <= value <= parameter.hard_max
