# SPDX-License-Identifier: GPL-3.0-or-later
"""What the first story leaves out, with real clicks in real windows: live points, presets, the list of jobs, new meshes
and textures, views of a field, the preferences, and two Blenders at once. The backend is this checkout's own.

Screenshots of each step are left in build/window/VERSION.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blender_gen3d.connection import launcher

from .story import BLENDERS, PACKAGE, ROWS, RUNNING, SESSION, VERSIONS, Story, look_at_everything, places_of, red, view
from .window import AREA, STEP, Button, Screen, Window, screen_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

ROW = 21  # pixels between two rows of the list of jobs
WRONG = ("Traceback", "rna_uiItem", "Error:", "not found")

LIVE = SESSION + f"from {PACKAGE} import live_view\nanswer = [len(live_view.shown(session)), len(live_view._shapes)]"
DONE = ROWS + "answer = rows and rows[0].kind == {!r} and rows[0].state == 'done' and rows[0].imported"
STATE = ROWS + "answer = rows and rows[0].state == {!r}"
FRACTION = (
    ROWS + "row = rows[0] if rows else None\n"
    "answer = row and (row.state == 'done' or ((row.progress or {{}}).get('fraction') or 0) > {!r})"
)
CHOSEN = (
    f"from {PACKAGE} import job_list\nrow = job_list.chosen(bpy.context)\nanswer = row and row.params.get('prompt')"
)
LISTED = SESSION + "answer = [(row.client, row.params.get('prompt')) for row in session.rows.values()]"
RENDER = "    bpy.ops.render.render('INVOKE_DEFAULT', animation=True)"
RENDERING = "answer = bpy.app.is_job_running('RENDER')"
CAMERA = """
scene, made = bpy.context.scene, bpy.context.object
camera = bpy.data.objects.new('Camera', bpy.data.cameras.new('Camera'))
scene.collection.objects.link(camera)
scene.camera = camera
camera.location = made.location + 3.0 * max(made.dimensions) * made.location.__class__((0.7, -0.7, 0.5))
camera.rotation_euler = (1.2, 0, 0.7854)
scene.render.resolution_x, scene.render.resolution_y = 320, 240
scene.render.engine, scene.cycles.samples = 'CYCLES', 8
scene.cycles.use_denoising = False  # not every build has it
"""
POSES = """
item, scene, answer = bpy.data.objects[{!r}], bpy.context.scene, []
now = scene.frame_current
for frame in {}:
    scene.frame_set(frame)
    answer.append([list(row) for row in item.matrix_world])
