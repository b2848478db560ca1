# SPDX-License-Identifier: GPL-3.0-or-later
"""Picture files to arrays, with nothing lost and nothing trusted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..errors import Gen3DError
from . import png16
from .validate import Place, same_aspect

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
MAX_PIXELS = 2**26
MAX_FILE_BYTES = 2**29
ORIENTATION = 0x0112


@dataclass(frozen=True)
class Header:
    """What a picture file says of itself: size as stored, EXIF orientation (1: upright), colour mode, its 16 bits."""

    width: int
    height: int
    orientation: int
    mode: str
    deep: bool

    @property
    def bytes(self) -> int:
        """Memory of the decoded picture, at most."""
        return self.width * self.height * (8 if self.deep else 4)


def header(path: Path, field: str, place: Place) -> Header:
    """Reads the size and kind of a picture without decoding it. Raises Gen3DError if it is not one we can read."""
    try:
        with path.open("rb") as file:
            deep = png16.is_png16(file.read(26))
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS or path.stat().st_size > MAX_FILE_BYTES:
                raise Image.DecompressionBombError
            # Asked for its EXIF data, a PNG is decoded; cameras do not write PNG.
            orientation = 1 if image.format == "PNG" else int(image.getexif().get(ORIENTATION, 1))
            return Header(image.width, image.height, orientation, image.mode, deep)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise place.error(
            field, f"({path.name}) has more than {MAX_PIXELS / 1e6:.0f} million pixels", "Scale the picture down."
        ) from None
    except Exception as error:  # Pillow raises whatever its parsers stumble upon
        raise _unreadable(path, field, place, error) from None


def decode(path: Path, place: Place, *, deep: bool, upright: bool) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The picture [H, W, 3 or 4], uint8 or uint16, sRGB, straight alpha.

    ``deep`` as in its header. ``upright``: turned as its EXIF orientation says; otherwise as stored. Palette, grey
    and CMYK become RGB. Raises Gen3DError for a file that is damaged or cut.
    """
    try:
        if deep:
            return png16.decode(path.read_bytes())
        with Image.open(path, formats=FORMATS) as image:
            turned = ImageOps.exif_transpose(image) if upright else image
            transparent = turned.has_transparency_data
            return np.array(turned.convert("RGBA" if transparent else "RGB"))
    except Exception as error:
        raise _unreadable(path, "file_path", place, error) from None


def decode_mask(path: Path, place: Place, width: int, height: int) -> NDArray[np.bool_]:
    """A mask file as bool [H, W]: True where it is brighter than half its brightest value (0/1 and 0/255 alike).

    A mask of another size but the same aspect is resized. Raises Gen3DError otherwise.
    """
    header(path, "mask_path", place)
    try:
        with Image.open(path, formats=FORMATS) as image:
            grey = image.convert("L")
    except Exception as error:
        raise _unreadable(path, "mask_path", place, error) from None
    if not same_aspect(grey.size, (width, height)):
        raise place.error(
            "mask_path",
            f"is {grey.width} x {grey.height}, but its picture {width} x {height}",
            "Give a mask of the picture's size.",
        )
    if grey.size != (width, height):
        grey = grey.resize((width, height), Image.Resampling.NEAREST)
    values = np.array(grey)
    trusted: NDArray[np.bool_] = values > values.max() / 2
    return trusted


def read_picture(path: str | Path, field: str) -> Image.Image:
    """A picture of no dataset, upright, in whatever mode it has. Raises Gen3DError, which names the setting ``field``,
    for what is none that we can read.
    """
    step = "Give an undamaged PNG, JPEG, WebP or BMP file."
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS or Path(path).stat().st_size > MAX_FILE_BYTES:
                raise Gen3DError(
                    f"{path} has more than {MAX_PIXELS / 1e6:.0f} million pixels.", "Scale it down.", field=field
                )
            return ImageOps.exif_transpose(image).copy()
    except Gen3DError:
        raise
    except IsADirectoryError:
        raise Gen3DError(f"{path} is a folder, not a picture.", step, field=field) from None
    except FileNotFoundError:
        raise Gen3DError(f"There is no file {path}.", step, field=field) from None
    except Exception as error:  # Pillow raises whatever its parsers stumble upon
        reason = str(error).split("\n")[0].replace(str(path), "")[:120].strip(" .'") or type(error).__name__
        raise Gen3DError(f"{path} is no picture that can be read ({reason}).", step, field=field) from None


def _unreadable(path: Path, field: str, place: Place, error: Exception) -> Exception:
    reason = str(error).split("\n")[0].replace(str(path), path.name).strip(" .")[:120] or type(error).__name__
    return place.error(
        field,
        f"({path.name}) cannot be read ({reason})",
        "Give an undamaged PNG, JPEG, WebP or BMP file, or remove the frame.",
    )
