# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights, by way of the backend's command line and a real download."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from blender_gen3d import model_list
from blender_gen3d.bridge import errors
from blender_gen3d.child import Stopped
from blender_gen3d.model_list import Models
from tests.web_server import WebServer, serve_repository

PYTHON = Path(sys.executable)
COMMIT = "0123456789" * 4


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """Stands in for the Hugging Face hub, with one model."""
    made = WebServer()
    files = {"config.json": json.dumps({"model_type": "toy"}).encode(), "model.safetensors": bytes(300_000)}
    serve_repository(made, "some/toy", files, COMMIT)
    monkeypatch.setenv("HF_ENDPOINT", made.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    for name in ("GEN3D_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    yield made
    made.close()


def test_install_verify_repair_remove(server: WebServer, tmp_path: Path) -> None:
    known = Models()
    steps = list(model_list.install(PYTHON, tmp_path, known, ["some/toy"], Event()))
    assert any(step.fraction == 1.0 and "model.safetensors, 0 of 0 MB" in step.text for step in steps)
    (toy,) = [row for row in known.rows if row.name == "some/toy"]
    assert (toy.state, toy.system) == ("installed", "hub")
    assert {row.state for row in known.installed()} == {"embedded", "installed"}
    (Path(toy.path) / "model.safetensors").write_bytes(b"other")
    list(model_list.verify(PYTHON, tmp_path, known, Event()))
    assert known.damaged == {"some/toy": ["model.safetensors"]}
    list(model_list.install(PYTHON, tmp_path, known, ["some/toy"], Event()))
    assert known.damaged == {}
    list(model_list.remove(PYTHON, tmp_path, known, "some/toy", Event()))
    assert "some/toy" not in {row.name for row in known.rows}


def test_refusals_and_cancelling(server: WebServer, tmp_path: Path) -> None:
    known, stop = Models(), Event()
    with pytest.raises(errors.Gen3DError, match="some/gone") as caught:
        list(model_list.install(PYTHON, tmp_path, known, ["some/gone"], Event()))
    assert caught.value.field == "download"
    with pytest.raises(Stopped):
        for _ in model_list.install(PYTHON, tmp_path, known, ["some/toy"], stop):
            stop.set()


def test_a_python_without_the_backend_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_list, "BACKEND_ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.Gen3DError, match=r"The backend failed: .*No module named"):
        list(model_list.refresh(Path(sys.executable).resolve(), tmp_path, Models(), Event()))
