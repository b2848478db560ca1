# SPDX-License-Identifier: GPL-3.0-or-later
"""Libraries that load models, without bars and advice of their own on the terminal."""

from __future__ import annotations


def quiet(*, with_diffusers: bool = False) -> None:
    """From now on, transformers (and diffusers) say only what is an error."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    if with_diffusers:
        from diffusers.utils import logging as others

        others.disable_progress_bar()
        others.set_verbosity_error()
