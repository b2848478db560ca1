# SPDX-License-Identifier: GPL-3.0-or-later
"""In the real backend process over the real socket: words to objects; capture, training, import of a copy."""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from . import addon

needs_backend = pytest.mark.skipif(
    not os.environ.get("GEN3D_PYTHON"), reason="GEN3D_PYTHON names no interpreter of the backend"
)
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs_backend
def test_words_become_a_row_of_objects(tmp_path: Path) -> None:
    """By the shipped prior in few steps: what comes out need not be pretty, but in its place, closed and coloured."""
    api, launcher = addon.module("api"), addon.module("connection.launcher")
    bpy.context.scene.cursor.location = (2.0, 1.0, 0.5)
    rows: list[Any] = []
    home = tmp_path / "home"
    quick = {"weights": "embedded", "steps": 8, "points": 256, "resolution": 48, "device": "cpu"}
    try:
        result = api.generate(
            "a red chair with a turquoisish seat", seed=4, count=2, size=1.2, save_points=True, home=home,
            on_progress=rows.append, **quick,
        )  # fmt: skip
        with pytest.raises(api.Gen3DError, match="knows none of the words") as caught:
            api.generate("xylograph", home=home, **quick)
        with pytest.raises(api.Gen3DError, match="There is no file"):
            api.generate(image=tmp_path / "nothing.png", home=home)
    finally:
        launcher.end(home)
    assert "chair" in caught.value.next_step
    assert rows[-1].state == "done"
    assert any("embedded prior" in note for note in rows[-1].result["notes"])
    assert any("turquoisish" in note for note in rows[-1].result["notes"]), "what it does not know is said"
    made = api.import_results(result)
    assert len(made) == 2
    clouds = [item for item in bpy.data.objects if item.type == "MESH" and item not in made]
    assert [len(item.data.vertices) for item in clouds] == [1024, 1024], "the first points, and three times more"
    for item in made:
        assert max(item.dimensions) == pytest.approx(1.2, rel=1e-3)
        places = np.array([item.matrix_world @ vertex.co for vertex in item.data.vertices])
        assert places[:, 2].min() == pytest.approx(0.5, abs=1e-4)
        colors = np.empty(4 * len(item.data.vertices), np.float32)
        item.data.color_attributes.active_color.data.foreach_get("color", colors)
        assert colors.reshape(-1, 4)[:, :3].std(axis=0).max() > 0.0
        edges = {tuple(edge.vertices) for edge in item.data.edges}
        assert len(edges) * 2 == len(item.data.polygons) * 3, "closed"
    assert made[0].location.xy[:] == pytest.approx((2.0, 1.0))
    assert made[1].location.x > 2.0 + (made[0].dimensions.x + made[1].dimensions.x) / 2.0


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs_backend
def test_a_moved_turned_and_scaled_object_is_met(tmp_path: Path) -> None:
    """One per cent of its diagonal, with no alignment step, for an object far from the origin, tilted and large."""
    sys.path.insert(0, str(EXAMPLES))
    lighthouse, measure = importlib.import_module("lighthouse"), importlib.import_module("measure")
    api, launcher = addon.module("api"), addon.module("connection.launcher")
    tilt = [math.radians(angle) for angle in (20.0, -35.0, 110.0)]
    original = lighthouse.build((-40.0, 25.0, 9.0), tilt, 1.7)
    lighthouse.light()
    dataset = api.capture(tmp_path / "views", objects=[original], views=44, width=160, height=160, samples=16)
    seen: list[float] = []
    home = tmp_path / "home"
    try:
        result = api.train(
            dataset.folder,
            home=home,
            seconds=45,
            on_progress=lambda row: seen.append((row.progress or {}).get("fraction", 0)),
        )
    finally:
        launcher.end(home)
    facts = json.loads((result / "result.json").read_text("utf-8"))
    copy = api.import_result(result)
    distance = measure.surface_distance(original, copy)
    print(f"{facts['metrics']} {distance}")
    assert distance["median"] <= 0.01
    assert max(distance["original to result"], distance["result to original"]) <= 0.015
    assert seen == sorted(seen)
    assert len(seen) > 5
    colors = np.empty(4 * len(copy.data.vertices), np.float32)
    copy.data.color_attributes.active_color.data.foreach_get("color", colors)
    assert colors.reshape(-1, 4)[:, :3].std(axis=0).min() > 0.02, "several colours"
    assert bpy.context.view_layer.objects.active == copy
