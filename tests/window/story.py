# SPDX-License-Identifier: GPL-3.0-or-later
"""A user at one Blender, and what the tests of windows ask that Blender for."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import build
from tests.patience import patience

from .window import AREA, SIZE, TITLE, Button, Screen, Window, missing_tools

ROOT = Path(__file__).resolve().parents[2]
BLENDERS = [blender for blender in build.find_blenders() if not missing_tools(blender)]
VERSIONS = [blender.version() for blender in BLENDERS]
PACKAGE = "bl_ext.user_default.gen3d"
PANELS = ("Generate", "Capture", "Train", "Views", "Results", "Jobs", "Backend")
FIRST = 16  # pixels from the top of the sidebar to the middle of its first title

SESSION = f"from {PACKAGE} import upkeep\nfrom {PACKAGE}.connection import pump\nsession = pump.session()\n"
ROWS = SESSION + "rows = session.jobs() if session else []\n"
TIMED = f"import sys\nsys.path.insert(0, {str(ROOT / 'benchmarks')!r})\nimport stalls_inside\n"
DRAWING = ("capture_preview.py _draw", "live_view.py _draw")
IMPORT = "import_result.py"  # the file of what may take longer than a moment
RUNNING = ROWS + "answer = [r.state for r in rows if r.params.get('prompt') == {!r}] == ['running']"


class Story:
    """One user at one Blender. Two at screens of the same folder have the same preferences and the same data."""

    def __init__(self, screen: Screen) -> None:
        self.screen, self.home, self.clicks = screen, screen.folder / "data", 0
        self.resources = screen.folder / "user"
        self.slowness = 1.0  # of the machine while jobs were watched: they keep it busy
        self.resources.mkdir(exist_ok=True)
        self.window = self.open()
        self.pictures = ROOT / "build" / "window" / self.window.version

    def open(self, file: Path | None = None) -> Window:
        return Window(self.screen, "blender", self.resources, file=file)

    def install(self, **preferences: str) -> None:
        """The extension, from a zip of this checkout, its data beside the preferences."""
        self.window.install(build.build_zip(self.screen.folder))
        chosen = {"home": str(self.home), **preferences}
        lines = [f"own = bpy.context.preferences.addons[{PACKAGE!r}].preferences"]
        lines += [f"own.{name} = {value!r}" for name, value in chosen.items()]
        self.window.ask("\n".join([*lines, "bpy.ops.wm.save_userpref()"]))

    def shot(self, name: str) -> Image.Image:
        return Image.open(self.window.shot(self.pictures / f"{name}.png")).convert("RGB")

    def screenshot(self, name: str) -> None:
        """As it is, with the mouse where it is: it may keep a popup open."""
        self.window.shot(self.pictures / f"{name}.png", away=False)

    def time_calls(self) -> None:
        """From now on: every one from Blender into the add-on, as long as this Blender lives."""
        self.window.ask(TIMED + "stalls_inside.start()\nforget_stall()")

    def longest_calls(self) -> dict[str, float]:
        """Seconds of the longest call of each function that Blender has called; all are kept beside the screenshots.

        Of those that draw in the viewport, the second longest: with the first, Blender makes a shader, once a session.
        """
        told: dict[str, list[float]] = self.window.ask(
            TIMED + "answer = {name: sorted(seconds)[-2:] for name, seconds in stalls_inside.calls.items()}"
        )
        within = self.window.ask(TIMED + "answer = stalls_inside.within")
        gap = self.window.ask("answer = stall()")
        lines = [f"{1e3 * told[name][-1]:7.1f} ms  {name}" for name in sorted(told, key=lambda name: -told[name][-1])]
        lines += [f"in {name}: {found}" for name, found in within.items()]
        lines += [f"{1e3 * gap:7.1f} ms  longest time between two looks at Blender's timers, its own work included"]
        lines += [f"{self.slowness:7.1f}     times as slow as an idle machine it was meanwhile"]
        (self.pictures / "stalls.txt").write_text("\n".join(lines) + "\n", "utf-8")
        return {name: seconds[0 if name in DRAWING else -1] for name, seconds in told.items()}

    def press(self, what: str, share: float = 0.6, below: int = 0, where: str = "") -> None:
        self.window.click(self.window.find(what, share, below, where))
        self.clicks += 1

    def title(self, panel: str) -> Button:
        """The title of a panel, where none above it is open."""
        left, top, _, _ = self.window.sidebar()
        return Button(left + 60, top + FIRST + PANELS.index(panel) * TITLE, panel)

    def toggle(self, panel: str) -> None:
        self.window.click(self.title(panel))
        time.sleep(1.0)

    @contextlib.contextmanager
    def only(self, panel: str) -> Iterator[None]:
        """With this panel open, of which all are closed before and after."""
        self.toggle(panel)
        yield
        self.toggle(panel)

    def set(self, path: str, **values: Any) -> None:
        """What is not worth a click in this test."""
        lines = [f"bpy.context.scene.gen3d.{path}.{name} = {value!r}" for name, value in values.items()]
        self.window.ask("\n".join(lines))

    def watch(self, fraction: str, until: str, seconds: float, picture: str) -> list[float]:
        """How far something gets, each value once, until that is true; with a screenshot at the third of them."""
        seen: list[float] = []
        deadline = time.monotonic() + seconds
        while not self.window.ask(until):
            now = self.window.ask(fraction)
            if now is not None and now not in seen:
                seen.append(now)
                if len(seen) == 3:
                    self.shot(picture)
                self.slowness = max(self.slowness, patience(1.0))
            assert time.monotonic() < deadline, f"never true: {until}\n{seen}"
            time.sleep(0.3)
        return seen

    def meshes(self) -> list[str]:
        return list(self.window.ask("answer = sorted(o.name for o in bpy.data.objects if o.type == 'MESH')"))


def places_of(python: str) -> list[Path]:
    """What a Blender in a root of its own has to see of an interpreter, to run it."""
    parts = [Path(python).resolve().parents[1], Path(sys.prefix)]
    return sorted({path for path in parts if path.is_dir() and path != Path("/usr")})


def view(window: Window) -> tuple[int, int, int, int]:
    """Left, top, width and height of the 3D view."""
    x, y, width, height = window.ask(
        AREA + "r = next(r for r in area.regions if r.type == 'WINDOW'); answer = [r.x, r.y, r.width, r.height]"
    )
    return x, SIZE[1] - y - height, width, height


def red(picture: Image.Image, window: Window) -> int:
    """How many pixels in the middle of the 3D view are red: some hundred are the axis."""
    return dyed(picture, window, 0)


def dyed(picture: Image.Image, window: Window, channel: int) -> int:
    """How many are of the colour of this channel of RGB."""
    left, top, width, height = view(window)
    middle = picture.crop((left + width // 4, top + height // 4, left + 3 * width // 4, top + 3 * height // 4))
    seen = np.asarray(middle, np.int64)
    others = np.delete(seen, channel, axis=2).max(axis=2)
    return int(((seen[..., channel] > 90) & (seen[..., channel] > 2 * others)).sum())


def look_at_everything(window: Window, zoom: float = 1.0) -> None:
    window.ask(
        AREA + "r = next(r for r in area.regions if r.type == 'WINDOW')\n"
        "with bpy.context.temp_override(window=window, area=area, region=r):\n"
        "    bpy.ops.view3d.view_all(use_all_regions=False)\n"
        f"area.spaces.active.region_3d.view_distance *= {zoom!r}\narea.tag_redraw()"
    )
