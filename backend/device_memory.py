# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory the devices of this machine have free, without torch."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psutil

QUERY = ("nvidia-smi", "--query-gpu=uuid,memory.free", "--format=csv,noheader,nounits")
PATIENCE = 10.0  # seconds


async def free(devices: Sequence[dict[str, Any]]) -> list[int | None]:
    """Free bytes of each device; None where nothing tells. The CPU, and GPUs that share its memory, have the system's.

    devices: "type" of each and, of NVIDIA's, "uuid".
    """
    cards = await _nvidia() if any(device["type"] == "cuda" for device in devices) else {}
    shared = psutil.virtual_memory().available
    return [cards.get(str(device.get("uuid"))) if device["type"] == "cuda" else shared for device in devices]


async def _nvidia() -> dict[str, int]:
    try:
        process = await asyncio.create_subprocess_exec(*QUERY, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
    except OSError:
        return {}
    try:
        async with asyncio.timeout(PATIENCE):
            out, _ = await process.communicate()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        return {}
    return parse_query(out.decode(errors="replace"))


def parse_query(table: str) -> dict[str, int]:
    """Free bytes by uuid, from the lines "GPU-..., 23456" (MiB) that the query prints."""
    found = {}
    for line in table.splitlines():
        uuid, _, mib = line.partition(",")
        with suppress(ValueError):
            found[uuid.strip().removeprefix("GPU-")] = int(mib) * 2**20
    return found
