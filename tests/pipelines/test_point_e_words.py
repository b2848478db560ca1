# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of words the priors do not know, and of what cannot be made."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.errors import Gen3DError

from .tiny_point_e import QUICK, make, picture

pytestmark = pytest.mark.usefixtures("small_priors")


def test_unknown_words_are_told_with_what_is_near(tmp_path: Path) -> None:
    _, summary = make(replace(QUICK, prompt="a crimson chair with a hovercraft"), tmp_path / "out")
    (note,) = [note for note in summary["notes"] if "does not know" in note]
    assert "'hovercraft'" in note and "left that out" in note and "gen3d models install point-e" in note
    _, plain = make(replace(QUICK, prompt="a red chair"), tmp_path / "plain")
    assert plain["notes"] == ["Made with the embedded prior."]
    _, vague = make(replace(QUICK, prompt="red"), tmp_path / "vague")
    assert any("name no thing" in note for note in vague["notes"])


def test_what_is_too_long_to_be_read_is_told(prior_folder: Path, tmp_path: Path) -> None:
    own = shutil.copytree(prior_folder, tmp_path / "own")
    _, summary = make(replace(QUICK, prompt="red cat " * 20 + "end", weights=str(own)), tmp_path / "out")
    (note,) = summary["notes"]
    assert "too long" in note and "red cat" in note


def damaged(path: Path) -> str:
    data = picture(path).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return str(path)


def text(path: Path) -> str:
    path.write_text("no picture")
    return str(path)


@pytest.mark.parametrize(
    ("changes", "words", "field"),
    [
        ({"prompt": ""}, "There is no prompt.", "prompt"),
        ({"prompt": " \n\t "}, "There is no prompt.", "prompt"),
        ({"prompt": "xqzt wqrk"}, "knows none of the words", "prompt"),
        ({"image": lambda folder: str(folder / "missing.png")}, "There is no file", "image"),
        ({"image": str}, "is a folder, not a picture", "image"),
        ({"image": lambda folder: text(folder / "a.png")}, "no picture that can be read", "image"),
        ({"image": lambda folder: damaged(folder / "a.png")}, "no picture that can be read", "image"),
        ({"image": lambda folder: str(picture(folder / "a.png"))}, "looks at words, not at pictures", "image"),
        ({"text_to_image": "some/thing"}, "looks at words, not at pictures", "text_to_image"),
        ({"weights": "base40M"}, "base40M are not installed", "weights"),
        ({"weights": "no such"}, "There are no weights 'no such'", "weights"),
        ({"weights": str}, "config.json is missing", "weights"),
    ],
)
def test_what_cannot_be_made_is_said_and_leaves_nothing(
    tmp_path: Path, changes: dict[str, Any], words: str, field: str
) -> None:
    given = {name: value(tmp_path) if callable(value) else value for name, value in changes.items()}
    with pytest.raises(Gen3DError, match=words) as error:
        make(replace(QUICK, **{"prompt": "a red chair", **given}), tmp_path / "out")
    assert error.value.field == field
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": "base40M"}, "base40M looks at pictures, not at words"),
        ({"weights": "base40M-textvec", "image": "picture"}, "base40M-textvec looks at words, not at pictures"),
        ({"weights": "base40M", "text_to_image": "nobody/nothing"}, "nobody/nothing are not installed"),
        ({"weights": "base40M", "image": "picture", "remove_background": True}, "rembg, which is not installed"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    if "image" in changes:
        changes = {**changes, "image": str(picture(tmp_path / "view.png"))}
    with pytest.raises(Gen3DError, match=words):
        make(replace(QUICK, **changes), tmp_path / "out")


@pytest.mark.parametrize(
    "part", ["config.json", "model.safetensors", "text_encoder/model.safetensors", "text_encoder/config.json"]
)
@pytest.mark.parametrize("how", ["missing", "cut"])
def test_a_damaged_prior_is_said(prior_folder: Path, tmp_path: Path, part: str, how: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(prior_folder, copy)
    data = (copy / part).read_bytes()
    (copy / part).unlink()
    if how == "cut":
        (copy / part).write_bytes(data[: len(data) // 2])
    with pytest.raises(Gen3DError) as error:
        make(replace(QUICK, weights=str(copy)), tmp_path / "out")
    assert error.value.field == "weights" and not list((tmp_path / "out").iterdir())
    assert error.value.cause.endswith(".")
