# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Python the backend's environment is made from."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from blender_gen3d.bridge import errors
from blender_gen3d.environment import pythons

SOUND = {"version": [3, 12, 4], "bits": 64, "implementation": "CPython", "venv": True, "ensurepip": True}


def asking(machine: dict[str, dict[str, Any]], said: list[list[str]] | None = None) -> pythons.Ask:
    """A machine on which these Pythons are, by path."""

    def ask(command: Sequence[str]) -> str:
        if said is not None:
            said.append(list(command))
        told = machine.get(command[0])
        return json.dumps({"path": command[0], **told}) if told else ""

    return ask


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any Python but those that a test puts on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path


def program(path: Path) -> str:
    path.write_text("#!/bin/sh\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_real_one_tells_of_itself() -> None:
    found = pythons.probe([sys.executable])
    assert found is not None
    assert found.version == sys.version_info[:3]
    assert not found.unfit()


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({"version": [3, 14, 1]}, "is Python 3.14.1"),
        ({"version": [3, 10, 1]}, "is Python 3.10.1"),
        ({"bits": 32}, "32 bits"),
        ({"implementation": "PyPy"}, "PyPy"),
        ({"ensurepip": False}, "lacks ensurepip"),
        ({"venv": False}, "lacks venv"),
    ],
)
def test_what_is_unfit_is_refused_by_name_and_passed_over_otherwise(
    fault: dict[str, Any], why: str, tmp_path: Path
) -> None:
    ask = asking({"/odd": SOUND | fault})
    with pytest.raises(errors.Gen3DError, match=why) as caught:
        pythons.choose("/odd", "", ask)
    assert caught.value.field == "base_python"
    assert "3.12" in caught.value.next_step
    with pytest.raises(errors.Gen3DError, match=rf"No Python was found.*{why}"):
        pythons.choose("", "/odd", ask)


def test_a_name_that_does_not_run_is_refused() -> None:
    with pytest.raises(errors.Gen3DError, match="/nowhere is not a Python that runs"):
        pythons.choose("/nowhere", sys.executable)


@pytest.mark.skipif(os.name == "nt", reason="programs are found by their extension there")
def test_the_order(elsewhere: Path) -> None:
    on_path = program(elsewhere / "python3.12")
    own = asking({"/blender/python": SOUND, on_path: SOUND, "/mine": SOUND})
    assert pythons.choose("/mine", "/blender/python", own).path == "/mine"
    assert pythons.choose("", "/blender/python", own).path == "/blender/python"
    too_new = asking({"/blender/python": SOUND | {"version": [3, 14, 0]}, on_path: SOUND})
    assert pythons.choose("", "/blender/python", too_new).path == on_path
    shim = asking({on_path: SOUND | {"version": [2, 7, 18]}})
    with pytest.raises(errors.Gen3DError):
        pythons.choose("", "", shim)


@pytest.mark.skipif(os.name == "nt", reason="programs are found by their extension there")
@pytest.mark.parametrize("online", [True, False])
def test_uv_gets_one_where_there_is_none_and_it_may(elsewhere: Path, online: bool) -> None:
    uv, said, there = program(elsewhere / "uv"), list[list[str]](), False

    def ask(command: Sequence[str]) -> str:
        nonlocal there
        said.append(list(command))
        there |= command[:3] == [uv, "python", "install"]
        if command[:3] == [uv, "python", "find"]:
            return "/uv/python3.12\n" if there else ""
        return json.dumps({"path": command[0], **SOUND}) if command[0] == "/uv/python3.12" else ""

    if online:
        assert pythons.choose("", "", ask).path == "/uv/python3.12"
        return
    with pytest.raises(errors.Gen3DError):
        pythons.choose("", "", ask, online=False)
    assert not [command for command in said if "install" in command]
