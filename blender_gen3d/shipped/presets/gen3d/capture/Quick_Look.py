# SPDX-License-Identifier: GPL-3.0-or-later
import bpy

plan = bpy.context.scene.gen3d.capture

plan.mode = "sphere"
plan.views = 40
plan.width = 200
plan.height = 200
plan.engine = "cycles"
plan.samples = 16
plan.denoise = True
