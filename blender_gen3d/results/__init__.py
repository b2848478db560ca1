# SPDX-License-Identifier: GPL-3.0-or-later
"""From a result folder to objects in the scene."""
