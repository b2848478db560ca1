# SPDX-License-Identifier: GPL-3.0-or-later
"""Files from the network: resumed, checked, with progress, and never half there under their final name.

Nothing here decides whether to download: whoever calls has been told to by the user. Every function is a generator;
who stops iterating has cancelled, and the same call goes on where it was. HTTP is done by ``requests``, which
respects the proxy variables and checks certificates; the Hugging Face hub by its own library, with its own cache
(HF_HOME), token and endpoint.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from .errors import Gen3DError
from .reporting import reports
from .storage import disk_errors, require_space, sha256_of

TIMEOUT = (15.0, 60.0)  # seconds to connect, seconds without a byte
TRIES = 4  # in a row without a byte gained
PAUSE = 2.0  # seconds between two tries
CHUNK = 2**20
OFFLINE = ("GEN3D_OFFLINE", "HF_HUB_OFFLINE")
LOCAL = ("localhost", "127.0.0.1", "::1")
RESUME = "Check the connection, then give the same command again: it goes on where it was."


@dataclass(frozen=True)
class Done:
    """How much of a file is there, in bytes; total is 0 where the server does not say."""

    file: str
    bytes: int
    total: int


def offline() -> bool:
    """Whether the environment forbids the network (GEN3D_OFFLINE or HF_HUB_OFFLINE)."""
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in OFFLINE)


# ------------------------------------------------------------------------------------------------------ one address


def fetch(url: str, to: Path, sha256: str = "", known: str = "") -> Iterator[Done]:
    """Downloads ``url`` to ``to``, by way of ``to``.part, which an interrupted download leaves to be resumed.

    ``sha256`` is what the file was published with, ``known`` what it had when it was first downloaded; a file that
    has another one is deleted. Raises Gen3DError for that, an address that is not https, a refusal, a web page in
    the file's place, a connection that stays broken, and a full disk.
    """
    _require_safe(url)
    part = to.with_name(f"{to.name}.part")
    failures = 0
    while True:
        before = _size(part)
        try:
            yield from _transfer(url, part)
            break
        except requests.RequestException as error:
            failures = 1 if _size(part) > before else failures + 1
            if failures >= TRIES:
                cause = f"{url} cannot be downloaded: {_reason(error)}; {_size(part):,} bytes are there."
                raise Gen3DError(cause, RESUME, field="download") from error
            time.sleep(PAUSE)
    found = sha256_of(part)
    if found != (sha256 or known or found):
        part.unlink()
        _etag_file(part).unlink(missing_ok=True)
        cause = f"{url} is not the file {'that was published' if sha256 else 'it was before'}: its sha256 is {found}."
        raise Gen3DError(cause, "It was deleted. Try again later, or take the file from elsewhere.", field="download")
    with disk_errors(to):
        with open(part, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(part, to)
    _etag_file(part).unlink(missing_ok=True)


def _transfer(url: str, part: Path) -> Iterator[Done]:
    """One request, for what is missing. Raises requests.RequestException for what may be better the next time."""
    have = _size(part)
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    with requests.get(url, stream=True, timeout=TIMEOUT, headers=headers) as response:
        for seen in (*response.history, response):
            _require_safe(str(seen.url))
        if response.status_code == 416 and response.headers.get("Content-Range") == f"bytes */{have}":
            return  # it was complete
        if response.status_code != 416:
            _require_file(url, response)
        if have and not _continues(response, part, have):
            part.unlink()
            if response.status_code != 200:
                raise requests.ConnectionError("the server could not go on where the download was")
            have = 0
        length = int(response.headers.get("Content-Length") or 0)
        total = have + length if length else 0
        with disk_errors(part):
            require_space(part.parent, length)
            if not have:
                _etag_file(part).write_text(response.headers.get("ETag", ""), "utf-8")
            with open(part, "ab" if have else "wb") as file:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    have += len(chunk)
                    yield Done(part.name.removesuffix(".part"), have, total)
        if total and have != total:
            raise requests.ConnectionError(f"{total - have:,} bytes are missing")


def _continues(response: requests.Response, part: Path, have: int) -> bool:
    """Whether this is the rest of the very file whose beginning is there."""
    kept = _etag_file(part).read_text("utf-8") if _etag_file(part).exists() else ""
    same = not kept or response.headers.get("ETag", kept) == kept
    return (
        response.status_code == 206 and same and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
    )


def _require_file(url: str, response: requests.Response) -> None:
    code = response.status_code
    if code == 429 or code >= 500:
        raise requests.HTTPError(f"the server answers {code} {response.reason}", response=response)
    if code not in (200, 206):
        cause = f"{url} cannot be downloaded: the server answers {code} {response.reason}."
        raise Gen3DError(
            cause, "It may have moved; a file from elsewhere works too: `gen3d models use`.", field="download"
        )
    if response.headers.get("Content-Type", "").startswith("text/html"):
        cause = f"{url} answers with a web page instead of the file."
        raise Gen3DError(cause, "Look at it in a browser: a network's login page may be in between.", field="download")


def _require_safe(url: str) -> None:
    address = urlsplit(url)
    if address.scheme != "https" and not (address.scheme == "http" and address.hostname in LOCAL):
        raise Gen3DError(f"{url} is not an https address.", "Only encrypted downloads are made.", field="download")


def _etag_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: BaseException) -> str:
    """The innermost words, without the addresses of Python objects."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return re.sub(r"<[^>]*>:? ?", "", str(error)) or type(error).__name__


