# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at everything the product needs on this machine, and says what to do about what is missing."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import runtime, storage, worker
from .errors import Gen3DError
from .home import list_of_jobs, runtime_file
from .jobs import JobStore
from .version import VERSION

LIBRARIES = (
    "numpy", "scipy", "numba", "PIL", "trimesh", "skimage", "xatlas", "fast_simplification", "safetensors",
    "websockets", "transformers", "diffusers", "huggingface_hub", "requests",
)  # fmt: skip
GIB = 2**30


@dataclass(frozen=True)
class Check:
    """One finding. ``state``: "ok"; "note" for what works with less; "fault" for what keeps jobs from running."""

    name: str
    state: str
    text: str
    next_step: str = ""


def examine(home: Path) -> list[Check]:
    """Every check in turn. None of them raises: a check that fails unexpectedly is a fault itself."""
    checks: tuple[tuple[str, Callable[[], Check]], ...] = (
        ("python", python),
        ("torch", torch_library),
        ("device", device),
        ("memory", main_memory),
        ("libraries", libraries),
        ("ffmpeg", ffmpeg),
        ("home", lambda: writable(home)),
        ("disk", lambda: disk(home)),
        ("jobs", lambda: job_list(home)),
        ("backend", lambda: backend(home)),
    )
    found = []
    for name, check in checks:
        try:
            found.append(check())
        except Gen3DError as error:
            found.append(Check(name, "fault", error.cause, error.next_step))
        except Exception as error:
            found.append(Check(name, "fault", f"{type(error).__name__}: {error}", "Repair the installation."))
    return found


def python() -> Check:
    text = f"Gen3D {VERSION}, Python {platform.python_version()} in {sys.executable}"
    if sys.version_info < (3, 11) or sys.maxsize < 2**32:
        return Check("python", "fault", text, "Use a 64-bit Python 3.11 or newer.")
    return Check("python", "ok", text)


def torch_library() -> Check:
    try:
        torch: Any = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        return Check("torch", "fault", f"torch cannot be loaded: {error}", "Install the backend's requirements again.")
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    return Check("torch", "ok", f"torch {torch.__version__}, {built}")


def device() -> Check:
    """Computes something on the best device. Where there is a GPU that cannot be used, says why."""
    import torch

    devices = worker.find_devices()
    text = "; ".join(f"{found['id']} ({found['name']}{_gib(found['memory'])})" for found in devices)
    best = devices[0]["type"]
    try:
        ones = torch.ones(64, 64, device=best)
        if float((ones @ ones).sum()) != 64.0**3:
            return Check("device", "fault", f"{text}; it computes wrongly", "Update the graphics driver.")
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        return Check("device", "fault", f"{text}; it fails: {first}", "Update the graphics driver, or use the CPU.")
    if best != "cpu":
        return Check("device", "ok", text)
    return _why_no_gpu(f"{text}; no GPU in use, the CPU works", torch.version.cuda)


def _why_no_gpu(text: str, cuda: str | None) -> Check:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    driver = _driver()
    if driver is None:
        return Check("device", "note", f"{text}; no NVIDIA driver was found", "Install one if the machine has its GPU.")
    text += f"; NVIDIA driver {driver} is there"
    if visible is not None:
        step = "Unset CUDA_VISIBLE_DEVICES, or name a GPU that exists."
        return Check("device", "note", f"{text}, but CUDA_VISIBLE_DEVICES is {visible!r}", step)
    if cuda is None:
        return Check("device", "note", f"{text}, but torch was built without CUDA", "Install torch with CUDA.")
    step = "Update the NVIDIA driver, or install a torch for an older CUDA."
    return Check("device", "note", f"{text}, but not usable by torch for CUDA {cuda}: probably too old", step)


def _driver() -> str | None:
    """The version of the NVIDIA driver, or None where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        return "of unknown version"
    return lines[0] if lines else "of unknown version"


def main_memory() -> Check:
    try:
        import psutil
    except ImportError:
        return Check("memory", "note", "the library psutil, which tells it, is missing")
    size = psutil.virtual_memory().total
    if size < 4 * GIB:
        return Check("memory", "note", f"{size / GIB:.1f} GiB", "Keep to small pictures and low mesh resolutions.")
    return Check("memory", "ok", f"{size / GIB:.1f} GiB, {os.cpu_count()} threads")


def libraries() -> Check:
    missing = []
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:
            missing.append(f"{name} ({error})")
    if missing:
        return Check("libraries", "fault", f"not loadable: {'; '.join(missing)}", "Install the requirements again.")
    return Check("libraries", "ok", f"{len(LIBRARIES)} of {len(LIBRARIES)} load")


def ffmpeg() -> Check:
    try:
        path = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
        out = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (ImportError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        return Check("ffmpeg", "note", f"not usable: {error}", "Turntable films need it: install imageio-ffmpeg.")
    return Check("ffmpeg", "ok", out.splitlines()[0])


def writable(home: Path) -> Check:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(b"gen3d")
    except OSError as error:
        step = "Make it writable, or set GEN3D_HOME to another folder."
        return Check("home", "fault", f"{home} cannot be written: {error.strerror}", step)
    return Check("home", "ok", str(home))


def disk(home: Path) -> Check:
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < storage.RESERVE:
        return Check("disk", "fault", f"{free / 2**20:.0f} MiB free at {home}", "Free some space.")
    if free < 2 * GIB:
        return Check("disk", "note", f"{free / GIB:.1f} GiB free at {home}", "Long jobs may need more.")
    return Check("disk", "ok", f"{free / GIB:.0f} GiB free")


def job_list(home: Path) -> Check:
    if not list_of_jobs(home).exists():
        return Check("jobs", "ok", "none yet")
    store = JobStore(home)
    states = [job.state for job in store.all()]
    store.close()
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return Check("jobs", "ok", counts or "none yet")


def backend(home: Path) -> Check:
    path = runtime_file(home)
    if not path.exists():
        return Check("backend", "ok", "not running; Blender or `gen3d serve` starts it")
    running = runtime.read(path)
    try:
        socket.create_connection((running.host, running.port), timeout=3.0).close()
    except OSError as error:
        text = f"{path} names process {running.pid}, which does not answer on {running.authority}: {error}"
        return Check("backend", "note", text, "Start it again: Blender or `gen3d serve`.")
    return Check("backend", "ok", f"version {running.version}, process {running.pid}, on {running.authority}")


def _gib(size: int | None) -> str:
    return f", {size / GIB:.1f} GiB" if size else ""
