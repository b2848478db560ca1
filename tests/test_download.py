# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads against a real server that breaks, lies and stalls: the file comes whole, or not at all."""

from __future__ import annotations

import hashlib
import os
import random
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from backend import download
from backend.download import Done, fetch
from backend.errors import Gen3DError
from backend.storage import DISK_FULL, RESERVE

from .web_server import Page, WebServer

BODY = random.Random(3).randbytes(200_000)
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(download, "CHUNK", 4096)
    made = WebServer()
    made.pages["/w.pt"] = Page(BODY, etag='"1"')
    yield made
    made.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refused(server: WebServer, to: Path, words: str, sha256: str = "", known: str = "", url: str = "") -> Gen3DError:
    with pytest.raises(Gen3DError, match=words) as caught:
        list(fetch(url or f"{server.url}/w.pt", to, sha256, known))
    assert not to.exists()
    return caught.value


def test_a_file_comes_with_progress_and_leaves_nothing_else(server: WebServer, tmp_path: Path) -> None:
    told = list(fetch(f"{server.url}/w.pt", tmp_path / "w.pt", SHA))
    assert (tmp_path / "w.pt").read_bytes() == BODY and names(tmp_path) == ["w.pt"]
    assert [done.bytes for done in told] == sorted({done.bytes for done in told})
    assert len(told) > 20 and told[-1] == Done("w.pt", len(BODY), len(BODY))


@pytest.mark.parametrize("tenth", range(10))
def test_a_download_killed_anywhere_goes_on_where_it_was(server: WebServer, tmp_path: Path, tenth: int) -> None:
    steps = fetch(f"{server.url}/w.pt", tmp_path / "w.pt", SHA)
    done = 0
    while done <= tenth * len(BODY) // 10:
        done = next(steps).bytes
    steps.close()  # type: ignore[attr-defined]
    assert names(tmp_path) == ["w.pt.part", "w.pt.part.etag"]
    have = (tmp_path / "w.pt.part").stat().st_size
    list(fetch(f"{server.url}/w.pt", tmp_path / "w.pt", SHA))
    assert (tmp_path / "w.pt").read_bytes() == BODY and names(tmp_path) == ["w.pt"]
    assert [wanted for _, _, wanted in server.asked] == ["", f"bytes={have}-"]


def test_a_connection_that_breaks_again_and_again_still_brings_the_file(server: WebServer, tmp_path: Path) -> None:
    server.pages["/w.pt"].cut = 30_000
    list(fetch(f"{server.url}/w.pt", tmp_path / "w.pt", SHA))
    assert (tmp_path / "w.pt").read_bytes() == BODY and len(server.asked) == 7


def test_a_file_that_was_complete_but_not_renamed_is_taken(server: WebServer, tmp_path: Path) -> None:
    (tmp_path / "w.pt.part").write_bytes(BODY)
    list(fetch(f"{server.url}/w.pt", tmp_path / "w.pt", SHA))
    assert (tmp_path / "w.pt").read_bytes() == BODY and len(server.asked) == 1


@pytest.mark.parametrize("fault", ["ignored range", "other file", "too long"])
def test_what_cannot_be_resumed_begins_again(server: WebServer, tmp_path: Path, fault: str) -> None:
    (tmp_path / "w.pt.part").write_bytes(b"x" * (300_000 if fault == "too long" else 1000))
    (tmp_path / "w.pt.part.etag").write_text('"0"' if fault == "other file" else '"1"')
    server.pages["/w.pt"].ranges = fault != "ignored range"
    list(fetch(f"{server.url}/w.pt", tmp_path / "w.pt"))
    assert (tmp_path / "w.pt").read_bytes() == BODY


def test_a_wrong_file_is_deleted(server: WebServer, tmp_path: Path) -> None:
    error = refused(server, tmp_path / "w.pt", "not the file that was published", sha256="0" * 64)
    assert SHA in error.cause and names(tmp_path) == []
    refused(server, tmp_path / "w.pt", "not the file it should be", known="0" * 64)
    assert names(tmp_path) == []


def test_a_server_that_is_gone_is_said_and_what_came_is_kept(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w.pt.part").write_bytes(BODY[:500])
    monkeypatch.setattr(download, "TIMEOUT", (0.5, 0.2))
    server.pages["/w.pt"].status = 503
    assert "503" in refused(server, tmp_path / "w.pt", "500 bytes are there").cause
    assert len(server.asked) == download.TRIES
    server.pages["/w.pt"] = Page(BODY, pause=1.0)
    assert "timed out" in refused(server, tmp_path / "w.pt", "cannot be downloaded").cause.lower()
    server.close()
    error = refused(server, tmp_path / "w.pt", "refused")
    assert "goes on where it was" in error.next_step and "0x" not in error.cause
    assert (tmp_path / "w.pt.part").read_bytes() == BODY[: (tmp_path / "w.pt.part").stat().st_size] != b""


def test_refusals_are_not_tried_again(server: WebServer, tmp_path: Path) -> None:
    for status in (404, 403, 401):
        server.pages["/w.pt"].status = status
        server.asked.clear()
        assert str(status) in refused(server, tmp_path / "w.pt", "the server answers").cause
        assert len(server.asked) == 1 and names(tmp_path) == []
    server.pages["/w.pt"] = Page(b"<html>Log in", kind="text/html; charset=utf-8")
    refused(server, tmp_path / "w.pt", "web page")
    assert names(tmp_path) == []


def test_redirects_are_followed_to_safe_places_only(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = server.url.replace("127.0.0.1", "localhost")
    server.pages["/moved"] = Page(status=302, headers={"Location": f"{target}/w.pt"})
    list(fetch(f"{server.url}/moved", tmp_path / "w.pt", SHA))
    assert (tmp_path / "w.pt").read_bytes() == BODY
    monkeypatch.setattr(download, "LOCAL", ("127.0.0.1",))  # now the same redirect leads to a place that is not ours
    refused(server, tmp_path / "x.pt", "localhost.* is not an https address", url=f"{server.url}/moved")
    for url in ("http://example.com/w.pt", "ftp://localhost/w.pt", "file:///etc/passwd", "w.pt"):
        refused(server, tmp_path / "x.pt", "not an https address", url=url)
    assert names(tmp_path) == ["w.pt"]


def test_a_proxy_is_used_where_one_is_set(server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = WebServer()
    proxy.pages[f"{server.url}/w.pt"] = Page(BODY)
    monkeypatch.setenv("http_proxy", proxy.url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    try:
        if requests.utils.should_bypass_proxies(server.url, None):
            pytest.skip("this system never uses a proxy for its own addresses")
        list(fetch(f"{server.url}/w.pt", tmp_path / "w.pt", SHA))
    finally:
        proxy.close()
    assert len(proxy.asked) == 1 and not server.asked


def test_a_full_disk_is_said(server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.path.exists("/dev/full"):
        os.symlink("/dev/full", tmp_path / "w.pt.part")
        assert refused(server, tmp_path / "w.pt", "Disk full").field == DISK_FULL
        (tmp_path / "w.pt.part").unlink()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(2**40, 2**40, RESERVE + 1000))
    assert refused(server, tmp_path / "w.pt", "Disk full").field == DISK_FULL
    assert not (tmp_path / "w.pt.part").exists()


@pytest.mark.parametrize("name", download.OFFLINE)
def test_offline_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for other in download.OFFLINE:
        monkeypatch.delenv(other, raising=False)
    assert not download.offline()
    for value, expected in (("1", True), ("true", True), ("on", True), ("0", False), ("", False)):
        monkeypatch.setenv(name, value)
        assert download.offline() is expected
