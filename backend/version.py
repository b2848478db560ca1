# SPDX-License-Identifier: GPL-3.0-or-later
"""The version of the product: add-on and backend are always delivered together, so there is one."""

from __future__ import annotations

VERSION = "0.1.0"
