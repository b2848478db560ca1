# SPDX-License-Identifier: GPL-3.0-or-later
"""From a scene to posed views of it: the cameras, the renders, the files of a dataset."""
