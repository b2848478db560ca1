# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of jobs: states, sequence numbers, limits, and what is said when something is wrong."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from backend import database, jobs, storage
from backend.errors import Gen3DError
from backend.jobs import Job, JobStore


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(tmp_path)


def submit(store: JobStore, request: str = "r", client: str = "c", **params: object) -> Job:
    return store.submit(client, request, "nerf", dict(params))


def test_a_submitted_job_is_queued_with_its_folder_and_its_copy(store: JobStore) -> None:
    job = submit(store, dataset="x")
    assert (job.state, job.attempts, job.imported, job.params) == ("queued", 0, False, {"dataset": "x"})
    assert store.get(job.id) == job
    assert store.folder(job.id) == store.home / "jobs" / job.id
    assert json.loads((store.folder(job.id) / "job.json").read_text())["params"] == {"dataset": "x"}


def test_the_same_request_of_the_same_client_is_one_job(store: JobStore) -> None:
    first = submit(store, "r", dataset="x")
    assert submit(store, "r", dataset="other") == first
    assert submit(store, "r", client="another").id != first.id
    assert submit(store, "r2").id != first.id
    assert len(store.all()) == 3


@pytest.mark.parametrize("name", ["../x", "..\\x", "C:x", "\0", "con.txt", "x" * 300, "\u202egnp", "\ud800", ""])
def test_names_from_outside_never_reach_the_disk(store: JobStore, name: str) -> None:
    assert not set(storage.job_id(name, name)) - set("0123456789abcdef")
    with pytest.raises(Gen3DError):
        store.folder(name)
    if name != "\ud800":
        assert submit(store, name, client=name).client == name
    else:
        with pytest.raises(Gen3DError, match="not valid text"):
            submit(store, name, client=name)
    assert all(len(path.name) == 24 for path in (store.home / "jobs").iterdir())


def test_a_removed_job_leaves_only_its_row_for_those_who_knew_it(store: JobStore) -> None:
    job, other = submit(store, "1"), submit(store, "2")
    folder = store.folder(job.id)
    with pytest.raises(Gen3DError, match="queued"):
        store.remove(job.id)
    store.request_cancel(job.id)
    (folder / "result").mkdir()
    known = store.latest_seq()
    gone = store.remove(job.id)
    assert gone.state == "removed" and store.get(job.id) == gone and not folder.exists()
    assert [row.id for row in store.all()] == [row.id for row in store.changed_since(0)] == [other.id]
    assert store.changed_since(known) == [gone]
    assert submit(store, "1") == gone  # the client sends it again because the answer was lost
    for call in (store.remove, store.resume, store.mark_imported, store.request_cancel, store.folder):
        with pytest.raises(Gen3DError, match="no job"):
            call(job.id)
    assert [row.id for row in (store.claim(), store.claim()) if row] == [other.id]


def test_with_the_last_job_that_reads_a_file_the_file_goes(store: JobStore) -> None:
    inputs = store.home / "inputs"
    inputs.mkdir()
    first, second = (submit(store, str(n), mesh=str(inputs / f"{n}.ply")) for n in (1, 2))
    for name in ("1.ply", "2.ply", "nobody.ply", "new.ply"):
        (inputs / name).write_bytes(b"ply")
        if name != "new.ply":
            os.utime(inputs / name, (0, 0))
    store.request_cancel(first.id)
    store.remove(first.id)
    assert sorted(path.name for path in inputs.iterdir()) == ["2.ply", "new.ply"]
    assert store.get(second.id).state == "queued"


