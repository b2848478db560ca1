# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies what is in a scene by looking at it: views from all around, a radiance field, a mesh where the original is.

    blender --background scene.blend --python-exit-code 3 --python capture_and_train.py -- --out copy

Leaves in OUT: views/ (the dataset), copy.blend (the scene with the copy beside nothing: it stands on its original),
copy.glb (the copy alone) and facts.json (what was measured on views that were not trained on). The same command goes
on where it was stopped: a dataset that is whole is not rendered again.

Exit code: 0 the copy is there, 2 something is in the way, which is said.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import bpy

try:
    from bl_ext.user_default.gen3d import api
except ImportError:  # not installed: the checkout that this file lies in
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from blender_gen3d import api


def main(arguments: list[str]) -> None:
    options = parsed(arguments)
    out = Path(options.out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    dataset = out / "views"
    if any(dataset.glob("transforms*.json")):  # written last
        print(f"the views in {dataset} are there already", flush=True)
    else:
        captured = api.capture(
            dataset,
            objects=[named(name) for name in options.objects] or None,
            views=options.views,
            width=options.size,
            height=options.size,
            samples=options.samples,
            overwrite=True,  # what an interrupted capture has left
            on_progress=lambda step: print(f"view {step.done} of {step.total}", flush=True),
        )
        print(f"{captured.views} views in {captured.folder}", flush=True)
    training = {"seconds": 0.0, "steps": options.steps} if options.steps else {"seconds": options.seconds}
    result = api.train(dataset, **training, home=options.home or None, python=options.python)
    copy = api.import_result(result, name="Copy")
    facts = json.loads((result / "result.json").read_text("utf-8"))
    (out / "facts.json").write_text(json.dumps(facts["metrics"], indent=1) + "\n", "utf-8")
    for item in bpy.context.view_layer.objects:
        item.select_set(item == copy)
    bpy.ops.export_scene.gltf(filepath=str(out / "copy.glb"), use_selection=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(out / "copy.blend"), copy=True)
    print(f"{copy.name}: {len(copy.data.polygons)} triangles; {json.dumps(facts['metrics'])}", flush=True)


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder for everything that is made")
    parser.add_argument("--objects", nargs="*", default=[], help="what to copy, by name (default: all that renders)")
    parser.add_argument("--views", type=int, default=60)
    parser.add_argument("--size", type=int, default=320, help="width and height of the views in pixels")
    parser.add_argument("--samples", type=int, default=32, help="samples of a pixel")
    parser.add_argument("--seconds", type=float, default=120.0, help="training time")
    parser.add_argument("--steps", type=int, default=0, help="training steps, in place of a time")
    parser.add_argument("--home", default="", help="the backend's data folder (default: as in the preferences)")
    parser.add_argument("--python", default="", help="interpreter of the backend (default: as in the preferences)")
    return parser.parse_args(arguments)


def named(name: str) -> bpy.types.Object:
    if name not in bpy.data.objects:
        known = ", ".join(sorted(bpy.data.objects.keys()))
        raise api.Gen3DError(f"There is no object {name!r} in the scene.", f"Choose among {known or 'nothing'}.")
    return bpy.data.objects[name]


if __name__ == "__main__":
    try:
        main(sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:])
        status = 0
    except api.Gen3DError as error:
        print(f"{error.cause} {error.next_step}", file=sys.stderr)
        status = 2
    except SystemExit as end:  # argparse has said what was wrong
        status = int(end.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # some versions of Blender crash at their end after an export
