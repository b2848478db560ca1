# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs, repairs and removes the backend's environment. Everything here takes long: run it as a ``Task``.

An environment is built in a folder of its own and counts only from the moment that environment.json names it, which
is the last step. Kill it anywhere: what was in use before still is, and the next installation goes on where this one
was. pip does the work, with the user's own settings (index, proxy, certificates, cache).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import IO

from ..bridge import BACKEND_ROOT, errors, file_lock
from ..child import Child, Stopped
from ..connection import launcher
from ..task import Step
from . import builds, machine, places, pythons
from .pip_output import RAW_PROGRESS, PipOutput

PIP = "pip==26.3"  # what is asked for where the base's own is too old to tell how far it is
_OWN_PIP = {"PIP_USER": "0", "PIP_TARGET": "", "PIP_PREFIX": "", "PIP_ROOT": "", "PIP_REQUIRE_VIRTUALENV": "0"}
_ESSENTIAL = ("python", "torch", "libraries")  # of doctor's findings, those about the environment
_CHECK = ("-m", "backend", "doctor", "--json")
_SHARES = {"look": 0.01, "venv": 0.06, "pip": 0.01, "torch": 0.36, "packages": 0.44, "check": 0.12}  # of the time


@dataclass(frozen=True)
class Wanted:
    """What the user chose. ``base``: the Python to build on, "" to look for one; ``own``: Blender's; ``torch``: "auto"
    or the name of a build; ``wheels``: a folder with all packages, then nothing is downloaded; ``online``: whether the
    network may be used; ``requirements``, ``check``: what to install, and the arguments that prove it sound."""

    base: str = ""
    own: str = sys.executable
    torch: str = "auto"
    wheels: str = ""
    online: bool = True
    requirements: Path = places.REQUIREMENTS
    check: tuple[str, ...] = _CHECK


def digest(requirements: Path = places.REQUIREMENTS) -> str:
    """Changes with the packages; "" where the file is missing."""
    with suppress(OSError):
        return hashlib.sha256(requirements.read_bytes()).hexdigest()
    return ""


def install(home: Path, wanted: Wanted, stop: Event, *, repair: bool = False) -> Iterator[Step]:
    """Makes the environment, or goes on making it. ``repair``: make a new one even where one is in use.

    Raises Gen3DError where it may or can not; Stopped when it was stopped; either way the next call goes on.
    """
    if not (wanted.online or wanted.wheels):
        cause = "Blender does not allow access to the internet."
        step = "Allow online access in Preferences, System, Network, or name a folder with the packages."
        raise errors.Gen3DError(cause, step, field="online_access")
    with _alone(home) as (lock, log):
        yield Step("Looking at this machine", 0.0)
        choice = builds.choose(machine.look(), wanted.torch)
        yield Step(f"{choice.build.title}. {choice.why}", _SHARES["look"] / 2)
        base = pythons.choose(wanted.base, wanted.own, online=wanted.online)
        log.write(f"{choice.build.title}: {choice.why} On {base.title} at {base.path}.\n")
        recipe = {
            "python": ".".join(map(str, base.version)), "base": base.path, "requirements": digest(wanted.requirements),
            "torch": choice.build.requirement(wanted.requirements.read_text("utf-8")),
        }  # fmt: skip
        there = places.current(home)
        if there is not None and not repair and places.recipe(there) == recipe and places.interpreter(there).is_file():
            yield Step("It is installed", 1.0)
            return
        work = _Installation(home, wanted, choice, base, recipe, stop, lock, log)
        yield from work.run()


