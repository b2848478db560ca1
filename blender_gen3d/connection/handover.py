# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that a job is to read: meshes and camera paths of the scene. No bpy."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ..bridge import errors
from ..bridge import home as places


def keep(home: Path, data: bytes, suffix: str) -> Path:
    """The file in the home folder that holds ``data``, named by its content: what is the same is kept once.

    It stays as long as there is a job that reads it, which can be resumed and done again. Raises Gen3DError where it
    cannot be written.
    """
    path = places.inputs(home) / f"{hashlib.sha256(data).hexdigest()[:24]}{suffix}"
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists():
            path.touch()  # what is new is not cleaned up
        else:
            part.write_bytes(data)
            part.replace(path)
    except OSError as fault:
        part.unlink(missing_ok=True)
        raise errors.Gen3DError(
            f"{path} cannot be written: {fault.strerror or fault}.",
            "Make room on its disk, or choose another home folder in the add-on's preferences.",
            field="home",
        ) from fault
    return path
