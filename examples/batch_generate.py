# SPDX-License-Identifier: GPL-3.0-or-later
"""A table of prompts to a folder of objects, each as .blend, .glb and .png.

    blender --background --python-exit-code 3 --python batch_generate.py -- prompts.csv --out objects

The table is a CSV file whose first line names its columns: "prompt", and whatever else of the settings is to differ
from row to row (seed, size, system, weights, ...), those within others with a dot: "dream_fields.localisation",
"dreamfusion.back". "name" names the files, which are otherwise called by their prompts.
The same command goes on where it was stopped: what is whole is not made again, unless its row has changed.

Exit code: 0 all objects are there, 1 some could not be made (why stands in OUT/report.csv), 2 nothing could be begun.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import math
import os
import re
import sys
import time
import typing
from pathlib import Path

import bpy
from mathutils import Vector

try:
    from bl_ext.user_default.gen3d import api
    from bl_ext.user_default.gen3d.bridge import settings
except ImportError:  # not installed: the checkout that this file lies in
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from blender_gen3d import api
    from blender_gen3d.bridge import settings

DONE = "{name}.json"  # written last: what an object was made of


def main(arguments: list[str]) -> int:
    options = parsed(arguments)
    rows = read(Path(options.table))
    out = Path(options.out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    report = []
    for number, (name, wanted) in enumerate(rows, 1):
        began = time.monotonic()
        state, told = "made", ""
        if made_before(out, name, wanted):
            state = "there already"
        else:
            try:
                told = make(out, name, wanted, options)
            except api.Gen3DError as error:
                state, told = "failed", f"{error.cause} {error.next_step}"
        report.append({"name": name, "state": state, "seconds": round(time.monotonic() - began, 1), "told": told})
        print(f"[{number} of {len(rows)}] {name}: {state}. {told}".rstrip(" "), flush=True)
        write_report(out / "report.csv", report)
    return 1 if any(line["state"] == "failed" for line in report) else 0


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", help="CSV file with a column named prompt")
    parser.add_argument("--out", required=True, help="folder for the objects")
    parser.add_argument("--home", default="", help="the backend's data folder (default: as in the preferences)")
    parser.add_argument("--python", default="", help="interpreter of the backend (default: as in the preferences)")
    return parser.parse_args(arguments)


def read(table: Path) -> list[tuple[str, dict[str, object]]]:
    """Names and settings of all rows. Raises Gen3DError naming the line that is wrong, before anything is made."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise api.Gen3DError(f"{table} cannot be read: {error}.", "Give a CSV file in UTF-8.") from error
    if not lines:
        raise api.Gen3DError(f"{table} has no rows.", "Name the columns in its first line, then one object a line.")
    found: list[tuple[str, dict[str, object]]] = []
    for number, line in enumerate(lines, 2):
        try:
            if None in line:
                raise api.Gen3DError("It has more cells than there are columns.", "Put quotes around commas.")
            given = {key: value.strip() for key, value in line.items() if value and value.strip()}
            name = file_name(given.pop("name", "") or given.get("prompt", "") or f"object {number - 1}")
            wanted = nested(given)
            settings.parse(settings.GenerateSettings, wanted)
        except api.Gen3DError as error:
            raise api.Gen3DError(f"{table}, line {number}: {error}", "Nothing has been made yet.") from error
        taken = {other for other, _ in found}
        found.append((next(free for free in numbered(name) if free not in taken), wanted))
    return found


def columns(cls: type, prefix: str = "") -> dict[str, type]:
    """What a column can be named, and the type of that setting; "dreamfusion.back" is one within another."""
    found: dict[str, type] = {}
    for name, kind in typing.get_type_hints(cls).items():
        found |= columns(kind, f"{prefix}{name}.") if dataclasses.is_dataclass(kind) else {prefix + name: kind}
    return found


