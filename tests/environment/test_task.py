# SPDX-License-Identifier: GPL-3.0-or-later
"""Long work in a thread: its progress, its end, its failures, and the programs it runs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from backend import file_lock
from blender_gen3d.bridge import errors
from blender_gen3d.child import Child, Stopped, answer, surroundings
from blender_gen3d.task import Step, Task, clock

FOREVER = "import time\nprint('begun', flush=True)\nwhile True: time.sleep(0.05)"


def test_it_ends_with_its_last_step() -> None:
    def work(stop: Event) -> Iterator[Step]:
        for number in range(5):
            yield Step(f"step {number}", number / 4)

    task = Task("Work", work)
    assert task.join(5.0)
    assert (task.step, task.error, task.stopped, task.running) == (Step("step 4", 1.0), None, False, False)


def test_the_time_left_follows_the_speed() -> None:
    go = Event()

    def work(stop: Event) -> Iterator[Step]:
        yield Step("slow", 0.2)
        go.wait(10.0)
        yield Step("slow", 0.4)
        stop.wait(10.0)

    task = Task("Work", work)
    try:
        time.sleep(0.2)
        assert task.seconds_left() is None
        assert task.line() == "slow"
        time.sleep(3.0)
        go.set()
        time.sleep(0.1)
        assert task.seconds_left() == pytest.approx(3 * 3.3, rel=0.1)
        assert task.line() == f"slow, {clock(task.seconds_left() or 0.0)} left"
    finally:
        task.cancel()
        assert task.join(5.0)


def test_failures_have_a_cause_and_a_next_step() -> None:
    def refuse(stop: Event) -> Iterator[Step]:
        yield Step("")
        raise errors.Gen3DError("This is wrong.", "Do that.")

    def break_down(stop: Event) -> Iterator[Step]:
        yield Step("")
        raise ZeroDivisionError("by zero")

    for work, cause in ((refuse, "This is wrong."), (break_down, "Work failed: ZeroDivisionError: by zero.")):
        task = Task("Work", work)
        assert task.join(5.0)
        assert task.error is not None
        assert task.error.cause == cause
        assert task.error.next_step


def test_a_program_is_ended_with_its_task() -> None:
    ended = []

    def work(stop: Event) -> Iterator[Step]:
        with Child([sys.executable, "-c", FOREVER], stop) as child:
            for line in child:
                yield Step(line)
        ended.append(child.returncode)

    task = Task("Work", work)
    while task.step.text != "begun":
        time.sleep(0.01)
    task.cancel()
    assert task.join(10.0)
    assert task.stopped
    assert task.error is None
    assert not ended, "what comes after the program is not done"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gen3d")]


def test_a_program_is_ended_when_nobody_listens_any_more() -> None:
    with Child([sys.executable, "-c", FOREVER], Event()) as child:
        assert next(iter(child)) == "begun"
        assert child.returncode is None
    assert child.returncode is not None


def test_lines_of_both_outputs_and_the_exit_code(tmp_path: Path) -> None:
    code = "import sys; print('out é'); print('err', file=sys.stderr); sys.exit(3)"
    with open(tmp_path / "log", "w+", encoding="utf-8") as log:
        with Child([sys.executable, "-c", code], Event(), log=log) as child:
            assert sorted(child) == ["err", "out é"]
        assert child.returncode == 3
        log.seek(0)
        assert "out é" in log.read()
    with pytest.raises(errors.Gen3DError, match=r"/nowhere cannot be run"):
        Child(["/nowhere"], Event())
    stop = Event()
    stop.set()
    with pytest.raises(Stopped), Child([sys.executable, "-c", FOREVER], stop) as child:
        list(child)


def test_nothing_of_another_python_leaks_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "PYTHONHOME", "CONDA_PREFIX", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"):
        monkeypatch.setenv(name, "/elsewhere")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    found = surroundings(OWN="1")
    assert "/elsewhere" not in found.values()
    assert (found["OWN"], found["HTTPS_PROXY"]) == ("1", "http://proxy:1")
    assert answer([sys.executable, "-c", "import os; print(os.environ.get('PYTHONPATH'))"]).strip() == "None"
    assert answer([sys.executable, "-c", "raise SystemExit(1)"]) == ""
    assert answer([sys.executable, "-c", FOREVER], timeout=0.3) == ""


@pytest.mark.skipif(sys.platform == "win32", reason="handles are not passed on there")
def test_a_lock_lasts_as_long_as_the_program_that_got_it(tmp_path: Path) -> None:
    import os

    handle = file_lock.take(tmp_path / "lock")
    assert handle is not None
    assert file_lock.take(tmp_path / "lock") is None
    with Child([sys.executable, "-c", FOREVER], Event(), keep=[handle]) as child:
        next(iter(child))
        os.close(handle)  # as when we are killed
        assert file_lock.take(tmp_path / "lock") is None
    again = file_lock.take(tmp_path / "lock")
    assert again is not None
    os.close(again)
