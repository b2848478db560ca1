# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operators share: how errors are told, and where new datasets go."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import bpy

from ..bridge import errors
from ..preferences import backend_places


def tell(operator: bpy.types.Operator, error: errors.Gen3DError) -> set[str]:
    """Reports cause and next step, and gives what the operator must return."""
    operator.report({"ERROR"}, f"{error.cause} {error.next_step}")
    return {"CANCELLED"}


def quietly(work: Callable[[], object]) -> None:
    """Does what nobody has asked for, and therefore says nothing when it does not go."""
    with suppress(errors.Gen3DError):
        work()


def next_capture_folder() -> Path:
    """The next free "capture-001" beside the .blend file, or among the user's data while that is not saved."""
    base = Path(bpy.data.filepath).parent if bpy.data.filepath else backend_places()[0]
    number = 1
    while (folder := base / "gen3d-captures" / f"capture-{number:03d}").exists():
        number += 1
    return folder
