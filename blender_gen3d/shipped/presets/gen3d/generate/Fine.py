# SPDX-License-Identifier: GPL-3.0-or-later
import bpy

plan = bpy.context.scene.gen3d.generate

plan.guidance = 0.0
plan.steps = 0
plan.points = 0
# Twice the usual; that of published text-to-image models and of the papers is thousands, and enough.
plan.iterations = 600 if (plan.system, plan.preset) == ("dream-fields", "fast") else 0
plan.rendered = 0
plan.views = 0
plan.resolution = 256
plan.faces = 0
