# SPDX-License-Identifier: GPL-3.0-or-later
"""``gen3d models`` from an empty machine to installed weights, against servers of our own; and everything between."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from backend import __main__ as cli
from backend import download, models, weights
from backend.errors import Gen3DError
from backend.guidance.clip import Clip
from backend.guidance.text_to_image import TextToImage
from backend.storage import DISK_FULL, RESERVE, FileLock
from backend.weights import Published

from .guidance import tiny
from .web_server import Page, WebServer, serve_repository

STATE = {"a": torch.randn(100, 100), "b": torch.arange(3)}
COMMIT = "5" * 40


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in download.OFFLINE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GEN3D_HOME", str(tmp_path / "home é"))
    monkeypatch.setattr(download, "PAUSE", 0.0)
    return tmp_path / "home é" / "models"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """Serves sdf.pt, and stands in for the Hugging Face hub."""
    made = WebServer()
    monkeypatch.setattr(download, "CHUNK", 4096)
    torch.save(STATE, tmp_path / "sdf.pt")
    made.pages["/sdf.pt"] = Page((tmp_path / "sdf.pt").read_bytes(), etag='"1"')
    (tmp_path / "sdf.pt").unlink()
    monkeypatch.setitem(weights.PUBLISHED, "sdf", Published("point-e", 45_000, f"{made.url}/sdf.pt"))
    for name, value in {
        "ENDPOINT": made.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": made.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "hub"),
    }.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    yield made
    made.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = cli.main(["models", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def states(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    return {row["name"]: row["state"] for row in run(capsys, "list")[1]["models"]}


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ------------------------------------------------------------------------------------------------- a published pickle


def test_weights_are_installed_used_verified_and_removed(
    server: WebServer, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert states(capsys)["sdf"] == "absent"
    code, content = run(capsys, "install", "sdf")
    assert code == 0 and content == {"installed": {"sdf": str(home / "sdf" / "model.safetensors")}}
    assert names(home / "sdf") == ["lock.json", "model.safetensors"]
    found = weights.state_dict("sdf")
    assert found.keys() == STATE.keys() and all(torch.equal(found[name], STATE[name]) for name in STATE)
    assert states(capsys)["sdf"] == "installed" and len(server.asked) == 1
    assert run(capsys, "install", "sdf")[0] == 0 and len(server.asked) == 1  # nothing to do
    assert run(capsys, "verify") == (0, {"damaged": {"sdf": []}})
    lock = json.loads((home / "sdf" / "lock.json").read_text())
    assert lock["first"] == hashlib.sha256(server.pages["/sdf.pt"].body).hexdigest()
    assert run(capsys, "remove", "sdf") == (0, {"removed": ["sdf"]})
    assert states(capsys)["sdf"] == "absent" and names(home) == []


def test_damage_is_found_and_repaired_with_the_file_of_the_first_time_only(
    server: WebServer, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "install", "sdf")
    path = home / "sdf" / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\x7f")
    assert run(capsys, "verify") == (1, {"damaged": {"sdf": ["model.safetensors"]}})
    assert cli.main(["models", "verify"]) == 1
    assert "damaged" in (out := capsys.readouterr().out) and "gen3d models install sdf" in out
    page = server.pages["/sdf.pt"]
    server.pages["/sdf.pt"] = Page(b"another file", etag='"2"')
    code, content = run(capsys, "install", "sdf")
    assert code == 2 and "not the file it should be" in content["error"]["cause"]
    assert names(home / "sdf") == ["lock.json", "model.safetensors"]
    server.pages["/sdf.pt"] = page
    assert run(capsys, "install", "sdf")[0] == 0 and path.read_bytes() == whole


def test_an_interrupted_install_is_partial_and_goes_on(
    server: WebServer, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(download, "CHUNK", 4096)
    steps = models.install("sdf")
    assert next(steps).bytes == 4096
    with pytest.raises(Gen3DError, match="by another process"):
        next(models.install("sdf"))
    steps.close()
    assert states(capsys)["sdf"] == "partial" and weights.installed("sdf") is None
    assert run(capsys, "install", "sdf")[0] == 0 and server.asked[-1][2].startswith("bytes=")
    assert names(home / "sdf") == ["lock.json", "model.safetensors"]


@pytest.mark.parametrize("switch", ["--offline", *download.OFFLINE])
def test_offline_nothing_is_asked_of_the_network(
    server: WebServer, home: Path, switch: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [switch] if switch.startswith("-") else []
    if not arguments:
        monkeypatch.setenv(switch, "1")
    for name in ("sdf", "clip-vit-b32", "some/pipeline"):
        code, content = run(capsys, "install", name, *arguments)
        assert code == 2 and content["error"]["field"] == "offline" and "switched off" in content["error"]["cause"]
    assert server.asked == [] and names(home) == []


def test_a_local_copy_that_is_gone_is_missing_and_can_be_installed(
    server: WebServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(STATE, tmp_path / "mine.pt")
    assert run(capsys, "use", "sdf", str(tmp_path / "mine.pt")) == (
        0,
        {"installed": {"sdf": str(tmp_path / "mine.pt")}},
    )
    assert states(capsys)["sdf"] == "local"
    (tmp_path / "mine.pt").unlink()
    assert states(capsys)["sdf"] == "missing"
    assert run(capsys, "install", "sdf")[0] == 0 and states(capsys)["sdf"] == "installed"


def test_what_is_no_weights_is_refused_and_leaves_nothing(
    server: WebServer, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Canary:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "executed"),))

    torch.save({"a": Canary()}, tmp_path / "evil.pt")
    for body, words in (
        ((tmp_path / "evil.pt").read_bytes(), "could run code"),
        (server.pages["/sdf.pt"].body[:-500], "damaged"),
        (b"", "damaged"),
    ):
        server.pages["/sdf.pt"] = Page(body)
        code, content = run(capsys, "install", "sdf")
        assert code == 2 and words in content["error"]["cause"] and names(home) == []
    assert not (tmp_path / "executed").exists()


def test_a_pinned_hash_is_kept(
    server: WebServer, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for sha256, code in (("0" * 64, 2), (hashlib.sha256(server.pages["/sdf.pt"].body).hexdigest(), 0)):
        entry = Published("point-e", 45_000, f"{server.url}/sdf.pt", sha256=(("sdf.pt", sha256),))
        monkeypatch.setitem(weights.PUBLISHED, "sdf", entry)
        assert run(capsys, "install", "sdf")[0] == code
        assert names(home) == (["sdf"] if code == 0 else [])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("file", ["sdf.pt.part", "lock.json.part"])
def test_a_disk_that_fills_up_leaves_nothing_under_a_final_name(server: WebServer, home: Path, file: str) -> None:
    (home / "sdf").mkdir(parents=True)
    os.symlink("/dev/full", home / "sdf" / file)
    with pytest.raises(Gen3DError, match="Disk full") as caught:
        list(models.install("sdf"))
    assert caught.value.field == DISK_FULL and weights.installed("sdf") is None
    if (home / "sdf" / "sdf.pt.part").is_symlink():
        (home / "sdf" / "sdf.pt.part").unlink()
    asked = len(server.asked)
    list(models.install("sdf"))
    assert weights.installed("sdf") is not None and names(home / "sdf") == ["lock.json", "model.safetensors"]
    assert len(server.asked) == asked + (file == "sdf.pt.part")  # what was downloaded is not downloaded again


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_tensors_that_cannot_be_written_leave_the_old_ones(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "model.safetensors"
    models._keep(STATE, path)
    whole, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(Gen3DError, match="Disk full"):
            models._keep(STATE, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == whole and names(tmp_path) == ["model.safetensors"]


def test_the_space_is_looked_at_before(server: WebServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(2**40, 2**40, RESERVE + 80_000))
    with pytest.raises(Gen3DError, match="Disk full"):
        list(models.install("sdf"))
    assert server.asked == [] and names(home) == []


# ------------------------------------------------------------------------------------------------ repositories on a hub


@pytest.fixture(scope="module")
def clip_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return files_of(tiny.write_clip(tmp_path_factory.mktemp("c") / "clip"))


@pytest.fixture(scope="module")
def drawing_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return files_of(tiny.write_text_to_image(tmp_path_factory.mktemp("d") / "draw"))


def test_a_pinned_clip_is_installed_and_repaired(
    server: WebServer,
    home: Path,
    tmp_path: Path,
    clip_files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve_repository(server, "some/clip", {**clip_files, "README.md": b"no need"}, COMMIT)
    large = clip_files["model.safetensors"]
    pins = (("model.safetensors", hashlib.sha256(large).hexdigest()),)
    entry = Published("clip", len(large), repository="some/clip", revision=COMMIT, files=(*clip_files,), sha256=pins)
    monkeypatch.setitem(weights.PUBLISHED, "clip-vit-l14", entry)
    told = list(models.install("clip-vit-l14"))
    assert told[-1].bytes and {done.file for done in told} == set(clip_files)
    assert len([done for done in told if done.file == "model.safetensors"]) > 3
    folder = weights.require("clip-vit-l14")
    assert files_of(folder) == clip_files and folder == home / "clip-vit-l14" / "files"
    assert Clip(folder).encode_text(["a red cat"]).shape == (1, tiny.DIMENSIONS)
    assert weights.damaged("clip-vit-l14") == [] and not any("README" in path for _, path, _ in server.asked)
    asked = len(server.asked)
    list(models.install("clip-vit-l14"))
    assert len(server.asked) == asked

    (folder / "model.safetensors").write_bytes(large[:-1] + b"\0\0")
    assert weights.damaged("clip-vit-l14") == ["model.safetensors"]
    list(models.install("clip-vit-l14"))
    assert weights.damaged("clip-vit-l14") == [] and files_of(folder) == clip_files

    assert run(capsys, "remove", "clip-vit-l14")[0] == 0
    assert weights.installed("clip-vit-l14") is None and not folder.exists() and names(home) == []
    pins = (("model.safetensors", "0" * 64),)
    entry = Published("clip", 1, repository="some/clip", revision=COMMIT, files=(*clip_files,), sha256=pins)
    monkeypatch.setitem(weights.PUBLISHED, "clip-vit-l14", entry)
    with pytest.raises(Gen3DError, match="not the file that was published"):
        list(models.install("clip-vit-l14"))
    assert weights.installed("clip-vit-l14") is None
    server.pages[f"/some/clip/resolve/{COMMIT}/model.safetensors"].body = b"short"
    with pytest.raises(Gen3DError, match="not the file it should be"):
        list(models.install("some/clip"))


def test_an_interrupted_repository_goes_on(
    server: WebServer, drawing_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = serve_repository(server, "some/draw", drawing_files, COMMIT)
    big = "text_encoder/model.safetensors"
    page(big).pause = 0.002
    steps = models.install("some/draw")
    while (done := next(steps)).file != "model.safetensors" or not 0 < done.bytes < len(drawing_files[big]) // 2:
        pass
    steps.close()
    assert weights.installed("some/draw") is None
    page(big).pause = 0.0
    list(models.install("some/draw"))
    assert [wanted for method, path, wanted in server.asked if path.endswith(big) and method == "GET"][-1] != ""
    assert files_of(weights.require("some/draw")) == drawing_files


def test_of_any_pipeline_only_what_is_needed_is_taken_and_its_commit_remembered(
    server: WebServer, home: Path, drawing_files: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    extra = ("model.fp16.safetensors", "whole.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
             "unet/diffusion_pytorch_model.bin", "other/model.safetensors", "code.py", "picture.png")  # fmt: skip
    serve_repository(server, "some/draw", {**drawing_files, **dict.fromkeys(extra, b"x")}, COMMIT)
    code, content = run(capsys, "install", "some/draw")
    assert code == 0 and files_of(weights.require("some/draw")) == drawing_files
    folder = weights.require("some/draw")
    assert content["installed"]["some/draw"] == str(folder)
    drawing = TextToImage(folder).draw("a red cat", steps=1)
    assert next(drawing).total == 1
    drawing.close()
    row = next(row for row in run(capsys, "list")[1]["models"] if row["name"] == "some/draw")
    assert row["state"] == "installed" and row["system"] == "hub"
    assert json.loads((home / "some--draw" / "lock.json").read_text())["revision"] == COMMIT


def test_repositories_that_are_gone_closed_or_unsafe_are_said(
    server: WebServer,
    home: Path,
    drawing_files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pickles = {name.replace(".safetensors", ".bin"): data for name, data in drawing_files.items()}
    serve_repository(server, "some/pickles", pickles, COMMIT)
    gone = Page(b"{}", 404, headers={"X-Error-Code": "RepoNotFound"})
    server.pages["/api/models/some/gone"] = gone
    closed = Page(b"{}", 403, headers={"X-Error-Code": "GatedRepo"})
    server.pages["/api/models/some/closed"] = closed
    for name, words in (("gone", "no longer"), ("closed", "accepted its"), ("pickles", "no plain safetensors")):
        code, content = run(capsys, "install", f"some/{name}")
        assert code == 2 and words in content["error"]["cause"], content
        assert "models use" in content["error"]["next_step"] and names(home) == []
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    code, content = run(capsys, "install", "some/other")
    assert code == 2 and "cannot be looked up" in content["error"]["cause"] and "\n" not in content["error"]["cause"]


def test_what_is_in_the_hubs_cache_is_not_downloaded(
    server: WebServer, home: Path, tmp_path: Path, clip_files: dict[str, bytes]
) -> None:
    serve_repository(server, "some/clip", clip_files, COMMIT)
    folder = tmp_path / "hub" / "models--some--clip" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    for name, data in clip_files.items():
        (folder / name).write_bytes(data)
    assert list(models.install("some/clip")) == [] and weights.require("some/clip") == folder
    assert all("/api/" in path for _, path, _ in server.asked) and weights.damaged("some/clip") == []
    models.remove("some/clip")
    assert weights.installed("some/clip") is None and files_of(folder) == clip_files
    (folder / "model.safetensors").write_bytes(b"damaged")
    list(models.install("some/clip"))
    assert files_of(weights.require("some/clip")) == clip_files and weights.require("some/clip") != folder


def test_a_hostile_repository_writes_nowhere_else(
    server: WebServer, tmp_path: Path, drawing_files: dict[str, bytes]
) -> None:
    index = {**json.loads(drawing_files["model_index.json"]), "..": ["a", "b"], "../..": ["a", "b"], "/tmp": ["a", "b"]}
    escapes = {"../escaped.json": b"x", "../../escaped.json": b"x", "/tmp/escaped.json": b"x"}
    files = {**drawing_files, "model_index.json": json.dumps(index).encode()}
    serve_repository(server, "some/draw", {**files, **escapes}, COMMIT)
    list(models.install("some/draw"))
    assert files_of(weights.require("some/draw")) == files and not list(tmp_path.rglob("escaped.json"))


def test_the_command_line_in_a_process_of_its_own(
    server: WebServer, tmp_path: Path, clip_files: dict[str, bytes]
) -> None:
    """Through nothing but the environment: HF_ENDPOINT, HF_HOME, GEN3D_HOME."""
    serve_repository(server, "some/clip", clip_files, COMMIT)
    environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hf")}
    command = [sys.executable, "-m", "backend", "models", "install", "some/clip"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=90)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("installed  some/clip") and str(tmp_path) in done.stdout
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------------------------------------------------- words


def test_the_list_names_everything_and_what_is_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "priors" / "point").mkdir(parents=True)
    (tmp_path / "priors" / "world").mkdir()
    (tmp_path / "priors" / "point" / "config.json").write_text("{}")
    monkeypatch.setattr(models, "PRIORS", tmp_path / "priors")
    found = states(capsys)
    assert (
        found["embedded/point"] == "embedded" and "embedded/world" not in found and set(weights.PUBLISHED) < set(found)
    )
    assert cli.main(["models"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in weights.PUBLISHED) and "point-e" in out and "MIT" in out


def test_sets_stand_for_their_members() -> None:
    assert models.expand(["sdf", "point-e", "sdf"]) == ["sdf", "base40M-textvec", "base40M", "upsample", "clip-vit-l14"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["install"], "takes names"),
        (["use", "sdf"], "takes a name and a path"),
        (["list", "sdf"], "takes nothing more"),
        (["install", "nonsense"], "neither known weights"),
        (["install", "../x"], "neither known weights"),
        (["remove", "sdf"], "not installed"),
        (["use", "nonsense", "."], "neither known weights"),
        (["fetch", "sdf"], "invalid choice"),
    ],
)
def test_wrong_words_are_told(home: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, content = run(capsys, *arguments)
    assert code == 2 and words in content["error"]["cause"] and names(home) == []


def test_a_stray_lock_does_not_hold_up(server: WebServer, home: Path) -> None:
    (home / "sdf").mkdir(parents=True)
    (home / "sdf" / ".busy").write_bytes(b"")
    held = FileLock(home / "sdf" / ".busy")
    assert held.acquire()
    with pytest.raises(Gen3DError, match="by another process"):
        list(models.install("sdf"))
    held.release()
    list(models.install("sdf"))
    assert weights.installed("sdf") is not None
