# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of jobs as Blender's list widget wants it: one item for each, which holds its id only."""

from __future__ import annotations

from collections.abc import Sequence

import bpy

from . import thumbnails
from .bridge import protocol
from .connection import pump
from .connection.client import News

KINDS = {"remesh": "Re-Mesh", "render": "Views", "bake": "Texture"}
"""What jobs are called that are about an earlier result."""

_order: list[str] = []  # the ids of the items: looking them up in Blender would take longer
_listed: set[str] = set()


def take(current: pump.Session, news: Sequence[News]) -> None:
    """Adds new jobs, takes removed ones out, and chooses the newest of our own that has come."""
    newest = None
    for row in news:
        if not isinstance(row, protocol.JobRow):
            continue
        if row.state == "removed":
            _remove(row.id)
        elif row.id not in _listed:
            _add(row.id)
            newest = row if row.client == current.client.name else newest
    if newest is not None:
        choose(newest.id)


def start() -> None:
    """Lists all that is known: after the add-on was switched on, and after a file was loaded."""
    bpy.context.window_manager.gen3d.jobs.clear()
    _order.clear()
    _listed.clear()
    if current := pump.session():
        take(current, sorted(current.rows.values(), key=lambda row: row.created))


def chosen(context: bpy.types.Context) -> protocol.JobRow | None:
    """The job that is chosen in the list."""
    status, current = context.window_manager.gen3d, pump.session()
    if current is None or not 0 <= status.job_index < len(_order):
        return None
    return current.rows.get(_order[status.job_index])


def choose(job: str) -> None:
    status = bpy.context.window_manager.gen3d
    status.job_index = _order.index(job)


def rows() -> list[protocol.JobRow | None]:
    """What is known of each item, in the list's own order."""
    current = pump.session()
    known = current.rows if current else {}
    return [known.get(job) for job in _order]


def title(row: protocol.JobRow) -> str:
    """What a job is about, in a few words."""
    words = row.params.get("prompt") or row.params.get("image") or row.params.get("dataset")
    name = str(words or KINDS.get(row.kind, row.kind)).rstrip("/\\")
    return " ".join((name if row.params.get("prompt") else name.replace("\\", "/").rpartition("/")[2]).split())[:60]


def _add(job: str) -> None:
    bpy.context.window_manager.gen3d.jobs.add().name = job
    _order.append(job)
    _listed.add(job)


def _remove(job: str) -> None:
    thumbnails.forget(job)
    if job not in _listed:
        return
    status, index = bpy.context.window_manager.gen3d, _order.index(job)
    status.jobs.remove(index)
    del _order[index]
    _listed.discard(job)
    if status.job_index > index or status.job_index == len(_order):
        status.job_index = max(0, status.job_index - 1)
