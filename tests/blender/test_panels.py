# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panels draw exists in this Blender; what they say; what buttons say that are grey."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy
import numpy as np
import pytest

from . import addon
from .layouts import Layout

bridge = addon.module("bridge")
capture_settings = addon.module("capturing.capture_settings")
job_list = addon.module("job_list")
jobs = addon.module("panels.jobs")
model_list = addon.module("model_list")
panels = addon.module("panels")
places = addon.module("environment.places")
preferences = addon.module("preferences")
upkeep = addon.module("upkeep")
upkeep_ui = addon.module("upkeep_ui")
pump = addon.module("connection.pump")
remote = addon.module("connection.remote")
thumbnails = addon.module("thumbnails")
write_png = addon.module("capturing.picture_files").write_png
protocol = bridge.protocol


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Any]:
    """A connection to a home without a backend."""
    yield pump.connect(tmp_path / "home", start=False)
    pump.disconnect()
    addon.module("status").clear()


def draw(name: str) -> Layout:
    panel = next(cls for cls in panels.CLASSES if cls.__name__ == name)
    layout = Layout()
    for part in ("draw_header_preset", "draw"):
        if hasattr(panel, part):
            getattr(panel, part)(SimpleNamespace(layout=layout), bpy.context)
    return layout


def tell(session: Any, *rows: Any) -> None:
    for row in rows:
        session.client._take(row)
    while pump.pump():
        pass


def job(session: Any, name: str = "job", **told: Any) -> Any:
    values = {"kind": "generate", "params": {"prompt": "a red chair"}, "state": "done", "seq": 1, "folder": "/x"}
    return protocol.JobRow(name, session.client.name, f"request-{name}", **(values | told))


def test_every_setting_can_be_reached() -> None:
    """Each once, words first; and each mode and system draws."""
    first, more = draw("GEN3D_PT_generate"), draw("GEN3D_PT_generate_more")
    assert first.shown[:2] == ["prompt", "image"]
    assert first.shown[-1] == "gen3d.generate"
    names = {spec.name for spec in fields(bridge.settings.GenerateSettings)}
    bpy.context.scene.gen3d.generate.image = "/x.png"
    with_picture = draw("GEN3D_PT_generate_more")
    plan, shown = bpy.context.scene.gen3d.generate, {*first.shown, *more.shown, *with_picture.shown}
    assert len(more.shown) == len(set(more.shown))
    for system, known in bridge.settings.SYSTEMS.items():
        plan.system = system
        own = {*draw("GEN3D_PT_generate").shown, *draw("GEN3D_PT_generate_more").shown}
        assert ("image" in own) == ("image" in known) and ("start_object" in own) == ("start" in known)
        if panels.generate.GEN3D_PT_generate_techniques.poll(bpy.context):
            techniques = draw("GEN3D_PT_generate_techniques").shown
            nested = panels.generate.TECHNIQUES[system]
            wanted = [name for group in nested for name in type(getattr(plan, group)).__annotations__]
            assert techniques == wanted != []
            own |= {*nested}
        assert set(known) - {"remove_background", "text_to_image"} <= own
        shown |= own
    assert names <= shown
    shown = set()
    for mode in ("sphere", "animation", "cameras"):
        bpy.context.scene.gen3d.capture.mode = mode
        shown.update(draw("GEN3D_PT_capture").shown)
    shown.update(draw("GEN3D_PT_capture_pictures").shown, draw("GEN3D_PT_capture_files").shown)
    assert {spec.name for spec in fields(capture_settings.CaptureSettings)} <= shown
    shown = {name for cls in panels.CLASSES if "_train" in cls.__name__ for name in draw(cls.__name__).shown}
    wanted = (bridge.settings.NerfSettings, bridge.settings.MeshSettings)
    assert {spec.name for cls in wanted for spec in fields(cls)} - {"mesh"} <= shown
    bpy.context.scene.gen3d.nerf.seconds = 0.0
    assert "steps" in draw("GEN3D_PT_train").shown


