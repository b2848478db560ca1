# SPDX-License-Identifier: GPL-3.0-or-later
import bpy

plan = bpy.context.scene.gen3d.nerf

plan.preset = "fast"
plan.seconds = 600.0
plan.mesh.resolution = 320
plan.mesh.faces = 200000
