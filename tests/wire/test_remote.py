# SPDX-License-Identifier: GPL-3.0-or-later
"""A backend on another computer: chosen by address and token, its results copied whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from blender_gen3d.bridge import errors, protocol
from blender_gen3d.connection import launcher, remote
from blender_gen3d.connection.client import Client

from .conftest import ROOT, Backend

FILES = {"mesh.glb": bytes(range(256)) * 4096, "empty.bin": b"", "render/one.png": b"picture"}


@pytest.fixture
def here(tmp_path: Path, own_backend: Backend) -> Path:
    """A home whose jobs run in ``own_backend``, as the preferences would set it up."""
    command = [sys.executable, "-m", "backend", "address", "--json"]
    variables = os.environ | {"GEN3D_HOME": str(own_backend.home)}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    remote.choose(tmp_path / "here", told["address"], told["token"])
    return tmp_path / "here"


@pytest.fixture
def client(here: Path) -> Iterator[Client]:
    with Client("blender-1", lambda stop: launcher.ensure(here, stop=stop)) as client:
        yield client


def finished(client: Client) -> protocol.JobRow:
    """A job whose result has several files, also in folders."""
    row = client.submit_and_wait("nerf", {"dataset": "x", "seconds": 1.0})
    folder = Path(row.folder) / "result"
    for path in folder.iterdir():
        path.unlink()
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    (folder / "result.json").write_text(json.dumps({"format": 1, "sha256": sums}))
    return row


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_result_is_copied_whole(here: Path, client: Client) -> None:
    row = finished(client)
    folder = remote.copy_result(client, here, row.id)
    assert folder.is_relative_to(here)
    assert content(folder) == content(Path(row.folder) / "result")
    assert remote.copy_result(client, here, row.id) == folder
    assert [path.name for path in folder.parent.iterdir()] == [row.id]


def test_an_interrupted_copy_is_absent_and_goes_on(here: Path, client: Client) -> None:
    row = finished(client)
    victim = Path(row.folder) / "result" / "render" / "one.png"
    data = victim.read_bytes()
    victim.unlink()
    copies = remote.Copies(client, here)
    deadline = time.monotonic() + 20.0
    while row.id not in copies.errors and time.monotonic() < deadline:
        assert not copies.ready(row)
        time.sleep(0.01)
    assert "render/one.png" in copies.errors[row.id].cause
    assert not copies.folder(row.id).exists()
    part = copies.folder(row.id).with_name(f"{row.id}.part")
    assert {path.name for path in part.iterdir()} >= {"result.json", "mesh.glb"}
    before = (part / "mesh.glb").stat().st_mtime_ns
    victim.write_bytes(data)
    assert not copies.ready(row), "it has failed, and nobody has asked for it again"
    copies.again(row.id)
    while not copies.ready(row) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert content(copies.folder(row.id)) == content(Path(row.folder) / "result")
    assert (copies.folder(row.id) / "mesh.glb").stat().st_mtime_ns == before


@pytest.mark.parametrize("facts", ['{"sha256": {"../../outside": "0"}}', '{"sha256": 3}', "{}", "[]", "no"])
def test_a_result_that_lies_is_refused(here: Path, client: Client, facts: str) -> None:
    row = finished(client)
    (Path(row.folder) / "result" / "result.json").write_text(facts)
    with pytest.raises(errors.Gen3DError, match="does not say which files it has"):
        remote.copy_result(client, here, row.id)
    assert not any((here / "copies").iterdir())


def test_the_other_computer_is_neither_started_nor_ended(here: Path, own_backend: Backend) -> None:
    where = launcher.attach(here)
    assert where is not None
    assert where.authority == remote.address(here) == own_backend.where.authority
    assert not launcher.end(here)
    assert own_backend.process.poll() is None
    own_backend.stop()
    with pytest.raises(errors.Gen3DError, match=rf"No backend of this token answers at {where.authority}"):
        launcher.ensure(here)
    remote.forget(here)
    assert remote.read(here) is None
    assert remote.address(here) == ""


def test_the_token_is_kept_to_the_user(here: Path, own_backend: Backend) -> None:
    path = remote.settings_file(here)
    assert own_backend.where.token in path.read_text()
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert own_backend.where.token not in own_backend.log.read_text()


@pytest.mark.parametrize(
    ("address", "field"), [("nowhere", "address"), ("http://127.0.0.1:80", "address"), ("127.0.0.1:99999", "address")]
)
def test_mistyped_addresses_are_named(tmp_path: Path, address: str, field: str) -> None:
    with pytest.raises(errors.Gen3DError) as caught:
        remote.choose(tmp_path, address, f"{'t' * 43}.{'k' * 43}")
    assert caught.value.field == field
    assert not list(tmp_path.iterdir())


def test_mistyped_tokens_are_named(tmp_path: Path) -> None:
    for token in ("", "short", "t" * 43, f"{'t' * 43}.{'k' * 43} more"):
        with pytest.raises(errors.Gen3DError, match="not the token") as caught:
            remote.choose(tmp_path, "localhost:8765", token)
        assert caught.value.field == "token"
    assert remote.choose(tmp_path, " localhost:8765 ", f"{'t' * 43}.{'k' * 43}\n").authority == "127.0.0.1:8765"
