# SPDX-License-Identifier: GPL-3.0-or-later
import bpy

plan = bpy.context.scene.gen3d.capture

plan.mode = "sphere"
plan.views = 100
plan.width = 400
plan.height = 400
plan.engine = "cycles"
plan.samples = 64
plan.denoise = False
