# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are whole or absent: atomic writes, job folders, checkpoints, results, locks and the disk guard.

The rule everywhere: write beside the final name, fsync, rename, fsync the folder. A crash or a power cut at any
point leaves the old content or the new one, never a mixture. What is read back is checked by its sha256.

A job's folder:  job.json           what was asked, and the end once there is one (the job list is rebuilt from these)
                 checkpoints/       the newest two: NNNNNN.safetensors with NNNNNN.json
                 preview.png        newest picture
                 worker.log         what the worker process had to say
                 so_far/            what the job had come to before its end, as a result, where that is worth having
                 result.part/       a result in the making
                 result/            the finished result, with result.json
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import file_lock
from .errors import Gen3DError

if TYPE_CHECKING:
    import torch

RESERVE = 64 * 2**20  # bytes left free on the disk, so that the job list and the logs can still be written
DISK_FULL = "disk_full"  # the ``field`` of the error; jobs that meet it wait instead of failing
_CHECKPOINT = re.compile(r"[0-9]{6}\.json")
_JOB_ID = re.compile(r"[0-9a-f]{24}")


# ---------------------------------------------------------------------------------------------------- the disk


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns a full or a read-only disk into a Gen3DError; every other OSError passes."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(path) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT):
            raise Gen3DError(
                f"{path} cannot be written: {error.strerror}.",
                "Make the folder writable, or choose another one (GEN3D_HOME moves all user data).",
                field="storage",
            ) from error
        raise


def is_disk_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_full(path: Path) -> Gen3DError:
    return Gen3DError(
        f"Disk full: there is no space left to write {path}.",
        "Free some space, then resume; nothing that was finished is lost.",
        field=DISK_FULL,
    )


def require_space(folder: Path, size: int = 0) -> None:
    """Raises Gen3DError (field "disk_full") where ``size`` bytes would eat into the reserve of the disk."""
    if shutil.disk_usage(folder).free < size + RESERVE:
        raise disk_full(folder)


# -------------------------------------------------------------------------------------------------- atomic writes


def to_json(value: object) -> bytes:
    """Strict JSON: NaN and infinities, which it does not have, become null. Same bytes for the same value."""
    text = json.dumps(_finite(value), allow_nan=False, sort_keys=True, ensure_ascii=True, indent=1)
    return text.encode("ascii") + b"\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replaces ``path`` as a whole. ``durable=False`` skips the fsyncs, for what may be lost in a power cut.

    One writer per path at a time. Raises Gen3DError for a full or read-only disk; the old content is then intact.
    """
    part = path.with_name(path.name + ".part")
    with disk_errors(path):
        try:
            with open(part, "wb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        if durable:
            sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes renames and new names in ``folder`` durable. Windows has no such call and needs none."""
    if sys.platform != "win32":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, or None where there is no such file or it does not hold one."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------------------------------------------------------------------------------------------------------- locks


class FileLock:
    """An exclusive lock that the operating system frees when its process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def acquire(self) -> bool:
        """True when this object holds the lock now, False when somebody else does. Never waits."""
        if self._handle is None:
            with disk_errors(self._path):
                self._handle = file_lock.take(self._path)
        return self._handle is not None

    def release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def is_locked(path: Path) -> bool:
    """Whether some living process holds the lock."""
    lock = FileLock(path)
    if path.exists() and not lock.acquire():
        return True
    lock.release()
    return False


# ---------------------------------------------------------------------------------------------------- job folders


def job_id(client: str, request: str) -> str:
    """The id, and folder name, of a job: made from, never containing, what a client sent.

    The same request of the same client gives the same id, so that a request repeated after a crash in the middle of
    submitting finds its own half-made folder again.
    """
    return hashlib.sha256(json.dumps([client, request]).encode("ascii")).hexdigest()[:24]


def job_folder(home: Path, identity: str) -> Path:
    """Where a job's files are. Raises Gen3DError for anything that is not an id made by ``job_id``."""
    if not _JOB_ID.fullmatch(identity):
        raise Gen3DError(f"There is no job {identity[:40]!r}.", "List the jobs to see their ids.", field="job")
    return home / "jobs" / identity


# ---------------------------------------------------------------------------------------------------- checkpoints


