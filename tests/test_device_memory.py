# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psutil
import pytest

from backend import device_memory

TABLE = "GPU-8f6d1a2c-0b1e, 23456\nGPU-11111111-2222, [N/A]\n\nnonsense\n"


def test_what_nvidia_prints_is_read() -> None:
    assert device_memory.parse_query(TABLE) == {"8f6d1a2c-0b1e": 23456 * 2**20}


@pytest.mark.skipif(os.name != "posix", reason="the tool is a script")
def test_each_device_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\ncat <<'END'\n" + TABLE + "END\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    devices = [
        {"type": "cuda", "uuid": "8f6d1a2c-0b1e"},
        {"type": "cuda", "uuid": "11111111-2222"},
        {"type": "mps"},
        {"type": "cpu"},
    ]
    first, second, shared, main = asyncio.run(device_memory.free(devices))
    assert (first, second) == (23456 * 2**20, None)
    assert shared == main and main is not None and 0 < main <= psutil.virtual_memory().total


def test_without_the_tool_nothing_is_known_of_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    (card,) = asyncio.run(device_memory.free([{"type": "cuda", "uuid": "x"}]))
    assert card is None
