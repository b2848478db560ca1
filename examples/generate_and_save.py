# SPDX-License-Identifier: GPL-3.0-or-later
"""A scene out of words:  blender --background --python THIS_FILE

The extension must be installed; the scene is saved as words.blend and words.glb in the present folder.
"""

import bpy
from bl_ext.user_default.gen3d import api

bpy.ops.wm.read_homefile(use_empty=True)
for number, prompt in enumerate(("a red chair with a blue seat", "a brown table", "a green tree")):
    result = api.generate(prompt, seed=1, on_progress=lambda job: print(job.state, job.progress))
    api.import_result(result, at=(3.0 * number, 0.0, 0.0))
bpy.ops.export_scene.gltf(filepath="words.glb")
bpy.ops.wm.save_as_mainfile(filepath="words.blend")