@pytest.mark.parametrize("kind", ["absent", "partial", "ready", "outdated", "broken", "own"])
def test_the_preferences_and_the_backend_are_drawn(session: Any, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """In every state of the installation, with models of every state."""
    monkeypatch.setattr(upkeep, "state", places.State(kind, f"It is {kind}"))
    states = ("embedded", "installed", "local", "partial", "missing", "absent")
    rows = [model_list.Model(f"model-{state}", "point-e", 10**9, "MIT", state, "") for state in states]
    known = model_list.Models(rows, {"point-e": [row.name for row in rows]}, {"model-local": ["a.bin"]})
    monkeypatch.setattr(upkeep, "models", known)
    device = {"id": "cuda:0", "name": "A GPU", "memory": 8 * 2**30, "free": 2**30}
    monkeypatch.setattr(session.client, "devices", [device])
    online = replace(session.client.link, state="online", error=None)
    monkeypatch.setattr(type(session.client), "link", property(lambda _client: online))
    layout = Layout()
    page = SimpleNamespace(layout=layout, bl_rna=preferences.Gen3DPreferences.bl_rna)
    preferences.Gen3DPreferences.draw(page, bpy.context)
    assert f"It is {kind}" in " ".join(layout.lines)
    wanted = {"absent": "install", "partial": "install", "ready": "repair", "outdated": "install", "broken": "repair"}
    assert kind == "own" or f"gen3d.{wanted[kind]}_backend" in layout.shown
    assert {"torch", "base_python", "wheels", "python", "home", "gen3d.install_models"} <= set(layout.shown)
    assert {f"model-{state}" for state in states} <= set(layout.lines)
    drawn = draw("GEN3D_PT_backend")
    assert "A GPU" in drawn.lines and "1.0 of 8.0 GB free" in drawn.lines and "gen3d.stop_backend" in drawn.shown
    assert "model-installed" in " ".join(drawn.lines)
    if panels.backend.GEN3D_PT_setup.poll(bpy.context):
        assert draw("GEN3D_PT_setup").shown


def test_what_a_job_needs_is_told_beside_what_is_free(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = bpy.context.scene.gen3d.generate
    plan.prompt, plan.resolution = "a chair", 256
    device = {"id": "cpu", "type": "cpu", "name": "CPU", "memory": 8 * 10**9, "free": 8 * 10**9}
    monkeypatch.setattr(session.client, "devices", [device])
    assert "8.0 GB free" in " ".join(draw("GEN3D_PT_generate").lines)
    device["free"] = 10**9
    assert "1.0 GB are free" in " ".join(draw("GEN3D_PT_generate").lines)
    device["free"] = None
    assert "free" not in " ".join(draw("GEN3D_PT_generate").lines)


def test_before_there_is_a_backend_it_is_told_what_a_job_needs() -> None:
    assert pump.session() is None
    bpy.context.scene.gen3d.generate.prompt = "a chair"
    for panel in ("GEN3D_PT_generate", "GEN3D_PT_train"):
        (told,) = [line for line in draw(panel).lines if line.startswith("Needs about")]
        assert told.endswith(" GB")


def test_the_pictures_to_train_with_count_where_they_are_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also beside the .blend file; where a backend elsewhere trains, it is said that they have to be there."""

    def needed() -> str:
        return next(line for line in draw("GEN3D_PT_train").lines if line.startswith("Needs about"))

    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    without = needed()
    (tmp_path / "set").mkdir()
    write_png(tmp_path / "set" / "a.png", np.zeros((512, 512, 3), np.uint8))
    frames = [{"file_path": "a.png"}] * 2000
    (tmp_path / "set" / "transforms.json").write_text(json.dumps({"frames": frames}))
    bpy.context.scene.gen3d.nerf.dataset = "//set"
    counted = needed()
    assert float(counted.split()[2]) > float(without.split()[2]) + 3.0
    assert "another computer" not in " ".join(draw("GEN3D_PT_train").lines)
    monkeypatch.setattr(upkeep, "elsewhere", "127.0.0.1:9")
    assert needed() == without
    assert "The backend is on another computer: the dataset has to be there" in " ".join(draw("GEN3D_PT_train").lines)


def test_without_a_backend_the_list_of_jobs_says_why_it_is_empty(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is one to start, or another computer's to connect to."""
    monkeypatch.setattr(upkeep, "state", places.State("absent", "Not installed"))
    link = replace(session.client.link, state="offline", error=None)
    monkeypatch.setattr(type(session.client), "link", property(lambda _client: link))
    assert "gen3d.start_backend" not in draw("GEN3D_PT_jobs").shown
    monkeypatch.setattr(upkeep, "elsewhere", "127.0.0.1:9")
    assert "Connect to see earlier jobs." in draw("GEN3D_PT_jobs").lines
    monkeypatch.setattr(upkeep, "elsewhere", "")
    monkeypatch.setattr(upkeep, "state", places.State("ready", "It is there"))
    drawn = draw("GEN3D_PT_jobs")
    assert "Start Backend to see earlier jobs." in drawn.lines and "gen3d.start_backend" in drawn.shown
    link = replace(link, state="online")
    assert "gen3d.start_backend" not in draw("GEN3D_PT_jobs").shown
    monkeypatch.setattr(pump, "_session", None)
    assert "gen3d.start_backend" in draw("GEN3D_PT_jobs").shown


def test_what_verifying_found_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    known = model_list.Models([model_list.Model("clip", "point-e", 10**9, "MIT", "installed", "")], {}, {}, False)
    monkeypatch.setattr(upkeep, "models", known)

    def told() -> str:
        layout = Layout()
        upkeep_ui.draw_models(layout)
        return " ".join(layout.lines)

    assert "Install from Hub…" in told() and "as they were when they came" not in told()
    known.verified = True
    assert "All weights that are installed are as they were when they came." in told()
    known.damaged = {"clip": ["a.bin"]}
    assert "Damaged: clip. Install them again." in told()


def test_the_log_can_be_opened_whenever_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "log", tmp_path / "install.log")
    monkeypatch.setattr(upkeep, "task", None)

    def shown() -> list[str]:
        layout = Layout()
        upkeep_ui.draw_task(layout)
        return layout.shown

    assert shown() == []
    (tmp_path / "install.log").write_text("pip said")
    assert shown() == ["gen3d.open_install_log"]


def test_what_is_drawn_has_an_explanation() -> None:
    chosen = bpy.context.scene.gen3d
    groups = (
        chosen, chosen.generate, chosen.generate.dream_fields, chosen.generate.dreamfusion, chosen.generate.magic3d,
        chosen.capture, chosen.nerf, chosen.nerf.mesh, chosen.views, chosen.turntable, chosen.results,
        bpy.context.window_manager.gen3d,
    )  # fmt: skip
    for group in groups:
        for prop in group.bl_rna.properties:
            if prop.identifier in ("rna_type", "name") or prop.is_hidden or prop.type in ("POINTER", "COLLECTION"):
                continue
            assert prop.description, prop.identifier
            assert not prop.description.endswith(".")
            assert prop.name[:1].isupper() or not prop.name[:1].isalpha()
            for choice in prop.enum_items if prop.type == "ENUM" else ():
                assert choice.description, f"{prop.identifier}: {choice.identifier}"
    for name in ("GEN3D_MT_jobs", *(f"GEN3D_PT_{kind}_presets" for kind in ("generate", "capture", "train"))):
        assert getattr(bpy.types, name).bl_description


def test_what_a_zero_stands_for_is_said() -> None:
    plan = bpy.context.scene.gen3d.capture
    assert {"Resolution X (Automatic)", "Resolution Y (Automatic)"} <= set(draw("GEN3D_PT_capture_pictures").lines)
    plan.width = plan.height = 64
    assert not [line for line in draw("GEN3D_PT_capture_pictures").lines if "Automatic" in line]


def test_the_list_shows_own_jobs_newest_first(session: Any) -> None:
    other = protocol.JobRow("theirs", "blender-9", "r", state="done", seq=9, created=9.0)
    tell(session, job(session, "old", created=1.0), job(session, "new", created=3.0, seq=2), other)
    widget = SimpleNamespace(bitflag_filter_item=1, filter_name="")
    status = bpy.context.window_manager.gen3d
    names = [item.name for item in status.jobs]

    def listed() -> list[str]:
        flags, places = jobs.GEN3D_UL_jobs.filter_items(widget, bpy.context, status, "jobs")
        assert sorted(places) == list(range(len(names)))
        return [name for _, name, flag in sorted(zip(places, names, flags, strict=True)) if flag]

    assert listed() == ["new", "old"]
    status.everyone = True
    assert listed() == ["theirs", "new", "old"]
    widget.filter_name = "RED"
    assert listed() == ["new", "old"]
    assert job_list.chosen(bpy.context).id == "new"
    for item in status.jobs:
        jobs.GEN3D_UL_jobs.draw_item(widget, bpy.context, Layout(), status, item, 0, status, "job_index")


@pytest.mark.parametrize(("kind", "told"), [("nerf", ["Ready"]), ("render", [])])
def test_the_list_says_what_can_be_imported(session: Any, kind: str, told: list[str]) -> None:
    """Pictures of views cannot."""
    tell(session, job(session, kind=kind, params={}, state="done"))
    status, layout = bpy.context.window_manager.gen3d, Layout()
    jobs.GEN3D_UL_jobs.draw_item(None, bpy.context, layout, status, status.jobs[0], 0, status, "job_index")
    assert layout.lines[1:] == told


def test_the_list_follows_what_is_deleted(session: Any) -> None:
    tell(session, *(job(session, name, seq=seq) for seq, name in enumerate("abc", 1)))
    status = bpy.context.window_manager.gen3d
    job_list.choose("b")
    tell(session, job(session, "a", state="removed", seq=4))
    assert (job_list.chosen(bpy.context).id, len(status.jobs)) == ("b", 2)
    tell(session, job(session, "c", state="removed", seq=5))
    assert job_list.chosen(bpy.context).id == "b"
    tell(session, job(session, "b", state="removed", seq=6))
    assert (job_list.chosen(bpy.context), len(status.jobs), session.rows) == (None, 0, {})
    tell(session, job(session, "b", state="removed", seq=7))


def test_the_list_is_made_anew_with_a_file(session: Any, tmp_path: Path) -> None:
    """Whatever the file has brought along."""
    tell(session, job(session, "a"), job(session, "b", seq=2))
    bpy.context.window_manager.gen3d.jobs.add().name = "of another Blender"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "kept.blend"))
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "kept.blend"))
    status = bpy.context.window_manager.gen3d
    assert [item.name for item in status.jobs] == ["a", "b"]
    assert status.capturing == ""


