# SPDX-License-Identifier: GPL-3.0-or-later
"""Where environments are, which one is in use, and what state it is in.

HOME/environment.json        names the interpreter in use: an environment counts from the moment it stands here
HOME/environment/N/          environments; gen3d.json in each says what it was made of, and whether it is whole
HOME/environment/install.log what the last installation had to say
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bridge import BACKEND_ROOT, errors
from ..connection import launcher

REQUIREMENTS = BACKEND_ROOT / "requirements.txt"
LONGEST_PATH = 190  # characters of the longest path within an environment
_WINDOWS_LIMIT = 259

Recipe = dict[str, str]
"""What an environment is made of: "python" (version), "base" (path), "torch", "requirements" (sha256)."""


@dataclass(frozen=True)
class State:
    """``kind``: "absent"; "partial" (an installation to go on with); "ready"; "outdated" (another version's packages);
    "broken" (its interpreter is gone); "own" (made by somebody else, or named by the user). ``text`` is for people."""

    kind: str
    text: str
    python: str = ""


def folder(home: Path) -> Path:
    return home / "environment"


def log_file(home: Path) -> Path:
    return folder(home) / "install.log"


def pointer(home: Path) -> Path:
    return home / "environment.json"


def interpreter(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def packages(environment: Path) -> Path | None:
    """The folder site-packages; None where the environment is too young to have one."""
    return next(iter(sorted(environment.glob("[Ll]ib/**/site-packages"))), None)


def environments(home: Path) -> list[Path]:
    """Those there are, whole or not, the oldest first."""
    with suppress(OSError):
        return sorted(
            (path for path in folder(home).iterdir() if path.name.isdecimal()), key=lambda path: int(path.name)
        )
    return []


def current(home: Path) -> Path | None:
    """The environment of ours that is in use; None where there is none or it is somebody else's."""
    python = read_json(pointer(home)).get("python")
    if not isinstance(python, str):
        return None
    path = Path(python)
    inside = path.is_relative_to(folder(home)) and len(path.relative_to(folder(home)).parts) > 1
    return folder(home) / path.relative_to(folder(home)).parts[0] if inside else None


def state(home: Path, named: str, wanted: str) -> State:
    """How the environment of a home is. ``named``: the Python that the user points at, "" for none. ``wanted``: the
    digest of the requirements of this version. Reads a few small files."""
    try:
        python = launcher.find_python(home, named)
    except errors.Gen3DError as error:
        if named or pointer(home).exists():
            return State("broken", error.cause.rstrip("."))
        if any(recipe(path) for path in environments(home)):
            return State("partial", "The installation was interrupted, and can go on")
        return State("absent", "Not installed")
    environment = current(home)
    if environment is None or python != interpreter(environment):
        return State("own", f"It runs on {python}", str(python))
    made, why = recipe(environment), read_json(environment / "gen3d.json").get("why") or ""
    text = f"Python {made.get('python')}, {made.get('torch', '').replace('==', ' ')}. {why}".strip()
    return State("ready" if made.get("requirements") == wanted else "outdated", text, str(python))


def recipe(environment: Path) -> Recipe:
    """What an environment is made of; {} where it has not even been begun."""
    made = read_json(environment / "gen3d.json").get("recipe")
    return {str(name): str(value) for name, value in made.items()} if isinstance(made, dict) else {}


def write(path: Path, content: dict[str, Any]) -> None:
    """A JSON file, whole or not at all, even if the machine is switched off. Raises OSError."""
    part = path.with_name(f"{path.name}.part")
    with open(part, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; {} where there is none."""
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(path.read_text("utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def too_long(environment: Path, system: str, long_paths: bool) -> bool:
    """Whether the paths within would be longer than Windows takes."""
    return system == "win32" and not long_paths and len(str(environment)) + 1 + LONGEST_PATH > _WINDOWS_LIMIT


def long_paths_allowed() -> bool:
    """What Windows is set to; True elsewhere."""
    if sys.platform != "win32":
        return True
    import winreg

    with (
        suppress(OSError),
        winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem") as key,
    ):
        return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])
    return False
