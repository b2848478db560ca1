# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Blender window on a virtual screen: real clicks and keys, screenshots, and questions to its Python."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build import Blender

SIZE = (1500, 1700)
FIRST_TITLE, TITLE = 36, 28  # pixels from the middle of a button to the title below it, and from that to the next
STEP = 8  # pixels between two places that are looked at for a button
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Button:
    """Where it is on the screen, in pixels from the top left; what it does, as Blender would copy it."""

    x: int
    y: int
    what: str


class Screen:
    """A virtual screen, and the tools for it, beside Blender: on this system, or in the system root it lives in."""

    def __init__(self, blender: Blender, folder: Path, *shared: Path) -> None:
        """folder and shared: what a Blender in a root of its own sees, too, under the same paths."""
        self.folder, self.enter, self.variables = folder, entering(blender), dict(os.environ)
        self.variables["GEN3D_SHARED"] = " ".join(str(path) for path in (folder, HERE.parents[1], *shared))
        reading, writing = os.pipe()
        size = f"{SIZE[0]}x{SIZE[1]}x24"
        self.server = subprocess.Popen(
            [*self.enter, "Xvfb", "-displayfd", str(writing), "-screen", "0", size, "-nolisten", "tcp"],
            pass_fds=[writing], env=self.variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(writing)
        with os.fdopen(reading) as told:
            self.variables["DISPLAY"] = f":{told.readline().strip()}"
        self.hands = subprocess.Popen(
            [*self.enter, "bash", "-c", HANDS], env=self.variables, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def hand(self, *arguments: str) -> None:
        """What xdotool is to do."""
        assert self.hands.stdin is not None and self.hands.stdout is not None
        self.hands.stdin.write(shlex.join(arguments) + "\n")
        assert self.hands.stdout.readline() == "done\n", arguments

    def run(self, *command: str) -> str:
        done = subprocess.run(
            [*self.enter, *command], env=self.variables, capture_output=True, text=True, timeout=120, check=True
        )
        return done.stdout

    def close(self) -> None:
        assert self.hands.stdin is not None and self.hands.stdout is not None
        self.hands.stdin.close()
        self.hands.wait(10)
        self.hands.stdout.close()
        self.server.terminate()
        self.server.wait(10)


def entering(blender: Blender) -> list[str]:
    """The command that runs another one where this Blender is: with our own mounts, in a root that it has to itself."""
    if len(blender.command) == 1:
        return []
    root = str(Path(blender.command[0]).parent)
    return ["unshare", "--mount", "--propagation", "private", "/bin/bash", "-c", ENTER, root]


class Window:
    """One Blender with a window that fills the screen."""

    def __init__(self, screen: Screen, program: str, resources: Path, *, file: Path | None = None) -> None:
        self.screen = screen
        self.talk = screen.folder / f"talk-{time.monotonic_ns()}"
        self.talk.mkdir()
        self._asked = 0
        width, height = SIZE
        variables = screen.variables | {"BLENDER_USER_RESOURCES": str(resources)}
        self.log = self.talk / "blender.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *screen.enter, program, *([str(file)] if file else []),
                    "--window-geometry", "0", "0", str(width), str(height),
                    "--python", str(HERE / "inside.py"), "--", str(self.talk),
                ],
                env=variables, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.version = str(self.ask("answer = bpy.app.version_string", patience=180.0).split()[0])

    # ---- asking ----

    def ask(self, code: str, patience: float = 60.0) -> Any:
        """Runs Python in Blender's main thread; the value that it gives the variable ``answer``."""
        number, self._asked = self._asked, self._asked + 1
        part = self.talk / "ask.part"
        part.write_text(code, "utf-8")
        os.replace(part, self.talk / f"ask-{number}.py")
        reply = self.talk / f"answer-{number}.json"
        deadline = time.monotonic() + patience
        while not reply.exists():
            if self.process.poll() is not None:
                raise AssertionError(f"Blender has ended: {self.log.read_text(errors='replace')[-3000:]}")
            if time.monotonic() > deadline:
                os.kill(self.process.pid, signal.SIGUSR1)
                time.sleep(1.0)
                raise AssertionError(f"Blender does not answer: {self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.01)
        told = json.loads(reply.read_text("utf-8"))
        if "error" in told:
            raise AssertionError(told["error"])
        return told["answer"]

    def until(self, code: str, seconds: float = 60.0, every: float = 0.2) -> Any:
        """Asks until the answer is true, and returns it."""
        deadline = time.monotonic() + seconds
        while not (answer := self.ask(code)):
            assert time.monotonic() < deadline, f"never true: {code}\n{self.log.read_text(errors='replace')[-3000:]}"
            time.sleep(every)
        return answer

    def install(self, zipped: Path) -> None:
        """The extension, from its zip, and enables it."""
        self.ask(
            f"bpy.ops.extensions.package_install_files(filepath={str(zipped)!r}, repo='user_default', "
            "enable_on_install=True, overwrite=True)\nbpy.ops.wm.save_userpref()"
        )

    # ---- hands ----

    def tool(self, *arguments: str | int) -> None:
        self.screen.hand(*map(str, arguments))

    def settle(self) -> None:
        """Until Blender has taken up what the hands did: it answers between two of its looks at them."""
        time.sleep(0.2)
        for _ in range(2):
            self.ask("")

    def click(self, button: Button, times: int = 1) -> None:
        self.tool("mousemove", button.x, button.y)
        self.settle()  # a slow Blender would take both for one, and miss what is under the mouse
        self.tool("click", "--repeat", times, "--delay", "80", 1)
        self.settle()

    def drag(self, button: Button, pixels: int) -> None:
        """To the right, or to the left where it is negative."""
        self.tool("mousemove", button.x, button.y, "sleep", "0.2", "mousedown", 1, "sleep", "0.1")
        for _ in range(5):  # relative: Blender may put the mouse elsewhere meanwhile
            self.tool("mousemove_relative", "--", pixels // 5, 0)
            time.sleep(0.1)
        self.tool("mouseup", 1)
        time.sleep(0.2)

    def write(self, button: Button, text: str) -> None:
        """Into a text field: a double click opens it, what is in there goes."""
        self.click(button, times=2)
        self.tool("key", "ctrl+a", "type", "--delay", "15", "--", text)
        self.tool("key", "Return")
        self.settle()

    def shot(self, path: Path, away: bool = True) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if away:
            self.tool("mousemove", 5, SIZE[1] - 5, "sleep", "0.3")  # no tooltip in the picture
        self.screen.run("scrot", "-o", str(path))
        return path

    # ---- finding ----

    def sidebar(self, category: str = "Gen3D") -> tuple[int, int, int, int]:
        """Opens the 3D view's sidebar on this tab; its left, top, width and height on the screen."""
        self.ask(AREA + "area.spaces.active.show_region_ui = True")
        self.until(AREA + "answer = region.width > 1")
        time.sleep(1.0)
        self.until(AREA + f"region.active_panel_category = {category!r}; area.tag_redraw(); answer = True")
        time.sleep(0.5)
        return self.place(AREA)

    def place(self, where: str) -> tuple[int, int, int, int]:
        """Left, top, width and height of a region on the screen."""
        x, y, width, height = self.ask(
            where + "answer = [window.x + region.x, window.y + region.y, region.width, region.height]"
        )
        return x, SIZE[1] - y - height, width, height

    def buttons(self, share: float = 0.6, below: int = 0, where: str = "") -> Iterator[Button]:
        """Every button of the sidebar, or of another region, that a line down at this share of its width meets, below
        this height."""
        left, top, width, height = self.place(where) if where else self.sidebar()
        x = left + int(share * (width - 30))  # right of the sidebar are its tabs
        met, places = "", [0]
        for y in range(max(top, below) + STEP, top + height - STEP, STEP):
            self.tool("mousemove", x, y, "sleep", "0.03")
            what = str(self.ask((where or AREA) + UNDER))
            if what != met:
                if met:
                    yield Button(x, (places[0] + places[-1]) // 2, met)
                met, places = what, []
            places.append(y)
        if met:
            yield Button(x, (places[0] + places[-1]) // 2, met)

    def toggle_panel(self, above: Button, number: int) -> None:
        """A click on the title of a folded panel, the ``number``-th below this button. Titles have no path."""
        self.click(Button(self.sidebar()[0] + 60, above.y + FIRST_TITLE + number * TITLE, ""))
        time.sleep(1.0)

    def popup(self, x: int, top: int, last: str) -> list[Button]:
        """The buttons of an open popup from there down to its last one, below which the mouse would close it.

        Popups are no regions that Blender's Python knows, so that a key asks: it copies what an operator does, and the
        text of a field.
        """
        met: list[Button] = []
        for y in range(top, top + 40 * STEP, STEP):
            what = self.under(x, y)
            if what and (not met or met[-1].what != what):
                met.append(Button(x, y + STEP // 2, what))
            if last in what:
                return met
        raise AssertionError(f"no button of the popup does {last!r}: {[button.what for button in met]}")

    def under(self, x: int, y: int) -> str:
        """What a key copies that is under the mouse."""
        self.ask("bpy.context.window_manager.clipboard = ''")
        self.tool("mousemove", x, y, "sleep", "0.15", "key", "ctrl+c", "sleep", "0.15")
        return str(self.ask("answer = bpy.context.window_manager.clipboard"))

    def find(self, what: str, share: float = 0.6, below: int = 0, where: str = "") -> Button:
        """The button that runs this operator or shows this property."""
        others = []
        for button in self.buttons(share, below, where):
            if what in button.what:
                return button
            others.append(button.what)
        raise AssertionError(f"no button does {what!r}: {others}")

    # ---- windows ----

    def windows(self) -> int:
        return int(self.ask("answer = len(bpy.context.window_manager.windows)"))

    def close_others(self) -> None:
        """All windows but the first."""
        self.ask(
            "for window in bpy.context.window_manager.windows[1:]:\n"
            "    with bpy.context.temp_override(window=window):\n        bpy.ops.wm.window_close()"
        )
        self.until("answer = len(bpy.context.window_manager.windows) == 1")
        time.sleep(0.5)

    # ---- ending ----

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)


HANDS = """
while read -r line; do eval "xdotool $line" > /dev/null && echo done || echo failed; done
"""

ENTER = """
mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" || exit 1
for shared in $GEN3D_SHARED; do mkdir -p "$0$shared" && mount --bind "$shared" "$0$shared" || exit 1; done
exec chroot "$0" /usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
"""

AREA = """
window = bpy.context.window_manager.windows[0]
area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
region = next(region for region in area.regions if region.type == "UI")
"""

PREFERENCES = """
window = bpy.context.window_manager.windows[-1]
area = next(area for area in window.screen.areas if area.type == "PREFERENCES")
region = next(region for region in area.regions if region.type == "WINDOW")
"""

FILES = """
window = bpy.context.window_manager.windows[-1]
area = next(area for area in window.screen.areas if area.type == "FILE_BROWSER")
region = next(region for region in area.regions if region.type == {!r})
"""

UNDER = """
manager = bpy.context.window_manager
manager.clipboard = ""
with bpy.context.temp_override(window=window, area=area, region=region):
    for copy in (bpy.ops.ui.copy_python_command_button, bpy.ops.ui.copy_data_path_button):
        try:
            if copy.poll():
                copy()
        except RuntimeError:
            pass
        if manager.clipboard:
            break
answer = manager.clipboard
"""


@contextlib.contextmanager
def screen_of(blender: Blender, folder: Path, *shared: Path) -> Iterator[Screen]:
    screen = Screen(blender, folder, *shared)
    try:
        yield screen
    finally:
        screen.close()


def missing_tools(blender: Blender) -> str:
    """What the screen needs and the system does not have; "" where nothing is missing."""
    tools = ("Xvfb", "xdotool", "scrot")
    root = Path(blender.command[0]).parent / "usr/bin" if len(blender.command) > 1 else None
    return ", ".join(tool for tool in tools if not shutil.which(tool, path=str(root) if root else None))