def test_a_job_tells_words_and_notes(session: Any) -> None:
    """And each of the backend's remarks, in pieces that fit; then what went wrong, and a way on."""
    note = "It does not know 'chartreuse' (near to it: green, yellow). The embedded prior knows chair, table."
    tell(session, job(session, params={"prompt": "a chartreuse chair"}, result={"notes": [note]}, ended=60.0))
    layout = draw("GEN3D_PT_jobs")
    words = " ".join(layout.lines)
    assert "a chartreuse chair" in words
    assert note in words
    assert max(map(len, layout.lines)) <= 60
    assert "gen3d.import_result" in layout.shown
    told = {"cause": "The disk is full.", "next_step": "Free some space."}
    tell(session, job(session, state="failed", error=told, seq=2))
    layout = draw("GEN3D_PT_jobs")
    assert "The disk is full. Free some space." in " ".join(layout.lines)
    assert layout.shown[-1] == "gen3d.resume_job"
    running = {"phase": "train", "fraction": 0.4, "seconds_left": 72.0}
    tell(session, job(session, state="running", progress=running, seq=3))
    layout = draw("GEN3D_PT_jobs")
    assert "train 40 %, 1:12 left" in layout.lines
    assert layout.shown[-1] == "gen3d.cancel_job"
    assert "gen3d.cancel_job" in draw("GEN3D_PT_generate").shown
    assert "gen3d.cancel_job" not in draw("GEN3D_PT_train").shown


