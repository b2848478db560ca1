# SPDX-License-Identifier: GPL-3.0-or-later
"""The SQLite file behind the list of jobs: opening, migrating, setting a damaged one aside, errors in words."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from . import storage
from .errors import Gen3DError

# One entry per schema version, applied in order; the number applied is SQLite's user_version. Only ever append.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE jobs (
            number INTEGER PRIMARY KEY,  -- place in the queue
            id TEXT NOT NULL UNIQUE, client TEXT NOT NULL, request TEXT NOT NULL, kind TEXT NOT NULL,
            params TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled', 'interrupted')),
            seq INTEGER NOT NULL, created REAL NOT NULL, started REAL, ended REAL, attempts INTEGER NOT NULL,
            progress TEXT, error TEXT, result TEXT, imported INTEGER NOT NULL,
            cancel INTEGER NOT NULL DEFAULT 0,  -- asked for by another process than the one that runs the job
            UNIQUE (client, request))""",
        "CREATE INDEX jobs_by_state ON jobs (state, number)",
        "CREATE INDEX jobs_by_seq ON jobs (seq)",
        "CREATE TABLE counter (seq INTEGER NOT NULL)",
        "INSERT INTO counter VALUES (0)",
    ),
    ("ALTER TABLE jobs ADD COLUMN removed INTEGER NOT NULL DEFAULT 0",),
)

BUSY_SECONDS = 5.0  # how long a write waits for the writes of other processes
Rebuild = Callable[[sqlite3.Connection], None]


def open_database(path: Path, rebuild: Rebuild) -> sqlite3.Connection:
    """Opens, creates or migrates; a damaged file is set aside. ``rebuild`` fills a new one, in its transaction.

    Every commit is on disk when it returns (WAL, synchronous FULL). Raises Gen3DError, with nothing touched, for a
    file of a newer version, and for one that is locked or may not be written.
    """
    lock = storage.FileLock(path.with_suffix(".lock"))  # two processes never create or rebuild it at the same time
    deadline = time.monotonic() + 30.0
    while not lock.acquire():
        if time.monotonic() > deadline:
            raise Gen3DError("The list of jobs is being opened by another process.", "Try again in a minute.")
        time.sleep(0.02)
    try:
        with errors(path):
            _refuse_newer(path)
            try:
                return _connect(path, rebuild)
            except sqlite3.OperationalError:  # locked, disk full, not allowed: the file itself is fine
                raise
            except sqlite3.DatabaseError:
                _set_aside(path)
                return _connect(path, rebuild)
    finally:
        lock.release()


@contextmanager
def errors(path: Path) -> Iterator[None]:
    """Turns what SQLite raises into Gen3DError."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _explained(error, path) from error


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; waits for other writers first."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise


def _refuse_newer(path: Path) -> None:
    """Looks without writing, so that what a newer version made stays exactly as it is."""
    if not path.exists():
        return
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=BUSY_SECONDS, uri=True)
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        version = 0  # damaged: dealt with when it is opened
    finally:
        db.close()
    if version > len(MIGRATIONS):
        raise Gen3DError(
            f"{path} was written by a newer version of Gen3D.",
            "Update Gen3D, or set GEN3D_HOME to another folder.",
            field="version",
        )


def _connect(path: Path, rebuild: Rebuild) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        if db.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("quick_check failed")
        with transaction(db):
            (version,) = db.execute("PRAGMA user_version").fetchone()
            for steps in MIGRATIONS[version:]:
                for step in steps:
                    db.execute(step)
            db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            if version == 0:
                rebuild(db)
    except BaseException:
        db.close()
        raise
    return db


def _set_aside(path: Path) -> None:
    """Keeps a damaged file under another name, to make room for one rebuilt from the job folders."""
    if storage.is_locked(path.with_name("engine.lock")):
        raise Gen3DError(f"{path} is damaged.", "Restart the backend: it repairs the list of jobs when it starts.")
    stem = f"{path.stem}.corrupt-{time.time_ns()}"
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(path.with_name(f"{stem}{path.suffix}{suffix}"))


def _explained(error: sqlite3.DatabaseError, path: Path) -> Gen3DError:
    text = str(error)
    if "full" in text:
        return storage.disk_full(path)
    if "locked" in text or "busy" in text:
        return Gen3DError(f"{path} is locked by another program.", "Close what holds it open, then try again.")
    if "readonly" in text or "unable to open" in text:
        return Gen3DError(f"{path} cannot be written.", "Make it writable, or set GEN3D_HOME to another folder.")
    return Gen3DError(f"{path} is damaged ({text}).", "Restart the backend: it repairs the list of jobs.")
