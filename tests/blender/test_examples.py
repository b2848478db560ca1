# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts of examples/, run as users run them: by a Blender without a window, in a process of its own."""

from __future__ import annotations

import csv
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import bpy
import pytest

from . import addon

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
QUICK = {"weights": "embedded", "steps": 6, "points": 256, "resolution": 48, "device": "cpu"}

needs_backend = pytest.mark.skipif(
    not os.environ.get("GEN3D_PYTHON"), reason="GEN3D_PYTHON names no interpreter of the backend"
)


def run(script: str, *arguments: object, scene: Path | None = None) -> subprocess.CompletedProcess[str]:
    opened = [str(scene)] if scene else []
    command = [sys.executable, str(EXAMPLES / script)]
    if bpy.app.binary_path:
        blender = [bpy.app.binary_path, "--background", *opened, "--python-exit-code", "3"]
        command = [*blender, "--python", str(EXAMPLES / script), "--"]
    elif scene:
        load = f"import bpy, runpy, sys; bpy.ops.wm.open_mainfile(filepath={str(scene)!r}); sys.argv = sys.argv[1:]; "
        command = [sys.executable, "-c", load + "runpy.run_path(sys.argv[0], run_name='__main__')", command[1]]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=550)


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs_backend
def test_a_table_of_prompts_becomes_a_folder_of_objects_and_goes_on_where_it_was(tmp_path: Path) -> None:
    out, home = tmp_path / "objects", tmp_path / "home"
    prompts = table(
        tmp_path / "prompts.csv",
        [{"prompt": "a red mug", "name": "Mug/1", **QUICK}, {"prompt": "a red mug", "seed": 2, **QUICK}],
    )
    try:
        done = run("batch_generate.py", prompts, "--out", out, "--home", home)
        assert done.returncode == 0, done.stdout + done.stderr
        names = ["a_red_mug", "mug_1"]
        assert sorted(path.name for path in out.iterdir()) == sorted(
            ["report.csv", *(f"{name}.{kind}" for name in names for kind in ("blend", "glb", "json", "png"))]
        )
        before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.glb")}
        table(prompts, [{"prompt": "a red mug", "name": "Mug/1", **QUICK}, {"prompt": "xylograph", **QUICK}])
        again = run("batch_generate.py", prompts, "--out", out, "--home", home)
    finally:
        addon.module("connection.launcher").end(home)
    assert again.returncode == 1, again.stdout + again.stderr
    refused = run("batch_generate.py", tmp_path / "nothing.csv", "--out", tmp_path / "other", "--home", home)
    assert refused.returncode == 2 and "nothing.csv cannot be read" in refused.stderr
    assert "Traceback" not in refused.stderr and not (tmp_path / "other").exists()
    with (out / "report.csv").open(encoding="utf-8") as file:
        states = {line["name"]: (line["state"], line["told"]) for line in csv.DictReader(file)}
    assert states["mug_1"] == ("there already", "")
    assert states["xylograph"][0] == "failed" and "knows none of the words" in states["xylograph"][1]
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.glb")} == before
    bpy.ops.wm.open_mainfile(filepath=str(out / "mug_1.blend"))
    (mug,) = (item for item in bpy.data.objects if item.type == "MESH")
    assert mug.name == "mug_1" and mug.location.length == 0 and mug.data.color_attributes.active_color


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "has no rows"),
        ("prompt\n", "has no rows"),
        ("name\nx\n", "line 2: There is no prompt."),
        ("prompt,steps\na mug,8\na mug,many\n", "line 3: steps = 'many' is no number"),
        ("prompt,steps\na mug,9999999\n", "line 2: params.steps = 1e.07 is out of range"),
        ("prompt,colour\na mug,red\n", "colour is not a setting"),
        ("prompt,dreamfusion.left\na mug,its side\n", "line 2: dreamfusion.left is not a setting"),
        ("prompt,dreamfusion,dreamfusion.back\na mug,all,plain\n", "line 2: dreamfusion is not a setting"),
        ("prompt,prompt.back\na mug,plain\n", "line 2: prompt.back is not a setting"),
        ("prompt,dreamfusion.perp_neg\na mug,99\n", "line 2: params.dreamfusion.perp_neg = 99 is out of range"),
        ("prompt,magic3d.shape\na mug,maybe\n", "line 2: params.magic3d.shape must be of type bool"),
        ("prompt,seed\na mug, blue,1\n", "more cells"),
    ],
)
def test_a_wrong_table_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, told: str
) -> None:
    path = tmp_path / "prompts.csv"
    path.write_text(content, encoding="utf-8")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    with pytest.raises(addon.module("api").Gen3DError, match=told):
        importlib.import_module("batch_generate").read(path)


def test_columns_with_a_dot_are_settings_within_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of their own types; where a cell is empty, the usual holds."""
    rows = [
        {"prompt": "a cup", "system": "dream-fields", "dream_fields.localisation": "no", "dream_fields.poses": "yes"},
        {"prompt": "a cup", "dreamfusion.back": "a plain cup", "dreamfusion.perp_neg": "2", "magic3d.tetrahedra": "32"},
    ]
    monkeypatch.syspath_prepend(str(EXAMPLES))
    (_, first), (_, second) = importlib.import_module("batch_generate").read(table(tmp_path / "prompts.csv", rows))
    techniques = {"localisation": False, "poses": True}
    assert first == {"prompt": "a cup", "system": "dream-fields", "dream_fields": techniques}
    sides = {"back": "a plain cup", "perp_neg": 2.0}
    assert second == {"prompt": "a cup", "dreamfusion": sides, "magic3d": {"tetrahedra": 32}}


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs_backend
def test_a_scene_is_copied_and_its_views_are_not_rendered_twice(tmp_path: Path) -> None:
    sys.path.insert(0, str(EXAMPLES))
    lighthouse = importlib.import_module("lighthouse")
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    original = lighthouse.build((1.0, 2.0, 0.0), (0.0, 0.0, 0.5), 1.0)
    lighthouse.light()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    name, out, home = original.name, tmp_path / "copy", tmp_path / "home"
    options = ["--out", out, "--views", 24, "--size", 96, "--samples", 4, "--seconds", 8, "--home", home]
    try:
        done = run("capture_and_train.py", *options, "--objects", name, scene=tmp_path / "scene.blend")
        assert done.returncode == 0, done.stdout + done.stderr
        again = run("capture_and_train.py", *options, "--objects", "Nobody", scene=tmp_path / "scene.blend")
    finally:
        addon.module("connection.launcher").end(home)
    assert "are there already" in again.stdout and again.returncode == 0, again.stdout + again.stderr
    assert json.loads((out / "facts.json").read_text("utf-8"))
    bpy.ops.wm.open_mainfile(filepath=str(out / "copy.blend"))
    copy, there = bpy.data.objects["Copy"], bpy.data.objects[name]
    bpy.context.view_layer.update()
    assert (copy.matrix_world.translation - there.matrix_world.translation).length < 5.0
    assert len(copy.data.polygons) > 500 and (out / "copy.glb").stat().st_size > 10_000
