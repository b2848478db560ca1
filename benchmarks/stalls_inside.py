# SPDX-License-Identifier: GPL-3.0-or-later
# mypy: disable-error-code="attr-defined"
"""Runs in Blender for benchmarks/stalls.py: times every call from Blender into the add-on, by Python's monitoring.

``calls`` has the seconds of each call by the function that Blender called; ``start()`` forgets what there was. A call
that imports a result is told as that, whoever has called. Of each that takes longer than LONG, ``within`` tells what
took long in it, the innermost first, and how much of it the processor worked for it: the rest it waited.
"""

import sys
import threading
import time
from types import CodeType

ADDON = "/gen3d/"
IMPORT = "GEN3D_OT_import_result.execute"
events, tool = sys.monitoring.events, sys.monitoring.PROFILER_ID
calls: dict[str, list[float]] = {}
within: dict[str, str] = {}
LONG = 0.03  # seconds
name, worked = "", 0.0
open_calls: list[tuple[str, float]] = []  # those that have not returned yet, and since when
slow: list[str] = []


def start() -> None:
    calls.clear()
    within.clear()
    if sys.monitoring.get_tool(tool) is None:
        sys.monitoring.use_tool_id(tool, "gen3d")
        for event in (events.PY_START, events.PY_RESUME, events.PY_THROW):
            sys.monitoring.register_callback(tool, event, enter)
        for event in (events.PY_RETURN, events.PY_YIELD, events.PY_UNWIND):
            sys.monitoring.register_callback(tool, event, leave)
        local = events.PY_START | events.PY_RESUME | events.PY_RETURN | events.PY_YIELD
        sys.monitoring.set_events(tool, local | events.PY_THROW | events.PY_UNWIND)


def enter(code: CodeType, _offset: int, thrown: object = None) -> object:
    global name, worked
    if ADDON not in code.co_filename:
        return None if thrown else sys.monitoring.DISABLE
    if threading.current_thread() is threading.main_thread():
        own = f"{code.co_filename.rsplit(ADDON, 1)[1]} {code.co_qualname}"
        if not open_calls:
            name, worked = own, time.thread_time()
            slow.clear()
        elif code.co_qualname == IMPORT:
            name = own
        open_calls.append((own, time.perf_counter()))
    return None


def leave(code: CodeType, _offset: int, told: object = None) -> object:
    if ADDON not in code.co_filename:
        return None if isinstance(told, BaseException) else sys.monitoring.DISABLE
    if open_calls and threading.current_thread() is threading.main_thread():
        own, since = open_calls.pop()
        took = time.perf_counter() - since
        if took > LONG / 3:
            slow.append(f"{1e3 * took:.0f} ms {own}")
        if not open_calls:
            calls.setdefault(name, []).append(took)
            if took > LONG and took == max(calls[name]):
                within[name] = f"{', '.join(slow)}; worked {1e3 * (time.thread_time() - worked):.0f} ms"
    return None