def write_checkpoint(folder: Path, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
    """Adds a checkpoint to a job's folder and keeps the one before it.

    It exists from the moment its JSON file does, which is written last. Raises FloatingPointError for a tensor
    that is not finite (such a state is worth nothing), Gen3DError when the disk is full.
    """
    import torch  # here, because the server process uses this module and stays free of torch
    from safetensors.torch import save

    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise FloatingPointError(f"{name} is no longer finite")
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    home = folder / "checkpoints"
    with disk_errors(home):
        home.mkdir(exist_ok=True)
        require_space(home, len(data))
        older = _checkpoints(home)
        stem = f"{int(older[0].stem) + 1 if older else 1:06d}"
        write_atomic(home / f"{stem}.safetensors", data)
        content = {"format": 1, "facts": facts, "tensors": hashlib.sha256(data).hexdigest()}
        write_atomic(home / f"{stem}.json", to_json({**content, "check": hashlib.sha256(to_json(content)).hexdigest()}))
        kept = {stem, older[0].stem if older else stem}
        for path in home.iterdir():
            if path.name.split(".")[0] not in kept:
                path.unlink(missing_ok=True)


def read_checkpoints(folder: Path) -> Iterator[tuple[dict[str, torch.Tensor], dict[str, Any]]]:
    """The intact checkpoints of a job, newest first. One that does not match its sha256 is dropped for good."""
    for path in _checkpoints(folder / "checkpoints"):
        found = _read_checkpoint(path)
        if found is None:
            path.unlink(missing_ok=True)
        else:
            yield found


def read_checkpoint(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """The newest intact checkpoint: tensors on the CPU and facts; None where there is none."""
    return next(read_checkpoints(folder), None)


def has_checkpoint(folder: Path) -> bool:
    return bool(_checkpoints(folder / "checkpoints"))


def _checkpoints(home: Path) -> list[Path]:
    if not home.is_dir():
        return []
    return sorted((path for path in home.iterdir() if _CHECKPOINT.fullmatch(path.name)), reverse=True)


def _read_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = read_json(path)
    if content is None:
        return None
    check = content.pop("check", None)
    try:
        data = path.with_suffix(".safetensors").read_bytes()
    except OSError:
        return None
    intact = (
        check == hashlib.sha256(to_json(content)).hexdigest()
        and content.get("tensors") == hashlib.sha256(data).hexdigest()
    )
    try:
        return (load(data), content["facts"]) if intact else None
    except SafetensorError:
        return None


# -------------------------------------------------------------------------------------------------------- results


def folder_so_far(folder: Path) -> Path:
    """Where a job's folder holds what the job has come to, if it has come to anything."""
    return folder / "so_far"


def finish_result(part: Path, final: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Turns a folder of finished files into a result: ``final`` appears whole, with everything on disk.

    Writes ``result.json``: ``content`` plus "sha256", which names the hash of every file by its path in the folder.
    Returns what it holds. Raises Gen3DError when the disk is full or ``final`` is not empty; ``part`` then stays.
    """
    refuse_filled(final)
    summary = part / "result.json"
    files = sorted(path for path in part.rglob("*") if path.is_file() and path != summary)
    content = {**content, "sha256": {path.relative_to(part).as_posix(): sha256_of(path) for path in files}}
    with disk_errors(final):
        summary.write_bytes(to_json(content))
        for path in (*files, summary):
            with open(path, "r+b") as file:
                os.fsync(file.fileno())
        for folder in (*(path for path in part.rglob("*") if path.is_dir()), part):
            sync_folder(folder)
        if final.exists():
            final.rmdir()
        os.replace(part, final)
        sync_folder(final.parent)
    return content


def read_result(folder: Path) -> dict[str, Any] | None:
    """What ``result.json`` in a finished result folder holds, or None where there is no finished result."""
    return read_json(folder / "result.json")


def read_job_result(folder: Path) -> dict[str, Any] | None:
    """The same with "folder", where it is, as jobs have it."""
    found = read_result(folder)
    return None if found is None else {"folder": str(folder), **found}


def refuse_filled(folder: Path) -> None:
    """Raises Gen3DError when ``folder`` is a file or a folder with something in it: results never overwrite."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if os.path.lexists(folder):
        what = "and not empty" if folder.is_dir() else "and is never overwritten"
        raise Gen3DError(f"{folder} is already there {what}.", "Choose another name, or delete it.", field="out")
