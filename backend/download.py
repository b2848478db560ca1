# SPDX-License-Identifier: GPL-3.0-or-later
"""Files from the network: resumed, checked, with progress, and never half there under their final name.

Nothing here decides whether to download: whoever calls has been told to by the user. A download is a generator; who
stops iterating has cancelled, and the same call goes on where it was. HTTP is done by ``requests``, which respects
the proxy variables and checks certificates. The Hugging Face hub is asked through its own library, with the user's
endpoint and login; its files are downloaded here, because its library begins an interrupted file anew, but what is
in its cache (HF_HOME) is found there.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests

from .errors import Gen3DError
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


def fetch(
    url: str, to: Path, sha256: str = "", known: str = "", headers: Mapping[str, str | bytes] | None = None
) -> Iterator[Done]:
    """Downloads ``url`` to ``to``, by way of ``to``.part, which an interrupted download leaves to be resumed.

    ``sha256`` is what the file was published with, ``known`` what it had when it was first downloaded, or has where
    it comes from; a file that has another one is deleted. ``headers`` go to the first address; logins stay with it.
    Raises Gen3DError for a wrong file, an address that is not https, a refusal, a web page in the file's place, a
    connection that stays broken, and a full disk.
    """
    _require_safe(url)
    part = to.with_name(f"{to.name}.part")
    failures = 0
    while True:
        before = _size(part)
        try:
            yield from _transfer(url, part, headers or {})
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
        cause = f"{url} is not the file {'that was published' if sha256 else 'it should be'}: its sha256 is {found}."
        raise Gen3DError(cause, "It was deleted. Try again later, or take the file from elsewhere.", field="download")
    with disk_errors(to):
        with open(part, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(part, to)
    _etag_file(part).unlink(missing_ok=True)


def _transfer(url: str, part: Path, headers: Mapping[str, str | bytes]) -> Iterator[Done]:
    """One request, for what is missing. Raises requests.RequestException for what may be better the next time."""
    have = _size(part)
    headers = {**headers, "Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
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
class Commit:
    """What a repository holds: size in bytes and sha256 ("" where the hub does not have it) by file."""

    repository: str
    revision: str
    files: dict[str, tuple[int, str]]


def look_up(repository: str, revision: str | None = None) -> Commit:
    """Asks the hub for a repository at a commit, or at its newest. One small request.

    Raises Gen3DError for a repository that is gone or closed, and no connection.
    """
    from huggingface_hub import HfApi

    try:
        facts = HfApi().model_info(repository, revision=revision, files_metadata=True, timeout=TIMEOUT[1])
    except Exception as error:
        raise _refused(repository, error) from error
    files = {file.rfilename: (file.size or 0, file.lfs.sha256 if file.lfs else "") for file in facts.siblings or ()}
    return Commit(repository, facts.sha or "", files)


def fetch_from_hub(commit: Commit, file: str, to: Path, sha256: str = "") -> Iterator[Done]:
    """Downloads one file of a commit, as ``fetch`` does. One that is there and has the right size and hash stays."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    size, known = commit.files[file]
    if to.exists() and to.stat().st_size == size and sha256_of(to) == (sha256 or known or sha256_of(to)):
        return
    with disk_errors(to):
        to.parent.mkdir(parents=True, exist_ok=True)
        to.unlink(missing_ok=True)
    url = hf_hub_url(commit.repository, file, revision=commit.revision)
    yield from fetch(url, to, sha256, known, build_hf_headers())


def cached(repository: str, revision: str, files: Collection[str]) -> Path | None:
    """The folder of a commit in the hub's own cache, where all these files are in it. Never uses the network."""
    from huggingface_hub import try_to_load_from_cache

    folder = None
    for name in files:
        found = try_to_load_from_cache(repository, name, revision=revision)
        if not isinstance(found, str):
            return None
        folder = Path(found).parents[len(Path(name).parts) - 1]
    return folder


def _refused(repository: str, error: Exception) -> Gen3DError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    elsewhere = "Another model, or a folder with a copy of it, works too: `gen3d models use NAME FOLDER`."
    if isinstance(error, GatedRepoError):
        step = f"Accept its terms on its page and log in with `hf auth login`. {elsewhere}"
        return Gen3DError(f"{repository} is given only to those who accepted its terms.", step, field="download")
    if isinstance(error, RepositoryNotFoundError | RevisionNotFoundError):
        return Gen3DError(f"{repository} is not (or no longer) on the Hugging Face hub.", elsewhere, field="download")
    cause = f"{repository} cannot be looked up on the Hugging Face hub: {_reason(error).splitlines()[0].rstrip('.')}."
    return Gen3DError(cause, RESUME, field="download")
