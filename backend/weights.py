# SPDX-License-Identifier: GPL-3.0-or-later
"""Published weights by name: where they come from, where they are kept, and how they are read.

A pipeline asks ``require(name)`` and never downloads: ``gen3d models install`` does. What is installed is described
by models/NAME/lock.json in the user's data folder: where the weights are, and the sha256 of each file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import Gen3DError
from .home import user_home
from .storage import read_json, sha256_of

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Published:
    """Weights somebody published. ``size`` in bytes, about; ``sha256`` by file, where it is known beforehand.

    They are a file at an address (``url``), or chosen files of a repository on the Hugging Face hub.
    """

    system: str
    size: int
    url: str = ""
    repository: str = ""
    revision: str = ""
    files: tuple[str, ...] = ()
    sha256: tuple[tuple[str, str], ...] = ()
    licence: str = "MIT"


_POINT_E = "https://openaipublic.azureedge.net/main/point-e"
_CLIP = ("config.json", "preprocessor_config.json", "vocab.json", "merges.txt", "tokenizer.json",
         "tokenizer_config.json", "special_tokens_map.json")  # fmt: skip
_IP_ADAPTER = "018e402774aeeddd60609b4ecdb7e298259dc729"
_IMAGE_ENCODER = "image_encoder/config.json", "image_encoder/model.safetensors"

PUBLISHED = {
    "base40M-textvec": Published("point-e", 161_400_000, f"{_POINT_E}/base_40m_textvec.pt"),
    "base40M-imagevec": Published("point-e", 161_400_000, f"{_POINT_E}/base_40m_imagevec.pt"),
    "base40M": Published("point-e", 161_900_000, f"{_POINT_E}/base_40m.pt"),
    "base300M": Published("point-e", 1_247_200_000, f"{_POINT_E}/base_300m.pt"),
    "base1B": Published("point-e", 4_977_400_000, f"{_POINT_E}/base_1b.pt"),
    "upsample": Published("point-e", 161_900_000, f"{_POINT_E}/upsample_40m.pt"),
    "sdf": Published("point-e", 38_000_000, f"{_POINT_E}/sdf.pt"),
    "pointnet": Published("metrics", 20_000_000, f"{_POINT_E}/pointnet.pt"),
    "clip-vit-l14": Published(
        "clip", 1_713_000_000, repository="openai/clip-vit-large-patch14",
        revision="32bd64288804d66eefd0ccbe215aa642df71cc41", files=(*_CLIP, "model.safetensors"),
        sha256=(("model.safetensors", "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb"),),
    ),
    "clip-vit-b16": Published(
        "clip", 602_000_000, repository="openai/clip-vit-base-patch16",
        revision="57c216476eefef5ab752ec549e440a49ae4ae5f3", files=(*_CLIP, "pytorch_model.bin"),
    ),
    "clip-vit-b32": Published(
        "clip", 608_000_000, repository="openai/clip-vit-base-patch32",
        revision="3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268", files=(*_CLIP, "pytorch_model.bin"),
        sha256=(("pytorch_model.bin", "a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f"),),
    ),
    "ip-adapter-sd15": Published(
        "style", 2_573_000_000, repository="h94/IP-Adapter", revision=_IP_ADAPTER, licence="Apache-2.0",
        files=tuple(f"models/{file}" for file in ("ip-adapter_sd15.safetensors", *_IMAGE_ENCODER)),
    ),
    "ip-adapter-sdxl": Published(
        "style", 4_393_000_000, repository="h94/IP-Adapter", revision=_IP_ADAPTER, licence="Apache-2.0",
        files=tuple(f"sdxl_models/{file}" for file in ("ip-adapter_sdxl.safetensors", *_IMAGE_ENCODER)),
    ),
}  # fmt: skip

SETS = {"point-e": ("base40M-textvec", "base40M", "upsample", "sdf", "clip-vit-l14")}

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_STATE_KEYS = ("model_state_dict", "state_dict")
AGAIN = "Install it again, or give another file."


# ------------------------------------------------------------------------------------------------- what is where


def folder_of(name: str) -> Path:
    """models/NAME in the user's data folder. Raises Gen3DError for what is neither in the table nor a hub id."""
    if name not in PUBLISHED and not _HUB_ID.fullmatch(name):
        cause = f"{name[:80]!r} is neither known weights nor an existing file or folder."
        known = ", ".join(PUBLISHED)
        raise Gen3DError(cause, f"Known are {known}, and names on the Hugging Face hub: owner/name.", field="weights")
    return user_home() / "models" / name.replace("/", "--")


def names() -> list[str]:
    """The published weights, and what else was installed or named here."""
    home = user_home() / "models"
    here = [folder.name.replace("--", "/", 1) for folder in sorted(home.iterdir())] if home.is_dir() else []
    return [*PUBLISHED, *(name for name in here if name not in PUBLISHED and "/" in name)]


def there() -> list[str]:
    """Those of them that are installed."""
    return [name for name in names() if installed(name)]


def lock_of(name: str) -> dict[str, Any] | None:
    """What lock.json says of installed weights: "path", "source", "files" (sha256 by path). None: not installed."""
    lock = read_json(folder_of(name) / "lock.json")
    return lock if lock is not None and isinstance(lock.get("path"), str) else None