@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_a_cancelled_job_has_come_to_can_be_imported(
    session: Any, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    """Not from another computer: only whole results are copied."""
    monkeypatch.setattr(session, "copies", SimpleNamespace(ready=lambda row: False) if elsewhere else None)
    note = "This is the coarse shape."
    tell(session, job(session, state="cancelled", result={"folder": "/x/so_far", "notes": [note]}))
    layout = draw("GEN3D_PT_jobs")
    assert "gen3d.resume_job" in layout.shown
    assert ("gen3d.import_result" in layout.shown) == (note in layout.lines) == (not elsewhere)
    if not elsewhere:
        assert pump.result_folder(session.rows["job"]) == Path("/x/so_far")
    tell(session, job(session, state="cancelled", result=None, seq=2))
    assert draw("GEN3D_PT_jobs").shown[-1] == "gen3d.resume_job"


def test_a_refusal_is_shown_until_it_is_dismissed(session: Any) -> None:
    session.error = bridge.errors.Gen3DError("The prompt is empty.", "Say in words what to make.")
    assert " ".join(draw("GEN3D_PT_jobs").lines[:2]).startswith("The prompt is empty.")
    bpy.ops.gen3d.forget_error()
    assert session.error is None
    assert "The prompt is empty." not in draw("GEN3D_PT_jobs").lines


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_job_has_a_picture_once_there_is_one(session: Any, tmp_path: Path, elsewhere: bool) -> None:
    """Icons have numbers in a window only; what stands behind them is there without one."""
    name = "far" if elsewhere else "near"  # Blender keeps pictures by their names
    folder, picture = tmp_path / "job", tmp_path / "picture.png"
    if elsewhere:
        session.copies = remote.Copies(session.client, tmp_path)
    else:
        folder.mkdir()
        picture = folder / "preview.png"
    tell(session, job(session, name, state="running", folder=str(folder)))
    assert len(thumbnails._pictures) == 0
    for size in (16, 24):
        write_png(picture, np.full((size, size, 3), 200, np.uint8))
        session.client._take(protocol.Preview(name, "image/png", picture.read_bytes()))
        pump.pump()
        shown = thumbnails._pictures[name]
        assert tuple(shown.image_size) == (size, size)
        pixels = np.empty(4 * size * size, np.float32)
        shown.image_pixels_float.foreach_get(pixels)
        np.testing.assert_allclose(
            pixels.reshape(-1, 4), [(200 / 255, 200 / 255, 200 / 255, 1.0)] * size**2, atol=0.003
        )
    picture.write_bytes(picture.read_bytes()[:-20])
    thumbnails.show(session.rows[name])
    assert tuple(thumbnails._pictures[name].image_size) == (24, 24), "a damaged one changes nothing"
    tell(session, job(session, name, state="removed", seq=2))
    assert len(thumbnails._pictures) == 0 and not list(Path(bpy.app.tempdir).glob("gen3d-*.png"))


def test_what_cannot_be_done_is_grey_and_says_why(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only in the panel, which goes by its own settings; scripts bring theirs."""
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    monkeypatch.setattr(upkeep, "state", places.State("absent", "Not installed"))
    area = next(area for area in bpy.context.window_manager.windows[0].screen.areas if area.type == "VIEW_3D")
    sidebar = next(region for region in area.regions if region.type == "UI")
    tell(session, job(session))
    window = bpy.context.window_manager.windows[0]
    with bpy.context.temp_override(window=window, area=area, region=sidebar):
        assert not bpy.ops.gen3d.generate.poll()
        with pytest.raises(RuntimeError, match="Say in words what to make"):
            bpy.ops.gen3d.generate()
        with pytest.raises(RuntimeError, match="Capture views first"):
            bpy.ops.gen3d.train()
        with pytest.raises(RuntimeError, match="This job has ended"):
            bpy.ops.gen3d.cancel_job()
        with pytest.raises(RuntimeError, match="The cameras are not shown"):
            bpy.ops.gen3d.update_cameras()
        bpy.context.scene.gen3d.generate.prompt = "a chair"
        with pytest.raises(RuntimeError, match="Install the backend first"):
            bpy.ops.gen3d.generate()
        monkeypatch.setattr(upkeep, "state", places.State("ready", "It is there"))
        assert bpy.ops.gen3d.generate.poll()
        assert bpy.ops.gen3d.remove_job.poll()
        assert bpy.ops.gen3d.copy_job.poll()
        tell(session, job(session, "baked", kind="bake", seq=2))
        with pytest.raises(RuntimeError, match="the panel has no settings of it"):
            bpy.ops.gen3d.copy_job()
        assert bpy.ops.gen3d.capture.poll() and bpy.ops.gen3d.import_result.poll()
        bpy.ops.object.mode_set(mode="EDIT")
        with pytest.raises(RuntimeError, match="Change to object mode first"):
            bpy.ops.gen3d.capture()
        with pytest.raises(RuntimeError, match="The import waits for object mode"):
            bpy.ops.gen3d.import_result()
        bpy.ops.object.mode_set(mode="OBJECT")
    assert bpy.ops.gen3d.train.poll()


def test_settings_of_a_job_are_copied_into_the_panel(session: Any) -> None:
    chosen = bpy.context.scene.gen3d
    bpy.context.scene.unit_settings.scale_length = 0.01
    tell(session, job(session, params={"prompt": "a tower", "seed": 7, "size": 2.0, "system": "point-e"}))
    bpy.ops.gen3d.copy_job()
    plan = chosen.generate
    assert (plan.prompt, plan.seed, plan.size) == ("a tower", 7, pytest.approx(200.0))
    tell(session, job(session, "t", kind="nerf", params={"dataset": "/d", "mesh": {"faces": 5}}, seq=2))
    bpy.ops.gen3d.copy_job(job="t")
    assert (chosen.nerf.dataset, chosen.nerf.mesh.faces) == ("/d", 5)
    tell(session, job(session, "r", kind="remesh", params={"result": "/d"}, seq=3))
    with pytest.raises(RuntimeError, match="no settings in the panel"):
        bpy.ops.gen3d.copy_job(job="r")
    with pytest.raises(RuntimeError, match="There is no such job"):
        bpy.ops.gen3d.copy_job(job="x")
