# SPDX-License-Identifier: GPL-3.0-or-later
"""What commands show on standard error, in a log and in a real pseudo-terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backend import terminal

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = "from backend import terminal\nassert list(terminal.each('abc', 'letters')) == ['a', 'b', 'c']"


def test_a_log_has_a_line_now_and_then_and_the_last(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with terminal.bar() as show:
        for second in range(26):
            now[0] = float(second)
            show(second / 25, "train", f"step {second}")
    assert capsys.readouterr().err.splitlines() == [
        "train     44%  11 s  step 11",
        "train     88%  22 s  step 22",
        "train    100%  25 s  step 25",
    ]


def test_nothing_is_said_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(terminal.each([], "things")) == [] and capsys.readouterr().err == ""


def test_in_a_pipe_there_are_lines() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr == "letters  100%  0 s  3 of 3\n" and done.stdout == ""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_on_a_terminal_there_is_a_bar() -> None:
    import termios

    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stderr=theirs, cwd=ROOT)
    os.close(theirs)
    told = b""
    while True:
        try:
            more = os.read(ours, 4096)
        except OSError:  # its end, on Linux
            break
        if not more:
            break
        told += more
    os.close(ours)
    assert process.wait() == 0
    assert b"\r" in told and "letters  100%" in told.decode() and "█" in told.decode()
