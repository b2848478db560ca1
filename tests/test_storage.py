# SPDX-License-Identifier: GPL-3.0-or-later
"""Files are whole or absent, whatever fails and wherever."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import pickle
import random
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from backend import storage
from backend.errors import Gen3DError

STATE = {"a": torch.arange(1000, dtype=torch.float32), "b": torch.ones(3, 4, dtype=torch.int64)}


def checkpoint(folder: Path, value: float) -> None:
    storage.write_checkpoint(folder, {"v": torch.full((500,), value)}, {"value": value})


def value_of(folder: Path) -> float | None:
    found = storage.read_checkpoint(folder)
    if found is None:
        return None
    tensors, facts = found
    assert torch.equal(tensors["v"], torch.full((500,), facts["value"]))
    return float(facts["value"])


def test_json_is_strict_and_reproducible() -> None:
    value = {"b": [1.5, math.nan, {"x": -math.inf}], "a": ("π", True)}
    assert json.loads(storage.to_json(value)) == {"a": ["π", True], "b": [1.5, None, {"x": None}]}
    assert storage.to_json(value) == storage.to_json(dict(reversed(value.items())))


def test_checkpoints_come_back_bit_for_bit_and_two_are_kept(tmp_path: Path) -> None:
    assert storage.read_checkpoint(tmp_path) is None and not storage.has_checkpoint(tmp_path)
    for step in range(5):
        storage.write_checkpoint(tmp_path, STATE, {"step": step, "rng": [1, 2]})
    found = storage.read_checkpoint(tmp_path)
    assert found is not None
    assert all(torch.equal(found[0][name], STATE[name]) and found[0][name].dtype == STATE[name].dtype for name in STATE)
    assert found[1] == {"step": 4, "rng": [1, 2]}
    assert [facts["step"] for _, facts in storage.read_checkpoints(tmp_path)] == [4, 3]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 4


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[len(data) * 3 // 5] ^= 0x10
        path.write_bytes(data)

    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-7])

    damages: list[Callable[[Path], object]] = [flip, cut, lambda path: path.write_bytes(b""), Path.unlink]
    for number, damage in enumerate(damages):
        for suffix in (".safetensors", ".json"):
            folder = tmp_path / f"{number}{suffix}"
            folder.mkdir()
            checkpoint(folder, 1.0)
            checkpoint(folder, 2.0)
            damage(folder / "checkpoints" / f"000002{suffix}")
            assert value_of(folder) == 1.0
            checkpoint(folder, 3.0)  # and the good old one stays the one before
            damage(sorted((folder / "checkpoints").glob(f"*{suffix}"))[-1])
            assert value_of(folder) == 1.0


def test_a_pickle_in_a_checkpoints_place_is_never_run(tmp_path: Path) -> None:
    class Canary:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "executed"),))

    checkpoint(tmp_path, 1.0)
    checkpoint(tmp_path, 2.0)
    path = tmp_path / "checkpoints" / "000002.safetensors"
    path.write_bytes(pickle.dumps(Canary()))
    content = {"format": 1, "facts": {"value": 2.0}, "tensors": hashlib.sha256(path.read_bytes()).hexdigest()}
    check = hashlib.sha256(storage.to_json(content)).hexdigest()
    path.with_suffix(".json").write_bytes(storage.to_json({**content, "check": check}))  # even with the right hash
    assert value_of(tmp_path) == 1.0
    assert not (tmp_path / "executed").exists()


def test_a_state_that_is_not_finite_is_never_saved(tmp_path: Path) -> None:
    checkpoint(tmp_path, 1.0)
    for bad in (math.nan, math.inf):
        with pytest.raises(FloatingPointError, match="v is no longer finite"):
            checkpoint(tmp_path, bad)
    assert value_of(tmp_path) == 1.0


@pytest.mark.parametrize("call", ["fsync", "replace", "open", "unlink"])
def test_whatever_fails_in_a_checkpoint_the_one_before_is_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Each call in turn fails with an input/output error, until a checkpoint passes without meeting the fault."""
    checkpoint(tmp_path, 0.0)
    checkpoint(tmp_path, 1.0)
    real = getattr(os, call)
    for nth in range(1, 20):
        calls = 0

        def faulty(*args: Any, _nth: int = nth, **keywords: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == _nth:
                raise OSError(errno.EIO, "input/output error")
            return real(*args, **keywords)

        monkeypatch.setattr(os, call, faulty)
        try:
            checkpoint(tmp_path, 1.0 + nth)
            failed = False
        except OSError:
            failed = True
        monkeypatch.undo()
        assert value_of(tmp_path) in ({float(nth), 1.0 + nth} if failed else {1.0 + nth})
        checkpoint(tmp_path, 1.0 + nth)
        if calls < nth:
            assert nth > 1 or call == "unlink"
            return
    pytest.fail("the fault was met twenty times")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_and_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    storage.write_atomic(path, b"old")
    os.symlink("/dev/full", tmp_path / "file.part")
    with pytest.raises(Gen3DError, match="Disk full") as caught:
        storage.write_atomic(path, b"new" * 100_000)
    assert caught.value.field == storage.DISK_FULL
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_a_disk_that_fills_up_in_a_checkpoint_leaves_the_one_before(tmp_path: Path, suffix: str) -> None:
    checkpoint(tmp_path, 1.0)
    os.symlink("/dev/full", tmp_path / "checkpoints" / f"000002{suffix}.part")
    with pytest.raises(Gen3DError, match="Disk full"):
        checkpoint(tmp_path, 2.0)
    assert value_of(tmp_path) == 1.0
    checkpoint(tmp_path, 3.0)
    assert value_of(tmp_path) == 3.0


def test_the_disk_guard_refuses_before_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.require_space(tmp_path)
    checkpoint(tmp_path, 1.0)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(2**40, 2**40, storage.RESERVE + 1000))
    storage.require_space(tmp_path, 1000)
    with pytest.raises(Gen3DError, match="Disk full"):
        checkpoint(tmp_path, 2.0)
    assert value_of(tmp_path) == 1.0


