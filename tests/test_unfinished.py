# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.home import list_of_jobs
from backend.jobs import JobStore
from backend.unfinished import is_owed

ME = "blender-1"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    made = JobStore(tmp_path)
    yield made
    made.close()


def test_a_job_that_waits_or_runs_is_owed_to_who_asked(store: JobStore, tmp_path: Path) -> None:
    job = store.submit(ME, "asked", "generate", {})
    assert is_owed(tmp_path, ME, ()) and not is_owed(tmp_path, "blender-2", ["asked"])
    store.claim()
    assert is_owed(tmp_path, ME, ())
    store.finish(job.id, "failed")
    assert not is_owed(tmp_path, ME, ["asked"])


def test_a_result_is_owed_where_it_is_wanted_until_it_was_taken(store: JobStore, tmp_path: Path) -> None:
    job = store.submit(ME, "asked", "generate", {})
    store.claim()
    store.finish(job.id, "done", result={})
    assert is_owed(tmp_path, ME, ["other", "asked"]) and not is_owed(tmp_path, ME, ["other"])
    store.mark_imported(job.id)
    assert not is_owed(tmp_path, ME, ["asked"])


def test_after_the_list_was_closed_it_can_be_asked_and_is_left_as_it_is(store: JobStore, tmp_path: Path) -> None:
    store.submit(ME, "asked", "generate", {})
    store.close()
    before = {path.name for path in tmp_path.iterdir() if not path.name.startswith("jobs.sqlite-")}
    assert is_owed(tmp_path, ME, ())
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith("jobs.sqlite-")} == before


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + bytes(200)])
def test_where_nothing_can_be_found_out_nothing_is_owed(tmp_path: Path, content: bytes) -> None:
    assert not is_owed(tmp_path, ME, ["asked"]) and not list(tmp_path.iterdir())
    list_of_jobs(tmp_path).write_bytes(content)
    assert not is_owed(tmp_path, ME, ["asked"])
    assert list_of_jobs(tmp_path).read_bytes() == content
