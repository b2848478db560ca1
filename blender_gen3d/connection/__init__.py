# SPDX-License-Identifier: GPL-3.0-or-later
"""This Blender's line to a backend: finding or starting one, speaking with it, and bringing in what it says."""
