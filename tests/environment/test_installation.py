# SPDX-License-Identifier: GPL-3.0-or-later
"""Installing with a real pip into real environments: complete or absent, gone on with after every interruption."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from backend import file_lock
from blender_gen3d.bridge import errors
from blender_gen3d.child import Stopped, answer
from blender_gen3d.connection import launcher
from blender_gen3d.environment import installation, places
from blender_gen3d.task import Step
from tests.patience import patience

from . import wheels

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside which a Python would be found that has everything."""
    monkeypatch.setattr(launcher, "BACKEND_ROOT", tmp_path / "checkout")
    monkeypatch.delenv("GEN3D_PYTHON", raising=False)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """With a space and beyond ASCII, in an environment that would lead a careless pip astray."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "astray"))
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "astray"))
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    yield tmp_path / "my données"
    assert not (tmp_path / "astray").exists()


def run(home: Path, wanted: installation.Wanted, *, repair: bool = False) -> list[Step]:
    return list(installation.install(home, wanted, Event(), repair=repair))


def state(home: Path, wanted: installation.Wanted) -> str:
    return places.state(home, "", installation.digest(wanted.requirements)).kind


def works(home: Path) -> bool:
    code = "import os, torch, little, other; print(*(len(os.listdir(m.__path__[0])) for m in (torch, little, other)))"
    return answer([str(launcher.find_python(home)), "-I", "-c", code]).split() == 3 * ["402"]


def test_install_repair_remove(home: Path, tmp_path: Path) -> None:
    wanted = wheels.wanted(tmp_path)
    assert state(home, wanted) == "absent"
    steps = run(home, wanted)
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions, key=lambda value: value or 0.0)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert any("Processor only. Chosen in the preferences." in step.text for step in steps)
    assert state(home, wanted) == "ready"
    assert works(home)
    first = launcher.find_python(home)
    assert "pip install" in places.log_file(home).read_text("utf-8")

    began = time.monotonic()
    assert run(home, wanted)[-1] == Step("It is installed", 1.0)
    assert time.monotonic() - began < patience(5.0)

    (first.parent / "damaged").touch()
    run(home, wanted, repair=True)
    assert launcher.find_python(home) != first
    assert not first.exists(), "the old one is deleted when nothing uses it"
    assert works(home)

    wanted.requirements.write_text("little==1.0\nother==2.0\ntorch==2.13.0\n# newer\n", "utf-8")
    assert state(home, wanted) == "outdated"
    (home / "jobs.sqlite").touch()
    list(installation.remove(home, Event()))
    assert state(home, wanted) == "absent"
    assert [path.name for path in home.iterdir()] == ["jobs.sqlite"]


def test_what_does_not_work_never_comes_into_use(home: Path, tmp_path: Path) -> None:
    wanted = wheels.wanted(tmp_path)
    run(home, wanted)
    before = launcher.find_python(home)
    wheels.wheel(tmp_path / "wheels", "little", "1.1", fails=True)
    wanted.requirements.write_text("little==1.1\nother==2.0\ntorch==2.13.0\n", "utf-8")
    with pytest.raises(errors.Gen3DError, match="does not work: ImportError: it is damaged") as caught:
        run(home, wanted)
    assert caught.value.field == "check"
    assert launcher.find_python(home) == before
    assert works(home)
    assert places.environments(home) == [before.parent.parent]


def test_a_cancelled_installation_goes_on(home: Path, tmp_path: Path) -> None:
    wanted, stop = wheels.wanted(tmp_path), Event()
    with pytest.raises(Stopped):
        for step in installation.install(home, wanted, stop):
            if step.text.startswith("Getting torch") or step.text == "Unpacking":
                stop.set()
    assert state(home, wanted) == "partial"
    assert places.current(home) is None
    (begun,) = places.environments(home)
    torn = places.packages(begun)
    assert torn is not None
    (torn / "little").mkdir(exist_ok=True)  # as a kill in the middle of a package leaves it
    (torn / "little-1.0.dist-info").mkdir(exist_ok=True)
    (torn / "little-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: little\nVersion: 1.0\n")
    texts = [step.text for step in run(home, wanted)]
    assert not any("Making an environment" in text for text in texts)
    assert places.environments(home) == [begun]
    assert works(home)


def test_another_one_at_the_same_time_is_refused(home: Path, tmp_path: Path) -> None:
    places.folder(home).mkdir(parents=True)
    handle = file_lock.take(places.folder(home) / "lock")
    assert handle is not None
    with pytest.raises(errors.Gen3DError, match="Another Blender installs"):
        run(home, wheels.wanted(tmp_path))
    os.close(handle)


def test_without_permission_nothing_is_asked_of_the_network(home: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.Gen3DError, match="does not allow access to the internet") as caught:
        run(home, replace(wheels.wanted(tmp_path), wheels=""))
    assert caught.value.field == "online_access"
    assert not home.exists()


def test_a_home_that_cannot_be_written_is_named(home: Path, tmp_path: Path) -> None:
    home.write_text("a file")
    with pytest.raises(errors.Gen3DError, match="cannot be written"):
        run(home, wheels.wanted(tmp_path))


def test_long_paths() -> None:
    long = Path("C:/Users") / ("x" * 70) / "1"
    assert places.too_long(long, "win32", long_paths=False)
    assert not places.too_long(long, "win32", long_paths=True)
    assert not places.too_long(long, "linux", long_paths=False)
    assert not places.too_long(Path("C:/Users/somebody/AppData/Local/gen3d/environment/1"), "win32", long_paths=False)


def test_environments_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_text(json.dumps({"python": sys.executable}))
    found = places.state(tmp_path, "", "")
    assert (found.kind, found.python) == ("own", sys.executable)
    list(installation.remove(tmp_path, Event()))
    assert (tmp_path / "environment.json").exists()
    (tmp_path / "environment.json").write_text(json.dumps({"python": "/gone"}))
    assert places.state(tmp_path, "", "").kind == "broken"
    assert places.state(tmp_path, sys.executable, "").kind == "own"
    assert places.state(tmp_path, "/gone", "").kind == "broken"
    for damaged in ("", "[]", '{"python": 3}', "\0"):
        (tmp_path / "environment.json").write_text(damaged)
        assert places.current(tmp_path) is None


def test_doctor_speaks_for_the_environment_only() -> None:
    def told(**states: str) -> list[str]:
        checks = [{"name": name, "state": state, "text": f"{name} is bad."} for name, state in states.items()]
        return ["noise", json.dumps({"ok": False, "checks": checks})]

    assert installation._faults(told(python="ok", torch="ok", disk="fault"), 1) == ""
    assert installation._faults(told(python="ok", torch="fault", libraries="fault"), 1) == "torch is bad"
    assert installation._faults(["Segmentation fault"], -11) == "Segmentation fault"
    assert installation._faults([], 5) == "exit code 5"
    assert installation._faults([], 0) == ""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
@pytest.mark.timeout(600)
def test_killed_anywhere_it_goes_on(home: Path, tmp_path: Path) -> None:
    """Six kills at random moments, each of the installer and, sometimes, of its pip; then it is let be."""
    wheels.wanted(tmp_path)
    code = (
        "import sys; from pathlib import Path; from threading import Event\n"
        "from blender_gen3d.environment import installation; from tests.environment import wheels\n"
        "for step in installation.install(Path(sys.argv[1]), wheels.wanted(Path(sys.argv[2])), Event()): pass\n"
    )
    chance = random.Random(5)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for _ in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(home), str(tmp_path)], cwd=ROOT, env=environment, start_new_session=True,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(chance.uniform(0.3, 8.0))
        if chance.random() < 0.5:
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
        child.wait()
        kind = places.state(home, "", installation.digest(tmp_path / "requirements.txt")).kind
        assert kind in ("absent", "partial", "ready")
        assert kind != "ready" or works(home)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            run(home, wheels.wanted(tmp_path))
            break
        except errors.Gen3DError as error:
            assert error.field == "busy", error  # a pip that was left over has yet to notice
            time.sleep(0.5)
    assert works(home)
    assert len(places.environments(home)) == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_real_thing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch and all, from where pip is set to find them; the backend starts on it."""
    for name in ("PIP_TARGET", "PIP_USER", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(launcher, "BACKEND_ROOT", ROOT)
    run(home, installation.Wanted(own=sys.executable, torch="cpu"))
    where = launcher.ensure(home)
    try:
        assert where.pid
    finally:
        assert launcher.end(home)
    list(installation.remove(home, Event()))
    assert not places.folder(home).exists()
