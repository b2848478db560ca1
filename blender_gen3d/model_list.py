# SPDX-License-Identifier: GPL-3.0-or-later
"""The weights on this machine, as the backend's command line tells of them and changes them. No bpy.

Its own Python is asked, because Blender's has neither the libraries nor the time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from threading import Event
from typing import Any

from .bridge import BACKEND_ROOT, errors
from .child import Child
from .task import Step


@dataclass(frozen=True)
class Model:
    """A row of the list. ``size`` in bytes, about; ``state``: "embedded", "installed", "local", "partial", "missing",
    or "absent"."""

    name: str
    system: str
    size: int
    licence: str
    state: str
    path: str


@dataclass
class Models:
    """What is known; replaced as a whole whenever the command line has been asked."""

    rows: list[Model] = field(default_factory=list)
    sets: dict[str, list[str]] = field(default_factory=dict)
    damaged: dict[str, list[str]] = field(default_factory=dict)
    verified: bool = False

    def installed(self) -> list[Model]:
        """Those that can be used."""
        return [row for row in self.rows if row.state in ("embedded", "installed", "local")]


def refresh(python: Path, home: Path, to: Models, stop: Event) -> Iterator[Step]:
    """Lists them."""
    yield Step("Looking at the models")
    to.verified = False
    told: dict[str, Any] = {}
    yield from _ask(python, home, ["list"], told, stop)
    names = {spec.name for spec in fields(Model)}
    try:
        to.rows = [Model(**{name: row[name] for name in names}) for row in told["models"]]
        to.sets = {name: list(members) for name, members in told["sets"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise errors.Gen3DError("The backend does not list its models.", "Repair the backend.") from error


def install(python: Path, home: Path, to: Models, names: list[str], stop: Event) -> Iterator[Step]:
    """Downloads weights, or repairs damaged ones; what was interrupted goes on where it was."""
    for name in [member for wanted in names for member in to.sets.get(wanted, [wanted])]:
        yield Step(f"{name}: connecting")
        yield from _ask(python, home, ["install", name], {}, stop)
        to.damaged.pop(name, None)
    yield from refresh(python, home, to, stop)


def verify(python: Path, home: Path, to: Models, stop: Event) -> Iterator[Step]:
    """Reads every file of what is installed, and compares it with its sha256."""
    yield Step("Verifying every file")
    told: dict[str, Any] = {}
    yield from _ask(python, home, ["verify"], told, stop)
    found = told.get("damaged", {})
    to.damaged, to.verified = {name: files for name, files in found.items() if files}, True


def remove(python: Path, home: Path, to: Models, name: str, stop: Event) -> Iterator[Step]:
    """Deletes what was installed; of what is used from elsewhere, only the name."""
    yield from _ask(python, home, ["remove", name], {}, stop)
    yield from refresh(python, home, to, stop)


def use(python: Path, home: Path, to: Models, name: str, path: str, stop: Event) -> Iterator[Step]:
    """From now on ``name`` means a file or folder of the user's, which stays where it is."""
    yield from _ask(python, home, ["use", name, path], {}, stop)
    yield from refresh(python, home, to, stop)


def _ask(python: Path, home: Path, words: list[str], told: dict[str, Any], stop: Event) -> Iterator[Step]:
    """One call of ``gen3d models``, its progress, and in ``told`` its answer. Raises Gen3DError with its refusal."""
    command: list[str | Path] = [python, "-P", "-s", "-X", "utf8", "-m", "backend", "models", *words, "--json"]
    variables = {"PYTHONPATH": str(BACKEND_ROOT), "GEN3D_HOME": str(home)}
    last = ""
    with Child(command, stop, variables=variables) as child:
        for line in child:
            content = _object(line)
            if content is None:
                last = line.strip() or last
            elif "bytes" in content:
                yield _progress(words[-1], content)
            else:
                told.update(content)
    if refused := told.get("error"):
        raise errors.Gen3DError(refused["cause"], refused["next_step"], field=refused.get("field"))
    if child.returncode and not told:
        raise errors.Gen3DError(f"The backend failed: {last[:300]}.", "Repair the backend.", field="models")


def _progress(name: str, content: dict[str, Any]) -> Step:
    """A line {"file", "bytes", "total"}."""
    done, total = float(content["bytes"]), float(content.get("total") or 0)
    size = f" of {total / 1e6:,.0f}" if total else ""
    text = f"{name}: {content.get('file', '')}, {done / 1e6:,.0f}{size} MB"
    return Step(text, min(1.0, done / total) if total else None)


def _object(line: str) -> dict[str, Any] | None:
    with suppress(ValueError, RecursionError):
        found = json.loads(line) if line.startswith("{") else None
        return found if isinstance(found, dict) else None
    return None
