# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights are read without running code, strictly, and only as they were installed."""

from __future__ import annotations

import collections
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from backend import models, weights
from backend.errors import Gen3DError

STATE = {"0.weight": torch.randn(3, 4), "0.bias": torch.randn(3), "1.weight": torch.randn(2, 3)}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GEN3D_HOME", str(tmp_path / "home é"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "home é"


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2, bias=False))


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_table_is_complete_and_pinned() -> None:
    assert {name for name, entry in weights.PUBLISHED.items() if entry.system == "point-e"} == {
        "base40M-textvec", "base40M-imagevec", "base40M", "base300M", "base1B", "upsample", "sdf"
    }  # fmt: skip
    for name, entry in weights.PUBLISHED.items():
        assert bool(entry.url) != bool(entry.repository) and entry.size > 10**7 and entry.licence, name
        assert entry.url.startswith("https://") or re.fullmatch("[0-9a-f]{40}", entry.revision), name
        assert all(re.fullmatch("[0-9a-f]{64}", sha256) for _, sha256 in entry.sha256), name
        assert {file for file, _ in entry.sha256} <= {*entry.files, entry.url.rsplit("/", 1)[-1]}, name
    assert all(name in weights.PUBLISHED for names in weights.SETS.values() for name in names)


@pytest.mark.parametrize(
    "wrap",
    [
        dict,
        collections.OrderedDict,
        lambda state: {"model_state_dict": state, "epoch": 3, "accuracy": np.float64(0.9), "names": ["a"]},
        lambda state: {"state_dict": {name: nn.Parameter(value) for name, value in state.items()}},
    ],
)
def test_tensors_come_out_of_every_usual_file(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    torch.save(wrap(STATE), tmp_path / "w.pt")
    assert same(weights.state_dict(tmp_path / "w.pt"), STATE)
    assert not any(value.requires_grad for value in weights.state_dict(str(tmp_path / "w.pt")).values())


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.safetensors")
    assert same(weights.state_dict(tmp_path / "w.safetensors"), STATE)


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path) -> None:
    canary = tmp_path / "executed"

    class Canary:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(canary),))

    torch.save({**STATE, "x": Canary()}, tmp_path / "new.pt")
    torch.save({**STATE, "x": Canary()}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Canary()))
    for name in ("new.pt", "old.pt", "bare.pt"):
        for read in (weights.state_dict, lambda path: models.use("sdf", path)):
            with pytest.raises(Gen3DError, match="could run code") as caught:
                read(tmp_path / name)
            assert caught.value.field == "weights" and "\n" not in caught.value.cause
    assert not canary.exists() and weights.installed("sdf") is None


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[3] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    "damage",
    [cut, flip, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"<html>no such file</html>")],
)
def test_damaged_files_are_refused_in_one_sentence(
    tmp_path: Path, suffix: str, damage: Callable[[Path], object]
) -> None:
    path = tmp_path / f"w{suffix}"
    torch.save(STATE, path) if suffix == ".pt" else save_file(STATE, path)
    damage(path)
    with pytest.raises(Gen3DError, match=re.escape(str(path))) as caught:
        weights.state_dict(path)
    assert caught.value.field == "weights" and "\n" not in caught.value.cause and caught.value.cause.endswith(".")
    assert "is damaged, or no" in caught.value.cause and "run code" not in caught.value.cause


def test_files_without_weights_are_refused(tmp_path: Path) -> None:
    for content in ({}, {"epoch": 3}, [1, 2], torch.zeros(3)):
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(Gen3DError, match="no weights"):
            weights.state_dict(tmp_path / "w.pt")
    with pytest.raises(Gen3DError, match="not a file"):
        weights.state_dict(tmp_path)


