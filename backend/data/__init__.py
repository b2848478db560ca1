# SPDX-License-Identifier: GPL-3.0-or-later
"""Posed-image datasets: read any dialect, check every value, find the box to train in."""
