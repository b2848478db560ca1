# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding and starting the backend, with real processes. Most use a copy of it that has toy workers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from blender_gen3d.bridge import errors, runtime
from blender_gen3d.bridge import home as places
from blender_gen3d.connection import launcher
from blender_gen3d.connection.client import Client
from tests.patience import patience

from .conftest import ROOT, Backend

TOY = """
import asyncio, logging, sys
sys.path.append({root!r})
from tests.wire import toy_worker
from .home import user_home
from .server import serve
assert sys.argv[1:] == ["serve"], sys.argv
asyncio.run(serve(user_home(), worker=(sys.executable, toy_worker.__file__)))
"""


def toy_backend(folder: Path, main: str = TOY) -> Path:
    """A folder whose ``backend`` is the real one but for ``python -m backend``."""
    (folder / "backend").mkdir(parents=True)
    (folder / "backend" / "__init__.py").write_text(f"__path__.append({str(ROOT / 'backend')!r})\n")
    (folder / "backend" / "__main__.py").write_text(main.format(root=str(ROOT)))
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with a blank, an accent and a Hebrew letter in its name; whatever serves it in the end is ended."""
    monkeypatch.setattr(launcher, "BACKEND_ROOT", toy_backend(tmp_path / "code"))
    monkeypatch.setenv("GEN3D_PYTHON", sys.executable)
    home = tmp_path / "my hômé ש"
    yield home
    launcher.end(home)


def test_it_is_started_once_found_again_and_ended(place: Path) -> None:
    assert launcher.attach(place) is None
    where = launcher.ensure(place)
    assert launcher.ensure(place) == where == launcher.attach(place)
    with Client("blender", lambda stop: launcher.ensure(place, stop=stop)) as client:
        assert client.submit_and_wait("nerf", {"dataset": "x", "seconds": 0.0}).state == "done"
    assert launcher.end(place) and not launcher.end(place)
    assert launcher.attach(place) is None and not places.runtime_file(place).exists()


def test_several_at_once_start_one(place: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: launcher.ensure(place), range(4)))
    assert len({where.pid for where in found}) == 1


def test_two_processes_at_once_start_one_that_outlives_them(place: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from blender_gen3d.connection import launcher\n"
        "launcher.BACKEND_ROOT = Path(sys.argv[2])\n"
        "print(launcher.ensure(Path(sys.argv[1])).pid)"
    )
    command = [sys.executable, "-c", code, str(place), str(place.parent / "code")]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    pids = {process.communicate(timeout=60)[0].strip() for process in both}
    where = launcher.attach(place)
    assert where is not None and pids == {str(where.pid)}


def test_a_client_starts_the_next_one_when_it_dies(place: Path) -> None:
    with Client("blender", lambda stop: launcher.ensure(place, stop=stop)) as client:
        client.submit_and_wait("nerf", {"dataset": "x", "seconds": 0.0})
        first = launcher.attach(place)
        assert first is not None
        os.kill(first.pid, 9)
        row = client.submit_and_wait("nerf", {"dataset": "y", "seconds": 0.0})
        second = launcher.attach(place)
        assert row.state == "done" and second is not None and second.pid != first.pid


def test_its_environment_is_its_own(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "websockets.py").write_text("raise SystemExit('foreign code')")
    (tmp_path / "foreign" / "backend.py").write_text("raise SystemExit('foreign code')")
    monkeypatch.chdir(tmp_path / "foreign")
    for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "CONDA_PREFIX", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, str(tmp_path / "foreign"))
    where = launcher.ensure(place)
    environment = Path(f"/proc/{where.pid}/environ").read_bytes().split(b"\0")
    ours = dict(entry.split(b"=", 1) for entry in environment if entry)
    assert ours[b"PYTHONPATH"].decode() == str(place.parent / "code") and ours[b"GEN3D_HOME"].decode() == str(place)
    assert not {b"PYTHONHOME", b"PYTHONSTARTUP", b"CONDA_PREFIX", b"VIRTUAL_ENV"} & ours.keys()
    assert where.token not in Path(f"/proc/{where.pid}/cmdline").read_text()


def test_a_backend_that_dies_at_its_start_leaves_its_last_words(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        launcher, "BACKEND_ROOT", toy_backend(tmp_path / "broken", "raise SystemExit('torch is missing')")
    )
    begun = time.monotonic()
    with pytest.raises(errors.Gen3DError) as caught:
        launcher.ensure(place)
    assert "torch is missing" in caught.value.cause and str(place / "backend.log") in caught.value.next_step
    assert time.monotonic() - begun < patience(5)


def test_waiting_can_be_given_up(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "BACKEND_ROOT", toy_backend(tmp_path / "asleep", "import time; time.sleep(3)"))
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    begun = time.monotonic()
    with pytest.raises(errors.Gen3DError) as caught:
        launcher.ensure(place, stop=stop)
    assert caught.value.field == "stopped" and time.monotonic() - begun < patience(2)
    with pytest.raises(errors.Gen3DError) as caught:
        launcher.ensure(place, patience=0.3)
    assert caught.value.field == "timeout"


def test_a_home_that_cannot_be_written_is_named(place: Path) -> None:
    place.parent.joinpath("file").write_text("")
    with pytest.raises(errors.Gen3DError) as caught:
        launcher.ensure(place.parent / "file" / "home")
    assert "file" in caught.value.cause


def test_the_interpreter_is_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "BACKEND_ROOT", tmp_path / "checkout")
    monkeypatch.delenv("GEN3D_PYTHON", raising=False)
    with pytest.raises(errors.Gen3DError) as caught:
        launcher.find_python(tmp_path)
    assert caught.value.field == "python" and "preferences" in caught.value.next_step
    names = {name: tmp_path / name for name in ("chosen", "variable", "installed", "checkout/.venv/bin/python")}
    for path in names.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    assert launcher.find_python(tmp_path) == names["checkout/.venv/bin/python"]
    (tmp_path / "environment.json").write_text(json.dumps({"python": str(names["installed"])}))
    assert launcher.find_python(tmp_path) == names["installed"]
    monkeypatch.setenv("GEN3D_PYTHON", str(names["variable"]))
    assert launcher.find_python(tmp_path) == names["variable"]
    assert launcher.find_python(tmp_path, str(names["chosen"])) == names["chosen"]
    with pytest.raises(errors.Gen3DError) as caught:
        launcher.find_python(tmp_path, str(tmp_path / "gone"))
    assert "gone" in caught.value.cause and "preferences" in caught.value.cause


def test_a_backend_of_another_version_is_named_while_it_lives(place: Path) -> None:
    """Its file says another protocol: refused while something answers there, replaced once it is gone."""
    place.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as old:
        values = asdict(runtime.Runtime("127.0.0.1", old.getsockname()[1], 4711)) | {"protocol": 99, "version": "9.9"}
        places.runtime_file(place).write_text(json.dumps({**values, "unheard": 1}))
        with pytest.raises(errors.Gen3DError) as caught:
            launcher.ensure(place)
        assert caught.value.field == "protocol_version"
        assert "9.9" in caught.value.cause and "4711" in caught.value.cause
    assert launcher.ensure(place).protocol == 1


def test_whoever_answers_without_the_proof_is_not_attached_to(own_backend: Backend) -> None:
    path = places.runtime_file(own_backend.home)
    right = runtime.read(path)
    assert launcher.attach(own_backend.home) == right
    runtime.write(path, replace(right, key="another"))
    assert launcher.attach(own_backend.home) is None
    runtime.write(path, replace(right, token="another"))
    assert launcher.attach(own_backend.home) is None
    for content in ("", "{", "[]", "{}", '{"protocol": 1}', '{"host": 1}', "\xff", "[" * 10**5):
        path.write_text(content, "latin-1")
        assert launcher.attach(own_backend.home) is None


def test_the_command_line_starts_the_real_thing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEN3D_PYTHON", sys.executable)
    where = launcher.ensure(tmp_path / "home")
    try:
        assert where.host == "127.0.0.1" and (tmp_path / "home" / "jobs.sqlite").exists()
    finally:
        assert launcher.end(tmp_path / "home")
