# SPDX-License-Identifier: GPL-3.0-or-later
"""The durable list of jobs.

    queued → running → done | failed | cancelled | interrupted
    failed | cancelled | interrupted → queued (resume);  running → queued (its worker is gone: recover)
    done | failed | cancelled | interrupted → removed

One SQLite file holds the truth; a call that returns has reached the disk (WAL, synchronous FULL). Several processes
may use it at once. Every change takes the next number of one counter, ``seq``, so that a client which remembers the
last number it saw asks for exactly what it missed. Each job's folder keeps a copy of its row (``job.json``), from
which the list is rebuilt should the database ever be damaged.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from . import database, storage
from .errors import Gen3DError
from .home import inputs, list_of_jobs

QUEUE_LIMIT = 1000
CRASH_LIMIT = 3
UNREAD = 3600  # seconds: a file that no job reads may be of one that is about to be asked for
ENDED = ("done", "failed", "cancelled", "interrupted")
STATES = ("queued", "running", *ENDED)  # and "removed", of which only the row is left, to tell clients
RESUMABLE = ("failed", "cancelled", "interrupted")


@dataclass(frozen=True)
class Job:
    """One row, as it was when read. Times are Unix seconds.

    attempts: crashes in a row of its worker without a new checkpoint in between.
    progress: {"phase", "step", "total", "fraction", "seconds_left", "loss"}; error: {"cause", "next_step", "field"}
    and, where there is one, "log"; result: what result.json holds, and "folder", its absolute path; of a job that ended
    without being done, of what it had come to.
    """

    id: str
    client: str
    request: str
    kind: str
    params: dict[str, Any]
    state: str
    seq: int
    created: float
    started: float | None
    ended: float | None
    attempts: int
    progress: dict[str, Any] | None
    error: dict[str, Any] | None
    result: dict[str, Any] | None
    imported: bool


_COLUMNS = tuple(f.name for f in fields(Job))
_AS_JSON = ("params", "progress", "error", "result")
_STATE = "CASE WHEN removed THEN 'removed' ELSE state END"
_SELECT = f"SELECT {', '.join(_COLUMNS).replace('state', _STATE)} FROM jobs"


class JobStore:
    """The jobs of one user-data folder: ``home/jobs.sqlite`` and ``home/jobs/<id>/``.

    Every method may be called from any thread, raises Gen3DError for what a user can act on (unknown job, disk
    full, database locked) and has taken full effect when it returns.
    """

    def __init__(self, home: Path) -> None:
        """Opens, creates, migrates or, where the database is damaged, rebuilds the list of jobs.

        Raises Gen3DError, with nothing touched, for a database of a newer version and a folder it may not write.
        """
        self.home = home
        self._path = list_of_jobs(home)
        self._mutex = threading.RLock()
        try:
            (home / "jobs").mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            cause = f"{home} cannot be used for user data: {error.strerror}."
            raise Gen3DError(cause, "Make it writable, or set GEN3D_HOME to another folder.") from error
        self._db = database.open_database(self._path, self._rebuild)
        self._version: int | None = None
        self._delete_folders_of_removed()

    def close(self) -> None:
        self._db.close()

    # ------------------------------------------------------------------------------------------- what clients do

    def submit(self, client: str, request: str, kind: str, params: dict[str, Any]) -> Job:
        """A new queued job, safe on disk. The same (client, request) again returns the job it made the first time.

        Raises Gen3DError with field "queue_full" when 1000 jobs wait already.
        """
        identity = storage.job_id(client, request)
        try:
            (client + request).encode()
        except UnicodeEncodeError:
            raise Gen3DError("The name of the request is not valid text.", "Send Unicode.", field="request") from None
        with self._transaction(), storage.disk_errors(self.home):
            if known := self._find(identity):
                return known
            (waiting,) = self._db.execute("SELECT count(*) FROM jobs WHERE state = 'queued'").fetchone()
            if waiting >= QUEUE_LIMIT:
                raise Gen3DError(
                    f"The queue is full: {waiting} jobs wait already.",
                    "Wait until some are done, or cancel some.",
                    field="queue_full",
                )
            folder = storage.job_folder(self.home, identity)
            folder.mkdir(exist_ok=True)
            job = Job(
                id=identity, client=client, request=request, kind=kind, params=params, state="queued",
                seq=self._next_seq(), created=time.time(), started=None, ended=None, attempts=0,
                progress=None, error=None, result=None, imported=False,
            )  # fmt: skip
            self._insert(job)
            self._write_copy(job)
            storage.sync_folder(folder.parent)
            return job

    def get(self, job_id: str) -> Job:
        """The job, removed or not. Raises Gen3DError for an unknown id."""
        with self._errors():
            return self._get(job_id, removed=True)

    def all(self) -> list[Job]:
        """All jobs that have not been removed, oldest first."""
        with self._errors():
            return [_job(row) for row in self._db.execute(f"{_SELECT} WHERE NOT removed ORDER BY number")]

    def changed_since(self, seq: int, client: str | None = None) -> list[Job]:
        """The jobs (of one client) that changed after ``seq``, in the order of their last change.

        Removed ones are among them, but for those who begin at 0 and cannot know of any.
        """
        with self._errors():
            rows = self._db.execute(
                f"{_SELECT} WHERE seq > :seq AND (:client IS NULL OR client = :client) AND (:seq OR NOT removed)"
                " ORDER BY seq",
                {"seq": seq, "client": client},
            )
            return [_job(row) for row in rows]

    def latest_seq(self) -> int:
        with self._errors():
            return int(self._db.execute("SELECT seq FROM counter").fetchone()[0])

    def resume(self, job_id: str) -> Job:
        """Queues a failed, cancelled or interrupted job again; it goes on from its newest checkpoint.

        A job that waits or runs already is returned as it is; a finished one is refused with Gen3DError.
        """
        with self._transaction():
            job = self._get(job_id)
            if job.state == "done":
                raise Gen3DError("The job is done.", "Start a new one to do it again.", field="job")
            if job.state not in RESUMABLE:
                return job
            return self._change(job_id, state="queued", ended=None, error=None, result=None, attempts=0, cancel=0)

    def remove(self, job_id: str) -> Job:
        """Deletes an ended job with its folder. Raises Gen3DError for one that waits or runs."""
        with self._transaction():
            job = self._get(job_id)
            if job.state not in ENDED:
                raise Gen3DError(f"The job is {job.state}.", "Cancel it first.", field="job")
            folder = storage.job_folder(self.home, job_id)
            (folder / "job.json").unlink(missing_ok=True)  # first: nothing is rebuilt from what is half deleted
            self._change(job_id, removed=1)
        shutil.rmtree(folder, ignore_errors=True)
        self._delete_unread_inputs()
        return self.get(job_id)

    def _delete_unread_inputs(self) -> None:
        """Files that Blender left here for jobs which are gone."""
        with self._errors():
            told = [row[0] for row in self._db.execute("SELECT params FROM jobs WHERE NOT removed")]
        for path in inputs(self.home).glob("*"):
            with suppress(OSError):
                if path.stat().st_mtime < time.time() - UNREAD and not any(path.name in params for params in told):
                    path.unlink()

    def _delete_folders_of_removed(self) -> None:
        """Of jobs whose removal was interrupted."""
        with self._errors():
            gone = [row[0] for row in self._db.execute("SELECT id FROM jobs WHERE removed")]
        for job_id in gone:
            shutil.rmtree(storage.job_folder(self.home, job_id), ignore_errors=True)

    def mark_imported(self, job_id: str) -> Job:
        """Notes that the result is in a scene, so that it never comes a second time."""
        with self._transaction():
            job = self._get(job_id)
            if job.state != "done":
                raise Gen3DError(f"The job is {job.state}, not done.", "Wait for its result.", field="job")
            return job if job.imported else self._change(job_id, imported=1)

    def request_cancel(self, job_id: str) -> Job:
        """Cancels a job that does not run now; marks a running one, so that the process that runs it ends it."""
        with self._transaction():
            job = self._get(job_id)
            if job.state in ("queued", "interrupted"):
                return self._change(job_id, state="cancelled", ended=time.time())
            if job.state == "running":
                self._db.execute("UPDATE jobs SET cancel = 1 WHERE id = ?", (job_id,))
            return job

    def folder(self, job_id: str) -> Path:
        """The job's folder. Raises Gen3DError for an unknown id, and for a removed job."""
        with self._errors():
            return storage.job_folder(self.home, self._get(job_id).id)

    # ---------------------------------------------------------------------------------------- what the engine does

    def claim(self, accepts: Collection[str] = ("auto", "cpu", "cuda", "mps")) -> Job | None:
        """Takes the job that has waited longest among those whose ``params["device"]`` is accepted; it is running.

        No two callers, in whatever processes, ever get the same job. None when nothing waits.
        """
        with self._transaction():
            row = self._db.execute(
                "SELECT id, started FROM jobs WHERE state = 'queued' AND"
                f" coalesce(json_extract(params, '$.device'), 'auto') IN ({', '.join('?' * len(accepts))})"
                " ORDER BY number LIMIT 1",
                tuple(accepts),
            ).fetchone()
            return None if row is None else self._change(row[0], state="running", started=row[1] or time.time())

    def progress(self, job_id: str, progress: dict[str, Any]) -> Job:
        """Notes how far a running job is. Call it about once a second at most: each call waits for the disk."""
        with self._transaction():
            job = self._get(job_id)
            return self._change(job_id, progress=progress) if job.state == "running" else job

    def checkpointed(self, job_id: str) -> None:
        """The worker got somewhere: crashes before this moment no longer count."""
        with self._transaction():
            self._db.execute("UPDATE jobs SET attempts = 0 WHERE id = ?", (job_id,))

    def finish(
        self, job_id: str, state: str, *, error: dict[str, Any] | None = None, result: dict[str, Any] | None = None
    ) -> Job:
        """Ends a running job: "done", "failed", "cancelled" or "interrupted". An ended one is returned as it is."""
        assert state in ENDED
        with self._transaction():
            job = self._get(job_id)
            if job.state != "running":
                return job
            return self._change(job_id, state=state, error=error, result=result, ended=time.time())

    def release(self, job_id: str) -> Job:
        """Puts a running job back, without blame: the backend stops, and the next one goes on with it."""
        with self._transaction():
            job = self._get(job_id)
            return self._change(job_id, state="queued") if job.state == "running" else job

    def crashed(self, job_id: str, error: dict[str, Any]) -> Job:
        """The worker of a running job died. Queued again; failed with ``error`` after three deaths in a row.

        A death before a checkpoint that the worker had announced does not count: see ``checkpointed``.
        """
        with self._transaction():
            job, attempts = self._get(job_id), self._get(job_id).attempts + 1
            if job.state != "running":
                return job
            (cancelled,) = self._db.execute("SELECT cancel FROM jobs WHERE id = ?", (job_id,)).fetchone()
            if cancelled:
                return self._change(job_id, state="cancelled", attempts=attempts, ended=time.time())
            if attempts < CRASH_LIMIT:
                return self._change(job_id, state="queued", attempts=attempts)
            return self._change(job_id, state="failed", attempts=attempts, error=error, ended=time.time())

    def recover(self, own: Collection[str] = ()) -> list[Job]:
        """Queues again the running jobs that no living worker works on, except ``own``; returns what changed.

        For the one engine of this home: a job that it has claimed and whose worker is still starting is in ``own``.
        """
        with self._errors():
            running = [_job(row) for row in self._db.execute(f"{_SELECT} WHERE state = 'running'")]
        gone = [job for job in running if job.id not in own and not storage.is_locked(self.worker_lock(job.id))]
        error = {
            "cause": f"The backend and the job's worker died, {CRASH_LIMIT} times in a row.",
            "next_step": "Read the log, run `gen3d doctor`, then resume the job.",
            "field": None,
        }
        return [self.crashed(job.id, {**error, "log": str(self.folder(job.id) / "worker.log")}) for job in gone]

    def cancel_requests(self) -> list[str]:
        """The running jobs that another process wants ended."""
        with self._errors():
            return [row[0] for row in self._db.execute("SELECT id FROM jobs WHERE state = 'running' AND cancel = 1")]

    def changed_elsewhere(self) -> bool:
        """Whether another process has written to the list since the last call."""
        with self._errors():
            (version,) = self._db.execute("PRAGMA data_version").fetchone()
        changed, self._version = version != self._version, version
        return bool(changed)

    def worker_lock(self, job_id: str) -> Path:
        """Locked by a worker as long as it lives."""
        return storage.job_folder(self.home, job_id) / "worker.lock"

    # ------------------------------------------------------------------------------------------------------- rows

    def _rebuild(self, db: sqlite3.Connection) -> None:
        """Reads every job folder back. A job without an end waits again, or is done where its result is whole."""
        self._db = db
        found = [job for path in (self.home / "jobs").glob("*/job.json") if (job := _read_copy(path))]
        for job in sorted(found, key=lambda job: job.created):
            self._insert(job)
        # Progress took numbers that no copy knows: start far above, so that no client has seen a higher one.
        self._db.execute("UPDATE counter SET seq = ?", (max(job.seq for job in found) + 10**9 if found else 0,))
        for job in found:
            self._db.execute("UPDATE jobs SET seq = ? WHERE id = ?", (self._next_seq(), job.id))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with self._mutex, database.errors(self._path):
            yield

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors(), database.transaction(self._db):
            yield

    def _next_seq(self) -> int:
        self._db.execute("UPDATE counter SET seq = seq + 1")
        return int(self._db.execute("SELECT seq FROM counter").fetchone()[0])

    def _find(self, job_id: str) -> Job | None:
        row = self._db.execute(f"{_SELECT} WHERE id = ?", (job_id,)).fetchone()
        return None if row is None else _job(row)

    def _get(self, job_id: str, *, removed: bool = False) -> Job:
        storage.job_folder(self.home, job_id)  # refuses what cannot be an id
        job = self._find(job_id)
        if job is None or (job.state == "removed" and not removed):
            raise Gen3DError(f"There is no job {job_id[:40]!r}.", "List the jobs to see their ids.", field="job")
        return job

    def _insert(self, job: Job) -> None:
        names, marks = ", ".join(_COLUMNS), ", ".join("?" * len(_COLUMNS))
        values = [_stored(name, getattr(job, name)) for name in _COLUMNS]
        self._db.execute(f"INSERT INTO jobs ({names}) VALUES ({marks})", values)

    def _change(self, job_id: str, **values: Any) -> Job:
        values["seq"] = self._next_seq()
        if values.get("state") in RESUMABLE and not values.get("result"):
            values["result"] = storage.read_job_result(storage.folder_so_far(storage.job_folder(self.home, job_id)))
        assignments = ", ".join(f"{name} = ?" for name in values)
        stored = [_stored(name, value) for name, value in values.items()]
        self._db.execute(f"UPDATE jobs SET {assignments} WHERE id = ?", (*stored, job_id))
        job = self._get(job_id, removed=True)
        if "ended" in values or "imported" in values:
            with suppress(OSError, Gen3DError):  # only a copy: an end must not be lost because the disk is full
                self._write_copy(job)
        return job

    def _write_copy(self, job: Job) -> None:
        storage.write_atomic(storage.job_folder(self.home, job.id) / "job.json", storage.to_json(asdict(job)))


def _stored(name: str, value: Any) -> Any:
    return json.dumps(value) if name in _AS_JSON and value is not None else value


def _job(row: tuple[Any, ...]) -> Job:
    values = dict(zip(_COLUMNS, row, strict=True))
    for name in _AS_JSON:
        values[name] = None if values[name] is None else json.loads(values[name])
    return Job(**{**values, "imported": bool(values["imported"])})


def _read_copy(path: Path) -> Job | None:
    """The job in a folder, or None where its copy is not one of ours."""
    content = storage.read_json(path)
    try:
        job = Job(**content) if content else None
        if job is None or job.id != path.parent.name or job.id != storage.job_id(job.client, job.request):
            return None
        if job.state not in STATES or not isinstance(job.params, dict) or not isinstance(job.created, float):
            return None
        if job.state in ENDED:
            return job
        result = storage.read_job_result(path.parent / "result")
        if result is None:
            return replace(job, state="queued")
        return replace(job, state="done", ended=time.time(), result=result)
    except (TypeError, ValueError):
        return None
