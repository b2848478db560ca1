# SPDX-License-Identifier: GPL-3.0-or-later
import bpy

plan = bpy.context.scene.gen3d.generate

plan.guidance = 0.0
plan.steps = 0
plan.points = 0
plan.iterations = 0
plan.rendered = 0
plan.views = 0
plan.resolution = 128
plan.faces = 50000
