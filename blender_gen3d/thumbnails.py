# SPDX-License-Identifier: GPL-3.0-or-later
"""Small pictures of jobs for the panel, read by Blender's own preview loader."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import bpy
import bpy.utils.previews

from .bridge import protocol
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
    if row.id in _pictures:
        _pictures[row.id].reload()
    elif path.is_file():
        _pictures.load(row.id, str(path), "IMAGE")
    if row.id in _pictures:
        tuple(_pictures[row.id].image_size)  # is read at once for this; else a sign of waiting is drawn first


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
