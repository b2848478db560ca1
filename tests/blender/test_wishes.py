# SPDX-License-Identifier: GPL-3.0-or-later
"""Results come once, into the file that asked for them, whatever happens to Blender meanwhile."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bpy
import pytest

from tests.patience import patience

from . import addon, results

bridge = addon.module("bridge")
errors, home, protocol, runtime = bridge.errors, bridge.home, bridge.protocol, bridge.runtime
launcher = addon.module("connection.launcher")
pump = addon.module("connection.pump")
remote = addon.module("connection.remote")
wishes = addon.module("connection.wishes")

PLACE = (1.0, 2.0, 3.0)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """Starts the add-on's connection as a Blender does; a second call is a Blender that was started again."""

    def begin() -> Any:
        pump.disconnect()
        return pump.connect(tmp_path / "home", start=False)

    yield begin
    pump.disconnect()


def finished(session: Any, folder: Path, **told: Any) -> Any:
    row = protocol.JobRow("job", session.client.name, "asked", "generate", state="done", seq=1, folder=str(folder))
    return protocol.JobRow(**{**vars(row), **told})


def made() -> list[str]:
    return [item.name for item in bpy.data.objects if item.get("gen3d_result")]


def test_after_a_crash_the_result_is_imported_once(start: Callable[[], Any], tmp_path: Path) -> None:
    """Blender was killed in mid-job, its file never saved; the next one imports, and the one after it does not."""
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    results.generated(tmp_path / "result", [(1.0, 1.0, 1.0)])
    start().want("asked", PLACE)
    session = start()
    session.client._take(finished(session, tmp_path))
    pump.tick()
    pump.tick()
    assert made() == ["a red block"]
    assert tuple(bpy.data.objects["a red block"].location) == PLACE
    session = start()
    session.client._take(finished(session, tmp_path))
    pump.tick()
    assert made() == ["a red block"]


def test_a_file_keeps_its_wishes(start: Callable[[], Any], tmp_path: Path) -> None:
    """Through another file, a new name and a restart; and nobody else gets what it has asked for."""
    session = start()
    session.want("asked", PLACE)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "first.blend"))
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    assert session.to_import == {}
    session.want("for this one only", None)
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "first.blend"))
    assert session.to_import == {"asked": PLACE}
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "second.blend"))
    session = start()
    assert session.to_import == {"asked": PLACE}
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "first.blend"))
    assert session.to_import == {}
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    assert start().to_import == {}, "what an unsaved file wanted went with it"


def test_a_copy_of_a_file_wants_nothing(start: Callable[[], Any], tmp_path: Path) -> None:
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "first.blend"))
    session = start()
    session.want("asked", PLACE)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "copy.blend"), copy=True)
    assert session.to_import == {"asked": PLACE}
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "copy.blend"))
    assert session.to_import == {}


def test_what_was_imported_or_deleted_is_wanted_no_more(start: Callable[[], Any], tmp_path: Path) -> None:
    for told in ({"imported": True}, {"state": "removed"}):
        session = start()
        session.want("asked", PLACE)
        session.client._take(finished(session, tmp_path, **told))
        pump.pump()
        assert session.to_import == {}
        assert start().to_import == {}


def test_undo_and_redo_in_mid_job_change_nothing(start: Callable[[], Any], tmp_path: Path) -> None:
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    results.generated(tmp_path / "result", [(1.0, 1.0, 1.0)])
    session = start()
    session.want("asked", PLACE)
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.mesh.primitive_cube_add()
    bpy.ops.ed.undo_push(message="cube")
    bpy.ops.ed.undo()
    session.client._take(finished(session, tmp_path, state="running"))
    pump.tick()
    bpy.ops.ed.redo()
    session.client._take(finished(session, tmp_path, seq=2))
    pump.tick()
    assert made() == ["a red block"]
    bpy.ops.ed.undo()
    assert made() == []
    pump.tick()
    assert made() == [], "undone is undone"