def test_a_removal_that_was_interrupted_is_finished_later(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    job = submit(store)
    store.request_cancel(job.id)
    folder = store.folder(job.id)
    with monkeypatch.context() as broken:
        broken.setattr(shutil, "rmtree", lambda *_, **__: None)
        store.remove(job.id)
    assert folder.is_dir()
    store.close()
    assert JobStore(store.home).all() == [] and not folder.exists()


def test_every_change_takes_the_next_number_and_a_client_sees_only_its_own(store: JobStore) -> None:
    a, b = submit(store, "1"), submit(store, "2", client="other")
    assert [a.seq, b.seq] == [1, 2]
    running = store.claim()
    assert running is not None and (running.id, running.state, running.seq) == (a.id, "running", 3)
    store.progress(a.id, {"phase": "train", "step": 5})
    assert [job.id for job in store.changed_since(0)] == [b.id, a.id]
    assert [job.id for job in store.changed_since(2)] == [a.id]
    assert [job.id for job in store.changed_since(0, "other")] == [b.id]
    assert store.changed_since(store.latest_seq()) == []
    assert store.get(a.id).progress == {"phase": "train", "step": 5}


def test_jobs_are_claimed_in_order_and_only_by_devices_they_accept(store: JobStore) -> None:
    first = submit(store, "1", device="cuda")
    second = submit(store, "2")
    third = submit(store, "3", device="cpu")
    assert [job.id for job in (store.claim(["auto", "cpu"]), store.claim(["auto", "cpu"])) if job] == [
        second.id,
        third.id,
    ]
    assert store.claim(["auto", "cpu"]) is None
    claimed = store.claim()
    assert claimed is not None and claimed.id == first.id


def test_the_end_of_a_job_is_kept_and_final(store: JobStore) -> None:
    job = submit(store)
    store.claim()
    done = store.finish(job.id, "done", result={"folder": "/f", "steps": 3})
    assert (done.state, done.result) == ("done", {"folder": "/f", "steps": 3})
    assert done.ended is not None and done.started is not None and done.ended >= done.started
    assert store.finish(job.id, "failed", error={"cause": "late"}) == done
    assert store.request_cancel(job.id) == done
    assert store.progress(job.id, {"step": 1}) == done
    with pytest.raises(Gen3DError, match="The job is done"):
        store.resume(job.id)


@pytest.mark.parametrize("end", ["failed", "cancelled", "interrupted"])
def test_what_did_not_end_well_can_be_resumed(store: JobStore, end: str) -> None:
    job = submit(store)
    store.claim()
    store.finish(job.id, end, error={"cause": "c", "next_step": "n", "field": None})
    again = store.resume(job.id)
    assert (again.state, again.error, again.ended, again.attempts) == ("queued", None, None, 0)
    assert store.resume(job.id) == again
    assert json.loads((store.folder(job.id) / "job.json").read_text())["state"] == "queued"


def test_importing_is_noted_once(store: JobStore) -> None:
    job = submit(store)
    with pytest.raises(Gen3DError, match="queued, not done"):
        store.mark_imported(job.id)
    store.claim()
    store.finish(job.id, "done", result={})
    first = store.mark_imported(job.id)
    assert first.imported and store.mark_imported(job.id) == first


def test_cancel_of_waiting_and_running_jobs(store: JobStore) -> None:
    running, waiting = submit(store, "1"), submit(store, "2")
    store.claim()
    assert store.request_cancel(waiting.id).state == "cancelled"
    assert store.request_cancel(running.id).state == "running"
    assert store.cancel_requests() == [running.id]
    assert store.crashed(running.id, {}).state == "cancelled"
    assert store.resume(running.id).state == "queued" and store.cancel_requests() == []


def test_three_crashes_without_a_checkpoint_park_the_job(store: JobStore) -> None:
    job, error = submit(store), {"cause": "c", "next_step": "n"}
    for attempts in (1, 2):
        store.claim()
        assert (store.crashed(job.id, error).state, store.get(job.id).attempts) == ("queued", attempts)
    store.claim()
    store.checkpointed(job.id)
    assert (store.crashed(job.id, error).state, store.get(job.id).attempts) == ("queued", 1)
    store.claim()
    store.crashed(job.id, error)
    store.claim()
    parked = store.crashed(job.id, error)
    assert (parked.state, parked.error, store.claim()) == ("failed", error, None)


def test_recover_leaves_living_workers_and_own_jobs_alone(store: JobStore) -> None:
    ids = [submit(store, str(i)).id for i in range(3)]
    for _ in ids:
        store.claim()
    alive = storage.FileLock(store.worker_lock(ids[0]))
    assert alive.acquire()
    assert [job.id for job in store.recover(own=[ids[1]])] == [ids[2]]
    assert [store.get(i).state for i in ids] == ["running", "running", "queued"]
    alive.release()
    assert [job.id for job in store.recover()] == ids[:2]


def test_a_released_job_goes_back_without_blame(store: JobStore) -> None:
    job = submit(store)
    store.claim()
    assert (store.release(job.id).state, store.get(job.id).attempts) == ("queued", 0)


def test_a_full_queue_refuses_and_loses_nothing(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "QUEUE_LIMIT", 20)
    for i in range(20):
        submit(store, str(i))
    with pytest.raises(Gen3DError) as caught:
        submit(store, "one too many")
    assert caught.value.field == "queue_full"
    assert submit(store, "3").state == "queued"  # known already
    assert len(store.all()) == 20 and len(list((store.home / "jobs").iterdir())) == 20
    store.claim()
    assert submit(store, "one too many").state == "queued"


def test_unknown_jobs_are_named(store: JobStore) -> None:
    for call in (store.get, store.resume, store.mark_imported, store.folder, store.request_cancel):
        with pytest.raises(Gen3DError, match="There is no job"):
            call("0" * 24)


def test_a_second_store_sees_the_same_jobs(store: JobStore) -> None:
    job = submit(store, text="π 🦊 \ud800 {} %s")
    again = JobStore(store.home)
    assert again.get(job.id) == job and again.latest_seq() == store.latest_seq()


def test_a_disk_full_database_says_so(store: JobStore) -> None:
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Gen3DError) as caught:
        for i in range(2000):
            submit(store, str(i), text="x" * 5000)
    assert caught.value.field == storage.DISK_FULL
    before = {job.id for job in store.all()}
    store._db.execute("PRAGMA max_page_count = 1000000")
    assert submit(store, "after").id not in before
    assert {job.id for job in JobStore(store.home).all()} == before | {storage.job_id("c", "after")}


