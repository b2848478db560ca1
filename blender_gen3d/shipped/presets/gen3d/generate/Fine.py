# SPDX-License-Identifier: GPL-3.0-or-later
import bpy

plan = bpy.context.scene.gen3d.generate

plan.guidance = 0.0
plan.steps = 0
plan.points = 0
plan.resolution = 256
plan.faces = 0
