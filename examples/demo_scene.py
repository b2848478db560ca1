# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole way on a small scene: build, capture, train, import, compare.

    python examples/demo_scene.py --out demo        with a Python that has bpy
    blender --background --python-exit-code 3 --python examples/demo_scene.py -- --out demo

GEN3D_PYTHON names the interpreter that runs the backend. Leaves in OUT: result.blend, result.glb, compare.png (the
original above, the result below), the captured views and, in home/, the backend's data.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import bpy  # noqa: E402
import lighthouse  # noqa: E402
from compare import compare  # noqa: E402
from mathutils import Vector  # noqa: E402
from measure import surface_distance  # noqa: E402

from blender_gen3d import api, launcher, materials  # noqa: E402

SIDES = ((3.0, -3.6, 2.3), (-3.9, -2.6, 1.0), (1.8, 4.2, 3.2))  # where the comparison is seen from, beside the object
MIDDLE = (0.0, 0.0, 0.9)


def main(options: argparse.Namespace) -> None:
    out = Path(options.out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:4.0f} s] {text}", flush=True)

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

    shown = 0.0

    def progress(row: api.JobRow) -> None:
        nonlocal shown
        if row.progress and time.monotonic() - shown > 10.0:
            shown = time.monotonic()
            say(f"{row.progress.get('phase')}: {100.0 * row.progress.get('fraction', 0.0):.0f} %")

    try:
        result = api.train(captured.folder, home=out / "home", seconds=options.seconds, on_progress=progress)
    finally:
        launcher.end(out / "home")
    say(f"trained: {json.dumps(json.loads((result / 'result.json').read_text('utf-8')).get('metrics'))}")

    copy = api.import_result(result, name="Result")
    materials.show_colours("vertex")
    say(f"imported {len(copy.data.polygons)} triangles")
    distance = surface_distance(original, copy)
    (out / "distance.json").write_text(json.dumps(distance, indent=1), "utf-8")
    say(f"median distance of the surfaces: {100.0 * distance['median']:.2f} % of the diagonal, nothing aligned")

    bpy.ops.export_scene.gltf(filepath=str(out / "result.glb"), use_selection=True)
    with quiet():
        sides = [original.matrix_world @ Vector(side) for side in SIDES]
        middle = original.matrix_world @ Vector(MIDDLE)
        compare({"original": original, "result": copy}, sides, middle, out / "compare.png")
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


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what Blender itself prints on standard output: in some versions, hundreds of lines for a picture."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


if __name__ == "__main__":
    status = 1
    try:
        main(parsed(sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:]))
        status = 0
    except api.Gen3DError as error:
        print(f"{error.cause} {error.next_step}", file=sys.stderr)
        status = 2
    except Exception:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # some versions of Blender crash at their end after an export