def test_a_result_appears_whole_and_is_hashed(tmp_path: Path) -> None:
    part, final = tmp_path / "result.part", tmp_path / "result"
    (part / "views").mkdir(parents=True)
    (part / "mesh.ply").write_bytes(b"ply")
    (part / "views" / "0.png").write_bytes(b"png")
    content = storage.finish_result(part, final, {"kind": "nerf", "psnr": math.inf})
    hashes = {"mesh.ply": hashlib.sha256(b"ply").hexdigest(), "views/0.png": hashlib.sha256(b"png").hexdigest()}
    assert content["sha256"] == hashes
    assert storage.read_result(final) == {"kind": "nerf", "psnr": None, "sha256": hashes}
    assert not part.exists()


def test_a_result_never_overwrites(tmp_path: Path) -> None:
    part, final = tmp_path / "part", tmp_path / "final"
    for folder in (part, final):
        folder.mkdir()
    (final / "mine").write_text("precious")
    with pytest.raises(Gen3DError, match="already there"):
        storage.finish_result(part, final, {})
    assert [path.name for path in final.iterdir()] == ["mine"]
    (final / "mine").unlink()
    storage.finish_result(part, final, {})
    assert storage.read_result(final) == {"sha256": {}}


HOLD = """import sys, time; from pathlib import Path; from backend.storage import FileLock
held = FileLock(Path(sys.argv[1])); print(held.acquire(), flush=True); time.sleep(60)
"""


def test_a_lock_is_exclusive_and_freed_by_the_death_of_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not storage.is_locked(path) and not path.exists()
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "True\n"
    assert storage.is_locked(path) and not storage.FileLock(path).acquire()
    holder.kill()
    holder.communicate()
    mine = storage.FileLock(path)
    assert mine.acquire() and mine.acquire() and storage.is_locked(path)
    mine.release()
    assert not storage.is_locked(path)


def test_no_half_checkpoint_is_ever_read_after_a_kill(tmp_path: Path) -> None:
    """A process writes checkpoints as fast as it can and is killed at random moments."""
    code = (
        "import sys; from pathlib import Path; import torch; from backend import storage; n = int(sys.argv[2])\n"
        "while True:\n"
        "    n += 1\n"
        "    storage.write_checkpoint(Path(sys.argv[1]), {'v': torch.full((500,), float(n))}, {'value': float(n)})\n"
        "    print(n, flush=True)\n"
    )
    chance, last = random.Random(7), 0
    for _ in range(4):
        worker = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), str(last)], stdout=subprocess.PIPE, text=True
        )
        assert worker.stdout is not None
        for _ in range(chance.randrange(2, 30)):
            last = int(worker.stdout.readline())
        worker.kill()
        last = max([last, *(int(line) for line in worker.communicate()[0].split())])
        found = value_of(tmp_path)
        assert found in (last, last + 1)
        last = int(found)
