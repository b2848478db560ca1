# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the add-on keeps Blender's main thread to itself: minutes of use of a real window, with three jobs at work.

    .venv/bin/python -m benchmarks.stalls [--minutes 10]

A cube is captured and trained on while two objects are made from words, with live points and previews; in the meantime
the view is turned, a prompt is typed, rows of the list are chosen, things are moved, undone and saved. Every call from
Blender into the add-on is timed (in a Blender with Python 3.12 or newer, so 5.1 and newer). Imports are told apart.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import build
from blender_gen3d.connection import launcher
from tests.window.story import PACKAGE, ROWS
from tests.window.window import AREA, SIZE, Window, missing_tools, screen_of

HERE = str(Path(__file__).resolve().parent)
INSIDE = f"import sys\nsys.path.insert(0, {HERE!r})\nimport stalls_inside as inside\n"
SCENE = "scene, own = bpy.context.scene, bpy.context.scene.gen3d\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    given = parser.parse_args()
    blenders = [blender for blender in build.find_blenders() if not missing_tools(blender)]
    newest = max(blenders, key=lambda blender: blender.version())
    python = Path(sys.executable).resolve().parents[1]
    with tempfile.TemporaryDirectory() as folder, screen_of(newest, Path(folder), python) as screen:
        resources = Path(folder, "user")
        resources.mkdir()
        window = Window(screen, "blender", resources)
        try:
            use(window, Path(folder), given.minutes)
        finally:
            window.kill()
            launcher.end(Path(folder, "data"))


def use(window: Window, folder: Path, minutes: float) -> None:
    window.install(build.build_zip(folder))
    window.ask(
        f"own = bpy.context.preferences.addons[{PACKAGE!r}].preferences\n"
        f"own.home, own.python = {str(folder / 'data')!r}, {sys.executable!r}"
    )
    window.ask(INSIDE + "inside.start()")
    window.sidebar()
    window.ask(SCENE + "own.capture.views, own.capture.width, own.capture.height = 24, 128, 128")
    window.ask("bpy.ops.gen3d.capture('INVOKE_DEFAULT')")
    window.until("answer = bpy.context.scene.gen3d.nerf.dataset", 600)
    window.ask(SCENE + f"own.nerf.seconds = {20 * minutes}; bpy.ops.gen3d.train('INVOKE_DEFAULT')")
    for prompt in ("a blue car", "a red chair with a white seat"):
        window.ask(SCENE + f"own.generate.prompt, own.generate.steps = {prompt!r}, {round(25 * minutes)}")
        window.ask("bpy.ops.gen3d.generate('INVOKE_DEFAULT')")
    window.ask("forget_stall()")
    deadline, rng = time.monotonic() + 60 * minutes, random.Random(0)
    while time.monotonic() < deadline:
        rng.choice((turn, choose, write, move, save))(window, folder, rng)
        time.sleep(0.3)
    print("jobs:", window.ask(ROWS + "answer = [(row.kind, row.state, bool(row.imported)) for row in rows]"))
    told: dict[str, list[float]] = window.ask(INSIDE + "answer = inside.calls")
    print(f"{'called by Blender':72} calls   mean ms  longest ms")
    for name, seconds in sorted(told.items(), key=lambda item: -max(item[1])):
        longest, mean = 1e3 * max(seconds), 1e3 * sum(seconds) / len(seconds)
        print(f"{name:72} {len(seconds):5} {mean:9.2f} {longest:11.1f}")
    for name, found in window.ask(INSIDE + "answer = inside.within").items():
        print(f"in {name}: {found}")
    gap = window.ask("answer = stall()")
    print(f"longest time between two looks at Blender's timers, its own drawing included: {1e3 * gap:.0f} ms")


def turn(window: Window, _folder: Path, rng: random.Random) -> None:
    x, y = SIZE[0] // 4, SIZE[1] // 2
    window.tool("mousemove", x, y, "mousedown", 2)
    for _ in range(6):
        window.tool("mousemove_relative", "--", rng.randint(-30, 30), rng.randint(-10, 10), "sleep", "0.05")
    window.tool("mouseup", 2)


def choose(window: Window, _folder: Path, rng: random.Random) -> None:
    window.ask(f"bpy.context.window_manager.gen3d.job_index = {rng.randrange(3)}\n" + AREA + "area.tag_redraw()")


def write(window: Window, _folder: Path, rng: random.Random) -> None:
    window.ask(SCENE + f"own.generate.prompt = {rng.choice(('a green tree', 'a boat', ''))!r}")
    x, y, width, height = window.ask(AREA + "answer = [region.x, region.y, region.width, region.height]")
    window.tool("mousemove", x + width // 2, SIZE[1] - y - rng.randrange(height))


def move(window: Window, _folder: Path, rng: random.Random) -> None:
    window.ask(
        "cube = bpy.data.objects['Cube']\n"
        f"cube.location.x = {rng.random()}\nbpy.ops.ed.undo_push(message='Move')\n"
        + ("bpy.ops.ed.undo()" if rng.random() < 0.5 else "")
    )


def save(window: Window, folder: Path, _rng: random.Random) -> None:
    window.ask(f"bpy.ops.wm.save_as_mainfile(filepath={str(folder / 'scene.blend')!r})")


if __name__ == "__main__":
    main()
