# SPDX-License-Identifier: GPL-3.0-or-later
"""Capture, training in the real backend process over the real socket, import: the copy stands on the original."""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest

from . import addon

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not os.environ.get("GEN3D_PYTHON"), reason="GEN3D_PYTHON names no interpreter of the backend")
def test_a_moved_turned_and_scaled_object_is_met(tmp_path: Path) -> None:
    """One per cent of its diagonal, with no alignment step, for an object far from the origin, tilted and large."""
    sys.path.insert(0, str(EXAMPLES))
    lighthouse, measure = importlib.import_module("lighthouse"), importlib.import_module("measure")
    api, launcher = addon.module("api"), addon.module("launcher")
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