def test_the_database_is_as_durable_as_promised(store: JobStore) -> None:
    assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_an_older_database_is_migrated_with_its_jobs(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    job = submit(store)
    store.close()
    addition = ("ALTER TABLE jobs ADD COLUMN note TEXT DEFAULT 'none'",)
    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, addition))
    newer = JobStore(store.home)
    assert newer.get(job.id) == job
    assert newer._db.execute("SELECT note FROM jobs").fetchone() == ("none",)
    assert newer._db.execute("PRAGMA user_version").fetchone() == (len(database.MIGRATIONS),)


def test_a_migration_that_fails_changes_nothing(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    job = submit(store)
    store.close()
    monkeypatch.setattr(
        database, "MIGRATIONS", (*database.MIGRATIONS, ("ALTER TABLE jobs ADD COLUMN note", "NONSENSE"))
    )
    with pytest.raises(Gen3DError):
        JobStore(store.home)
    monkeypatch.undo()
    again = JobStore(store.home)
    assert again.get(job.id) == job
    assert "note" not in [row[1] for row in again._db.execute("PRAGMA table_info(jobs)")]


def test_a_newer_database_is_refused_and_untouched(store: JobStore) -> None:
    submit(store)
    store._db.execute("PRAGMA user_version = 99")
    store.close()
    before = (store.home / "jobs.sqlite").read_bytes()
    with pytest.raises(Gen3DError, match="newer version"):
        JobStore(store.home)
    assert (store.home / "jobs.sqlite").read_bytes() == before
    db = sqlite3.connect(store.home / "jobs.sqlite")
    assert db.execute("SELECT count(*) FROM jobs").fetchone() == (1,)


def test_a_home_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for home in (tmp_path / "file", tmp_path / "file" / "home", Path("/proc/nowhere")):
        with pytest.raises(Gen3DError, match="cannot be") as caught:
            JobStore(home)
        assert "GEN3D_HOME" in caught.value.next_step