class _Installation:
    """One run of ``install``, once all is decided."""

    def __init__(
        self,
        home: Path,
        wanted: Wanted,
        choice: builds.Choice,
        base: pythons.Python,
        recipe: places.Recipe,
        stop: Event,
        lock: int,
        log: IO[str],
    ) -> None:
        self.home, self.wanted, self.base, self.recipe = home, wanted, base, recipe
        self.build, self.why = choice.build, choice.why
        self.stop, self.lock, self.log = stop, lock, log
        self.folder = _unfinished(home, recipe)
        self.python = places.interpreter(self.folder)

    def run(self) -> Iterator[Step]:
        if not places.recipe(self.folder):
            _require_room(self.folder, self.build)
            yield Step(f"Making an environment of {self.base.title}", self._before("venv"))
            self._make()
        _forget_torn_packages(self.folder)
        requirement, text = self.recipe["torch"], str(self.wanted.requirements)
        if _pip_version(self.folder) < RAW_PROGRESS:
            with suppress(errors.Gen3DError):  # then there is less to see of the progress
                yield from self._pip("pip", [PIP], 2e6)
        # Those of its packages that are not pinned come with the others, except that ROCm's are at its own address.
        alone = ["--constraint", text] if "rocm" in self.build.local else ["--no-deps"]
        index = ["--extra-index-url", self.build.index] if self.build.index and not self.wanted.wheels else []
        bytes_ = self.build.download * 1e6
        yield from self._pip("torch", [requirement, *alone, *index], bytes_ / 2, self.build.index)
        yield from self._pip("packages", ["--requirement", text], bytes_ / 2)
        yield Step("Checking", self._before("check"))
        self._check()
        places.write(places.pointer(self.home), {"python": str(self.python)})
        _sweep(self.home)
        yield Step("Installed", 1.0)

    def _make(self) -> None:
        """The bare environment. Only when it is whole it gets the file by which it is gone on with."""
        with Child(
            [self.base.path, "-I", "-m", "venv", self.folder], self.stop, log=self.log, keep=[self.lock]
        ) as child:
            lines = list(child)
        if child.returncode:
            cause = f"No environment can be made with {self.base.path}: {(lines or ['it says nothing'])[-1][:300]}."
            raise errors.Gen3DError(cause, "Name another Python in the preferences.", field="base_python")
        places.write(self.folder / "gen3d.json", {"recipe": self.recipe, "why": self.why})

    def _pip(self, part: str, what: list[str], expected: float, address: str = "") -> Iterator[Step]:
        source = ["--no-index", "--find-links", self.wanted.wheels] if self.wanted.wheels else []
        bar = "raw" if _pip_version(self.folder) >= RAW_PROGRESS else "off"
        command: list[str | Path] = [
            self.python, "-I", "-u", "-X", "utf8", "-m", "pip", "install", "--no-input", "--no-compile",
            "--disable-pip-version-check", "--only-binary", ":all:", "--progress-bar", bar, *source, *what,
        ]  # fmt: skip
        output, begin, shown = PipOutput(expected), self._before(part), 0.0
        yield Step("Looking up packages", begin)
        with Child(command, self.stop, variables=_OWN_PIP, log=self.log, keep=[self.lock]) as child:
            for line in child:
                output.feed(line)
                if time.monotonic() > shown + 0.1:
                    shown = time.monotonic()
                    yield Step(output.text, begin + _SHARES[part] * output.fraction)
        if child.returncode:
            raise output.failure(self.wanted.wheels or address, f"{self.base.title} on {sys.platform}")

    def _check(self) -> None:
        """Proves that what was installed loads and computes."""
        command: list[str | Path] = [self.python, "-P", "-s", "-X", "utf8", *self.wanted.check]
        variables = {"PYTHONPATH": str(BACKEND_ROOT), "GEN3D_HOME": str(self.home)}
        with Child(command, self.stop, variables=variables, log=self.log, keep=[self.lock]) as child:
            lines = list(child)
        if told := _faults(lines, child.returncode):
            shutil.rmtree(self.folder, ignore_errors=True)  # nothing is known of what is wrong with it: begin anew
            cause = f"The installed backend does not work: {told}."
            raise errors.Gen3DError(cause, "Install it again, or choose another build of torch.", field="check")

    def _before(self, part: str) -> float:
        names = list(_SHARES)
        return sum(_SHARES[name] for name in names[: names.index(part)])


def remove(home: Path, stop: Event) -> Iterator[Step]:
    """Ends the backend and deletes the environments that ``install`` made, and its log. Jobs and weights stay."""
    with _alone(home):
        yield Step("Ending the backend", 0.0)
        if launcher.attach(home) and not launcher.end(home):
            raise errors.Gen3DError("The backend does not end.", "Cancel its jobs, then try again.", field="remove")
        if places.current(home) is not None:
            places.pointer(home).unlink(missing_ok=True)
        found = places.environments(home)
        for number, path in enumerate(found):
            yield Step("Deleting", number / len(found))
            if stop.is_set():
                raise Stopped
            _delete(path)
    with suppress(OSError):
        shutil.rmtree(places.folder(home))
    yield Step("Removed", 1.0)


