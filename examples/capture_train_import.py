# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies everything in a scene by looking at it:  blender --background scene.blend --python THIS_FILE

The extension must be installed; the copy is saved beside the scene as copy.blend.
"""

import bpy
from bl_ext.user_default.gen3d import api

dataset = api.capture("//views", views=60, width=320, height=320, samples=32, overwrite=True)
result = api.train(dataset.folder, seconds=120, on_progress=lambda job: print(job.state, job.progress))
copy = api.import_result(result, name="Copy")
print(f"{copy.name}: {len(copy.data.polygons)} triangles at {copy.location[:]}")
bpy.ops.wm.save_as_mainfile(filepath=bpy.path.abspath("//copy.blend"))