def test_the_import_waits_for_object_mode(start: Callable[[], Any], tmp_path: Path) -> None:
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    results.generated(tmp_path / "result", [(1.0, 1.0, 1.0)])
    session = start()
    session.want("asked", PLACE)
    bpy.ops.object.mode_set(mode="EDIT")
    session.client._take(finished(session, tmp_path))
    pump.tick()
    assert (made(), session.to_import) == ([], {"asked": PLACE})
    assert pump.waits() == "for object mode"
    bpy.ops.object.mode_set(mode="OBJECT")
    pump.tick()
    assert (made(), session.to_import) == (["a red block"], {})


def test_what_was_left_unfinished_starts_the_backend(
    start: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: whoever stops it then does not have it back at once."""
    asked: queue.Queue[Path] = queue.Queue()

    def ensure(home: Path, *_given: Any, **_named: Any) -> Any:
        asked.put(home)
        raise errors.Gen3DError("It does not start.", "Never mind.")

    monkeypatch.setattr(launcher, "ensure", ensure)
    monkeypatch.setattr(launcher, "find_python", lambda *_given: Path("/python"))
    store = addon.module("backend.jobs").JobStore(tmp_path / "home")
    try:
        start()
        with pytest.raises(queue.Empty):
            asked.get(timeout=1.0)
        store.submit("blender-1", "asked", "generate", {"prompt": "a chair"})
        session = start()
        assert asked.get(timeout=patience(10.0)) == tmp_path / "home"
        session.may_start = False
        time.sleep(0.5)
        while not asked.empty():
            asked.get()
        with pytest.raises(queue.Empty):
            asked.get(timeout=1.0)
    finally:
        pump.disconnect()
        store.close()


@pytest.mark.skipif("GEN3D_PYTHON" not in os.environ, reason="needs a Python with the backend")
def test_a_result_of_another_computer_is_copied_and_imported_once(start: Callable[[], Any], tmp_path: Path) -> None:
    """Over a real socket, from a backend of another home, whose files this Blender is not told to look at."""
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    far, here = tmp_path / "far", tmp_path / "home"
    command = [os.environ["GEN3D_PYTHON"], "-m", "tests.wire.start_server", str(far), "{}"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(home.runtime_file(far).exists)
        here.mkdir()
        runtime.write(remote.settings_file(here), runtime.read(home.runtime_file(far)))
        session = start()
        request = session.client.submit("nerf", {"dataset": "x", "seconds": 0.2})
        until(lambda: pump.tick() and [row for row in session.jobs() if row.state == "done"])
        (row,) = session.jobs()
        shutil.rmtree(Path(row.folder) / "result")
        results.generated(Path(row.folder) / "result", [(1.0, 1.0, 1.0)])
        session.want(request, PLACE)
        until(lambda: pump.tick() and made())
        item = bpy.data.objects["a red block"]
        assert Path(item["gen3d_result"]).is_relative_to(here) and tuple(item.location) == PLACE
        until(lambda: pump.tick() and session.rows[row.id].imported)
        assert start().to_import == {} and made() == ["a red block"]
        addon.module("thumbnails").forget(row.id)
    finally:
        pump.disconnect()
        server.terminate()
        server.wait(20)


def until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + patience(30.0)
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"": [1]}', '{"": {"a": [1, 2]}}', '{"": {"a": ["x", 1, 2]}}'])
def test_a_damaged_list_of_wishes_is_no_obstacle(tmp_path: Path, content: str) -> None:
    path = tmp_path / "blender-1.json"
    path.write_text(content, "utf-8")
    kept = wishes.Wishes(path)
    kept.put("file", {"b": PLACE, "c": None})
    assert wishes.Wishes(path).of("file") == {"b": PLACE, "c": None}
    kept.put("file", {})
    assert wishes.Wishes(path).of("file") == {}
