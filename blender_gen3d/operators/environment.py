# SPDX-License-Identifier: GPL-3.0-or-later
"""Installing, repairing, removing, starting and stopping the backend, and choosing one on another computer."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event

import bpy

from .. import upkeep
from ..bridge import errors
from ..connection import launcher, pump, remote
from ..environment import installation
from ..preferences import backend_places, wanted
from ..task import Step, Work
from .common import allowed, quietly, tell
from .models import OFFLINE, idle, installed, list_models


def begin(operator: bpy.types.Operator, work: Work, *, models: bool = False) -> set[str]:
    """Starts upkeep under the operator's name; in background mode, waits for it and reports its error.

    models: whether the weights are to be listed anew after it.
    """

    def ended() -> None:
        home, python = backend_places()
        upkeep.look(home, python)
        if models and not bpy.app.background and not upkeep.task.error:
            begin_to_use()
            list_models()

    try:
        task = upkeep.start(operator.bl_label, work, ended)
    except errors.Gen3DError as error:
        return tell(operator, error)
    if bpy.app.background and task.error:
        return tell(operator, task.error)
    return {"CANCELLED"} if bpy.app.background and task.stopped else {"FINISHED"}


def begin_to_use() -> None:
    """Starts what has been installed, so that its device and the memory of it are known before the first job."""
    if upkeep.state.kind in upkeep.USABLE:
        quietly(lambda: pump.connect(*backend_places(), start=True))


class GEN3D_OT_install_backend(bpy.types.Operator):
    """Install what Gen3D computes with, torch above all, into an environment of its own in the data folder. An
    interrupted installation goes on where it was"""

    bl_idname = "gen3d.install_backend"
    bl_label = "Install Backend"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        return idle(cls) and _may_download(cls) and _is_ours(cls)

    def execute(self, _context: bpy.types.Context) -> set[str]:
        (home, _), options = backend_places(), wanted()
        return begin(self, lambda stop: installation.install(home, options, stop), models=True)


class GEN3D_OT_repair_backend(bpy.types.Operator):
    """Install the backend anew, and use the new one as soon as it is complete and checked"""

    bl_idname = "gen3d.repair_backend"
    bl_label = "Repair Backend"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        return idle(cls) and _may_download(cls) and _is_ours(cls)

    def execute(self, _context: bpy.types.Context) -> set[str]:
        (home, _), options = backend_places(), wanted()
        return begin(self, lambda stop: installation.install(home, options, stop, repair=True), models=True)


class GEN3D_OT_remove_backend(bpy.types.Operator):
    """Stop the backend and delete its environment. Jobs, results and weights stay"""

    bl_idname = "gen3d.remove_backend"
    bl_label = "Remove Backend"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        return idle(cls) and _is_ours(cls)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_confirm(self, event)

    def execute(self, _context: bpy.types.Context) -> set[str]:
        home, _ = backend_places()
        _let_it_end()
        return begin(self, lambda stop: installation.remove(home, stop))


class GEN3D_OT_cancel_upkeep(bpy.types.Operator):
    """Stop this. What has been downloaded so far is kept for the next time"""

    bl_idname = "gen3d.cancel_upkeep"
    bl_label = "Cancel"
    bl_options = {"INTERNAL"}

    def execute(self, _context: bpy.types.Context) -> set[str]:
        upkeep.cancel()
        return {"FINISHED"}


class GEN3D_OT_open_install_log(bpy.types.Operator):
    """Show all that the last installation had to say"""

    bl_idname = "gen3d.open_install_log"
    bl_label = "Open Log"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        return allowed(cls, "" if upkeep.log.is_file() else "Nothing has been installed yet")

    def execute(self, _context: bpy.types.Context) -> set[str]:
        return bpy.ops.wm.path_open(filepath=str(upkeep.log))


class GEN3D_OT_start_backend(bpy.types.Operator):
    """Start the backend, or connect to it, without waiting for the first job"""

    bl_idname = "gen3d.start_backend"
    bl_label = "Start Backend"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        return idle(cls) and (bool(upkeep.elsewhere) or installed(cls))

    def execute(self, _context: bpy.types.Context) -> set[str]:
        try:
            pump.connect(*backend_places(), start=True).error = None
        except errors.Gen3DError as error:
            return tell(self, error)
        return {"FINISHED"}


class GEN3D_OT_stop_backend(bpy.types.Operator):
    """End the backend. Running jobs go on from their last checkpoint at its next start"""

    bl_idname = "gen3d.stop_backend"
    bl_label = "Stop Backend"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        return allowed(cls, "It runs on another computer" if upkeep.elsewhere else "") and idle(cls)

    def execute(self, _context: bpy.types.Context) -> set[str]:
        home, _ = backend_places()
        _let_it_end()

        def work(_stop: Event) -> Iterator[Step]:
            yield Step("Waiting for its jobs to save themselves")
            if launcher.attach(home) and not launcher.end(home):
                raise errors.Gen3DError("The backend does not end.", "Wait a minute, then try again.", field="stop")

        return begin(self, work)


class GEN3D_OT_use_remote(bpy.types.Operator):
    """Let jobs run in a backend on another computer, to which an SSH tunnel leads: ssh -L PORT:127.0.0.1:PORT HOST"""

    bl_idname = "gen3d.use_remote"
    bl_label = "Use Another Computer"
    bl_options = {"INTERNAL"}

    address: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Address", description="Where the tunnel ends on this computer, with the port", default="127.0.0.1:8765"
    )
    token: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Token",
        description="What the command gen3d address prints there; it is kept in a file that only you can read",
        subtype="PASSWORD",
        options={"SKIP_SAVE"},
    )

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self, width=500)

    def execute(self, _context: bpy.types.Context) -> set[str]:
        home, _ = backend_places()
        try:
            remote.choose(home, self.address, self.token)
        except errors.Gen3DError as error:
            return tell(self, error)
        _connect_anew()
        return {"FINISHED"}


class GEN3D_OT_use_local(bpy.types.Operator):
    """Let jobs run on this computer again"""

    bl_idname = "gen3d.use_local"
    bl_label = "Use This Computer"
    bl_options = {"INTERNAL"}

    def execute(self, _context: bpy.types.Context) -> set[str]:
        remote.forget(backend_places()[0])
        _connect_anew()
        return {"FINISHED"}


def _may_download(cls: type[bpy.types.Operator]) -> bool:
    options = wanted()
    return allowed(cls, "" if options.online or options.wheels else OFFLINE)


def _is_ours(cls: type[bpy.types.Operator]) -> bool:
    return allowed(cls, "The preferences name a Python of yours for the backend" if backend_places()[1] else "")


def _let_it_end() -> None:
    """Otherwise the connection would start it again at once."""
    if current := pump.session():
        current.may_start = False


def _connect_anew() -> None:
    """To another backend than before."""
    home, python = backend_places()
    upkeep.look(home, python)
    pump.disconnect()
    if upkeep.elsewhere and not bpy.app.background:
        pump.connect(home, python, start=True)
    upkeep.redraw()


CLASSES = (
    GEN3D_OT_install_backend,
    GEN3D_OT_repair_backend,
    GEN3D_OT_remove_backend,
    GEN3D_OT_cancel_upkeep,
    GEN3D_OT_open_install_log,
    GEN3D_OT_start_backend,
    GEN3D_OT_stop_backend,
    GEN3D_OT_use_remote,
    GEN3D_OT_use_local,
)
