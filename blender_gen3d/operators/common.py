# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operators share: how errors are told, and where new datasets go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import bpy

from .. import api, upkeep
from ..bridge import errors
from ..connection import pump
from ..connection.wishes import Place
from ..preferences import backend_places
from ..results.result_facts import read_facts


def tell(operator: bpy.types.Operator, error: errors.Gen3DError) -> set[str]:
    """Reports cause and next step, and gives what the operator must return."""
    operator.report({"ERROR"}, f"{error.cause} {error.next_step}")
    return {"CANCELLED"}


def allowed(cls: Any, reason: str) -> bool:
    """For ``poll``: whether there is no reason against it; one that there is, the grey button gives."""
    if reason:
        cls.poll_message_set(reason)
    return not reason


def no_backend() -> str:
    """Why there is nothing yet that could do a job; "" where there is."""
    current = pump.session()
    served = current is not None and current.client.link.state == "online"
    there = served or upkeep.state.kind in upkeep.USABLE or upkeep.elsewhere
    return "" if there else "Install the backend first: see Set Up, above"


def from_panel(context: bpy.types.Context) -> bool:
    """Whether a button of the sidebar is asked about, which goes by the panel's settings; scripts and menus give
    their own."""
    return context.region is not None and context.region.type == "UI"


def start_job(operator: bpy.types.Operator, kind: str, wanted: Mapping[str, Any], at: Place | None = None) -> set[str]:
    """Queues the job, which the panel then shows; in background mode, waits for it and imports the result.

    at: where a generated result is to stand.
    """
    import_it = bpy.context.scene.gen3d.import_when_done
    try:
        if bpy.app.background:
            folder = api.run(kind, wanted)
            for note in read_facts(folder).get("notes", []):
                operator.report({"INFO"}, str(note))
            if import_it:
                api.import_result(folder, at=at)
            return {"FINISHED"}
        current = pump.connect(*backend_places(), start=True)
        current.error = None
        request = current.client.submit(kind, dict(wanted))
    except errors.Gen3DError as error:
        return tell(operator, error)
    if import_it:
        current.want(request, at)
    operator.report({"INFO"}, f"{operator.bl_label}: queued. The progress is in the sidebar.")
    return {"FINISHED"}


def quietly(work: Callable[[], object]) -> None:
    """Does what nobody has asked for, and therefore says nothing when it does not go."""
    with suppress(errors.Gen3DError):
        work()


def next_folder(what: str, within: str = "") -> Path:
    """The next free folder of a kind, such as "view-001", in the folder ``within``, as Blender has it. Without that, in
    "gen3d-views" beside the .blend file, or among the user's data while that is not saved."""
    beside = Path(bpy.data.filepath).parent if bpy.data.filepath else backend_places()[0]
    base = Path(bpy.path.abspath(within)).absolute() if within else beside / f"gen3d-{what}"
    number = 1
    while (folder := base / f"{what.rstrip('s')}-{number:03d}").exists():
        number += 1
    return folder
