# SPDX-License-Identifier: GPL-3.0-or-later
"""A trained field seen through the scene's cameras."""