# ---------------------------------------------------------------------------------------------- the Hugging Face hub


@dataclass(frozen=True)
class Snapshot:
    """Files of one commit of a repository, in the hub's cache. ``files``: sha256 by path within the folder."""

    folder: Path
    revision: str
    files: dict[str, str]


def cached(repository: str, revision: str, files: tuple[str, ...]) -> Path | None:
    """The folder of a commit in the hub's cache, where all these files are in it. Never uses the network."""
    from huggingface_hub import try_to_load_from_cache

    folder = None
    for name in files:
        found = try_to_load_from_cache(repository, name, revision=revision)
        if not isinstance(found, str):
            return None
        folder = Path(found).parents[len(Path(name).parts) - 1]
    return folder


def fetch_repository(
    repository: str, revision: str | None, choose: Callable[[list[str], Callable[[str], Path]], list[str]]
) -> Generator[Done, None, Snapshot]:
    """Downloads chosen files of a repository into the hub's cache and checks them against the hub's own hashes.

    ``choose(names, get)`` picks from all file names of the commit; ``get(name)`` gives it a file to look into.
    Raises Gen3DError for a repository that is gone or closed, no connection, damage, and a full disk.
    """

    def work(tell: Callable[[Done], None]) -> Snapshot:
        from huggingface_hub import hf_hub_download, snapshot_download

        listed = snapshot_download(repository, revision=revision, dry_run=True)
        commit = listed[0].commit_hash if listed else ""

        def get(name: str) -> Path:
            return Path(hf_hub_download(repository, name, revision=commit, tqdm_class=_bar(name, tell)))

        names = set(choose([file.filename for file in listed], get))
        chosen = [file for file in listed if file.filename in names]
        missing = sum(file.file_size or 0 for file in chosen if file.will_download)
        home = _cache_folder()
        with disk_errors(home):
            home.mkdir(parents=True, exist_ok=True)
            require_space(home, missing)
            paths = {file.filename: get(file.filename) for file in chosen}
        folder = next(iter(paths.values())).parents[len(Path(next(iter(paths))).parts) - 1]
        return Snapshot(folder, commit, {name: _checked(repository, name, path) for name, path in paths.items()})

    try:
        return (yield from reports(work))
    except Gen3DError:
        raise
    except Exception as error:
        raise _refused(repository, error) from error


def _checked(repository: str, name: str, path: Path) -> str:
    """The file's sha256. The cache names large files by the hash the hub has of them."""
    found, blob = sha256_of(path), path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name) and blob.name != found:
        blob.unlink()
        path.unlink(missing_ok=True)
        raise Gen3DError(f"{name} of {repository} was damaged on its way, and deleted.", RESUME, field="download")
    return found


def _bar(name: str, tell: Callable[[Done], None]) -> type[Any]:
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        """What the hub's library takes for a progress bar."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            self.n += n or 0
            tell(Done(name, int(self.n), int(self.total or 0)))
            return None

    return Bar


def _cache_folder() -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def _refused(repository: str, error: Exception) -> Gen3DError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    elsewhere = "Another model, or a folder with a copy of it, works too: `gen3d models use NAME FOLDER`."
    if isinstance(error, GatedRepoError):
        step = f"Accept its terms on its page and log in with `hf auth login`. {elsewhere}"
        return Gen3DError(f"{repository} is given only to those who accepted its terms.", step, field="download")
    if isinstance(error, RepositoryNotFoundError | RevisionNotFoundError):
        return Gen3DError(f"{repository} is not (or no longer) on the Hugging Face hub.", elsewhere, field="download")
    cause = f"{repository} cannot be downloaded: {_reason(error).splitlines()[0]}"
    return Gen3DError(f"{cause.rstrip('.')}.", RESUME, field="download")
