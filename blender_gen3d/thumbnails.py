# SPDX-License-Identifier: GPL-3.0-or-later
"""Small pictures of jobs for the panel.

They are unpacked here: Blender's own loader takes a tenth of a second for its first picture, and keeps copies on the
disk, by which it takes a picture of the same second for the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import bpy
import bpy.utils.previews
import numpy as np

from .bridge import protocol
from .capturing.picture_files import read_plain_png
from .connection import pump
from .connection.client import News

PICTURE = "preview.png"  # in the folder of a job: the newest picture of it

_pictures: bpy.utils.previews.ImagePreviewCollection | None = None


def register() -> None:
    global _pictures
    _pictures = bpy.utils.previews.new()


def unregister() -> None:
    global _pictures
    bpy.utils.previews.remove(_pictures)
    _pictures = None


def icon(job: str) -> int:
    """What ``template_icon`` wants; 0 where no picture of the job has been asked for, or there is none."""
    return _pictures[job].icon_id if job in _pictures else 0


def show(row: protocol.JobRow | None) -> None:
    """Lets ``icon`` know the newest picture of a job."""
    if row is None or not row.folder:
        return
    path = received if (received := _received(row.id)).is_file() else Path(row.folder) / PICTURE
    with suppress(OSError, ValueError):  # none yet, or one of an older version
        picture = read_plain_png(path.read_bytes())
        shown = _pictures[row.id] if row.id in _pictures else _pictures.new(row.id)
        opaque = np.full((*picture.shape[:2], 4), 1.0, np.float32)
        opaque[..., :3] = picture[::-1] / np.float32(255.0)  # Blender begins at the bottom
        shown.image_size = picture.shape[1::-1]
        shown.image_pixels_float.foreach_set(opaque.ravel())


def forget(job: str) -> None:
    _pictures.pop(job, None)
    _received(job).unlink(missing_ok=True)


def take(current: pump.Session, news: Sequence[News]) -> None:
    """New pictures of running jobs."""
    for piece in news:
        if isinstance(piece, protocol.Preview) and piece.job in current.rows:
            if current.copies is not None:
                with suppress(OSError):  # no room: then there is no picture
                    _received(piece.job).write_bytes(piece.data)
            show(current.rows[piece.job])


def _received(job: str) -> Path:
    """Where the picture of a job on another computer is kept while this Blender runs."""
    return Path(bpy.app.tempdir, f"gen3d-{job}.png")
