# SPDX-License-Identifier: GPL-3.0-or-later
"""Capture, train and import from a script, one after the other: each call returns when it is done.

    import bpy
    from bl_ext.user_default.gen3d import api

    teapot = bpy.data.objects["Teapot"]
    dataset = api.capture("//views", objects=[teapot], views=60, width=400, height=400)
    result = api.train(dataset.folder, seconds=120)
    mesh = api.import_result(result)
    bpy.ops.wm.save_as_mainfile(filepath=bpy.path.abspath("//teapot_and_copy.blend"))

Run it with ``blender --background scene.blend --python script.py``. Every call raises Gen3DError with a cause and a
next step when something is in the way.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import bpy

from . import capture as capturing
from . import importing, launcher
from .bridge import errors, protocol
from .capture import Captured, CaptureProgress
from .capture_settings import checked
from .client import Client
from .preferences import backend_places

Gen3DError = errors.Gen3DError
JobRow = protocol.JobRow

__all__ = ["Captured", "Gen3DError", "JobRow", "capture", "import_result", "train"]


def capture(
    folder: str | Path,
    *,
    objects: Sequence[bpy.types.Object] | None = None,
    cameras: Sequence[bpy.types.Object] | None = None,
    center: Sequence[float] | None = None,
    overwrite: bool = False,
    on_progress: Callable[[CaptureProgress], None] | None = None,
    **settings: Any,
) -> Captured:
    """Renders the scene from many cameras into the dataset ``folder`` ("//" is beside the .blend file).

    objects: what to capture; by default everything that renders. settings: fields of CaptureSettings.

    >>> api.capture("/tmp/views", objects=[bpy.data.objects["Cube"]], views=100, width=400, height=400, samples=32)
    >>> api.capture("/tmp/walk", mode="animation", step=5, isolate=False, dialect="instant-ngp")
    """
    steps = capturing.capture(
        checked(settings), _path(folder), objects=objects, cameras=cameras, center=center, overwrite=overwrite
    )
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            return end.value
        if on_progress:
            on_progress(progress)


def train(
    dataset: str | Path,
    *,
    home: str | Path | None = None,
    python: str = "",
    on_progress: Callable[[protocol.JobRow], None] | None = None,
    **settings: Any,
) -> Path:
    """Trains in the backend process, which is started if none runs; the folder of the result.

    home and python: where the backend keeps its data and which interpreter runs it, by default as the preferences
    say. settings: fields of NerfSettings, those of its mesh as a dictionary. Ctrl-C cancels the job.

    >>> api.train("/tmp/views", seconds=60, mesh={"texture": 2048, "faces": 50_000})
    """
    chosen_home, chosen_python = backend_places()
    place = _path(home) if home else chosen_home
    interpreter = python or chosen_python
    with Client(f"script-{uuid.uuid4().hex}", lambda stop: launcher.ensure(place, interpreter, stop=stop)) as client:
        row = client.submit_and_wait("nerf", {"dataset": str(_path(dataset)), **settings}, on_progress)
    return Path(row.folder) / "result"


def import_result(folder: str | Path, *, name: str = "") -> bpy.types.Object:
    """Brings the mesh of a result folder into the scene, exactly where its object was captured; one undo step.

    >>> api.import_result(result, name="Teapot copy").location
    """
    done = importing.import_result(_path(folder), name=name)
    bpy.ops.ed.undo_push(message="Import Gen3D result")
    return done.object


def _path(named: str | Path) -> Path:
    return Path(bpy.path.abspath(str(named))).absolute()
