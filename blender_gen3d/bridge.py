# SPDX-License-Identifier: GPL-3.0-or-later
"""The code that add-on and backend share.

In the extension ``backend/`` lies inside the add-on, in a checkout beside it (see ``__init__``); either way it is
imported as a part of this package, so that it never meets another package of that name.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend import errors, file_lock, home, memory, protocol, runtime, settings, unfinished, version
else:
    from .backend import errors, file_lock, home, memory, protocol, runtime, settings, unfinished, version

BACKEND_ROOT = Path(protocol.__file__).resolve().parent.parent
"""The folder that holds ``backend/``: what a backend process has on its PYTHONPATH."""

__all__ = [
    "BACKEND_ROOT",
    "errors",
    "file_lock",
    "home",
    "memory",
    "protocol",
    "runtime",
    "settings",
    "unfinished",
    "version",
]