def test_a_network_is_filled_strictly_or_not_at_all(tmp_path: Path) -> None:
    module = network()
    save_file({name: value.half() for name, value in STATE.items()}, tmp_path / "half.safetensors")
    weights.load(module, tmp_path / "half.safetensors")
    assert same(module.state_dict(), {name: value.half().float() for name, value in STATE.items()})
    before = {name: value.clone() for name, value in module.state_dict().items()}
    wrong: list[tuple[dict[str, torch.Tensor], str]] = [
        ({**STATE, "0.bias": STATE["0.bias"] / 0}, r"damaged: 0\.bias holds what is no number"),
        ({**STATE, "extra": torch.zeros(1)}, r"1 unknown \(extra\)"),
        ({name: STATE[name] for name in ("0.weight", "0.bias")}, r"1 missing \(1\.weight\)"),
        ({**STATE, "0.bias": torch.zeros(5)}, r"1 of another shape \(0\.bias\)"),
    ]
    for state, words in wrong:
        save_file(state, tmp_path / "w.safetensors")
        with pytest.raises(Gen3DError, match=words):
            weights.load(module, tmp_path / "w.safetensors")
        assert same(module.state_dict(), before)


def test_what_is_missing_names_the_command_that_installs_it(tmp_path: Path) -> None:
    for name in ("base40M-textvec", "clip-vit-l14", "stable-diffusion-v1-5/stable-diffusion-v1-5"):
        assert weights.installed(name) is None
        for ask in (weights.require, weights.state_dict):
            with pytest.raises(Gen3DError, match=f"{name} are not installed") as caught:
                ask(name)
            assert f"gen3d models install {name}" in caught.value.next_step
    for name in ("base41M", "../../nowhere", "a/b/c", str(tmp_path / "absent.pt"), "-x/y", "a\\b"):
        with pytest.raises(Gen3DError, match="neither known weights nor") as caught:
            weights.require(name)
        assert "base40M-textvec" in caught.value.next_step


def test_local_copies_stand_for_names(tmp_path: Path, home: Path) -> None:
    torch.save(STATE, tmp_path / "mine.pt")
    models.use("sdf", tmp_path / "mine.pt")
    assert weights.require("sdf") == tmp_path / "mine.pt" and same(weights.state_dict("sdf"), STATE)
    (tmp_path / "clip").mkdir()
    with pytest.raises(Gen3DError, match=r"config\.json"):
        models.use("clip-vit-l14", tmp_path / "clip")
    (tmp_path / "clip" / "config.json").write_text("{}")
    models.use("clip-vit-l14", tmp_path / "clip")
    models.use("some/model", tmp_path / "clip")
    assert weights.require("clip-vit-l14") == weights.require("some/model") == tmp_path / "clip"
    assert weights.damaged("sdf") == weights.damaged("clip-vit-l14") == []
    with pytest.raises(Gen3DError, match="not a file"):
        models.use("sdf", tmp_path / "absent.pt")
    assert weights.require("sdf") == tmp_path / "mine.pt"
    (tmp_path / "mine.pt").unlink()
    assert weights.installed("sdf") is None
    models.remove("some/model")
    assert weights.installed("some/model") is None and (tmp_path / "clip" / "config.json").exists()
    assert sorted(path.name for path in (home / "models").iterdir()) == ["clip-vit-l14", "sdf"]


def test_what_changed_since_it_was_installed_is_not_used(home: Path) -> None:
    folder = home / "models" / "sdf"
    folder.mkdir(parents=True)
    save_file(STATE, folder / "model.safetensors")
    models._write_lock(folder, path="model.safetensors", files=models._hashes(folder / "model.safetensors"))
    assert same(weights.state_dict("sdf"), STATE)
    save_file({**STATE, "0.bias": STATE["0.bias"] + 1}, folder / "model.safetensors")
    with pytest.raises(Gen3DError, match="not what it was") as caught:
        weights.state_dict("sdf")
    assert "gen3d models install sdf" in caught.value.next_step
    assert weights.damaged("sdf") == ["model.safetensors"]
    (folder / "lock.json").write_text("{")
    assert weights.installed("sdf") is None
    shutil.rmtree(folder)


def test_clip_of_another_programs_download_is_found(tmp_path: Path) -> None:
    entry = weights.PUBLISHED["clip-vit-b32"]
    cache = tmp_path / "hub" / "models--openai--clip-vit-base-patch32"
    folder = cache / "snapshots" / entry.revision
    folder.mkdir(parents=True)
    for name in entry.files[:-1]:
        (folder / name).write_text("{}")
    assert weights.installed("clip-vit-b32") is None  # half of it
    (folder / entry.files[-1]).write_bytes(b"x")
    assert weights.installed("clip-vit-b32") == folder
    assert weights.damaged("clip-vit-b32") == ["pytorch_model.bin"]  # its published hash is known