scene.frame_set(now)
"""
SHOWN = (
    f"from {PACKAGE} import capture_preview\nfound = capture_preview.cameras()\n"
    "answer = found and [found.mode, found.counts.total(), len(found.lines)]"
)
MESH = "mesh = bpy.context.object.data\n"
IMAGES = (
    MESH + "nodes = [node for m in mesh.materials for node in m.node_tree.nodes if node.type == 'TEX_IMAGE']\n"
    "answer = [len(mesh.uv_layers), [[node.image.name, *node.image.size] for node in nodes]]"
)


@pytest.fixture(params=BLENDERS, ids=VERSIONS)
def screens(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Screen]]:
    """Makes screens beside one Blender, which have their folder in common."""
    with contextlib.ExitStack() as stack:
        places = places_of(sys.executable)
        yield lambda: stack.enter_context(screen_of(request.param, tmp_path, *places))


def test_panels_in_use(screens: Callable[[], Screen]) -> None:
    story = Story(screens())
    stories = [story]
    try:
        story.install(python=sys.executable)
        points_become_an_object(story)
        settings_are_kept_under_a_name(story)
        an_import_waits_for_a_rendering(story)
        a_job_is_opened_and_deleted(story)
        a_job_is_cancelled_and_goes_on(story)
        a_finished_job_serves_again(story)
        a_field_begins_as_a_mesh(story)
        another_mesh_is_taken_out_of_it(story)
        its_colours_become_a_texture(story)
        its_field_becomes_a_texture(story)
        the_camera_sees_the_field(story)
        a_camera_goes_around_it(story)
        the_scenes_own_cameras_capture_it(story)
        the_backend_and_the_preferences_are_looked_at(story)
        stories.append(Story(screens()))
        two_blenders_keep_their_jobs_apart(story, stories[1])
    finally:
        for each in stories:
            each.window.kill()
        launcher.end(story.home)
    for each in stories:
        log = each.window.log.read_text(errors="replace")
        assert not [line for line in log.splitlines() if any(word in line for word in WRONG)], log[-3000:]


def points_become_an_object(story: Story) -> None:
    window = story.window
    window.ask("for item in list(bpy.data.objects): bpy.data.objects.remove(item)")
    window.sidebar()
    before = story.shot("panels-01-ready")
    window.write(window.find("generate.prompt"), "a red mushroom with a white stem")
    window.write(window.find("generate.size"), "3")
    story.set("generate", resolution=64)
    story.press("ops.gen3d.generate(")
    window.until(FRACTION.format(0.3), 200)
    assert window.ask(LIVE) == [1, 1], "points are shown"
    first = story.shot("panels-02-live-points")
    window.until(FRACTION.format(0.6), 200)
    later = story.shot("panels-03-more-points")
    axis = red(before, window)
    assert red(first, window) > axis + 300 and red(later, window) > red(first, window) + 1000
    assert changed(first, later, window) > 200
    window.until(DONE.format("generate"), 200)
    window.ask("bpy.ops.object.select_all(action='DESELECT')")
    time.sleep(1.0)
    assert window.ask(LIVE) == [0, 0], "the points have gone"
    assert red(story.shot("panels-04-its-mesh"), window) > 5000


def changed(first: Image.Image, later: Image.Image, window: Window) -> int:
    """How many pixels of the 3D view, left of the sidebar, differ much."""
    left, top, width, height = view(window)
    place = (left, top, left + 2 * width // 3, top + height)
    one, other = (np.asarray(picture.crop(place), np.int64) for picture in (first, later))
    return int((np.abs(one - other).max(axis=2) > 60).sum())


def settings_are_kept_under_a_name(story: Story) -> None:
    window = story.window
    story.set("generate", steps=24, points=512)
    system, seed = window.find("generate.system"), window.find("generate.seed")
    quality = Button(seed.x, (system.y + seed.y) // 2, "")
    window.click(quality)
    time.sleep(0.5)
    entries = window.popup(quality.x - 20, quality.y + 40, "New Preset")
    assert [name for name in ("Draft", "Fine", "Standard") if not any(name in entry.what for entry in entries)] == []
    name = entries[-1]
    window.write(name, "My Mushrooms")
    story.screenshot("panels-05-a-new-preset")
    places = range(name.x + 40, name.x + 200, STEP)
    add = next(x for x in places if "preset_add" in window.under(x, name.y))
    window.click(Button(add + STEP // 2, name.y, ""))
    file = story.resources / "scripts/presets/gen3d/generate/My_Mushrooms.py"
    window.until(f"answer = __import__('os').path.exists({str(file)!r})", 10)
    leave_popup(window)
    story.set("generate", steps=99, points=2048)
    window.click(quality)
    time.sleep(0.5)
    entries = window.popup(quality.x - 20, quality.y + 40, "New Preset")
    story.screenshot("panels-06-chosen-again")
    window.click(next(entry for entry in entries if "My_Mushrooms" in entry.what))
    steps = "plan = bpy.context.scene.gen3d.generate; answer = [plan.steps, plan.points, plan.prompt]"
    window.until(steps + " == [24, 512, 'a red mushroom with a white stem']", 10)
    leave_popup(window)


def leave_popup(window: Window) -> None:
    left, top, _, height = view(window)
    window.tool("key", "Escape")
    window.tool("mousemove", left + 60, top + height - 60, "sleep", "0.5")


def an_import_waits_for_a_rendering(story: Story) -> None:
    """What is rendered must not change meanwhile. The mesh arrives when that has ended, and once."""
    window, meshes = story.window, len(story.meshes())
    left, top, width, height = view(window)
    display = window.ask("answer = bpy.context.preferences.view.render_display_type")
    window.ask(
        CAMERA + "scene.cycles.samples, scene.render.threads_mode, scene.render.threads = 4096, 'FIXED', 1\n"
        f"scene.render.filepath = {str(story.screen.folder / 'frames-')!r}\n"
        "bpy.context.preferences.view.render_display_type = 'NONE'"
    )
    story.set("generate", prompt="a yellow duck", size=2.0)
    story.press("ops.gen3d.generate(")
    window.until(RUNNING.format("a yellow duck"), 60)
    window.until(FRACTION.format(0.3), 300)
    window.ask(AREA + "with bpy.context.temp_override(window=window):\n" + RENDER)
    window.until(RENDERING, 20)
    window.until(STATE.format("done"), 300)
    time.sleep(5.0)
    assert window.ask(RENDERING) and len(story.meshes()) == meshes
    assert window.ask(SESSION + "answer = pump.waits()") == "until the rendering has ended"
    story.shot("panels-06-it-waits-for-the-rendering")
    window.tool("mousemove", left + width // 3, top + height // 2, "sleep", "0.2", "key", "Escape")
    window.until(RENDERING + "\nanswer = not answer", 60)
    window.ask(f"bpy.context.preferences.view.render_display_type = {display!r}")  # later a view opens a window
    window.until(DONE.format("generate"), 60)
    time.sleep(3.0)
    assert len(story.meshes()) == meshes + 1
    story.shot("panels-06-it-has-come")


def a_job_is_opened_and_deleted(story: Story) -> None:
    """What was imported from it stays in the scene."""
    window, meshes, program = story.window, story.meshes(), story.screen.folder / "bin" / "xdg-open"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s" "$1" > "$0-told"\n')  # a file manager
    program.chmod(0o755)
    window.ask(f"import os\nos.environ['PATH'] = {str(program.parent)!r} + os.pathsep + os.environ['PATH']")
    job, folder = window.ask(ROWS + "answer = [rows[0].id, rows[0].folder]")
    story.press("ops.gen3d.open_job(", share=0.93)
    told = program.with_name("xdg-open-told")
    window.until(f"answer = __import__('os').path.exists({str(told)!r})", 20)
    assert Path(told.read_text()) == Path(folder, "result")
    story.press("ops.gen3d.remove_job(", share=0.93)
    time.sleep(1.0)
    assert Path(folder).is_dir(), "it asks first"
    story.screenshot("panels-06-delete-this-job")
    window.tool("key", "Return")
    window.until(SESSION + f"answer = {job!r} not in session.rows", 30)
    assert not Path(folder).exists() and story.meshes() == meshes


def a_job_is_cancelled_and_goes_on(story: Story) -> None:
    window = story.window
    story.set("generate", prompt="a blue car", steps=64, seed=7, size=0.0)
    below = window.find("ops.gen3d.remove_job(", share=0.93).y + 120
    story.press("ops.gen3d.generate(")
    window.until(RUNNING.format("a blue car"), 120)
    window.until(FRACTION.format(0.15), 120)
    story.press("ops.gen3d.cancel_job(", below=below)
    window.until(STATE.format("cancelled"), 60)
    time.sleep(1.0)
    story.shot("panels-07-cancelled")
    meshes = len(story.meshes())
    story.press("ops.gen3d.resume_job(", below=below)
    window.until(STATE.format("running"), 60)
    story.shot("panels-08-resumed")
    window.until(DONE.format("generate"), 300)
    assert len(story.meshes()) == meshes + 1, "it is imported although it was stopped in between"


def a_finished_job_serves_again(story: Story) -> None:
    window = story.window
    for panel in ("Generate", "Jobs"):  # those that are open
        story.toggle(panel)
    story.set("generate", prompt="something else", steps=0, seed=0)
    with story.only("Jobs"):
        assert window.ask(CHOSEN) == "a blue car"
        meshes = len(story.meshes())
        story.press("ops.gen3d.import_result(")
        window.until(f"answer = len([o for o in bpy.data.objects if o.type == 'MESH']) == {meshes + 1}", 30)
        story.press("ops.gen3d.copy_job(", share=0.93)
        plan = "plan = bpy.context.scene.gen3d.generate; answer = [plan.prompt, plan.steps, plan.seed]"
        assert window.ask(plan) == ["a blue car", 64, 7]
        look_at_everything(window)
        time.sleep(1.0)
        story.shot("panels-09-imported-again")
        row = window.find("job_index")
        window.click(Button(row.x, row.y + ROW // 2, ""))
        window.until(CHOSEN + " == 'a red mushroom with a white stem'", 10)
        story.press("ops.gen3d.copy_job(", share=0.93)
        assert window.ask(plan)[0] == "a red mushroom with a white stem"
        story.shot("panels-10-another-job-chosen")


def a_field_begins_as_a_mesh(story: Story) -> None:
    window = story.window
    window.ask(
        "thing = bpy.data.objects['a red mushroom with a white stem']\n"
        "for item in [o for o in bpy.data.objects if o != thing]: bpy.data.objects.remove(item)\n"
        "bpy.context.scene.gen3d.start_object = thing"
    )
    story.set("generate", system="dream-fields", iterations=20, resolution=64)
    with story.only("Generate"):
        story.press("ops.gen3d.generate(")
        window.until(STATE.format("running"), 60)
        window.until(FRACTION.format(0.05), 120)
        story.shot("panels-11-a-field-in-the-making")
        window.until(DONE.format("generate"), 300)
    window.ask(
        "made = bpy.context.object\n"
        "for item in [o for o in bpy.data.objects if o != made]: bpy.data.objects.remove(item)"
    )
    look_at_everything(window)


def another_mesh_is_taken_out_of_it(story: Story) -> None:
    window = story.window
    before = window.ask(MESH + "answer = [mesh.name, len(mesh.vertices)]")
    with story.only("Results"):
        story.shot("panels-12-results")
        window.drag(window.find("results.density"), -40)
        density = window.ask("answer = bpy.context.scene.gen3d.results.density")
        assert -6.0 < density < -0.5
        window.write(window.find("results.mesh.resolution"), "48")
        window.click(window.find("ops.gen3d.remesh("))
        window.until(ROWS + "answer = rows and rows[0].kind == 'remesh'", 30)
        story.shot("panels-13-a-mesh-in-the-making")
        window.until(DONE.format("remesh"), 120)
        after = window.ask(MESH + "answer = [mesh.name, len(mesh.vertices)]")
        assert after[0] == before[0] and 100 < after[1] < before[1]
        time.sleep(1.0)
        assert red(story.shot("panels-14-another-mesh"), window) > 5000


def its_colours_become_a_texture(story: Story) -> None:
    window = story.window
    assert not window.ask(MESH + "answer = len(mesh.uv_layers)")
    with story.only("Results"):
        window.write(window.find("results.bake_size"), "256")
        story.press("ops.gen3d.bake(")
        window.until(DONE.format("bake"), 120)
        layers, images = window.ask(IMAGES)
        assert layers == 1 and [size for _, *size in images] == [[256, 256]]
        time.sleep(1.0)
        assert red(story.shot("panels-15-a-texture"), window) > 5000, "the solid view shows the texture"


def its_field_becomes_a_texture(story: Story) -> None:
    """In place of that of the vertex colours."""
    window = story.window
    baked = ROWS + "answer = len([row for row in rows if row.kind == 'bake' and row.imported])"
    layers, ((before, *_),) = window.ask(IMAGES)
    assert layers == 1 and window.ask(baked) == 1
    with story.only("Results"):
        story.press("ops.gen3d.retexture(")
        window.until(baked + " == 2", 120)
        layers, ((after, *_),) = window.ask(IMAGES)
        assert layers == 1 and after != before
        time.sleep(1.0)
        assert red(story.shot("panels-15-a-texture-of-the-field"), window) > 5000


def the_camera_sees_the_field(story: Story) -> None:
    window = story.window
    window.ask(CAMERA)
    with story.only("Views"):
        story.press("ops.gen3d.render_views(")
        time.sleep(1.5)
        story.shot("panels-16-a-view-in-the-making")
        window.until("answer = 'Gen3D Views' in bpy.data.images", 60)
        window.until("answer = len(bpy.context.window_manager.windows) == 2", 20)
        time.sleep(2.0)
        story.shot("panels-17-a-view")
        assert window.ask("answer = [w.modal_operators.keys() for w in bpy.context.window_manager.windows]") == [[], []]
        seen = np.asarray(Image.open(window.ask("answer = bpy.data.images['Gen3D Views'].filepath")).convert("RGBA"))
        assert seen.shape == (240, 320, 4) and len(np.unique(seen.reshape(-1, 4), axis=0)) > 500
        r, g, b = np.moveaxis(seen[..., :3].astype(np.int64), 2, 0)
        assert ((r > 90) & (r > 2 * g) & (r > 2 * b)).sum() > 1000, "it is a red thing"
        window.close_others()


def a_camera_goes_around_it(story: Story) -> None:
    window = story.window
    story.set("turntable", frames=12)
    with story.only("Views"):
        window.toggle_panel(window.find("ops.gen3d.render_views("), 0)
        story.press("ops.gen3d.add_turntable(")
        window.until("answer = bpy.context.scene.camera.name == 'Gen3D Turntable'", 20)
        assert window.ask("scene = bpy.context.scene; answer = [scene.frame_start, scene.frame_end]") == [1, 12]
        look_at_everything(window, 2.0)
        time.sleep(1.0)
        story.shot("panels-17-a-turntable")
    ways = np.array(window.ask(POSES.format("Gen3D Turntable", range(1, 13))))[:, :3, 3]
    middle = ways.mean(axis=0)
    assert np.allclose(np.linalg.norm(ways - middle, axis=1), np.linalg.norm(ways[0] - middle), rtol=1e-3)
    assert np.ptp(ways[:, 2]) < 1e-3 * np.ptp(ways[:, 0]) and len(np.unique(ways.round(3), axis=0)) == 12


def the_scenes_own_cameras_capture_it(story: Story) -> None:
    """Along its animation, then from two chosen ones; drawn before, and as the dataset then tells."""
    window = story.window
    story.set("capture", width=32, height=32, samples=1, engine="cycles", test=0.25)
    along = window.ask(POSES.format("Gen3D Turntable", range(1, 13)))
    with story.only("Capture"):
        window.click(window.find("capture.mode", share=0.5))
        assert window.ask("answer = bpy.context.scene.gen3d.capture.mode") == "animation"
        story.press("show_cameras")
        assert window.ask(SHOWN) == ["animation", 12, 12 * 11]
        time.sleep(1.0)
        story.shot("panels-17-along-an-animation")
        captured(story, along)
        window.ask(
            "bpy.ops.object.select_all(action='DESELECT')\n"
            "for name in ('Camera', 'Gen3D Turntable'): bpy.data.objects[name].select_set(True)"
        )
        window.click(window.find("capture.mode", share=0.83))
        assert window.ask("answer = bpy.context.scene.gen3d.capture.mode") == "cameras"
        window.until(SHOWN + " == ['cameras', 2, 2 * 11]", 10)
        time.sleep(1.0)
        story.shot("panels-17-from-two-cameras")
        names = window.ask("answer = sorted(item.name for item in bpy.context.selected_objects)")
        captured(story, [window.ask(POSES.format(name, [1]))[0] for name in names])
        story.press("show_cameras")
        assert window.ask("answer = bpy.context.window_manager.gen3d.show_cameras") is False


def captured(story: Story, poses: list[list[list[float]]]) -> None:
    """A capture by the button has views from there, in this order."""
    window = story.window
    before = window.ask("answer = bpy.context.scene.gen3d.nerf.dataset")
    story.press("ops.gen3d.capture(")
    dataset = "answer = bpy.context.scene.gen3d.nerf.dataset"
    window.until(dataset + f"\nanswer = answer != {before!r} and not bpy.context.window_manager.gen3d.capturing", 200)
    frames = json.loads(Path(window.ask(dataset), "transforms.json").read_text("utf-8"))["frames"]
    assert np.allclose([frame["transform_matrix"] for frame in frames], poses, atol=1e-4)


def the_backend_and_the_preferences_are_looked_at(story: Story) -> None:
    window = story.window
    with story.only("Backend"):
        story.shot("panels-18-backend")
        story.press("preferences.addon_show")
        window.until("answer = len(bpy.context.window_manager.windows) == 2", 20)
        time.sleep(2.0)
        story.shot("panels-19-preferences")
        kinds = "answer = [area.type for area in bpy.context.window_manager.windows[1].screen.areas]"
        assert "PREFERENCES" in window.ask(kinds)
        window.close_others()


def two_blenders_keep_their_jobs_apart(first: Story, second: Story) -> None:
    """Each lists and imports its own, and lists the other's where it is asked to."""
    for story, prompt, steps in ((first, "a green tree", 48), (second, "a yellow duck", 16)):
        story.window.ask("for item in list(bpy.data.objects): bpy.data.objects.remove(item)")
        story.set("generate", prompt=prompt, system="point-e", steps=steps, points=512, resolution=64, size=3.0)
    second.window.until(SESSION + "answer = session is not None and session.client.link.state == 'online'", 60)
    assert second.window.ask(LISTED) == []
    with first.only("Generate"):
        first.press("ops.gen3d.generate(")
    first.window.until(RUNNING.format("a green tree"), 60)
    second.press("ops.gen3d.generate(")
    second.window.until(STATE.format("queued"), 30)
    second.shot("panels-20-it-waits-for-the-other")
    for story in (first, second):
        story.window.until(DONE.format("generate"), 400)
        look_at_everything(story.window)
    time.sleep(3.0)
    assert [len(story.meshes()) for story in (first, second)] == [1, 1]
    assert "green tree" in first.meshes()[0] and "yellow duck" in second.meshes()[0]
    shading = AREA + "answer = area.spaces.active.shading.color_type"
    assert first.window.ask(shading) == "VERTEX", "although a texture was shown before"
    assert second.window.ask(LISTED) == [["blender-2", "a yellow duck"]]
    second.shot("panels-21-its-own-jobs")
    with first.only("Jobs"):
        first.shot("panels-22-those-of-the-first")
    others_are_listed(second)


def others_are_listed(story: Story) -> None:
    window = story.window
    last = window.find("ops.gen3d.remove_job(", share=0.93)
    window.click(Button(last.x, last.y + 28, ""))
    time.sleep(0.5)
    story.screenshot("panels-23-the-menu-of-jobs")
    window.click(Button(last.x + 40, last.y + 102, ""))
    assert window.ask("answer = bpy.context.window_manager.gen3d.everyone")
    both = "{('blender-1', 'a green tree'), ('blender-2', 'a yellow duck')}"
    window.until(LISTED + f"\nanswer = {both} <= set(answer)")
    time.sleep(2.0)
    assert len(story.meshes()) == 1, "what others have made is not imported by itself"
    story.shot("panels-24-those-of-all")
