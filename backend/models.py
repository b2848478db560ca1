# SPDX-License-Identifier: GPL-3.0-or-later
"""Which weights there are on this machine: install, verify, remove them, or use local ones.

What is downloaded as a pickle is read without running code that may be in it, kept as safetensors, and deleted.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import storage
from .errors import Gen3DError
from .weights import PUBLISHED, SETS, damaged, folder_of, installed, lock_of, names, read, require

if TYPE_CHECKING:
    import torch

    from .download import Commit, Done

TENSORS, FILES = "model.safetensors", "files"
PRIORS = Path(__file__).parent / "priors"
LINES = 0.2  # seconds between two lines of progress
PIPELINE = "model_index.json"  # of diffusers
CONFIGS = ("config.json", PIPELINE)  # the first is of a transformers model
_VARIANT = re.compile(r"\.(fp16|bf16|fp32|non_ema|ema)\b")  # of a file, beside the plain one


@dataclass(frozen=True)
class Model:
    """A row of the list.

    ``state``: "embedded", "installed", "local" (named by the user), "partial" (the download was interrupted),
    "missing" (was installed or named, but its files are gone), or "absent".
    """

    name: str
    system: str
    size: int  # bytes, about
    licence: str
    state: str
    path: str


def listing() -> list[Model]:
    """The embedded priors, all published weights, and what else was installed or named."""
    rows = [
        Model(f"embedded/{folder.name}", "embedded", _size(folder), "GPL-3.0-or-later", "embedded", str(folder))
        for folder in sorted(PRIORS.iterdir())
        if any((folder / name).exists() for name in CONFIGS)
    ]
    for name in names():
        (state, path), entry = _state(name), PUBLISHED.get(name)
        size = _size(Path(path)) if path else entry.size if entry else 0
        system, licence = (entry.system, entry.licence) if entry else ("hub", "see its page")
        rows.append(Model(name, system, size, licence, state, path))
    return rows


def _state(name: str) -> tuple[str, str]:
    path, lock = installed(name), lock_of(name)
    if path is not None:
        return "local" if lock is not None and lock.get("source") == "local" else "installed", str(path)
    return ("missing" if lock else "partial" if folder_of(name).exists() else "absent"), ""


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())


def expand(names: Iterable[str]) -> list[str]:
    """The names, with that of a set ("point-e") replaced by its members, each once."""
    return list(dict.fromkeys(member for name in names for member in SETS.get(name, (name,))))


def verify() -> dict[str, list[str]]:
    """By the name of everything installed, its files that are missing or not what they were."""
    rows = [row.name for row in listing() if row.state in ("installed", "local")]
    return {name: damaged(name) for name in rows}


# ---------------------------------------------------------------------------------------------- install, use, remove


def install(name: str, *, offline: bool = False) -> Generator[Done, None, None]:
    """Downloads and keeps weights, or repairs damaged ones; yields progress. To stop iterating is to cancel.

    Does nothing for what is there and intact. Raises Gen3DError when the network may not be used (``offline``, or
    the environment says so), for everything that can go wrong with a download, and when the disk is full.
    """
    from . import download

    folder, entry = folder_of(name), PUBLISHED.get(name)
    if installed(name) is not None and not damaged(name):
        return
    if offline or download.offline():
        cause = f"The weights {name} are not installed, and downloads are switched off."
        step = f"Go online (unset {' and '.join(download.OFFLINE)}), or `gen3d models use {name} PATH`."
        raise Gen3DError(cause, step, field="offline")
    with _alone(name, folder):
        if entry is not None and entry.url:
            yield from _install_file(name, folder)
        else:
            yield from _install_repository(name, folder)


def _install_file(name: str, folder: Path) -> Iterator[Done]:
    from .download import fetch

    entry, first = PUBLISHED[name], (lock_of(name) or {}).get("first", "")
    pickle = folder / entry.url.rsplit("/", 1)[-1]
    storage.require_space(folder, 2 * entry.size)
    if not pickle.exists():
        yield from fetch(entry.url, pickle, dict(entry.sha256).get(pickle.name, ""), first)
    first = storage.sha256_of(pickle)
    try:
        _keep(read(pickle), folder / TENSORS)
    except Gen3DError as error:
        if error.field != storage.DISK_FULL:  # it will never be of use
            pickle.unlink()
        raise
    _write_lock(folder, path=TENSORS, source=entry.url, files=_hashes(folder / TENSORS), first=first)
    pickle.unlink()


def _install_repository(name: str, folder: Path) -> Iterator[Done]:
    from .download import cached, fetch_from_hub, look_up

    entry, pinned = PUBLISHED.get(name), dict(PUBLISHED[name].sha256 if name in PUBLISHED else ())
    commit = look_up(entry.repository if entry else name, entry.revision if entry else _revision(name))
    index: dict[str, Any] | None = None
    if entry is None and PIPELINE in commit.files:
        yield from fetch_from_hub(commit, PIPELINE, folder / FILES / PIPELINE)
        index = storage.read_json(folder / FILES / PIPELINE)
    try:
        files = _needed(commit, entry.files if entry else (), index)
    except Gen3DError:
        shutil.rmtree(folder / FILES, ignore_errors=True)
        raise
    known = {file: pinned.get(file) or commit.files[file][1] for file in files}
    kept = cached(commit.repository, commit.revision, files)
    if kept is None or any(sha256 and storage.sha256_of(kept / file) != sha256 for file, sha256 in known.items()):
        kept = None
        there = sum(_size(folder / FILES / file) for file in files)
        storage.require_space(folder, sum(commit.files[file][0] for file in files) - there)
        for file in files:
            yield from fetch_from_hub(commit, file, folder / FILES / file, pinned.get(file, ""))
    path = kept or folder / FILES
    hashes = {file: sha256 or storage.sha256_of(path / file) for file, sha256 in known.items()}
    where = str(kept) if kept else FILES
    _write_lock(folder, path=where, source=commit.repository, revision=commit.revision, files=hashes)


def _revision(name: str) -> str | None:
    """The commit of what was installed before; None for the newest."""
    found: str | None = (lock_of(name) or {}).get("revision")
    return found


def _needed(commit: Commit, files: tuple[str, ...], index: dict[str, Any] | None) -> list[str]:
    """These files, or, where none are named, what is needed to load the model, or the pipeline with this index."""
    if missing := [file for file in files if file not in commit.files]:
        cause = f"{missing[0]} is not among the files of {commit.repository}."
        raise Gen3DError(cause, "Name a copy with `gen3d models use NAME FOLDER`.", field="download")
    parts = [name for name, what in (index or {}).items() if isinstance(what, list) and name.isidentifier()]
    near = [file for file in commit.files if file.rpartition("/")[0] in ("", *parts) and not _VARIANT.search(file)]
    weights = [file for file in near if file.endswith(".safetensors") and ("/" in file) == (index is not None)]
    if not files and not weights:
        cause = f"{commit.repository} has no plain safetensors weights of a transformers model or diffusers pipeline."
        step = "Choose another one, or convert it and `gen3d models use` the folder."
        raise Gen3DError(cause, step, field="weights")
    return list(files) or [file for file in near if file.endswith((".json", ".txt", ".model"))] + weights


def use(name: str, path: Path) -> None:
    """Makes ``name`` mean a local file or folder, which stays where it is. Raises Gen3DError for what is neither."""
    folder, path = folder_of(name), path.expanduser().absolute()
    if not path.is_dir():
        read(path)
    elif not any((path / file).is_file() for file in CONFIGS):
        cause = f"{path} holds neither a config.json nor a model_index.json."
        raise Gen3DError(cause, "Name the folder of a transformers model or a diffusers pipeline.", field="weights")
    with _alone(name, folder):
        _write_lock(folder, path=str(path), source="local", files={})


def remove(name: str) -> None:
    """Deletes what ``install`` kept; of what ``use`` named, or another program keeps, only the name."""
    folder = folder_of(name)
    if not folder.exists():
        raise Gen3DError(f"The weights {name} are not installed.", "See `gen3d models list`.", field="weights")
    with _alone(name, folder):
        (folder / "lock.json").unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)


# ------------------------------------------------------------------------------------------------- the command line


def command(action: str, names: list[str], *, offline: bool = False, as_json: bool = False) -> int:
    """What ``gen3d models ACTION NAMES`` does. Returns the exit code; raises Gen3DError."""
    showing = _write_lines if as_json else _draw_bar
    verbs: dict[str, Callable[[list[str], bool], Answer]] = {
        "list": _list, "verify": _verify, "install": partial(_install, showing), "remove": _remove, "use": _use,
    }  # fmt: skip
    run = verbs[action]
    if bool(names) == (action in ("list", "verify")) or (action == "use" and len(names) != 2):
        given = {"use": "a name and a path", "install": "names", "remove": "names"}.get(action, "nothing more")
        raise Gen3DError(f"`gen3d models {action}` takes {given}.", "See `gen3d models --help`.", field="arguments")
    content, lines, code = run(names, offline)
    print(json.dumps(content) if as_json else "\n".join(lines))
    return code


Answer = tuple[dict[str, Any], list[str], int]


def _list(names: list[str], offline: bool) -> Answer:
    rows = listing()
    wide = max(len(row.name) for row in rows)
    lines = [f"{'state':<10} {'name':<{wide}}  {'system':<9} {'size':>11}  licence and place"]
    lines += [
        f"{row.state:<10} {row.name:<{wide}}  {row.system:<9} {row.size / 1e6:8,.0f} MB  {row.licence}  {row.path}"
        for row in rows
    ]
    kept = sum(row.size for row in rows if row.state == "installed")
    lines += [f"{'':<10} {'in all, installed':<{wide}}  {'':<9} {kept / 1e6:8,.0f} MB", ""]
    sets = ["Names for several at once, for `gen3d models install NAME`:"]
    sets += [f"  {name:<20} {', '.join(members)}" for name, members in SETS.items()]
    sets.append("OWNER/NAME installs a model or pipeline of the hub, such as one that turns text into images.")
    return {"models": [asdict(row) for row in rows], "sets": SETS}, [*(line.rstrip() for line in lines), *sets], 0


def _verify(names: list[str], offline: bool) -> Answer:
    found = verify()
    lines = [f"{'damaged' if files else 'ok':<8} {name}  {', '.join(files)}".rstrip() for name, files in found.items()]
    lines += [f"{'':<8} → repair with `gen3d models install {name}`" for name, files in found.items() if files]
    return {"damaged": found}, lines or ["Nothing is installed."], int(any(found.values()))


def _install(show: Callable[[str, Iterable[Done]], None], names: list[str], offline: bool) -> Answer:
    for name in (names := expand(names)):
        with closing(install(name, offline=offline)) as steps:
            show(name, steps)
    paths = {name: str(require(name)) for name in names}
    return {"installed": paths}, [f"installed  {name}  {path}" for name, path in paths.items()], 0


def _draw_bar(name: str, steps: Iterable[Done]) -> None:
    from tqdm import tqdm

    with tqdm(file=sys.stderr, unit="B", unit_scale=True, delay=1e-3) as bar:
        for done in steps:
            bar.set_description_str(f"{name}: {done.file}", refresh=False)
            bar.total = done.total or None
            bar.update(done.bytes - bar.n)


def _write_lines(name: str, steps: Iterable[Done]) -> None:
    """Progress for programs: a JSON object per line, at most some each second, and the last one of each file."""
    shown = 0.0
    for done in steps:
        if time.monotonic() > shown + LINES or done.bytes == done.total:
            shown = time.monotonic()
            print(json.dumps({"name": name, **asdict(done)}), file=sys.stderr, flush=True)


def _remove(names: list[str], offline: bool) -> Answer:
    for name in (names := expand(names)):
        remove(name)
    return {"removed": names}, [f"removed  {name}" for name in names], 0


def _use(names: list[str], offline: bool) -> Answer:
    name, path = names
    use(name, Path(path))
    return {"installed": {name: str(require(name))}}, [f"{name} is now {require(name)}"], 0


# ------------------------------------------------------------------------------------------------------------- files


@contextmanager
def _alone(name: str, folder: Path) -> Iterator[None]:
    """While it lasts, the folder is there and nobody else changes it. Without a lock.json or a part it goes again."""
    with storage.disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = storage.FileLock(folder / ".busy")
    if not lock.acquire():
        raise Gen3DError(f"{name} is being installed by another process.", "Wait until it is done.", field="weights")
    try:
        yield
    finally:
        lock.release()
        (folder / ".busy").unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()


def _keep(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Writes a safetensors file: whole, or not at all."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    part = path.with_name(f"{path.name}.part")
    try:
        with storage.disk_errors(path):
            storage.require_space(path.parent, sum(tensor.nbytes for tensor in tensors.values()))
            save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, part)
            with open(part, "r+b") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
            storage.sync_folder(path.parent)
    except SafetensorError as error:  # all it can meet here is a disk that does not take it
        raise storage.disk_full(path) from error
    finally:
        part.unlink(missing_ok=True)


def _hashes(path: Path) -> dict[str, str]:
    return {path.name: storage.sha256_of(path)}


def _write_lock(folder: Path, **content: Any) -> None:
    storage.write_atomic(folder / "lock.json", storage.to_json(content))
