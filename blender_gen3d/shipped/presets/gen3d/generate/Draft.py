# SPDX-License-Identifier: GPL-3.0-or-later
import bpy

plan = bpy.context.scene.gen3d.generate

plan.guidance = 0.0
plan.steps = 16
plan.points = 512
plan.iterations = 150
plan.rendered = 64
plan.views = 2
plan.resolution = 64
plan.faces = 10000
