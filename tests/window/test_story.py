# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole way of a first-time user, with real clicks in real windows: from the zip to a coloured object, and on.

Screenshots of each step are left in build/window/VERSION.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import build
from blender_gen3d.connection import launcher

from .story import BLENDERS, IMPORT, PACKAGE, ROWS, RUNNING, SESSION, VERSIONS, Story, look_at_everything, red, view
from .window import STEP, Button, Screen, screen_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

LEFT = """
import threading
answer = [name for name in dir(bpy.types) if "gen3d" in name.lower()]
answer += [thread.name for thread in threading.enumerate() if "gen3d" in thread.name]
answer += [name for name in ("Scene", "WindowManager", "Object") if hasattr(getattr(bpy.types, name), "gen3d")]
handlers = [getattr(bpy.app.handlers, name) for name in dir(bpy.app.handlers)]
answer += [str(c) for calls in handlers if isinstance(calls, list) for c in calls if "gen3d" in c.__module__]
"""
TIMERS = f"""
import sys
modules = [module for name, module in sys.modules.items() if name.startswith({PACKAGE!r})]
found = {{call for module in modules for call in vars(module).values() if isinstance(call, type(lambda: 0))}}
waiting = [call for call in found if bpy.app.timers.is_registered(call)]
answer = sorted(f"{{call.__module__}}.{{call.__name__}}".removeprefix({PACKAGE + "."!r}) for call in waiting)
"""
INSTALLING = SESSION + "answer = upkeep.task.step.fraction if upkeep.busy() else None"
FRACTION = ROWS + "answer = (rows[0].progress or {}).get('fraction') if rows[0].state == 'running' else None"
REST = SESSION + "answer = not upkeep.busy()"
UPKEEP = SESSION + "answer = [upkeep.state.kind, str(upkeep.error() or '')]"


@pytest.fixture(params=BLENDERS, ids=VERSIONS)
def screen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Screen]:
    base = next(filter(None, map(build.find_python, build.BACKEND_PYTHONS)))
    places = [Path(base).resolve().parents[1], Path("/etc/ssl"), *pip_places()]
    with screen_of(request.param, tmp_path, *[path for path in places if path.is_dir()]) as made:
        made.variables |= pip_settings() | {"GEN3D_TEST_PYTHON": base}
        yield made


def pip_settings() -> dict[str, str]:
    """pip's settings on this machine as variables, for a Blender that does not see its configuration files."""
    told = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    pairs = [line.split("=", 1) for line in told.splitlines() if "=" in line and not line.startswith(":env:")]
    return {
        f"PIP_{name.split('.')[-1].replace('-', '_').upper()}": str(ast.literal_eval(value)) for name, value in pairs
    }


def pip_places() -> list[Path]:
    """Where the files and folders are that pip is told of: an index names files beside itself."""
    words = " ".join(pip_settings().values()).replace("file://", "").split()
    return sorted({Path(word).parent for word in words if word.startswith("/") and Path(word).exists()})


def test_from_the_zip_to_a_coloured_object_and_on(screen: Screen) -> None:
    story = Story(screen)
    try:
        the_extension_is_installed(story)
        the_backend_is_installed(story)
        story.time_calls()
        words_become_an_object(story)
        another_job_is_cancelled(story)
        what_stands_there_is_captured_and_copied(story)
        what_was_made_can_be_undone(story)
        nothing_has_kept_blender_busy(story)
        a_job_outlives_blender(story)
        nothing_is_left_behind(story)
    finally:
        story.window.kill()
        launcher.end(story.home)


def the_extension_is_installed(story: Story) -> None:
    story.install(base_python=story.screen.variables["GEN3D_TEST_PYTHON"], torch="cpu")
    story.window.sidebar()
    story.shot("01-installed")


def the_backend_is_installed(story: Story) -> None:
    """Cancelled on the way, and gone on with: what there was by then stays as it is."""
    window = story.window
    story.clicks = 0
    allow_online_access(story)
    story.press("gen3d.install_backend")
    fractions = story.watch(INSTALLING, REST + " or upkeep.task.step.fraction > 0.1", 300, "02-installing")
    assert window.ask(UPKEEP)[1] == ""
    assert fractions == sorted(fractions) and len(fractions) >= 3, f"the progress moves: {fractions}"
    begun = {path: path.stat().st_mtime_ns for path in story.home.glob("environment/*/pyvenv.cfg")}
    assert len(begun) == 1
    story.press("gen3d.cancel_upkeep", share=0.93)
    window.until(REST, 30)
    assert window.ask(UPKEEP) == ["partial", ""]
    story.shot("02-cancelled")
    story.press("gen3d.install_backend", share=0.3)  # beside it: remove
    fractions = story.watch(INSTALLING, REST, 900, "02-going-on")
    assert fractions == sorted(fractions) and len(fractions) >= 5, f"the progress moves: {fractions}"
    assert window.ask(UPKEEP) == ["ready", ""]
    assert {path: path.stat().st_mtime_ns for path in story.home.glob("environment/*/pyvenv.cfg")} == begun
    story.shot("03-backend")


def allow_online_access(story: Story) -> None:
    """The last line above the next panel. Blender gives no path of a preference, by which to find it."""
    prompt = story.window.find("generate.prompt")
    for above in range(56, 110, STEP):
        story.window.click(Button(prompt.x - 60, prompt.y - above, ""))
        if story.window.ask("answer = bpy.context.preferences.system.use_online_access"):
            story.clicks += 1
            return
    raise AssertionError("there is no check box above the prompt")


