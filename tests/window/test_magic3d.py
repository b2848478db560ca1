# SPDX-License-Identifier: GPL-3.0-or-later
"""Magic3D in a real window, from words to a textured object and to another one by other words, with real clicks.

Of a few steps, so that the colours are the words' and the details are not. Screenshots are left in
build/window/VERSION.
"""

from __future__ import annotations

import sys
import time

import pytest

from blender_gen3d.connection import launcher

from .story import ROWS, Story, dyed, look_at_everything
from .window import AREA, Screen

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

DONE = ROWS + "answer = rows and (rows[0].error or rows[0].imported) and len([r for r in rows if r.imported]) == {}"
TEXTURE = """
(mesh,) = [item.data for item in bpy.context.selected_objects]
(material,) = mesh.materials
(node,) = [node for node in material.node_tree.nodes if node.type == 'TEX_IMAGE']
answer = [len(mesh.uv_layers), *node.image.size, node.image.packed_file is not None]
"""
BLUE, ENOUGH = 2, 5000  # channel, pixels


def test_words_become_a_textured_object_and_other_words_change_it(screen: Screen) -> None:
    story = Story(screen)
    try:
        story.install(python=sys.executable)
        story.window.ask("for item in list(bpy.data.objects): bpy.data.objects.remove(item)")
        story.window.sidebar()
        story.set("generate", system="magic3d", prompt="a blue mushroom", iterations=30, texture=512)
        story.set("generate.magic3d", fine_iterations=10)
        it_is_generated(story)
        it_is_seen_in_material_preview(story)
        other_words_change_it(story)
    finally:
        story.window.kill()
        launcher.end(story.home)


def it_is_generated(story: Story) -> None:
    story.press("ops.gen3d.generate(")
    story.window.until(DONE.format(1), 600)
    assert story.meshes() == ["a blue mushroom"]
    assert story.window.ask(TEXTURE) == [1, 512, 512, True]


def it_is_seen_in_material_preview(story: Story) -> None:
    """By nothing but switching to that."""
    window = story.window
    window.ask(AREA + "area.spaces.active.shading.type = 'MATERIAL'")
    look_at_everything(window)
    seen(story, "magic3d-01-material-preview", BLUE, ENOUGH)


def other_words_change_it(story: Story) -> None:
    window = story.window
    for panel in ("Generate", "Jobs"):
        story.toggle(panel)
    with story.only("Results"):
        window.write(window.find("results.refine_prompt"), "a red mushroom")
        story.press("ops.gen3d.refine(")
        story.shot("magic3d-02-other-words")
        window.until(DONE.format(2), 600)
    assert story.meshes() == ["a blue mushroom", "a red mushroom"]
    assert window.ask(TEXTURE) == [1, 512, 512, True]
    before, after = window.ask("answer = [list(bpy.data.objects[name].location) for name in " + f"{story.meshes()}]")
    assert abs(before[0] - after[0]) > 0.01, "beside it"
    look_at_everything(window)
    seen(story, "magic3d-03-both", BLUE, ENOUGH // 4)


def seen(story: Story, name: str, channel: int, least: int) -> None:
    """Waits, while shaders are made, until more than so many pixels of a screenshot are of a channel's colour."""
    deadline = time.monotonic() + 200
    while dyed(story.shot(name), story.window, channel) <= least:
        assert time.monotonic() < deadline, f"not seen: {name}"
        time.sleep(2.0)
