# SPDX-License-Identifier: GPL-3.0-or-later
"""What graphics hardware this machine has, as far as drivers and files tell; torch is not there yet to be asked."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..child import answer

Version = tuple[int, ...]

NVIDIA_QUERY = ("nvidia-smi", "--query-gpu=driver_version,compute_cap,name", "--format=csv,noheader")
_NVIDIA_ON_WINDOWS = r"C:\Windows\System32\nvidia-smi.exe"  # where the driver puts it, on PATH or not
ROCM_FILE = Path("/opt/rocm/.info/version")
AMD_NODES = Path("/sys/class/kfd/kfd/topology/nodes")  # of AMD's compute driver, one folder for each processor


@dataclass(frozen=True)
class Gpu:
    """``compute`` is NVIDIA's compute capability, (8, 6); () where it is not known."""

    name: str
    compute: Version = ()


@dataclass(frozen=True)
class Machine:
    """``system`` is "linux", "win32" or "darwin", ``processor`` "x86_64" or "arm64".

    ``driver`` is the version of NVIDIA's driver, () without one; ``nvidia`` its GPUs. ``amd``: how many GPUs AMD's
    compute driver knows; ``rocm``: the version of an installed ROCm, () without.
    """

    system: str
    processor: str
    driver: Version = ()
    nvidia: tuple[Gpu, ...] = ()
    amd: int = 0
    rocm: Version = ()


def look() -> Machine:
    """This machine. Runs nvidia-smi, which may take seconds: not for Blender's main thread."""
    said = answer(NVIDIA_QUERY, 20.0)
    if not said and sys.platform == "win32":
        said = answer((_NVIDIA_ON_WINDOWS, *NVIDIA_QUERY[1:]), 20.0)
    driver, gpus = read_nvidia(said)
    installed, nodes = "", list[str]()
    with suppress(OSError):
        installed = ROCM_FILE.read_text("utf-8")
    with suppress(OSError):
        nodes = [path.read_text("utf-8") for path in sorted(AMD_NODES.glob("*/properties"))]
    return Machine(sys.platform, processor(platform.machine()), driver, gpus, read_amd(nodes), version(installed))


def processor(name: str) -> str:
    """One name for each kind of processor: "x86_64", "arm64", or what it is called in small letters."""
    return {"amd64": "x86_64", "x64": "x86_64", "aarch64": "arm64"}.get(name.lower(), name.lower())


def read_nvidia(text: str) -> tuple[Version, tuple[Gpu, ...]]:
    """Driver version and GPUs from what NVIDIA_QUERY prints: lines like "580.65.06, 9.0, NVIDIA H200"."""
    driver: Version = ()
    gpus = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",", 2)]
        if len(parts) == 3 and version(parts[0]):
            driver = version(parts[0])
            gpus.append(Gpu(parts[2], version(parts[1])))
    return driver, tuple(gpus)


def read_amd(nodes: Sequence[str]) -> int:
    """How many GPUs there are among the "properties" of the nodes: those that have vector units."""
    return sum(int(found[1]) > 0 for node in nodes if (found := re.search(r"^simd_count (\d+)", node, re.M)))


def version(text: str) -> Version:
    """The numbers that a text begins with: "7.2.0-43" → (7, 2, 0); () where it begins with none."""
    found = re.match(r"\s*(\d+(?:\.\d+)*)", text)
    return tuple(int(number) for number in found[1].split(".")) if found else ()
