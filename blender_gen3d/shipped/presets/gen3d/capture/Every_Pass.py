# SPDX-License-Identifier: GPL-3.0-or-later
import bpy

plan = bpy.context.scene.gen3d.capture

plan.depth = True
plan.normal = True
plan.mask = True
