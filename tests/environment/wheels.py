# SPDX-License-Identifier: GPL-3.0-or-later
"""Small packages to install, so that a real pip is done in a second."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path
from typing import Any

from blender_gen3d.environment.installation import Wanted


def wheel(folder: Path, name: str, version: str, size: int = 1000, *, fails: bool = False) -> Path:
    """A wheel with one module, and some ``size`` bytes in files; one that ``fails`` cannot be imported."""
    info, path = f"{name}-{version}.dist-info", folder / f"{name}-{version}-py3-none-any.whl"
    files = {
        f"{name}/__init__.py": b"raise ImportError('it is damaged')\n" if fails else b"VALUE = 1\n",
        **{f"{name}/data{number}.bin": bytes(1000) for number in range(size // 1000)},
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = [f"{file},sha256={_hash(data)},{len(data)}" for file, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file, data in files.items():
            archive.writestr(file, data)
    return path


def _hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def wanted(folder: Path) -> Wanted:
    """What to install: a torch, and two packages with many files, from wheels in ``folder``."""
    return Wanted(**options(folder))


def options(folder: Path) -> dict[str, Any]:
    """The same, for a Wanted of whatever package the add-on is in."""
    wheels = folder / "wheels"
    wheel(wheels, "torch", "2.13.0+cpu", 400_000)
    wheel(wheels, "little", "1.0", 400_000)
    wheel(wheels, "other", "2.0", 400_000)
    requirements = folder / "requirements.txt"
    requirements.write_text("little==1.0\nother==2.0\ntorch==2.13.0\n", "utf-8")
    count = "assert all(len(os.listdir(m.__path__[0])) >= 401 for m in (torch, little, other))"
    check = ("-c", f"import os, torch, little, other; {count}")
    return {"torch": "cpu", "wheels": str(wheels), "online": False, "requirements": requirements, "check": check}
