# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenEXR files, read by ffmpeg and by the add-on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray

from backend.data import exr
from blender_gen3d.capturing.picture_files import read_exr


def smooth(height: int, width: int) -> dict[str, exr.Channel]:
    """Colours that change gently, a depth with a jump to nothing."""
    y, x = np.mgrid[:height, :width]
    half = {name: (0.3 + 0.2 * np.sin(0.1 * (i + 1) * x + 0.05 * y)).astype(np.float16) for i, name in enumerate("RGB")}
    depth = np.where(x > y, 1e10, 3 + 0.01 * x + 0.02 * y).astype(np.float32)
    return {**half, "A": (x <= y).astype(np.float16), "Z": depth}


def noisy(height: int, width: int) -> dict[str, exr.Channel]:
    """What cannot be compressed."""
    random = np.random.default_rng(height)
    bits = random.integers(0, 2**15 - 2**10, (5, height, width))
    half = {name: bits[i].astype(np.uint16).view(np.float16) for i, name in enumerate("RGBA")}
    return {**half, "Z": random.random((height, width)).astype(np.float32)}


@pytest.mark.parametrize("make", [smooth, noisy])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (16, 5), (50, 37), (33, 64)])
def test_what_is_written_is_read(tmp_path: Path, make: object, height: int, width: int) -> None:
    channels = make(height, width)  # type: ignore[operator]
    exr.write(tmp_path / "x.exr", channels)
    found = read_exr(tmp_path / "x.exr")
    assert list(found) == sorted(channels)
    for name, values in channels.items():
        np.testing.assert_array_equal(found[name], values.astype(np.float32))


@pytest.mark.parametrize("make", [smooth, noisy])
def test_another_program_reads_the_same(tmp_path: Path, make: object) -> None:
    channels = make(50, 38)  # type: ignore[operator]
    exr.write(tmp_path / "x.exr", {name: values for name, values in channels.items() if name != "Z"})
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(tmp_path / "x.exr")]
    done = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "gbrapf32le", "-"], capture_output=True, check=True)
    planes: NDArray[np.float32] = np.frombuffer(done.stdout, "<f4").reshape(4, 50, 38)
    for plane, name in zip(planes, "GBRA", strict=True):
        np.testing.assert_allclose(plane, channels[name].astype(np.float32), rtol=1e-3, atol=1e-6)


def test_smooth_pictures_become_small(tmp_path: Path) -> None:
    channels = smooth(200, 300)
    exr.write(tmp_path / "x.exr", channels)
    assert (tmp_path / "x.exr").stat().st_size < 0.35 * sum(values.nbytes for values in channels.values())


def test_damage_is_one_kind_of_error(tmp_path: Path) -> None:
    path = tmp_path / "x.exr"
    exr.write(path, smooth(20, 20))
    whole, random, sound = path.read_bytes(), np.random.default_rng(1), 0
    for _ in range(600):
        data = bytearray(whole)
        data[random.integers(0, len(data))] = random.integers(0, 256)
        path.write_bytes(data if random.random() < 0.7 else data[: random.integers(0, len(data))])
        try:
            read_exr(path)
            sound += 1
        except ValueError as fault:
            assert "x.exr" in str(fault)
    assert 0 < sound < 600
