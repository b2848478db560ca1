# SPDX-License-Identifier: GPL-3.0-or-later
"""The model manager's buttons: list, install, verify and remove weights, or use those in a local folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event

import bpy

from .. import model_list, upkeep
from ..bridge import errors
from ..connection import launcher
from ..labels import write
from ..paths import RELATIVE
from ..preferences import backend_places
from ..task import Step, Work
from .common import allowed, tell

OFFLINE = "Blender does not allow online access: Preferences, System, Network"
Verb = Callable[[Path, Path, Event], Iterator[Step]]
"""Something of ``model_list``, given the interpreter and the home."""


def idle(cls: type[bpy.types.Operator]) -> bool:
    """For ``poll``: nothing is being installed or removed."""
    return allowed(cls, f"Wait until this is done, or cancel it: {upkeep.task.title}" if upkeep.busy() else "")


def installed(cls: type[bpy.types.Operator]) -> bool:
    """For ``poll``: there is a backend to ask."""
    return allowed(cls, "" if upkeep.state.kind in upkeep.USABLE else "Install the backend first")


def list_models() -> None:
    """In the background; silently nothing where there is no backend, or something else is going on."""
    if upkeep.state.kind not in upkeep.USABLE:
        return
    with suppress(errors.Gen3DError):
        upkeep.start("List Models", _work(_refresh), upkeep.redraw)


def _refresh(python: Path, home: Path, stop: Event) -> Iterator[Step]:
    return model_list.refresh(python, home, upkeep.models, stop)


def _work(verb: Verb) -> Work:
    home, named = backend_places()
    return lambda stop: verb(launcher.find_python(home, named), home, stop)


class _ModelOperator:
    """An operator that asks the backend's command line."""

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        return idle(cls) and installed(cls)

    def begin(self, verb: Verb) -> set[str]:
        try:
            task = upkeep.start(self.bl_label, _work(verb), upkeep.redraw)
        except errors.Gen3DError as error:
            return tell(self, error)
        if bpy.app.background and task.error:
            return tell(self, task.error)
        return {"FINISHED"}


class GEN3D_OT_refresh_models(_ModelOperator, bpy.types.Operator):
    """Look anew at which weights there are on this computer"""

    bl_idname = "gen3d.refresh_models"
    bl_label = "Refresh"
    bl_options = {"INTERNAL"}

    def execute(self, _context: bpy.types.Context) -> set[str]:
        return self.begin(_refresh)


class GEN3D_OT_install_models(_ModelOperator, bpy.types.Operator):
    """Download weights, or repair damaged ones. A download that was interrupted goes on where it was"""

    bl_idname = "gen3d.install_models"
    bl_label = "Install Models"
    bl_options = {"INTERNAL"}

    names: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Names",
        description="Weights, sets of weights, or models of the Hugging Face hub as owner/name, separated by spaces",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return allowed(cls, "" if bpy.app.online_access else OFFLINE) and super().poll(context)

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        if self.names:
            return self.execute(context)
        return context.window_manager.invoke_props_dialog(
            self, width=400, title="Install from Hub", confirm_text="Install"
        )

    def draw(self, _context: bpy.types.Context) -> None:
        told = "Text-to-image pipelines of diffusers are for DreamFusion, and for Point·E's Text to Image."
        self.layout.prop(self, "names", text="", placeholder="owner/name")
        write(self.layout, told, width=60)

    def execute(self, _context: bpy.types.Context) -> set[str]:
        names = self.names.split()
        if not names:
            return tell(self, errors.Gen3DError("No weights are named.", "Give their name.", field="names"))
        return self.begin(lambda python, home, stop: model_list.install(python, home, upkeep.models, names, stop))


class GEN3D_OT_verify_models(_ModelOperator, bpy.types.Operator):
    """Read all weights that are installed, and compare them with their checksums"""

    bl_idname = "gen3d.verify_models"
    bl_label = "Verify"
    bl_options = {"INTERNAL"}

    def execute(self, _context: bpy.types.Context) -> set[str]:
        return self.begin(lambda python, home, stop: model_list.verify(python, home, upkeep.models, stop))


class GEN3D_OT_remove_model(_ModelOperator, bpy.types.Operator):
    """Delete these weights; of those that are used from a folder of yours, only the name"""

    bl_idname = "gen3d.remove_model"
    bl_label = "Remove Model"
    bl_options = {"INTERNAL"}

    name: bpy.props.StringProperty(options={"HIDDEN", "SKIP_SAVE"})  # type: ignore[valid-type]

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_confirm(self, event)

    def execute(self, _context: bpy.types.Context) -> set[str]:
        name = self.name
        return self.begin(lambda python, home, stop: model_list.remove(python, home, upkeep.models, name, stop))


class GEN3D_OT_use_model(_ModelOperator, bpy.types.Operator):
    """Use weights that are on this computer already: a file, or the folder of a model. They stay where they are"""

    bl_idname = "gen3d.use_model"
    bl_label = "Use Local Model"
    bl_options = {"INTERNAL"}

    name: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Name", description="Which weights these are: a name of the list, or owner/name", options={"SKIP_SAVE"}
    )
    filepath: bpy.props.StringProperty(  # type: ignore[valid-type]
        subtype="FILE_PATH", options={"SKIP_SAVE", *RELATIVE}
    )

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def draw(self, _context: bpy.types.Context) -> None:
        self.layout.prop(self, "name")

    def execute(self, _context: bpy.types.Context) -> set[str]:
        name, path = self.name.strip(), bpy.path.abspath(self.filepath).rstrip("/\\")
        if not name:
            return tell(
                self, errors.Gen3DError("It is not said which weights these are.", "Give their name.", field="name")
            )
        return self.begin(lambda python, home, stop: model_list.use(python, home, upkeep.models, name, path, stop))


CLASSES = (
    GEN3D_OT_refresh_models,
    GEN3D_OT_install_models,
    GEN3D_OT_verify_models,
    GEN3D_OT_remove_model,
    GEN3D_OT_use_model,
)
