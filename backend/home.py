# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the user's data lives. Standard library only: both sides of the socket share it.

Jobs live here and not in the extension's own folder, because Blender wipes that one when the extension is removed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def user_home() -> Path:
    """The folder of all user data, absolute and not necessarily there yet.

    GEN3D_HOME moves it; otherwise it is "gen3d" in the operating system's place for a user's data:
    XDG_DATA_HOME (else ~/.local/share), ~/Library/Application Support, or %LOCALAPPDATA%.
    """
    if named := os.environ.get("GEN3D_HOME"):
        return Path(named).expanduser().absolute()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or "")
        if not base.is_absolute():  # the XDG specification: relative paths are invalid and ignored
            base = Path.home() / ".local" / "share"
    return base / "gen3d"


def inputs(home: Path) -> Path:
    """The folder of files that the user named in Blender: jobs read these copies."""
    return home / "inputs"


def list_of_jobs(home: Path) -> Path:
    """The database of all jobs."""
    return home / "jobs.sqlite"


def runtime_file(home: Path) -> Path:
    """The file in which a running backend says where it listens, under which process id, and its secret token."""
    return home / "runtime.json"
