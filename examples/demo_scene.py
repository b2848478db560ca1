# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole way on a small scene: build, capture, train, import, compare.

    python examples/demo_scene.py --out demo        with a Python that has bpy
    blender --background --python-exit-code 3 --python examples/demo_scene.py -- --out demo

GEN3D_PYTHON names the interpreter that runs the backend. Leaves in OUT: result.blend, result.glb, compare.png (the
original above, the result below), the captured views and, in home/, the backend's data.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import bpy  # noqa: E402
import lighthouse  # noqa: E402
import script  # noqa: E402
import sheet  # noqa: E402
from mathutils import Vector  # noqa: E402
from measure import surface_distance  # noqa: E402
from script import quiet, say  # noqa: E402

from blender_gen3d import api  # noqa: E402
from blender_gen3d.connection import launcher  # noqa: E402
from blender_gen3d.results import materials  # noqa: E402

SIDES = ((3.0, -3.6, 2.3), (-3.9, -2.6, 1.0), (1.8, 4.2, 3.2))  # where the comparison is seen from, beside the object
MIDDLE = (0.0, 0.0, 0.9)


def main(arguments: list[str]) -> None:
    options = parsed(arguments)
    out = Path(options.out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    say("building a lighthouse")
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    original = lighthouse.build(options.place, [math.radians(angle) for angle in options.turn], options.scale)
    lighthouse.light()

    say(f"capturing {options.views} views of {options.size} x {options.size} pixels")
    with quiet():
        captured = api.capture(
            out / "views", objects=[original], views=options.views, width=options.size, height=options.size,
            samples=options.samples, test=0.08, seed=1, overwrite=True,
        )  # fmt: skip
    say(f"captured in {captured.seconds:.0f} s")

    script.forget_jobs(out / "home")
    try:
        result = api.train(captured.folder, home=out / "home", seconds=options.seconds, on_progress=script.teller())
    finally:
        launcher.end(out / "home")
    metrics = json.loads((result / "result.json").read_text("utf-8"))["metrics"]
    say(f"trained: PSNR {metrics['psnr']:.1f} dB, SSIM {metrics['ssim']:.3f} on {metrics['views']} held-out views")

    copy = api.import_result(result, name="Result")
    materials.show_colours("vertex")
    say(f"imported {len(copy.data.polygons)} triangles")
    distance = surface_distance(original, copy)
    (out / "distance.json").write_text(json.dumps(distance, indent=1), "utf-8")
    say(f"median distance of the surfaces: {100.0 * distance['median']:.2f} % of the diagonal, nothing aligned")

    with quiet():
        bpy.ops.export_scene.gltf(filepath=str(out / "result.glb"), use_selection=True)
        sides = [original.matrix_world @ Vector(side) for side in SIDES]
        middle = original.matrix_world @ Vector(MIDDLE)
        rows = [sheet.Row(label, item, sides, middle) for label, item in (("original", original), ("result", copy))]
        sheet.draw(rows, out / "compare.png")
    original.hide_set(True)  # they stand in each other: look at the result first
    bpy.ops.wm.save_as_mainfile(filepath=str(out / "result.blend"), compress=True)
    say(f"saved result.blend, result.glb and compare.png in {out}")


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="demo", help="folder for everything that is made")
    parser.add_argument("--views", type=int, default=60)
    parser.add_argument("--size", type=int, default=256, help="side of a picture in pixels")
    parser.add_argument("--samples", type=int, default=32, help="Cycles samples")
    parser.add_argument("--seconds", type=float, default=115.0, help="training time")
    parser.add_argument("--place", type=float, nargs=3, default=(6.0, -3.5, 1.2), help="where the object stands")
    parser.add_argument("--turn", type=float, nargs=3, default=(0.0, 0.0, 35.0), help="its rotation, in degrees")
    parser.add_argument("--scale", type=float, default=0.7, help="its scale")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    script.run(main)
