# SPDX-License-Identifier: GPL-3.0-or-later
"""Installing, models and a backend elsewhere, from Blender: preferences, operators, what is greyed out and why."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy
import pytest

from tests.environment import wheels
from tests.patience import patience

from . import addon

bridge = addon.module("bridge")
environment = addon.module("operators.environment")
installation = addon.module("environment.installation")
launcher = addon.module("connection.launcher")
preferences = addon.module("preferences")
pump = addon.module("connection.pump")
remote = addon.module("connection.remote")
upkeep = addon.module("upkeep")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home, and no Python beside a checkout."""
    monkeypatch.setenv("GEN3D_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.delenv("GEN3D_PYTHON", raising=False)
    monkeypatch.setattr(launcher, "BACKEND_ROOT", tmp_path / "checkout")
    upkeep.stop()
    upkeep.look(*preferences.backend_places())
    yield tmp_path / "home"
    upkeep.stop()
    pump.disconnect()
    upkeep.models = type(upkeep.models)()


def refused(operator: Any, **arguments: Any) -> str:
    with pytest.raises(RuntimeError) as caught:
        operator(**arguments)
    return str(caught.value)


def test_what_cannot_be_done_is_greyed_out_with_the_reason() -> None:
    assert upkeep.state.kind == "absent"
    if not bpy.app.online_access:
        for operator in (bpy.ops.gen3d.install_backend, bpy.ops.gen3d.repair_backend):
            assert "Blender does not allow online access: Preferences, System, Network" in refused(operator)
    for operator in (bpy.ops.gen3d.refresh_models, bpy.ops.gen3d.verify_models, bpy.ops.gen3d.start_backend):
        assert "Install the backend first" in refused(operator)
    assert "Nothing has been installed yet" in refused(bpy.ops.gen3d.open_install_log)


@pytest.mark.skipif(
    not ((3, 11) <= sys.version_info < (3, 14) and find_spec("ensurepip")), reason="this Blender's Python is no base"
)
def test_install_and_remove(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a window the operators wait. The packages are small ones, pip and environment are real."""
    wanted = installation.Wanted(**wheels.options(tmp_path))
    monkeypatch.setattr(environment, "wanted", lambda: wanted)
    monkeypatch.setattr(upkeep, "_digest", installation.digest(wanted.requirements))
    assert bpy.ops.gen3d.install_backend() == {"FINISHED"}
    assert upkeep.state.kind == "ready"
    assert "torch 2.13.0+cpu" in upkeep.state.text
    assert launcher.find_python(home).is_relative_to(home)
    assert bpy.ops.gen3d.remove_backend() == {"FINISHED"}
    assert upkeep.state.kind == "absent"
    (tmp_path / "wheels" / "torch-2.13.0+cpu-py3-none-any.whl").unlink()
    assert "torch==2.13.0+cpu is not offered" in refused(bpy.ops.gen3d.install_backend)
    assert upkeep.error().field == "torch"
    assert upkeep.state.kind == "partial"
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("gen3d")]


@pytest.mark.skipif("GEN3D_PYTHON" not in os.environ, reason="needs a Python with the backend")
def test_models_are_listed_used_verified_and_removed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("GEN3D_HOME", str(home))
    monkeypatch.setenv("GEN3D_OFFLINE", "1")
    upkeep.look(*preferences.backend_places())
    assert upkeep.state.kind == "own"
    assert bpy.ops.gen3d.refresh_models() == {"FINISHED"}
    states = {row.name: row.state for row in upkeep.models.rows}
    assert states["embedded/point"] == "embedded"
    assert states["base40M"] == "absent"
    assert "base40M" in upkeep.models.sets["point-e"]
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "config.json").write_text("{}")
    assert bpy.ops.gen3d.use_model("EXEC_DEFAULT", name="clip-vit-l14", filepath=str(tmp_path / "clip")) == {"FINISHED"}
    assert {row.name: row.state for row in upkeep.models.rows}["clip-vit-l14"] == "local"
    assert bpy.ops.gen3d.verify_models() == {"FINISHED"}
    assert upkeep.models.verified
    assert bpy.ops.gen3d.remove_model("EXEC_DEFAULT", name="clip-vit-l14") == {"FINISHED"}
    assert {row.name: row.state for row in upkeep.models.rows}["clip-vit-l14"] == "absent"
    assert "are not installed" in refused(bpy.ops.gen3d.remove_model, name="clip-vit-l14")
    assert "not said which" in refused(bpy.ops.gen3d.use_model, filepath=str(tmp_path))
    if not bpy.app.online_access:
        assert "does not allow online access" in refused(bpy.ops.gen3d.install_models, names="base40M")


def test_weights_without_a_name_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    models = addon.module("operators.models")
    if not bpy.app.online_access:
        monkeypatch.setattr(models.GEN3D_OT_install_models, "poll", classmethod(lambda _cls, _context: True))
    told: list[str] = []
    operator = SimpleNamespace(names="  ", report=lambda _kind, text: told.append(text))
    assert models.GEN3D_OT_install_models.execute(operator, bpy.context) == {"CANCELLED"}
    assert told == ["No weights are named. Give their name."]


def test_what_has_been_installed_is_started(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that its devices are known before the first job; and nothing is, where nothing can be."""

    def ensure(*_given: Any, **_named: Any) -> Any:
        raise bridge.errors.Gen3DError("It does not start.", "Never mind.")

    monkeypatch.setattr(launcher, "ensure", ensure)
    environment.begin_to_use()
    assert pump.session() is None
    monkeypatch.setattr(upkeep, "state", addon.module("environment.places").State("ready", "It is there"))
    environment.begin_to_use()
    assert pump.session().may_start and pump.session().home == home


def test_one_thing_at_a_time() -> None:
    end = threading.Event()
    step = addon.module("task").Step

    def work(stop: threading.Event) -> Iterator[Any]:
        yield step("at it")
        while not (end.wait(0.01) or stop.is_set()):
            pass

    upkeep.task = addon.module("task").Task("Something Long", work)
    try:
        assert "Wait until this is done, or cancel it: Something Long" in refused(bpy.ops.gen3d.remove_backend)
        with pytest.raises(bridge.errors.Gen3DError, match="Something Long is not finished"):
            upkeep.start("Another", work, lambda: None)
        assert bpy.ops.gen3d.cancel_upkeep() == {"FINISHED"}
        assert upkeep.task.join(5.0)
        assert upkeep.task.stopped
    finally:
        end.set()


def test_switching_off_ends_what_runs() -> None:
    def work(stop: threading.Event) -> Iterator[Any]:
        yield addon.module("task").Step("at it")
        stop.wait(60.0)

    upkeep.task = addon.module("task").Task("Something Long", work)
    began = time.monotonic()
    upkeep.stop()
    assert time.monotonic() - began < patience(5.0)
    assert not [thread.name for thread in threading.enumerate() if thread.name == "gen3d-task"]


def test_another_computer(home: Path) -> None:
    secret = f"{'t' * 43}.{'k' * 43}"
    assert "is not an address" in refused(bpy.ops.gen3d.use_remote, address="nowhere", token=secret)
    assert bpy.ops.gen3d.use_remote(address="127.0.0.1:9", token=secret) == {"FINISHED"}
    assert upkeep.elsewhere == "127.0.0.1:9"
    assert "It runs on another computer" in refused(bpy.ops.gen3d.stop_backend)
    with pytest.raises(bridge.errors.Gen3DError, match=r"No backend of this token answers at 127.0.0.1:9"):
        launcher.ensure(home)
    remembered = bpy.ops.gen3d.use_remote.get_rna_type().properties["token"]
    assert remembered.is_skip_save
    assert remembered.subtype == "PASSWORD"
    assert bpy.ops.gen3d.use_local() == {"FINISHED"}
    assert upkeep.elsewhere == ""
    assert not remote.settings_file(home).exists()


def test_preferences_say_what_is_wanted() -> None:
    chosen: Any = bpy.context.preferences.addons.get(addon.PACKAGE)
    if chosen is None:
        assert preferences.wanted().torch == "auto"
        return
    assert chosen.preferences.torch == "auto"
    chosen.preferences.torch = "cuda-13.0"
    try:
        assert preferences.wanted().torch == "cuda-13.0"
        assert preferences.wanted().online == bpy.app.online_access
    finally:
        chosen.preferences.property_unset("torch")
