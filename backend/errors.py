# SPDX-License-Identifier: GPL-3.0-or-later
"""The one error a user is meant to read. Standard library only: both sides of the socket share it."""

from __future__ import annotations


class Gen3DError(Exception):
    """Something the user can understand and act on.

    ``cause`` says what is wrong and where, ``next_step`` what to do about it; each is one sentence.
    ``field`` names the setting, message field or dataset entry at fault, where there is one.
    The command line prints both sentences and exits with code 2, the server sends them as a refusal,
    the worker stores them with the failed job, and the panel shows them.
    """

    def __init__(self, cause: str, next_step: str, *, field: str | None = None) -> None:
        super().__init__(f"{cause} {next_step}")
        self.cause = cause
        self.next_step = next_step
        self.field = field


def first_words(error: BaseException) -> str:
    """What an error of a library says in its first line, or else what kind it is, to stand within a sentence."""
    lines = str(error).strip().splitlines()
    return (lines[0].strip().rstrip(".") if lines else "") or type(error).__name__
