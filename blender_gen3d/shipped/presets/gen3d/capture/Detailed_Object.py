# SPDX-License-Identifier: GPL-3.0-or-later
import bpy

plan = bpy.context.scene.gen3d.capture

plan.mode = "sphere"
plan.views = 200
plan.width = 800
plan.height = 800
plan.engine = "cycles"
plan.samples = 128
plan.denoise = False
