# SPDX-License-Identifier: GPL-3.0-or-later
"""Which results are wanted in which .blend file. No bpy.

Kept beside the seat, so that a Blender that takes the seat again, after a restart or a crash, imports what was asked
for into the file that asked for it, and into no other. Jobs of a file that was never saved are wanted by the unsaved
file of the next start.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

Place = tuple[float, float, float]


class Wishes:
    """Requests by .blend file ("" for one that has no name yet), each with where its result is to stand, or None for
    what stands where it was captured. Losing the file of it costs a click; so nothing here raises."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[str, dict[str, Place | None]] = {}
        with suppress(OSError, ValueError, AttributeError, TypeError):
            for file, asked in json.loads(path.read_text("utf-8")).items():
                self._files[file] = {str(request): _place(told) for request, told in asked.items()}

    def of(self, file: str) -> dict[str, Place | None]:
        """A copy of what one file wants."""
        return dict(self._files.get(file, {}))

    def all(self) -> set[str]:
        """The requests of the files that are still there, and of the one without a name."""
        return {request for file, asked in self._files.items() if not file or os.path.exists(file) for request in asked}

    def put(self, file: str, asked: dict[str, Place | None]) -> None:
        """From now on a file wants this and nothing else."""
        if self._files.get(file, {}) == asked:
            return
        self._files.pop(file, None)
        if asked:
            self._files[file] = dict(asked)
        part = self._path.with_suffix(".part")
        with suppress(OSError):
            part.write_text(json.dumps(self._files), "utf-8")
            os.replace(part, self._path)


def _place(told: object) -> Place | None:
    if not isinstance(told, list):
        return None
    x, y, z = map(float, told)
    return (x, y, z)
