# SPDX-License-Identifier: GPL-3.0-or-later
"""Films: MP4 (H.264, yuv420p, BT.709) that plays in every browser, written frame by frame."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import Gen3DError

QUALITY = 18  # constant rate factor: visually lossless


@contextmanager
def film(path: Path, width: int, height: int, fps: float = 24.0) -> Iterator[Callable[[NDArray[np.uint8]], None]]:
    """A film being written: the function it gives appends one frame, uint8 sRGB [height, width, 3].

    Odd sizes are made even, as the format asks, by doubling the last row or column. The film is whole when the block
    ends; if it ends by an exception (a cancel is one), what was written is removed.

    Raises Gen3DError when there is no ffmpeg or it fails.
    """
    even = (height + height % 2, width + width % 2)
    command = [_ffmpeg(), "-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{even[1]}x{even[0]}", "-r", f"{fps:g}", "-i", "-"]
    command += ["-an", "-c:v", "libx264", "-crf", f"{QUALITY}"]
    command += ["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-pix_fmt", "yuv420p", "-colorspace", "bt709"]
    command += ["-color_primaries", "bt709", "-color_trc", "iec61966-2-1", "-movflags", "+faststart", "-f", "mp4"]
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [*command, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        assert process.stdin is not None

        def add(frame: NDArray[np.uint8]) -> None:
            if frame.shape != (height, width, 3) or frame.dtype != np.uint8:
                raise ValueError(f"a frame is uint8 [{height}, {width}, 3], not {frame.dtype} {list(frame.shape)}")
            padded = np.pad(frame, ((0, even[0] - height), (0, even[1] - width), (0, 0)), mode="edge")
            process.stdin.write(padded.tobytes())  # type: ignore[union-attr]

        try:
            yield add
        except BrokenPipeError:  # ffmpeg has given up, and says why
            process.kill()
        except BaseException:
            process.kill()
            path.unlink(missing_ok=True)
            raise
        finally:
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()
        if process.returncode != 0:
            complaints.seek(0)
            reason = complaints.read().decode(errors="replace").strip().splitlines()[-1:]
            path.unlink(missing_ok=True)
            raise Gen3DError(
                f"The film {path.name} could not be written: {' '.join(reason) or 'ffmpeg failed'}.",
                "Check the free space and the rights of the folder.",
            )


def _ffmpeg() -> str:
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise Gen3DError(
            f"No film can be made: {error}.", "Install the Python package imageio-ffmpeg, or make no film."
        ) from error