def installed(name: str) -> Path | None:
    """The file or folder of the weights, or None. CLIP is also found where another program downloaded it."""
    lock, entry = lock_of(name), PUBLISHED.get(name)
    if lock is not None:
        path: Path = folder_of(name) / lock["path"]
        inside = [path / file if path.is_dir() else path for file in lock.get("files", {})]
        if path.exists() and all(file.exists() for file in inside):
            return path
    if entry is not None and entry.repository:
        from .download import cached

        return cached(entry.repository, entry.revision, entry.files)
    return None


def require(source: str | Path) -> Path:
    """The file or folder of weights given by name, hub id or path. Never downloads.

    Raises Gen3DError, which names the command that installs them, where they are not there.
    """
    name = str(source)
    if name not in PUBLISHED:
        path = Path(source).expanduser()
        if path.exists():
            return path
    found = installed(name)
    if found is None:
        cause = f"The weights {name} are not installed."
        step = f"Install them with `gen3d models install {name}`, or name a copy with `gen3d models use {name} PATH`."
        raise Gen3DError(cause, step, field="weights")
    return found


EMBEDDED = "embedded/"


def choose(source: str, names: Sequence[str], embedded: Path) -> tuple[Path | None, str]:
    """Where the weights are, and how they are called: those of ``source``, a name or a path; "embedded", those that
    are shipped; "" or "auto", the first of ``names`` that is installed, else the embedded ones. None: there are none.

    Raises Gen3DError as ``require`` does.
    """
    if source not in ("", "auto", "embedded"):
        return require(source), source
    for name in names if source != "embedded" else ():
        if (path := installed(name)) is not None:
            return path, name
    shipped = any((embedded / file).is_file() for file in ("model.safetensors", "model_index.json"))
    return (embedded, f"{EMBEDDED}{embedded.name}") if shipped else (None, "")


def are_embedded(name: str) -> bool:
    """Whether ``choose`` calls shipped weights so."""
    return name.startswith(EMBEDDED)


# ------------------------------------------------------------------------------------------------------- reading


def state_dict(source: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of weights given by name or path (.safetensors, or a .pt that holds only tensors), on the CPU.

    Raises Gen3DError where they are not installed, damaged, changed since they were installed, or not weights.
    """
    path, name = require(source), str(source)
    if (name in PUBLISHED or not Path(source).expanduser().exists()) and damaged(name):
        cause = f"{path} is not what it was when it was installed."
        raise Gen3DError(cause, f"Repair it with `gen3d models install {name}`.", field="weights")
    return read(path)


def read(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, by name. Never runs code that is in it. Raises Gen3DError."""
    if not path.is_file():
        raise Gen3DError(f"{path} is not a file with weights.", "Name a .safetensors or .pt file.", field="weights")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise Gen3DError(f"{path} is damaged, or no safetensors file: {error}.", AGAIN, field="weights") from error
    return _read_pickle(path)


def _read_pickle(path: Path) -> dict[str, torch.Tensor]:
    import numpy as np
    import torch

    # a training's record, beside the tensors, may hold one of NumPy's numbers; under its old and its new name
    scalar: Any = np._core.multiarray.scalar  # type: ignore[attr-defined]
    numbers: list[Any] = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    numbers += [np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType, np.dtypes.Int64DType]
    try:
        with torch.serialization.safe_globals(numbers):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        with path.open("rb") as file:
            pickled = file.read(4).startswith((b"PK\x03\x04", b"\x80"))  # a zip of them, or one that is bare
        if pickled and ("weights_only" in str(error) or "Unsupported global" in str(error)):
            cause = f"{path} holds more than weights, and was not loaded: what it holds could run code."
            raise Gen3DError(cause, "Do not trust it; take weights from another place.", field="weights") from error
        raise Gen3DError(f"{path} is damaged, or no file with weights.", AGAIN, field="weights") from error
    for key in _STATE_KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = content if isinstance(content, dict) else {}
    tensors = {name: value.detach() for name, value in tensors.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise Gen3DError(f"{path} holds no weights.", AGAIN, field="weights")
    return tensors


def load(module: nn.Module, source: str | Path) -> None:
    """Fills a network with weights given by name or path, strictly.

    Raises Gen3DError as ``state_dict`` does, and where tensors are missing, too many, of another shape or not finite;
    the network is then as it was.
    """
    import torch

    state, own = state_dict(source), module.state_dict()
    faults = {
        "missing": sorted(own.keys() - state.keys()),
        "unknown": sorted(state.keys() - own.keys()),
        "of another shape": sorted(key for key in own.keys() & state.keys() if own[key].shape != state[key].shape),
    }
    if strange := [key for key in own if key in state and not bool(torch.isfinite(state[key]).all())]:
        cause = f"The weights {source} are damaged: {strange[0]} holds what is no number."
        raise Gen3DError(cause, AGAIN, field="weights")
    if any(faults.values()):
        words = [f"{len(keys)} {what} ({keys[0]})" for what, keys in faults.items() if keys]
        cause = f"The weights {source} are not of this network: of their tensors, {', '.join(words)}."
        raise Gen3DError(cause, "Name weights of the same architecture.", field="weights")
    module.load_state_dict(state)


def damaged(name: str) -> list[str]:
    """The files of installed weights that are not what they were when they were installed."""
    path, lock, entry = require(name), lock_of(name), PUBLISHED.get(name)
    pinned = dict(entry.sha256) if entry is not None and entry.repository else {}
    expected: dict[str, str] = pinned if lock is None else lock.get("files", {})
    files = {file: path / file if path.is_dir() else path for file in expected}
    return [file for file, where in files.items() if not where.exists() or sha256_of(where) != expected[file]]
