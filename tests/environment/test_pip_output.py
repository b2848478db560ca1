# SPDX-License-Identifier: GPL-3.0-or-later
"""pip's words, as recorded from pip 23.2 to 26.3, and what is made of them."""

from __future__ import annotations

import pytest

from blender_gen3d.environment.pip_output import DOWNLOADED, PipOutput

DOWNLOAD = """\
Looking in indexes: https://pypi.org/simple
Collecting annotated-doc==0.0.7 (from -r requirements.txt (line 3))
  Downloading annotated_doc-0.0.7-py3-none-any.whl (5.3 kB)
Collecting diffusers==0.42.1 (from -r requirements.txt (line 9))
  Downloading diffusers-0.42.1-py3-none-any.whl (6.4 MB)
Progress 0 of 6355908
Progress 3177954 of 6355908
Progress 6355908 of 6355908
Requirement already satisfied: setuptools==84.2.1 in ./lib (from -r requirements.txt (line 51)) (84.2.1)
Collecting click<9.0.0,>=8.4.2 (from huggingface-hub==2.4.0->-r requirements.txt (line 17))
  Using cached click-8.5.1-py3-none-any.whl (12.0 MB)
"""
INSTALL = "Installing collected packages: mpmath, zipp, xatlas\n"
UNREACHABLE = """\
Looking in indexes: https://pypi.org/simple, https://download.pytorch.org/whl/cu130
WARNING: Retrying (Retry(total=4, connect=None, read=None, redirect=None, status=None)) after connection broken by \
'NameResolutionError("HTTPSConnection(host='download.pytorch.org', port=443): Failed to resolve \
'download.pytorch.org' ([Errno -2] Name or service not known)")': /whl/cu130/torch/
ERROR: Could not find a version that satisfies the requirement torch==2.13.0+cu130 (from versions: 2.12.1, 2.13.0)
ERROR: No matching distribution found for torch==2.13.0+cu130
"""
INDEX = "https://download.pytorch.org/whl/cu130"


def fed(text: str, expected: float = 37e6) -> PipOutput:
    output = PipOutput(expected)
    for line in text.splitlines():
        output.feed(line)
    return output


def test_progress_grows_from_nothing_to_unpacking() -> None:
    output, seen = PipOutput(37e6), []
    for line in (DOWNLOAD + INSTALL).splitlines():
        output.feed(line)
        seen.append(output.fraction)
    assert seen == sorted(seen)
    assert seen[0] == 0.0
    assert seen[-2] == pytest.approx(DOWNLOADED * (6355908 + 5300 + 12e6) / 37e6)
    assert seen[-1] == DOWNLOADED


def test_more_than_was_expected_is_not_more_than_all() -> None:
    assert fed(DOWNLOAD, 1e6).fraction == DOWNLOADED


def test_it_says_what_it_does() -> None:
    lines = DOWNLOAD.splitlines()
    assert fed("").text == "Looking up packages"
    assert fed("\n".join(lines[:3])).text == "Getting annotated-doc"
    assert fed("\n".join(lines[:7])).text == "Downloading diffusers, 3 of 6 MB"
    assert fed(DOWNLOAD + INSTALL).text == "Unpacking"


@pytest.mark.parametrize(
    ("said", "cause", "field"),
    [
        (UNREACHABLE, "torch==2.13.0+cu130 cannot be downloaded: download.pytorch.org does not answer.", "connection"),
        (
            "".join(UNREACHABLE.splitlines(keepends=True)[2:]),
            f"torch==2.13.0+cu130 is not offered for Python 3.13.1 on linux at {INDEX}.",
            "torch",
        ),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n",
            "full",
            "install",
        ),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 2] No such file or directory: 'C:\\\\x'\n"
            "HINT: This error might have occurred since this system does not have Windows Long Path support enabled. "
            "You can find information on how to enable this at https://pip.pypa.io/warnings/enable-long-paths\n",
            "too long",
            "install",
        ),
        ("WARNING: Retrying after connection broken by 'ProxyError('Cannot connect to proxy.')'", "proxy", "install"),
        (
            "ERROR: Cannot install torch==2.13.0+rocm7.2 because these package versions conflict.\n"
            "ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/\n",
            "torch==2.13.0+rocm7.2 is not offered",
            "torch",
        ),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "certificate", "install"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "damaged", "install"),
        ("ERROR: Something nobody has thought of.\nmore\n", "pip failed: Something nobody has thought of.", "install"),
        ("", "pip failed", "install"),
    ],
)
def test_failures_are_told_in_a_sentence(said: str, cause: str, field: str) -> None:
    error = fed(said).failure(INDEX, "Python 3.13.1 on linux")
    assert cause in error.cause
    assert error.cause.endswith(".")
    assert error.next_step.endswith(".")
    assert error.field == field
