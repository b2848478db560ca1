# SPDX-License-Identifier: GPL-3.0-or-later
"""Words to one view of an object, by any text-to-image pipeline of ``diffusers``.

The model that made the views in Point·E (a fine-tuned GLIDE, Nichol et al. 2022, §4.2) was never released; any other
takes its place, told to draw what that one drew: one whole object on a plain background.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import Gen3DError, first_words
from .precision import precision
from .quiet import quiet
from .reporting import reports

if TYPE_CHECKING:
    from PIL import Image

VIEW = "a 3D render of {prompt}, the whole object, centred, plain white background"
BACKGROUND = (255, 255, 255)
REMOVER = "u2net"  # the model rembg takes when it is not told otherwise


@dataclass(frozen=True)
class Step:
    """One denoising step done, of ``total``."""

    step: int
    total: int


class TextToImage:
    """A pipeline ready to draw."""

    def __init__(
        self, folder: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
    ) -> None:
        """Loads a folder of a diffusers pipeline. ``dtype``: float16 on CUDA and float32 elsewhere, unless given.

        Raises Gen3DError where it is no such folder, is not whole, or draws from something else than words.
        """
        self.device = torch.device(device)
        self._pipeline = load_pipeline(Path(folder), precision(self.device, dtype)).to(self.device)

    def draw(
        self, prompt: str, *, seed: int = 0, steps: int = 0, guidance: float = 0.0, view: str = VIEW
    ) -> Generator[Step, None, Image.Image]:
        """As ``draw`` below."""
        words = {"prompt": view.replace("{prompt}", prompt)}
        return draw(self._pipeline, words, seed=seed, steps=steps, guidance=guidance)


def draw(
    pipeline: Any,
    words: dict[str, Any],
    *,
    seed: int = 0,
    steps: int = 0,
    guidance: float = 0.0,
    seen: torch.Tensor | None = None,
) -> Generator[Step, None, Image.Image]:
    """Draws one picture (RGB); the same seed on the same device gives the same. To stop iterating is to cancel.

    words: the pipeline's arguments that say what to draw, a "prompt" or what its encoders make of one. ``steps`` and
    ``guidance`` 0 take the pipeline's own. seen: what ``image_prompt.add`` gave, of a pipeline that looks
    at a picture. Raises Gen3DError where its safety checker withholds the picture.
    """
    options: dict[str, Any] = {"num_inference_steps": steps} if steps else {}
    options |= {"guidance_scale": guidance} if guidance else {}
    options |= {} if seen is None else {"ip_adapter_image_embeds": [seen]}
    known = inspect.signature(pipeline.__call__).parameters
    generator = torch.Generator("cpu").manual_seed(seed)  # noise from the CPU is the same everywhere

    def work(tell: Callable[[Step], None]) -> Any:
        def stepped(pipeline: Any, index: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            tell(Step(index + 1, int(pipeline.num_timesteps)))
            return tensors

        if "callback_on_step_end" in known:
            options["callback_on_step_end"] = stepped
        return pipeline(**words, generator=generator, **options)

    drawn = yield from reports(work)
    if any(getattr(drawn, "nsfw_content_detected", None) or ()):
        cause = "The safety checker of the text-to-image model withheld the picture."
        raise Gen3DError(cause, "Take another seed or other words, or give an image.", field="prompt")
    image: Image.Image = drawn.images[0]
    return image.convert("RGB")


def load_pipeline(folder: Path, dtype: torch.dtype) -> Any:
    """A diffusers text-to-image pipeline. Raises Gen3DError where it is none, or not whole; runs no code of it."""
    step = "Name the folder of a diffusers text-to-image pipeline, with safetensors weights."
    if not (folder / "model_index.json").is_file():
        raise Gen3DError(f"{folder} holds no diffusers pipeline: model_index.json is missing.", step, field="weights")
    diffusers: Any = importlib.import_module("diffusers")
    quiet(with_diffusers=True)
    try:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=dtype
        )
    except Exception as error:  # damage shows in many ways
        cause = f"{folder} holds no whole diffusers pipeline: {first_words(error)}."
        raise Gen3DError(cause, step, field="weights") from error
    takes = inspect.signature(pipeline.__call__).parameters
    if "prompt" not in takes or any(name in takes for name in ("image", "mask_image", "video")):
        raise Gen3DError(f"{folder} is no text-to-image pipeline.", step, field="weights")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def on_background(image: Image.Image) -> Image.Image:
    """The picture, RGB, with what is transparent in it made white."""
    from PIL import Image as Pictures

    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Pictures.alpha_composite(Pictures.new("RGBA", image.size, (*BACKGROUND, 255)), image).convert("RGB")


def remove_background(image: Image.Image) -> Image.Image:
    """The object alone, on white, RGB of the same size, by the library ``rembg``.

    It is never required. Raises Gen3DError where the library, or the model it would have to download, is missing.
    """
    if importlib.util.find_spec("rembg") is None:
        cause = "Backgrounds are removed by the library rembg, which is not installed."
        step = 'Install it with `pip install "rembg[cpu]"` beside the backend, or give an image without a background.'
        raise Gen3DError(cause, step, field="background")
    home = os.environ.get("U2NET_HOME") or os.path.join(os.environ.get("XDG_DATA_HOME", "~"), ".u2net")
    model = Path(home).expanduser() / f"{REMOVER}.onnx"
    if not model.is_file():
        cause = f"The model {model}, which rembg removes backgrounds with, is not there."
        step = "Let rembg download it (176 MB): `python -c \"import rembg; rembg.new_session('u2net')\"`."
        raise Gen3DError(cause, step, field="background")
    rembg: Any = importlib.import_module("rembg")
    cut = rembg.remove(image.convert("RGB"), session=rembg.new_session(REMOVER))
    return on_background(cut)
