# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray

from backend.data.film import film
from backend.errors import Gen3DError


def frames(count: int, height: int, width: int) -> list[NDArray[np.uint8]]:
    """A bright square that wanders over a coloured ground."""
    made = []
    for i in range(count):
        frame = np.tile(np.array([40, 120, 200], dtype=np.uint8), (height, width, 1))
        frame[8:24, 4 * i : 4 * i + 16] = (240, 220, 60)
        made.append(frame)
    return made


def atoms(data: bytes) -> list[bytes]:
    names, at = [], 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        names.append(name)
        at += size
    return names


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63)])
def test_a_film_decodes_to_its_frames(tmp_path: Path, height: int, width: int) -> None:
    path = tmp_path / "turn table.mp4"
    made = frames(11, height, width)
    with film(path, width, height, fps=12) as add:
        for frame in made:
            add(frame)
    read = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(read, capture_output=True, check=True)
    assert re.search(r"Video: h264.*yuv420p\(tv, bt709.*64x48.* 12 fps", done.stderr.decode())
    seen = np.frombuffer(done.stdout, dtype=np.uint8).reshape(-1, 48, 64, 3)[:, :height, :width]
    assert len(seen) == len(made)
    for got, sent in zip(seen, made, strict=True):
        assert np.median(np.abs(got.astype(int) - sent.astype(int))) <= 3
        assert np.abs(got[14:18, :].astype(int) - sent[14:18, :].astype(int)).mean() < 12
    names = atoms(path.read_bytes())
    assert names.index(b"moov") < names.index(b"mdat")  # plays before it is loaded whole


def test_a_cancelled_film_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), film(tmp_path / "a.mp4", 64, 48) as add:
        add(frames(1, 48, 64)[0])
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_wrong_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"uint8 \[48, 64, 3\]"), film(tmp_path / "a.mp4", 64, 48) as add:
        add(np.zeros((64, 48, 3), dtype=np.uint8))


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(Gen3DError, match="could not be written"), film(tmp_path / "no" / "a.mp4", 64, 48) as add:
        for frame in frames(8, 48, 64) * 20:
            add(frame)


def test_missing_ffmpeg_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise RuntimeError("No ffmpeg exe could be found")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", nowhere)
    with pytest.raises(Gen3DError, match="No ffmpeg exe could be found") as caught, film(tmp_path / "a.mp4", 64, 48):
        pass
    assert "imageio-ffmpeg" in caught.value.next_step
