# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's preferences, by real clicks in real windows: weights are verified, and taken from a folder; a backend
that is not this Blender's own makes an object, which comes over the socket.

Screenshots of each step are left in build/window/VERSION.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from blender_gen3d.connection import launcher

from .story import PACKAGE, ROOT, ROWS, SESSION, Story, look_at_everything, red
from .window import FILES, PREFERENCES, Button, Screen, Window

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

UPKEEP = SESSION + "answer = not upkeep.busy() and [upkeep.task.title, str(upkeep.error() or '')]"
STATE = SESSION + "answer = {{model.name: model.state for model in upkeep.models.rows}}[{!r}]"
LINK = SESSION + "answer = [upkeep.elsewhere, session.client.link.state if session else '']"
PANEL = 42  # pixels from the last of the models to the title of the panel below
FIELD, BUTTON = 26, 56  # pixels from a dialog's first field to its second, and to its buttons
OWN = "clip-vit-b32"  # the last of the models


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of a backend that Blender has not started. A Blender in a root of its own does not even see it."""
    home = tmp_path_factory.mktemp("elsewhere")
    command = [sys.executable, "-m", "backend", "serve"]
    with subprocess.Popen(command, cwd=ROOT, env=living_in(home), stderr=subprocess.DEVNULL) as backend:
        yield home
        backend.terminate()


def living_in(home: Path) -> dict[str, str]:
    return os.environ | {"GEN3D_HOME": str(home)}


def test_preferences(screen: Screen, elsewhere: Path) -> None:
    story = Story(screen)
    try:
        story.install(python=sys.executable)
        the_preferences_are_opened(story.window)
        weights_are_verified(story)
        weights_of_a_folder_are_used(story)
        a_backend_elsewhere_is_chosen(story, elsewhere)
        it_makes_an_object(story, elsewhere)
        this_computer_is_used_again(story)
    finally:
        story.window.kill()
        launcher.end(story.home)


def the_preferences_are_opened(window: Window) -> None:
    """Large enough that nothing has to be scrolled to."""
    window.ask(f"bpy.ops.preferences.addon_show(module={PACKAGE!r})")
    window.until("answer = len(bpy.context.window_manager.windows) == 2", 20)
    window.settle()
    window.tool("search", "--onlyvisible", "--name", "Preferences", "windowmove", 30, 30, "windowsize", 900, 1500)
    window.until("answer = bpy.context.window_manager.windows[1].height == 1500", 20)
    window.until(SESSION + "answer = upkeep.models.rows and not upkeep.busy()", 60)
    time.sleep(1.0)


def weights_are_verified(story: Story) -> None:
    story.press("ops.gen3d.verify_models(", share=0.4, where=PREFERENCES)
    assert story.window.until(UPKEEP + " == ['Verify', '']", 60)
    assert story.window.ask(SESSION + "answer = [upkeep.models.verified, upkeep.models.damaged]") == [True, {}]
    story.shot("preferences-01-verified")


def weights_of_a_folder_are_used(story: Story) -> None:
    """And forgotten again; they stay where they are."""
    window, folder = story.window, story.screen.folder / "clip"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    story.press(f'ops.gen3d.use_model(name="{OWN}"', share=1.0, where=PREFERENCES)
    window.until("answer = len(bpy.context.window_manager.windows) == 3", 20)
    time.sleep(1.0)
    window.write(part(window, "UI", 0.3), str(folder))
    chosen = FILES.format("UI") + "answer = area.spaces.active.params.directory.decode()"
    window.until(chosen + f".rstrip('/') == {str(folder)!r}", 10)
    story.shot("preferences-02-a-folder")
    while window.windows() == 3:  # after a path was written, the first click is lost to Blender's browser
        window.click(part(window, "EXECUTE", 0.9))
        time.sleep(1.0)
    window.until(STATE.format(OWN) + " == 'local'", 60)
    window.until(UPKEEP + " == ['Use Local Model', '']", 60)
    story.shot("preferences-03-it-is-used")
    story.press(f'ops.gen3d.remove_model(name="{OWN}"', share=1.0, where=PREFERENCES)
    window.tool("key", "Return")
    window.until(STATE.format(OWN) + " == 'absent'", 60)
    assert [path.name for path in folder.iterdir()] == ["config.json"]


def part(window: Window, region: str, share: float) -> Button:
    """The middle of a region of the file browser, at this share of its width."""
    left, top, width, height = window.place(FILES.format(region))
    return Button(left + int(share * width), top + height // 2, region)


def open_places(window: Window) -> None:
    """The panel below the models. Titles have no path."""
    last = window.find(f'name="{OWN}"', share=1.0, where=PREFERENCES)
    window.click(Button(window.place(PREFERENCES)[0] + 150, last.y + PANEL, ""))
    time.sleep(1.0)


def a_backend_elsewhere_is_chosen(story: Story, elsewhere: Path) -> None:
    window = story.window
    open_places(window)
    address = [sys.executable, "-m", "backend", "address", "--json"]
    told = json.loads(subprocess.check_output(address, cwd=ROOT, env=living_in(elsewhere)))
    change = window.find("ops.gen3d.use_remote(", share=0.8, where=PREFERENCES)
    window.click(change)
    time.sleep(1.0)
    field = window.popup(change.x - 100, change.y - 20, "127.0.0.1:8765")[-1]
    window.write(field, told["address"])
    window.write(Button(field.x, field.y + FIELD, ""), told["token"])
    story.screenshot("preferences-04-address-and-token")
    window.click(Button(field.x, field.y + BUTTON, ""))
    window.until(LINK + f" == [{told['address']!r}, 'online']", 60)
    time.sleep(1.0)
    story.shot("preferences-05-another-computer")


def it_makes_an_object(story: Story, elsewhere: Path) -> None:
    window = story.window
    window.close_others()
    window.ask("for item in list(bpy.data.objects): bpy.data.objects.remove(item)")
    story.set("generate", prompt="a red mushroom", steps=16, points=512, resolution=64, device="cpu")
    story.press("ops.gen3d.generate(")
    window.until(ROWS + "answer = rows and rows[0].state == 'done' and rows[0].imported", 400)
    assert len(story.meshes()) == 1
    window.ask("bpy.ops.object.select_all(action='DESELECT')")
    look_at_everything(window, 1.6)
    time.sleep(1.0)
    assert red(story.shot("preferences-06-made-elsewhere"), window) > 5000
    job = window.ask(ROWS + "answer = rows[0].id")
    assert [path.name for path in (elsewhere / "jobs").iterdir() if path.is_dir()] == [job]
    assert [path.name for path in (story.home / "copies").iterdir()] == [job]
    assert not list(story.home.glob("jobs/*"))


def this_computer_is_used_again(story: Story) -> None:
    window = story.window
    the_preferences_are_opened(window)
    open_places(window)
    story.press("ops.gen3d.use_local(", share=0.9, where=PREFERENCES)
    window.until(LINK + " == ['', '']", 20)
    story.shot("preferences-07-this-computer")
    assert not (story.home / "remote.json").exists()
