# SPDX-License-Identifier: GPL-3.0-or-later
import bpy

plan = bpy.context.scene.gen3d.nerf

plan.preset = "paper"
plan.seconds = 0.0
plan.steps = 0
