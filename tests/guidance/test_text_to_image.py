# SPDX-License-Identifier: GPL-3.0-or-later
"""A real, tiny Stable Diffusion draws; what is no pipeline is refused; no code of a folder is run."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend.errors import Gen3DError
from backend.guidance.text_to_image import Step, TextToImage, on_background, remove_background


@pytest.fixture(scope="module")
def artist(drawing_folder: Path) -> TextToImage:
    return TextToImage(drawing_folder)


def finish(drawing: Generator[Step, None, Image.Image]) -> tuple[list[Step], Image.Image]:
    steps = []
    while True:
        try:
            steps.append(next(drawing))
        except StopIteration as end:
            return steps, end.value


def test_words_become_a_picture_step_by_step(artist: TextToImage) -> None:
    steps, image = finish(artist.draw("a red cat {} %s", steps=3, guidance=4.0, seed=5))
    assert steps == [Step(1, 3), Step(2, 3), Step(3, 3)]
    assert image.mode == "RGB" and image.size == (16, 16)
    again = finish(artist.draw("a red cat {} %s", steps=3, guidance=4.0, seed=5))[1]
    assert image.tobytes() == again.tobytes()
    for changed in ({"seed": 6}, {"guidance": 1.0}, {"view": "{prompt}"}):
        other = finish(artist.draw("a red cat {} %s", **{"steps": 3, "guidance": 4.0, "seed": 5, **changed}))[1]  # type: ignore[arg-type]
        assert other.tobytes() != image.tobytes()


def test_who_stops_listening_has_cancelled(artist: TextToImage) -> None:
    drawing = artist.draw("a red cat", steps=500)
    assert next(drawing).step == 1
    drawing.close()
    assert finish(artist.draw("a red cat", steps=2))[0][-1] == Step(2, 2)


def test_what_the_safety_checker_withholds_is_said(artist: TextToImage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artist._pipeline, "run_safety_checker", lambda image, *rest: (image, [True]))
    with pytest.raises(Gen3DError, match="withheld"):
        finish(artist.draw("a red cat", steps=1))


def test_what_is_no_whole_pipeline_is_refused(drawing_folder: Path, clip_folder: Path, tmp_path: Path) -> None:
    folders = {name: shutil.copytree(drawing_folder, tmp_path / name) for name in ("cut", "gone", "pickle", "kind")}
    unet = folders["cut"] / "unet" / "diffusion_pytorch_model.safetensors"
    unet.write_bytes(unet.read_bytes()[:-100])
    shutil.rmtree(folders["gone"] / "vae")
    unet = folders["pickle"] / "unet" / "diffusion_pytorch_model.safetensors"
    unet.rename(unet.with_suffix(".bin"))
    index = json.loads((folders["kind"] / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionImg2ImgPipeline"
    (folders["kind"] / "model_index.json").write_text(json.dumps(index))
    for folder in (*folders.values(), clip_folder, tmp_path / "absent"):
        with pytest.raises(Gen3DError) as caught:
            TextToImage(folder)
        assert str(folder) in caught.value.cause and caught.value.field == "weights"


def test_code_in_a_folder_is_never_run(drawing_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(drawing_folder, tmp_path / "p")
    canary = tmp_path / "executed"
    (folder / "pipeline.py").write_text(f"open({str(canary)!r}, 'w')\n")
    (folder / "unet" / "unet.py").write_text(f"open({str(canary)!r}, 'w')\n")
    index = json.loads((folder / "model_index.json").read_text())
    for changes in ({"_class_name": ["pipeline", "StableDiffusionPipeline"]}, {"unet": ["unet", "Evil"]}):
        (folder / "model_index.json").write_text(json.dumps({**index, **changes}))
        with pytest.raises(Gen3DError):
            TextToImage(folder)
    assert not canary.exists()


def test_transparent_pixels_become_white() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (10, 20, 30, 0))
    for picture in (image, image.quantize(4)):
        flat = on_background(picture)
        assert flat.mode == "RGB" and [flat.getpixel((x, 0)) for x in (0, 1)] == [(255, 0, 0), (255, 255, 255)]
    assert on_background(Image.new("L", (3, 3), 7)).getpixel((1, 1)) == (7, 7, 7)


def test_backgrounds_are_removed_only_by_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library, without its model, and with a stand-in for both, which cuts out the left half."""
    image = Image.new("RGB", (4, 2), (9, 9, 9))
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "u2"))
    monkeypatch.setitem(sys.modules, "rembg", None)
    monkeypatch.delitem(sys.modules, "rembg")
    with pytest.raises(Gen3DError, match=r"rembg.*pip install") as caught:
        remove_background(image)
    assert caught.value.field == "background"
    (tmp_path / "rembg.py").write_text(
        "def new_session(name):\n    return name\n"
        "def remove(image, session):\n"
        "    assert session == 'u2net'\n"
        "    image = image.convert('RGBA')\n"
        "    image.paste((0, 0, 0, 0), (2, 0, 4, 2))\n"
        "    return image\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Gen3DError, match=r"u2net\.onnx"):
        remove_background(image)
    (tmp_path / "u2").mkdir()
    (tmp_path / "u2" / "u2net.onnx").write_bytes(b"")
    cut = np.asarray(remove_background(image))
    assert (cut[:, :2] == 9).all() and (cut[:, 2:] == 255).all()
