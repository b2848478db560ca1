# SPDX-License-Identifier: GPL-3.0-or-later
"""Words to objects: each prompt becomes a mesh, and they stand in a row in one scene.

    python examples/words.py --out demo "a red chair with a blue seat" "a blue table"     with a Python that has bpy
    blender --background --python-exit-code 3 --python examples/words.py -- --out demo

GEN3D_PYTHON names the interpreter that runs the backend. Leaves in OUT: words.blend, words.glb, words.png (each object
from three sides) and, in home/, the backend's data.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import bpy  # noqa: E402
import lighthouse  # noqa: E402
import script  # noqa: E402
import sheet  # noqa: E402
from script import quiet, say  # noqa: E402

from blender_gen3d import api  # noqa: E402
from blender_gen3d.capturing import layout  # noqa: E402
from blender_gen3d.connection import launcher  # noqa: E402
from blender_gen3d.results import materials  # noqa: E402

PROMPTS = ("a red chair with a blue seat", "a white house with a red roof", "a yellow car with black wheels")
WAYS = ((0.7, -1.0, 0.5), (-0.9, -0.8, 0.35), (0.8, 1.0, 0.7))  # where the objects are seen from; -Y is their front


def main(arguments: list[str]) -> None:
    options = parsed(arguments)
    out = Path(options.out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    made = []
    script.forget_jobs(out / "home")
    try:
        for prompt in options.prompts or PROMPTS:
            say(f"making {prompt}")
            result = api.generate(
                prompt, seed=options.seed, weights=options.weights, home=out / "home", on_progress=script.teller()
            )
            for note in json.loads((result / "result.json").read_text("utf-8"))["notes"]:
                say(note)
            made.append(api.import_result(result))
            size = " x ".join(f"{side:.2f}" for side in made[-1].dimensions)
            say(f"{made[-1].name}: {len(made[-1].data.polygons)} triangles, {size} m")
    finally:
        launcher.end(out / "home")
    for item, offset in zip(made, layout.row([item.dimensions for item in made])[0], strict=True):
        item.location = offset
        item.select_set(True)
    materials.show_colours("vertex")
    bpy.context.view_layer.update()
    lighthouse.light(sky=(0.94, 0.96, 1.0))
    with quiet():
        bpy.ops.export_scene.gltf(filepath=str(out / "words.glb"), use_selection=True)
        sheet.draw([sheet.all_round(item.name, item, WAYS) for item in made], out / "words.png")
    bpy.ops.wm.save_as_mainfile(filepath=str(out / "words.blend"), compress=True)
    say(f"saved words.blend, words.glb and words.png in {out}")


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", nargs="*", help="what to make, in words")
    parser.add_argument("--out", default="demo", help="folder for everything that is made")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", default="auto", help="auto, embedded, a published model, or a folder")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    script.run(main)
