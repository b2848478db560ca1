# SPDX-License-Identifier: GPL-3.0-or-later
"""build.py: the extension's zip, its environments, and what it finds on a machine."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

import build
from tests.patience import patience

ROOT = build.ROOT
BARE = [sys.executable, "-I", "-S"]  # no site packages, no user's settings


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build.build_zip(tmp_path_factory.mktemp("zip"))


def names(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as opened:
        return opened.namelist()


def test_the_zip_has_the_same_bytes_wherever_it_is_built(extension: Path, tmp_path: Path) -> None:
    elsewhere = os.environ | {"TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    script = f"import os, pathlib, build; os.umask(0o077); print(build.build_zip(pathlib.Path({str(tmp_path)!r})))"
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=elsewhere, capture_output=True, text=True, check=True
    )
    other = Path(told.stdout.strip())
    assert other != extension
    assert other.name == extension.name
    assert hashlib.sha256(other.read_bytes()).digest() == hashlib.sha256(extension.read_bytes()).digest()


def test_the_zip_holds_addon_backend_and_wheel_and_nothing_else(extension: Path) -> None:
    with zipfile.ZipFile(extension) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
        kinds = {(entry.compress_type, entry.external_attr >> 16, entry.date_time) for entry in archive.infolist()}
    assert list(content) == sorted(content)
    assert kinds == {(zipfile.ZIP_DEFLATED, 0o100644, (1980, 1, 1, 0, 0, 0))}
    wheels = {name for name in content if name.startswith("wheels/")}
    assert [f"./{wheel}" for wheel in wheels] == build.read_toml("blender_manifest.toml")["wheels"]
    for name in content.keys() - wheels:
        origin = ROOT / name
        if not name.startswith("backend/") and name not in ("blender_manifest.toml", "LICENSE", "requirements.txt"):
            origin = ROOT / "blender_gen3d" / name
        assert origin.read_bytes() == content[name]
        assert not re.search(r"(^|/)(\.|__pycache__|tests?/|test_|torch)|\.(pyc|so|pyd|dll|whl)$", name), name
    sources = [*(ROOT / "backend").rglob("*.py"), *(ROOT / "blender_gen3d").rglob("*.py")]
    packed = {path.relative_to(ROOT).as_posix().removeprefix("blender_gen3d/") for path in sources}
    assert packed == {name for name in content if name.endswith(".py")}
    assert {"__init__.py", "backend/__init__.py", "backend/protocol.py"} <= packed


def test_the_unpacked_zip_finds_its_own_backend(extension: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(extension) as archive:
        archive.extractall(tmp_path / "gen3d")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from gen3d.bridge import protocol; print(protocol)"
    told = subprocess.run([*BARE, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "'gen3d.backend.protocol'" in told
    assert str(tmp_path / "gen3d" / "backend" / "protocol.py") in told


@pytest.mark.parametrize("version", build.BLENDER_WHEELS)
def test_blenders_own_validator_accepts_the_zip(extension: Path, version: str) -> None:
    environment = ROOT / f".venv-bpy-{version}"
    validator = next(environment.glob("**/bl_pkg/cli/blender_ext.py"), None)
    if validator is None:
        pytest.skip(f"Blender {version} is not installed here: build.py test installs it")
    command = [str(build.interpreter(environment.name)), str(validator), "validate", str(extension)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_version_everywhere(extension: Path) -> None:
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from backend.version import VERSION; print(VERSION)"
    version = subprocess.run([*BARE, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert build.read_toml("blender_manifest.toml")["version"] == version
    assert build.read_toml("pyproject.toml")["tool"]["setuptools"]["dynamic"]["version"]["attr"] == (
        "backend.version.VERSION"
    )
    assert extension.name == f"gen3d-{version}.zip"


def test_every_requirement_is_pinned_exactly_and_once() -> None:
    seen = []
    for name in ("requirements.txt", "requirements-dev.txt"):
        lines = [line for line in (ROOT / name).read_text("utf-8").splitlines() if line and not line.startswith("#")]
        for line in lines:
            assert re.fullmatch(r"[a-z0-9-]+(\.\d+)?==\d[\w.]*(; sys_platform [!=]= \"\w+\")?", line), line
        packages = [line.split("==")[0] for line in lines]
        assert packages == sorted(packages)
        seen += packages
    assert len(seen) == len(set(seen))
    assert {"torch", "numpy", "websockets", "pytest", "ruff", "mypy"} <= set(seen)


def test_a_wheel_that_is_not_the_pinned_one_is_refused_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = build.websockets_wheel()
    bad = tmp_path / "build" / "wheels" / good.name
    bad.parent.mkdir(parents=True)
    flipped = bytearray(good.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    bad.write_bytes(flipped)
    for name in ("requirements.txt", "requirements-dev.txt"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.setattr(build, "ROOT", tmp_path)
    with pytest.raises(build.BuildError, match="not the pinned file"):
        build.websockets_wheel()
    assert not bad.exists()


def test_help_needs_nothing_but_python() -> None:
    done = subprocess.run([*BARE, str(ROOT / "build.py"), "--help"], capture_output=True, text=True, check=True)
    for command in ("demo", "test", "zip", "dev-install"):
        assert f"build.py {command}" in done.stdout
    wrong = subprocess.run([*BARE, str(ROOT / "build.py"), "zip", "--what"], capture_output=True, check=False)
    assert wrong.returncode == 2


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10"])
def test_an_old_python_is_told_so_in_one_sentence(version: str) -> None:
    python = build.find_python(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    done = subprocess.run([python, str(ROOT / "build.py"), "zip"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("build.py needs Python 3.11 or newer")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(build.WINDOWS, reason="stands on shell scripts")
def test_a_python_that_is_on_path_but_does_not_run_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = "#!/bin/sh\necho 9.7 /somewhere/python9.7\n"
    for folder, script in {"broken": "#!/bin/sh\nexit 127\n", "lying": "#!/bin/sh\necho 9.6 x\n", "real": real}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "python9.7").write_text(script)
        (tmp_path / folder / "python9.7").chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join(str(tmp_path / name) for name in ("broken", "lying")))
    build.find_python.cache_clear()
    assert build.find_python("9.7") is None
    monkeypatch.setenv("PATH", os.pathsep.join(str(tmp_path / name) for name in ("broken", "lying", "real")))
    build.find_python.cache_clear()
    assert build.find_python("9.7") == "/somewhere/python9.7"
    build.find_python.cache_clear()


@pytest.mark.skipif(build.WINDOWS, reason="stands on shell scripts")
def test_named_blenders_are_found_by_running_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = tmp_path / "good blender", tmp_path / "bad"
    good.write_text("#!/bin/sh\necho Blender 4.2.1 LTS\n")
    bad.write_text("#!/bin/sh\necho Blender 4.2.1; exit 1\n")
    for program in (good, bad):
        program.chmod(0o755)
    monkeypatch.setenv("GEN3D_BLENDER", os.pathsep.join(map(str, (bad, good, tmp_path / "absent"))))
    monkeypatch.setenv("HOME", str(tmp_path))
    found = {blender.command[0]: blender.version() for blender in build.find_blenders()}
    assert found[str(good)] == "4.2.1"
    assert str(bad) not in found


def test_an_environment_is_reused_followed_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = str(build.websockets_wheel())
    step = ("--no-index", "--no-deps", wheel)
    monkeypatch.setattr(build, "ROOT", tmp_path)
    python = build.ensure("env", sys.executable, step)
    assert build.answer([str(python), "-c", "import websockets; print('there')"]) == "there\n"

    stray = tmp_path / "env" / "stray"
    stray.touch()
    start = time.monotonic()
    build.ensure("env", sys.executable, step)
    assert time.monotonic() - start < patience(0.2), "reused at once"

    changed = (*step, "--force-reinstall")
    stamps = set((tmp_path / "env").glob("gen3d-0-*"))
    build.ensure("env", sys.executable, changed)
    assert stray.exists(), "updated in place"
    assert len(set((tmp_path / "env").glob("gen3d-0-*")) | stamps) == 2
    assert not stamps & set((tmp_path / "env").glob("gen3d-0-*"))

    with pytest.raises(build.BuildError, match="pip could not fill env"):
        build.ensure("env", sys.executable, ("--no-index", "no-such-package"))
    assert stray.exists(), "what was sound is kept"
    build.ensure("env", sys.executable, step)
    assert stray.exists()

    (tmp_path / "env" / "gen3d-unfinished").touch()
    build.ensure("env", sys.executable, step)
    assert not stray.exists(), "what was interrupted is made anew"
    assert build.answer([str(python), "-c", "import websockets; print('there')"]) == "there\n"
