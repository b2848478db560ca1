# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a backend that does not run would have something to do, or to tell, for a client. Standard library only.

Looks into the list of jobs without opening it as ``jobs`` does: nothing is made, migrated or repaired.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing, suppress
from pathlib import Path

from .home import list_of_jobs

_QUERY = """SELECT request, state FROM jobs WHERE client = ? AND NOT removed
            AND (state IN ('queued', 'running') OR (state = 'done' AND NOT imported))"""


def is_owed(home: Path, client: str, wanted: Collection[str]) -> bool:
    """Whether a job of the client has not ended, or a result among those of the requests ``wanted`` was never taken.

    False also where that cannot be found out; may take as long as the disk does.
    """
    if not list_of_jobs(home).is_file():
        return False
    try:
        import sqlite3  # Blenders that are built by others may lack it
    except ImportError:
        return False
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"{list_of_jobs(home).absolute().as_uri()}?mode=ro", timeout=1.0, uri=True)) as db,
    ):
        return any(state != "done" or request in wanted for request, state in db.execute(_QUERY, (client,)))
    return False
