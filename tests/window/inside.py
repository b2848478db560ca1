# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in the window's Blender: answers what the test asks, between two of Blender's own events.

``blender --python inside.py -- FOLDER``: a question is a file ask-N.py in the folder, whose variable ``answer`` becomes
answer-N.json; a timer looks for it. Measures, too, how long the main thread was away between two looks.
"""

import contextlib
import faulthandler
import io
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import bpy

FOLDER = Path(sys.argv[sys.argv.index("--") + 1])
PAUSE = 0.02
asked = 0
looked = time.perf_counter()
longest = 0.0


def look() -> float:
    global asked, looked, longest
    now = time.perf_counter()
    longest = max(longest, now - looked - PAUSE)
    question = FOLDER / f"ask-{asked}.py"
    if question.exists():
        spoken = io.StringIO()
        names: dict[str, Any] = {"bpy": bpy, "answer": None, "stall": lambda: longest, "forget_stall": forget_stall}
        try:
            with contextlib.redirect_stdout(spoken):
                exec(compile(question.read_text("utf-8"), question.name, "exec"), names)
            reply = {"answer": names["answer"]}
        except Exception:
            reply = {"error": traceback.format_exc()}
        part = FOLDER / "answer.part"
        part.write_text(json.dumps(reply, default=str), "utf-8")
        os.replace(part, FOLDER / f"answer-{asked}.json")
        asked += 1
    looked = time.perf_counter()
    return PAUSE


def forget_stall() -> None:
    global longest
    longest = 0.0


faulthandler.register(signal.SIGUSR1)  # the test asks where Blender is when it does not answer
if preferences := bpy.context.preferences:
    preferences.view.show_splash = False
bpy.app.timers.register(look, first_interval=1.0, persistent=True)