def nested(given: dict[str, str]) -> dict[str, object]:
    """The settings in the cells of a row, by column. Raises Gen3DError naming a column that is none."""
    known, wanted = columns(settings.GenerateSettings), {}
    for key, value in given.items():
        if key not in known:
            raise api.Gen3DError(f"{key} is not a setting.", f"Known here: {', '.join(sorted(known))}.")
        *groups, name = key.split(".")
        place = wanted
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = converted(key, value, known[key])
    return wanted


def converted(key: str, value: str, kind: type) -> object:
    """A cell as the type that its setting has."""
    if kind is bool:
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(value.lower(), value)
    try:
        return kind(value) if kind in (int, float) else value
    except ValueError:
        raise api.Gen3DError(f"{key} = {value!r} is no number.", "Correct it.") from None


def file_name(text: str) -> str:
    """Letters, digits and single underscores, which every file system takes."""
    return re.sub(r"[^\w]+", "_", text.lower()).strip("_")[:60] or "object"


def numbered(name: str) -> typing.Iterator[str]:
    yield name
    for number in range(2, 10**6):
        yield f"{name}_{number}"


def made_before(out: Path, name: str, wanted: dict[str, object]) -> bool:
    try:
        held = json.loads((out / DONE.format(name=name)).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return held.get("settings") == wanted and all((out / file).is_file() for file in held["files"])


def make(out: Path, name: str, wanted: dict[str, object], options: argparse.Namespace) -> str:
    """One object and its files; what the backend remarks on it."""
    result = api.generate(home=options.home or None, python=options.python, **wanted)
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=False)
    made = api.import_results(result, name=name, at=(0.0, 0.0, 0.0))
    bpy.context.view_layer.update()
    files = [f"{name}.blend", f"{name}.glb", f"{name}.png"]
    for item in made:
        item.select_set(True)
    bpy.ops.export_scene.gltf(filepath=str(out / files[1]), use_selection=True)
    picture(made, out / files[2])
    bpy.ops.wm.save_as_mainfile(filepath=str(out / files[0]), compress=True)
    content = {"settings": wanted, "files": files}
    (out / DONE.format(name=name)).write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return " ".join(json.loads((result / "result.json").read_text("utf-8")).get("notes", ()))


def picture(items: list[bpy.types.Object], path: Path, size: int = 320) -> None:
    """A rendering of all of the objects from the front left, by day."""
    scene = bpy.context.scene
    corners = [item.matrix_world @ Vector(corner) for item in items for corner in item.bound_box]
    middle = sum(corners, Vector()) / len(corners)
    radius = max((corner - middle).length for corner in corners)
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.data.angle = math.radians(40.0)
    way = Vector((-0.6, -1.0, 0.5)).normalized()
    camera.location = middle + way * radius / math.sin(camera.data.angle / 2)
    camera.rotation_euler = way.to_track_quat("Z", "Y").to_euler()
    camera.data.clip_end = 100.0 * radius
    sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    sun.data.energy, sun.rotation_euler = 3.0, (math.radians(40.0), 0.0, math.radians(-30.0))
    world = bpy.data.worlds.new("World")
    world.color = (0.9, 0.9, 0.9)
    for item in (camera, sun):
        scene.collection.objects.link(item)
    scene.camera, scene.world = camera, world
    scene.render.engine, scene.cycles.samples = "CYCLES", 64
    scene.cycles.use_denoising = False  # Blenders of some systems cannot
    scene.view_settings.view_transform = "Standard"
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)


def write_report(path: Path, lines: list[dict[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["name", "state", "seconds", "told"])
        writer.writeheader()
        writer.writerows(lines)


if __name__ == "__main__":
    try:
        status = main(sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:])
    except api.Gen3DError as error:
        print(f"{error.cause} {error.next_step}", file=sys.stderr)
        status = 2
    except SystemExit as end:  # argparse has said what was wrong
        status = int(end.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # some versions of Blender crash at their end after an export
