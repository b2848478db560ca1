# SPDX-License-Identifier: GPL-3.0-or-later
"""Understands what pip prints: how far it is, and what went wrong."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from ..bridge import errors

RAW_PROGRESS = (24, 1)  # the first pip with "--progress-bar raw": lines "Progress 123 of 456"
DOWNLOADED = 0.7  # how much of the time of an installation has gone when all is downloaded

_UNITS = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}
_GET = re.compile(r"\s*(Downloading|Using cached) (\S+) \((?:[\d.]+/)?([\d.]+) (bytes|kB|MB|GB)\)")
_LOCAL = re.compile(r"Processing (.+?\.whl)")
_COUNT = re.compile(r"Progress (\d+) of (\d+)")
_BROKEN = re.compile(r"(?:after connection broken by|Could not fetch URL) .*?host='([^']+)'|Could not fetch URL (\S+):")
_MISSING = re.compile(r"ERROR: (?:No matching distribution found for|Cannot install) (\S+)")
_CAUSES = (  # what is found in pip's lines; what to say; what to do
    (r"No space left on device|Errno 28|not enough space", "The disk is full.", "Free some space, then go on."),
    (r"CERTIFICATE_VERIFY_FAILED", "The certificate of the address is not trusted; a proxy may be in between.",
     "Give pip its certificate (PIP_CERT, or the setting cert in pip's own file), then go on."),
    (r"ProxyError|407 Proxy Authentication", "The proxy refuses the connection.",
     "Set HTTPS_PROXY, or the setting proxy in pip's own file, then go on."),
    (r"WinError 206|enable-long-paths|Errno 36|File name too long", "The path of the data folder is too long.",
     "Choose a shorter data folder, or switch on long paths in Windows, then install again."),
    (r"Permission denied|WinError 5|Errno 13", "A file cannot be written.",
     "Close other programs that use the data folder, and make it writable, then go on."),
    (r"DO NOT MATCH THE HASHES|BadZipFile|is not a valid wheel|Wheel .* is invalid",
     "A package arrived damaged.", "Go on: it is downloaded again."),
    (r"MemoryError", "There is not enough memory.", "Close other programs, then go on."),
)  # fmt: skip


class PipOutput:
    """How far one call of pip is. ``expected``: bytes that it is going to get, about."""

    def __init__(self, expected: float) -> None:
        self._expected = expected
        self._done = self._current = self._whole = 0.0
        self._name = ""
        self._installing = False
        self._lines: list[str] = []

    def feed(self, line: str) -> None:
        if found := _COUNT.match(line):
            self._current, self._whole = float(found[1]), float(found[2])
            return
        self._lines.append(line)
        if found := _GET.match(line):
            size = float(found[3]) * _UNITS[found[4]]
            self._next(found[2], size, 0.0 if found[1] == "Downloading" else size)
        elif found := _LOCAL.match(line):
            size = 0.0
            with suppress(OSError):
                size = float(Path(found[1].removeprefix("file://")).stat().st_size)
            self._next(Path(found[1]).name, size, size)
        elif line.startswith("Installing collected packages"):
            self._next("", 0.0, 0.0)
            self._installing = True

    def _next(self, file: str, size: float, there: float) -> None:
        self._done += max(self._current, self._whole)
        self._current, self._whole, self._name = there, size, file.split("-", 1)[0].replace("_", "-")

    @property
    def fraction(self) -> float:
        """0 to 1."""
        if self._installing:
            return DOWNLOADED
        return DOWNLOADED * min(1.0, (self._done + self._current) / self._expected)

    @property
    def text(self) -> str:
        """What pip does now, in a few words."""
        if self._installing:
            return "Unpacking"
        if not self._name:
            return "Looking up packages"
        if self._current < self._whole and self._whole >= 1e6:
            return f"Downloading {self._name}, {self._current / 1e6:.0f} of {self._whole / 1e6:.0f} MB"
        return f"Getting {self._name}"

    def failure(self, address: str, python: str) -> errors.Gen3DError:
        """Why pip has failed. ``address``: the index it was told of, "" for its own; ``python``: which it works for."""
        text = "\n".join(self._lines)
        for pattern, cause, step in _CAUSES:
            if re.search(pattern, text):
                return errors.Gen3DError(cause, step, field="install")
        dead = [host for found in _BROKEN.findall(text) for host in found if host]
        if missing := _MISSING.search(text):
            if dead:
                cause = f"{missing[1]} cannot be downloaded: {dead[-1]} does not answer."
                step = "Check the connection and the proxy, then go on; or choose another build of torch, or a folder"
                return errors.Gen3DError(cause, f"{step} with the packages, in the preferences.", field="connection")
            where = address or "the addresses that pip is set to use"
            cause = f"{missing[1]} is not offered for {python} at {where}."
            step = "Choose another build of torch, or another Python, in the preferences."
            return errors.Gen3DError(cause, step, field="torch")
        if dead:
            step = "Check the connection and the proxy, then go on."
            return errors.Gen3DError(f"{dead[-1]} does not answer.", step, field="connection")
        told = [line.removeprefix("ERROR: ") for line in self._lines if line.startswith("ERROR: ")]
        last = (told or [line for line in self._lines if line.strip()] or ["it says nothing"])[-1].strip()
        step = "The log says more. Go on, or remove the backend and install it again."
        return errors.Gen3DError(f"pip failed: {last.rstrip('.')[:300]}.", step, field="install")
