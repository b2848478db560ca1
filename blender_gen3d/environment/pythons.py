# SPDX-License-Identifier: GPL-3.0-or-later
"""The Python that the backend's environment is made from.

In this order: the one the user points at, Blender's own, those of the system, and what ``uv`` has or can get.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

from ..bridge import errors
from ..child import answer

VERSIONS = ((3, 13), (3, 12), (3, 11))  # those for which every pinned package has a wheel, the preferred one first
_LISTED = f"{', '.join(f'{major}.{minor}' for major, minor in VERSIONS[:0:-1])} or 3.13"
_PROBE = """\
import json, platform, struct, sys
def has(name):
    try:
        __import__(name)
    except Exception:
        return False
    return True
print(json.dumps({"path": sys.executable, "version": list(sys.version_info[:3]), "bits": 8 * struct.calcsize("P"),
    "implementation": platform.python_implementation(), "venv": has("venv"), "ensurepip": has("ensurepip")}))
"""

Command = Sequence[str]
Ask = Callable[[Command], str]
"""Runs a program and gives what it prints, "" where it fails."""


@dataclass(frozen=True)
class Python:
    """What a Python says of itself."""

    path: str
    version: tuple[int, ...]
    bits: int = 64
    implementation: str = "CPython"
    venv: bool = True
    ensurepip: bool = True

    @property
    def title(self) -> str:
        return f"Python {'.'.join(map(str, self.version))}"

    def unfit(self) -> str:
        """Why the backend cannot run on it; "" where it can."""
        if self.implementation != "CPython" or self.bits != 64:
            return f"{self.path} is {self.implementation} of {self.bits} bits"
        if self.version[:2] not in VERSIONS:
            return f"{self.path} is {self.title}"
        if not (self.venv and self.ensurepip):
            return f"{self.path} cannot make environments (it lacks {'ensurepip' if self.venv else 'venv'})"
        return ""


def choose(named: str, own: str, ask: Ask = answer, *, online: bool = True) -> Python:
    """The Python to use. ``named`` by the user, "" for none; ``own`` is Blender's. Runs programs: takes seconds.

    ``online``: ``uv`` may download one. Raises Gen3DError where the named one is unfit, or none is found.
    """
    if named:
        found = probe([str(Path(named).expanduser())], ask)
        why = f"{named} is not a Python that runs" if found is None else found.unfit()
        if found is not None and not why:
            return found
        raise errors.Gen3DError(f"{why}.", f"Name a Python {_LISTED}, or none.", field="base_python")
    unfit: list[str] = []
    for command in candidates(own, ask, online):
        found = probe(command, ask)
        if found is not None and not found.unfit():
            return found
        if found is not None and not unfit:
            unfit.append(found.unfit())
    cause = f"No Python was found that the backend runs on{f': {unfit[0]}' if unfit else ''}."
    step = f"Install Python {_LISTED} or uv, or name such a Python in the preferences."
    raise errors.Gen3DError(cause, step, field="base_python")


def probe(command: Command, ask: Ask = answer) -> Python | None:
    """What the Python of a command says of itself; None where it does not run."""
    with suppress(ValueError, TypeError, AttributeError):
        told = json.loads(ask([*command, "-I", "-c", _PROBE]))
        values = {spec.name: told[spec.name] for spec in fields(Python) if spec.name in told}
        return Python(**values | {"version": tuple(told["version"])})
    return None


def candidates(own: str, ask: Ask, online: bool) -> Iterator[Command]:
    """Commands that may be Pythons, the best one first. Each is only looked for when it is reached."""
    if own:
        yield [own]
    names = [f"{major}.{minor}" for major, minor in VERSIONS]
    for name in names:
        if path := shutil.which(f"python{name}"):
            yield [path]
    for pattern in _usual_places(names):
        for path in sorted(glob.glob(str(pattern)), reverse=True):
            yield [path]
    if sys.platform == "win32":
        yield from (["py", f"-{name}"] for name in names)
    if uv := find_uv():
        yield from _of_uv(uv, names, ask, online)


def find_uv() -> str | None:
    """uv, on PATH or where its installer puts it."""
    name = "uv.exe" if sys.platform == "win32" else "uv"
    places = [Path.home() / ".local" / "bin" / name, Path.home() / ".cargo" / "bin" / name]
    return shutil.which("uv") or next((str(path) for path in places if path.is_file()), None)


def _of_uv(uv: str, names: Sequence[str], ask: Ask, online: bool) -> Iterator[Command]:
    for name in names:
        if path := ask([uv, "python", "find", "--no-project", "--managed-python", "--no-python-downloads", name]):
            yield [path.strip()]
    if online:
        ask([uv, "python", "install", names[1]])
        if path := ask([uv, "python", "find", "--no-project", "--managed-python", "--no-python-downloads", names[1]]):
            yield [path.strip()]


def _usual_places(names: Iterable[str]) -> Iterator[Path]:
    """Patterns of paths of Pythons that are not on PATH, as a program started from the desktop sees it."""
    home, local = Path.home(), Path(os.environ.get("LOCALAPPDATA") or Path.home())
    for name in names:
        yield home / f".pyenv/versions/{name}.*/bin/python{name}"
        yield Path(f"/Library/Frameworks/Python.framework/Versions/{name}/bin/python{name}")
        yield Path(f"/opt/homebrew/bin/python{name}")
        yield local / f"Programs/Python/Python{name.replace('.', '')}/python.exe"
