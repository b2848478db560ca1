# SPDX-License-Identifier: GPL-3.0-or-later
"""Generate, or capture and train, and import from a script: each call returns when it is done.

    import bpy
    from bl_ext.user_default.gen3d import api

    for number, prompt in enumerate(("a red chair with a blue seat", "a white house with a red roof")):
        result = api.generate(prompt, seed=3, size=1.0)
        api.import_result(result, at=(1.5 * number, 0.0, 0.0))
    bpy.ops.wm.save_as_mainfile(filepath="/tmp/words.blend")

and what stands in the scene, looked at and made again:

    import bpy
    from bl_ext.user_default.gen3d import api

    teapot = bpy.data.objects["Teapot"]
    dataset = api.capture("//views", objects=[teapot], views=60, width=400, height=400)
    result = api.train(dataset.folder, seconds=120)
    mesh = api.import_result(result)
    bpy.ops.wm.save_as_mainfile(filepath=bpy.path.abspath("//teapot_and_copy.blend"))

Run it with ``blender --background scene.blend --python script.py``; the scene can be left out where none is needed.
Every call raises Gen3DError with a cause and a next step when something is in the way.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import bpy

from .bridge import errors, protocol, settings
from .capturing import capture as capturing
from .capturing.capture import Captured, CaptureProgress
from .capturing.capture_settings import checked
from .connection import launcher, remote
from .connection.client import Client
from .preferences import backend_places
from .results import importing
from .results.start_shape import start_shape

Gen3DError = errors.Gen3DError
JobRow = protocol.JobRow

__all__ = ["Captured", "Gen3DError", "JobRow", "capture", "generate", "import_result", "import_results", "run", "train"]


Telling = Callable[[protocol.JobRow], None]


def generate(
    prompt: str = "",
    *,
    image: str | Path = "",
    start: str | Path | bpy.types.Object = "",
    system: str = "point-e",
    seed: int = 0,
    count: int = 1,
    size: float = 0.0,
    home: str | Path | None = None,
    python: str = "",
    on_progress: Telling | None = None,
    **settings: Any,
) -> Path:
    """Makes objects from words, or from a picture, in the backend process; the folder of the result.

    count: how many, of the seeds ``seed``, ``seed`` + 1, ...; size: the largest side in metres, 0 for what is usual for
    such a thing; start: what a field begins as, a mesh object as it stands in the scene, a file, or a result folder.
    settings: further fields of GenerateSettings, those within others as a dictionary. home, python, on_progress: as in
    ``train``. What the backend has to remark, such as words that it does not know, is in the "notes" of the last row's
    ``result``.

    >>> api.import_results(api.generate("a yellow car with black wheels", count=4, save_points=True))
    >>> api.generate("a wooden chest", system="magic3d", start=bpy.data.objects["Cube"], magic3d={"shape": False})
    """
    if isinstance(start, bpy.types.Object):
        start = start_shape(start, _path(home) if home else backend_places()[0])
    files = {name: str(_path(given)) if str(given) else "" for name, given in (("image", image), ("start", start))}
    asked = {"prompt": prompt, **files, "system": system, "seed": seed, "count": count, "size": float(size)}
    wanted = {**asked, **settings}
    return run("generate", wanted, home=home, python=python, on_progress=on_progress)


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
    on_progress: Telling | None = None,
    **settings: Any,
) -> Path:
    """Trains in the backend process, which is started if none runs; the folder of the result.

    home and python: where the backend keeps its data and which interpreter runs it, by default as the preferences
    say. settings: fields of NerfSettings, those of its mesh as a dictionary. Ctrl-C cancels the job.

    >>> api.train("/tmp/views", seconds=60, mesh={"texture": 2048, "faces": 50_000})
    """
    wanted = {"dataset": str(_path(dataset)), **settings}
    return run("nerf", wanted, home=home, python=python, on_progress=on_progress)


def run(
    kind: str,
    wanted: Mapping[str, Any],
    *,
    home: str | Path | None = None,
    python: str = "",
    on_progress: Telling | None = None,
) -> Path:
    """A job of any kind, in the backend process; the folder of the result. ``train`` tells of the arguments."""
    settings.parse(settings.KINDS[kind], dict(wanted))  # before anything is started
    chosen_home, chosen_python = backend_places()
    place = _path(home) if home else chosen_home
    interpreter = python or chosen_python
    with Client(f"script-{uuid.uuid4().hex}", lambda stop: launcher.ensure(place, interpreter, stop=stop)) as client:
        row = client.submit_and_wait(kind, dict(wanted), on_progress)
        return remote.copy_result(client, place, row.id) if remote.address(place) else Path(row.folder) / "result"


def import_result(folder: str | Path, *, name: str = "", at: Sequence[float] | None = None) -> bpy.types.Object:
    """As ``import_results``; the first object.

    >>> api.import_result(result, name="Teapot copy").location
    """
    return import_results(folder, name=name, at=at)[0]


def import_results(folder: str | Path, *, name: str = "", at: Sequence[float] | None = None) -> list[bpy.types.Object]:
    """Brings the meshes of a result folder into the scene; one undo step.

    What was captured lands exactly where its original is. What was generated stands at ``at``, by default the 3D
    cursor: upright, its front towards -Y, further ones beside it along +X, and the points, where they were saved, as
    objects of their own behind.
    """
    done = importing.import_result(_path(folder), name=name, at=at)
    bpy.ops.ed.undo_push(message="Import Gen3D result")
    return list(done.objects)


def _path(named: str | Path) -> Path:
    return Path(bpy.path.abspath(str(named))).absolute()
