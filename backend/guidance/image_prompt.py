# SPDX-License-Identifier: GPL-3.0-or-later
"""A picture as a further prompt (Ye et al., "IP-Adapter", 2023): cross-attention to it, beside that to the words.

It takes the place of the image-conditioned prior with which Magic3D (Lin et al. 2023, §5) carries over a style.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import weights
from ..errors import Gen3DError, first_words

if TYPE_CHECKING:
    from PIL import Image

ENCODER = "image_encoder"
STEP = f"Give an IP-Adapter for this model, a .safetensors file with its folder {ENCODER} beside it."


def add(pipeline: Any, adapter: Path, picture: Image.Image, scale: float) -> Tensor:
    """Has a pipeline look at a picture (RGB), too, ``scale`` times as much as usual; what it sees, [2, 1, ...].

    adapter: weights, with the folder of their image encoder beside them, or a folder that holds both. Of what is seen,
    the first is of no picture: zeros, or what the encoder sees in black.
    Raises Gen3DError for what is damaged, no IP-Adapter, or one for another base model or another image encoder; the
    pipeline is then as it was.
    """
    unet: Any = getattr(pipeline, "unet", None)
    if not hasattr(pipeline, "load_ip_adapter") or getattr(unet, "encoder_hid_proj", None) is not None:
        cause = "This text-to-image model has no image-conditioned path: it cannot take over a picture's style."
        raise Gen3DError(cause, "Leave the style out, or take Stable Diffusion 1.5 or XL.", field="style")
    file = _file(adapter)
    try:
        tensors = weights.read(file)
    except Gen3DError as error:
        raise Gen3DError(error.cause, error.next_step, field="style_adapter") from error
    if {key.partition(".")[0] for key in tensors} != {"image_proj", "ip_adapter"}:
        raise Gen3DError(f"{file} is no IP-Adapter.", STEP, field="style_adapter")
    crossed = sum("attn2" in name for name in unet.attn_processors)
    if sum(key.endswith("to_k_ip.weight") for key in tensors) != crossed:
        raise Gen3DError(f"{file} is an IP-Adapter for another base model.", STEP, field="style_adapter")
    try:
        pipeline.load_ip_adapter(
            str(file.parent), subfolder="", weight_name=file.name, image_encoder_folder=ENCODER,
            local_files_only=True, low_cpu_mem_usage=False,
        )  # fmt: skip
        pipeline.set_ip_adapter_scale(scale)
        seen = _seen(pipeline, picture)
    except Exception as error:  # damage, and what does not fit, show in many ways
        pipeline.unload_ip_adapter()
        cause = f"{file} and its {ENCODER} do not fit this model, or are not whole: {first_words(error).rstrip(':')}."
        raise Gen3DError(cause, STEP, field="style_adapter") from error
    pipeline.register_modules(image_encoder=None)  # it has seen what it was to see
    unet.requires_grad_(False)
    return seen


def _file(adapter: Path) -> Path:
    if not adapter.is_dir():
        return adapter
    found = [file for file in sorted(adapter.rglob("*.safetensors")) if file.parent.name != ENCODER]
    if len(found) != 1:
        cause = f"{adapter} holds {'several adapters' if found else 'no adapter'}."
        raise Gen3DError(cause, STEP, field="style_adapter")
    return found[0]


@torch.no_grad()
def _seen(pipeline: Any, picture: Image.Image) -> Tensor:
    (projection,) = pipeline.unet.encoder_hid_proj.image_projection_layers
    of_patches = type(projection).__name__ != "ImageProjection"  # which takes one vector of the whole picture
    wanted, nothing = pipeline.encode_image(picture, pipeline.unet.device, 1, of_patches)
    seen = torch.stack([nothing, wanted])
    pipeline.unet.encoder_hid_proj([seen])  # whether the encoder is the one that the adapter was made for
    found: Tensor = seen
    return found
