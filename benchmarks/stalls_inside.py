# SPDX-License-Identifier: GPL-3.0-or-later
# mypy: disable-error-code="attr-defined"
"""Runs in Blender for benchmarks/stalls.py: times every call from Blender into the add-on, by Python's monitoring.

``calls`` has the seconds of each call by the function that Blender called; ``start()`` forgets what there was. A call
that imports a result is told as that, whoever has called.
"""

import sys
import threading
import time
from types import CodeType

ADDON = "/gen3d/"
IMPORT = "GEN3D_OT_import_result.execute"
events, tool = sys.monitoring.events, sys.monitoring.PROFILER_ID
calls: dict[str, list[float]] = {}
depth, since, name = 0, 0.0, ""


def start() -> None:
    calls.clear()
    if sys.monitoring.get_tool(tool) is None:
        sys.monitoring.use_tool_id(tool, "gen3d")
        for event in (events.PY_START, events.PY_RESUME, events.PY_THROW):
            sys.monitoring.register_callback(tool, event, enter)
        for event in (events.PY_RETURN, events.PY_YIELD, events.PY_UNWIND):
            sys.monitoring.register_callback(tool, event, leave)
        local = events.PY_START | events.PY_RESUME | events.PY_RETURN | events.PY_YIELD
        sys.monitoring.set_events(tool, local | events.PY_THROW | events.PY_UNWIND)


def enter(code: CodeType, _offset: int, thrown: object = None) -> object:
    global depth, since, name
    if ADDON not in code.co_filename:
        return None if thrown else sys.monitoring.DISABLE
    if threading.current_thread() is threading.main_thread():
        if depth == 0:
            since = time.perf_counter()
        if depth == 0 or code.co_qualname == IMPORT:
            name = f"{code.co_filename.rsplit(ADDON, 1)[1]} {code.co_qualname}"
        depth += 1
    return None


def leave(code: CodeType, _offset: int, told: object = None) -> object:
    global depth
    if ADDON not in code.co_filename:
        return None if isinstance(told, BaseException) else sys.monitoring.DISABLE
    if depth and threading.current_thread() is threading.main_thread():
        depth -= 1
        if depth == 0:
            calls.setdefault(name, []).append(time.perf_counter() - since)
    return None
