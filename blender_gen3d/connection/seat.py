# SPDX-License-Identifier: GPL-3.0-or-later
"""The name under which a Blender speaks to the backend. No bpy.

Jobs belong to names. Each running Blender holds the lowest free seat ("blender-1", "blender-2", …) by a lock that the
operating system frees when the process ends, however it ends: after a crash the next Blender finds its jobs again,
and two at the same time keep theirs apart.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..bridge import errors, file_lock

SEATS = 100


class Seat:
    """A held name; ``leave`` gives it back."""

    def __init__(self, home: Path) -> None:
        folder = home / "clients"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for number in range(1, SEATS + 1):
                self.name = f"blender-{number}"
                handle = file_lock.take(folder / f"{self.name}.lock")
                if handle is not None:
                    self._handle = handle
                    return
        except OSError as fault:
            raise errors.Gen3DError(
                f"{folder} cannot be written: {fault.strerror}.",
                "Make it writable, or choose another home folder in the add-on's preferences.",
                field="home",
            ) from fault
        raise errors.Gen3DError(f"{SEATS} Blenders use {home}.", "Close some.", field="home")

    def leave(self) -> None:
        os.close(self._handle)