def _delete(environment: Path) -> None:
    (environment / "gen3d.json").unlink(missing_ok=True)  # from now on it is no environment any more
    try:
        shutil.rmtree(environment)
    except OSError as error:
        cause = f"{error.filename or environment} cannot be deleted: {error.strerror}."
        raise errors.Gen3DError(cause, "Close what uses it, then remove it again.", field="remove") from error


@contextmanager
def _alone(home: Path) -> Iterator[tuple[int, IO[str]]]:
    """The handle that keeps every other installation out, also of a Blender that was killed while its pip goes on;
    and the log. Raises Gen3DError where somebody else is at it, or the home cannot be written or is full."""
    root = places.folder(home)
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = file_lock.take(root / "lock")
        if lock is None:
            cause = "Another Blender installs or removes the backend."
            raise errors.Gen3DError(cause, "Wait until it has ended.", field="busy")
        try:
            with open(places.log_file(home), "w", encoding="utf-8", errors="replace") as log:
                yield lock, log
        finally:
            os.close(lock)
    except OSError as error:
        cause = f"{error.filename or root} cannot be written: {error.strerror}."
        step = "Free some space, make it writable, or choose another data folder in the preferences."
        raise errors.Gen3DError(cause, step, field="home") from error


def _unfinished(home: Path, recipe: places.Recipe) -> Path:
    """The environment to build: one of the same recipe that was begun, or a new one. Others that were begun go."""
    numbers, used = [0], places.current(home)
    for path in places.environments(home):
        whole = places.read_json(path / "gen3d.json").get("whole")
        if path != used and not whole and places.recipe(path) == recipe:
            return path
        if path != used and not whole:
            shutil.rmtree(path, ignore_errors=True)
        numbers.append(int(path.name))
    return places.folder(home) / str(max(numbers) + 1)


def _sweep(home: Path) -> None:
    """Deletes what is not in use any more, unless a backend runs that may still use it."""
    used = places.current(home)
    if used is not None:
        places.write(used / "gen3d.json", places.read_json(used / "gen3d.json") | {"whole": True})
    if launcher.attach(home) is None:
        for path in places.environments(home):
            if path != used:
                shutil.rmtree(path, ignore_errors=True)


def _forget_torn_packages(environment: Path) -> None:
    """pip takes a package for installed by its dist-info, of which it writes INSTALLER when all else is there."""
    site = places.packages(environment)
    for info in site.glob("*.dist-info") if site else ():
        if not (info / "INSTALLER").exists():
            shutil.rmtree(info)


def _pip_version(environment: Path) -> machine.Version:
    """The newest there is, should an interrupted update have left two."""
    site = places.packages(environment)
    found = [machine.version(path.name[4:]) for path in site.glob("pip-*.dist-info")] if site else []
    return max(found, default=())


def _require_room(environment: Path, build: builds.Build) -> None:
    """Raises Gen3DError where the path is too long or the disk too full."""
    if places.too_long(environment, sys.platform, places.long_paths_allowed()):
        cause = f"The path {environment} is too long for Windows."
        step = "Choose a shorter data folder in the preferences, or switch on long paths in Windows."
        raise errors.Gen3DError(cause, step, field="home")
    free = shutil.disk_usage(environment.parent).free
    if free < build.disk * 1e6:
        cause = (
            f"The backend needs about {build.disk / 1e3:.1f} GB at {environment.parent}: {free / 1e9:.1f} GB are free."
        )
        raise errors.Gen3DError(cause, "Free some space, or choose another data folder.", field="disk")


def _faults(lines: list[str], code: int | None) -> str:
    """What doctor finds wrong with the environment; "" for nothing."""
    for line in reversed(lines):
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            checks = json.loads(line)["checks"]
            wrong = [check["text"] for check in checks if check["name"] in _ESSENTIAL and check["state"] == "fault"]
            return str(wrong[0])[:400].rstrip(".") if wrong else ""
    words = [line.strip() for line in lines if line.strip()]
    return (words[-1][:400] if words else f"exit code {code}").rstrip(".") if code else ""