def words_become_an_object(story: Story) -> None:
    """Two clicks and a prompt after the backend is there."""
    window = story.window
    window.ask("for item in list(bpy.data.objects): bpy.data.objects.remove(item)")
    story.set("generate", steps=16, points=512, resolution=64, device="cpu")
    before = story.clicks
    window.write(window.find("generate.prompt"), "a red mushroom with a white stem")
    assert window.ask("answer = bpy.context.scene.gen3d.generate.prompt") == "a red mushroom with a white stem"
    window.ask("forget_stall()")
    story.press("ops.gen3d.generate(")
    window.until(ROWS + "answer = rows and rows[0].state == 'running'", 120)
    fractions = story.watch(FRACTION, ROWS + "answer = rows[0].imported or rows[0].error", 400, "04-generating")
    assert len(story.meshes()) == 1, window.ask(ROWS + "answer = [(row.state, row.error) for row in rows]")
    assert fractions == sorted(fractions) and len(fractions) >= 5, f"the progress moves: {fractions}"
    assert story.clicks - before <= 5
    window.ask("bpy.ops.object.select_all(action='DESELECT')")
    look_at_everything(window)
    time.sleep(1.0)
    assert red(story.shot("05-mushroom"), window) > 5000, "its colour is seen in the solid view"


def another_job_is_cancelled(story: Story) -> None:
    story.set("generate", prompt="a blue car", steps=512)
    story.press("ops.gen3d.generate(")
    story.window.until(RUNNING.format("a blue car"), 120)
    story.press("gen3d.cancel_job", share=0.93)
    story.window.until(ROWS + "answer = rows and rows[0].state == 'cancelled'", 30)
    story.shot("06-cancelled")
    assert len(story.meshes()) == 1


def what_stands_there_is_captured_and_copied(story: Story) -> None:
    window = story.window
    window.ask(
        "thing = next(o for o in bpy.data.objects if o.type == 'MESH')\n"
        "bpy.ops.object.select_all(action='DESELECT'); thing.select_set(True)\n"
        "bpy.context.view_layer.objects.active = thing\n"
        "bpy.context.scene.world.color = (0.8, 0.8, 0.8)\n"
        "tree = bpy.context.scene.world.node_tree\n"
        "tree.nodes['Background'].inputs['Color'].default_value = (0.8, 0.8, 0.8, 1)"
    )
    story.set("capture", views=16, width=96, height=96, samples=4, engine="cycles")
    last = window.find("ops.gen3d.generate(")
    window.toggle_panel(last, 2)  # Train; above it are Advanced and Capture
    window.toggle_panel(last, 1)
    story.press("show_cameras")
    window.ask("bpy.ops.object.select_all(action='DESELECT')")
    look_at_everything(window, 3.0)
    time.sleep(1.0)
    story.shot("07-cameras")
    window.ask("next(o for o in bpy.data.objects if o.type == 'MESH').select_set(True)")
    story.press("ops.gen3d.capture(")
    window.until("answer = bpy.context.scene.gen3d.nerf.dataset", 300)
    story.shot("08-captured")
    story.set("nerf", seconds=0.0, steps=150, device="cpu")  # by steps: a busy machine makes few in a time
    story.press("ops.gen3d.train(")
    window.until(ROWS + "answer = rows and rows[0].kind == 'nerf' and rows[0].state == 'running'", 120)
    window.until(ROWS + "answer = rows and rows[0].state == 'done' and rows[0].imported", 900)
    assert len(story.meshes()) == 2
    assert window.ask(ROWS + "answer = rows[0].result['metrics']['psnr']") > 13.0
    window.ask("bpy.ops.object.select_all(action='DESELECT')")
    story.shot("09-copied")


def what_was_made_can_be_undone(story: Story) -> None:
    left, top, width, height = view(story.window)
    story.window.tool("mousemove", left + width // 2, top + height // 2)
    story.window.tool("key", "ctrl+z")
    story.window.until("answer = len([o for o in bpy.data.objects if o.type == 'MESH']) == 1", 20)
    story.window.tool("key", "ctrl+shift+z")
    story.window.until("answer = len([o for o in bpy.data.objects if o.type == 'MESH']) == 2", 20)


def nothing_has_kept_blender_busy(story: Story) -> None:
    longest = story.longest_calls()
    assert "connection/pump.py tick" in longest and any(IMPORT in name for name in longest), "calls are timed"
    allowed = 0.05 * story.slowness
    assert {name: seconds for name, seconds in longest.items() if seconds > allowed and IMPORT not in name} == {}


def a_job_outlives_blender(story: Story) -> None:
    """Saved in mid-job, killed, opened again: the result arrives, once."""
    file = story.screen.folder / "scene.blend"
    story.set("generate", prompt="a green tree", steps=24)
    story.press("ops.gen3d.generate(")
    story.window.until(RUNNING.format("a green tree"), 120)
    story.window.ask(f"bpy.ops.wm.save_as_mainfile(filepath={str(file)!r})")
    story.window.kill()
    story.window = story.open(file)
    story.window.until(ROWS + "answer = rows and rows[0].state in ('running', 'done')", 60)
    story.window.until("answer = len([o for o in bpy.data.objects if o.type == 'MESH']) == 3", 400)
    time.sleep(3.0)
    assert len(story.meshes()) == 3
    story.window.sidebar()
    look_at_everything(story.window)
    time.sleep(1.0)
    story.shot("10-after-a-restart")


def nothing_is_left_behind(story: Story) -> None:
    window = story.window
    assert "connection.pump.tick" in window.ask(TIMERS), "timers are told"
    window.ask(
        "import addon_utils\n"
        f"for _ in range(50):\n    addon_utils.disable({PACKAGE!r})\n    addon_utils.enable({PACKAGE!r})\n"
        f"addon_utils.disable({PACKAGE!r})",
        patience=300.0,
    )
    time.sleep(1.0)
    assert window.ask(LEFT) == [] and window.ask(TIMERS) == []
