# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's own Python environment: which base, which torch, how it is installed, repaired and removed. No bpy.

``pythons`` chooses the Python it is made from, ``machine`` reads what graphics hardware there is, ``builds``
chooses the torch for it, ``pip_output`` understands pip, and ``installation`` does the work.
"""
