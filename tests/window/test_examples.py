# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs of examples/ as a user of an installed Blender runs them, without a window: the extension installed from
its zip, the backend this checkout's own. Blenders that are Python packages do it in tests/blender."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import build
from blender_gen3d.connection import launcher

from .story import BLENDERS, ROOT, VERSIONS, places_of
from .window import entering

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

QUICK = {"weights": "embedded", "steps": 6, "points": 256, "resolution": 48, "device": "cpu"}


class Installed:
    """A Blender with the extension, and preferences and data of its own."""

    def __init__(self, blender: build.Blender, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.command = [*entering(blender), blender.command[0] if len(blender.command) == 1 else "blender"]
        shared = " ".join(map(str, (folder, ROOT, *places_of(sys.executable))))
        self.variables = dict(os.environ) | {"GEN3D_SHARED": shared, "BLENDER_USER_RESOURCES": str(folder / "user")}
        done = self.run("--command", "extension", "install-file", "-r", "user_default", "-e", build.build_zip(folder))
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [*self.command, *map(str, arguments)]
        return subprocess.run(command, env=self.variables, capture_output=True, text=True, timeout=600)

    def example(self, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        start = ["--background", "--python-exit-code", 3, "--python", ROOT / "examples" / name, "--"]
        return self.run(*start, *arguments, "--home", self.home, "--python", sys.executable)


@pytest.fixture(params=BLENDERS, ids=VERSIONS)
def installed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installed]:
    made = Installed(request.param, tmp_path)
    yield made
    launcher.end(made.home)


def test_a_table_of_prompts_becomes_a_folder_of_objects(installed: Installed) -> None:
    out, table = installed.folder / "objects", installed.folder / "prompts.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["prompt", *QUICK])
        writer.writeheader()
        writer.writerows([{"prompt": "a red mug", **QUICK}, {"prompt": "xylograph", **QUICK}])
    done = installed.example("batch_generate.py", table, "--out", out)
    assert done.returncode == 1, done.stdout + done.stderr
    assert all((out / f"a_red_mug.{kind}").stat().st_size for kind in ("blend", "glb", "json", "png"))
    assert "a_red_mug: made." in done.stdout and "knows none of the words" in done.stdout
    again = installed.example("batch_generate.py", table, "--out", out)
    assert "a_red_mug: there already." in again.stdout and "Traceback" not in done.stderr + again.stderr


def test_a_scene_is_copied(installed: Installed) -> None:
    out = installed.folder / "copy"
    options = ["--objects", "Cube", "--views", 24, "--size", 96, "--samples", 4, "--steps", 200]
    done = installed.example("capture_and_train.py", "--out", out, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((out / "facts.json").read_text("utf-8"))["psnr"] > 15.0
    assert all((out / f"copy.{kind}").stat().st_size > 10_000 for kind in ("blend", "glb"))
    wrong = installed.example("capture_and_train.py", "--out", installed.folder / "other", "--objects", "Nobody")
    assert wrong.returncode == 2 and "There is no object 'Nobody' in the scene." in wrong.stderr
