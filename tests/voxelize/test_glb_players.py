"""Clips in other programs: the Khronos validator, three.js in Chromium, Blender."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helix4d.voxelize.mesh.baking import bake_mesh
from helix4d.voxelize.mesh.glb import clip_glb, frame_glb
from tests.browser import browse, npm_install, served
from tests.packages import needs
from tests.voxelize.meshes import icosphere, painted_sphere

pytestmark = [pytest.mark.slow, needs("xatlas")]

RADII = (0.15, 0.25, 0.35, 0.45)
FPS = 8.0

_VALIDATE = """
const validator = require("gltf-validator");
const fs = require("fs");
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[2])))
  .then(report => console.log(JSON.stringify(report.issues)));
"""

# At the middle of each frame: the radius of what is shown, and how many pixels it covers.
_PLAY = """<!doctype html><script type="importmap">
{"imports": {"three": "./node_modules/three/build/three.module.js"}}</script>
<script type="module">
import * as THREE from "three";
import {GLTFLoader} from "./node_modules/three/examples/jsm/loaders/GLTFLoader.js";
const gltf = await new GLTFLoader().loadAsync("./clip.glb");
const renderer = new THREE.WebGLRenderer({preserveDrawingBuffer: true});
renderer.setSize(128, 128);
const scene = new THREE.Scene();
scene.add(gltf.scene, new THREE.AmbientLight(0xffffff, 3));
const camera = new THREE.OrthographicCamera(-0.5, 0.5, 0.5, -0.5, 0.1, 10);
camera.position.z = 2;
const mixer = new THREE.AnimationMixer(gltf.scene);
mixer.clipAction(gltf.animations[0]).play();
const seen = [];
for (let frame = 0; frame < FRAMES; frame++) {
  mixer.setTime((frame + 0.5) / FPS);
  scene.updateMatrixWorld(true);
  let radius = 0;
  gltf.scene.traverse(node => {
    if (!node.isMesh) return;
    const place = node.geometry.attributes.position, point = new THREE.Vector3();
    for (let i = 0; i < place.count; i++) {
      radius = Math.max(radius, point.fromBufferAttribute(place, i).applyMatrix4(node.matrixWorld).length());
    }
  });
  renderer.render(scene, camera);
  const gl = renderer.getContext(), pixels = new Uint8Array(128 * 128 * 4);
  gl.readPixels(0, 0, 128, 128, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
  let covered = 0;
  for (let i = 0; i < pixels.length; i += 4) if (pixels[i] + pixels[i + 1] + pixels[i + 2] > 0) covered++;
  seen.push([radius, covered]);
}
document.body.textContent = "RES" + "ULT" + JSON.stringify({duration: gltf.animations[0].duration, seen}) + "EN" + "D";
</script>"""

_BLENDER = """
import bpy, json, sys
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.import_scene.gltf(filepath=sys.argv[-2])
scene, fps, seen = bpy.context.scene, float(sys.argv[-1]), []
meshes = [o for o in scene.objects if o.type == "MESH"]
rate = scene.render.fps / scene.render.fps_base
first = min(a.frame_range[0] for a in bpy.data.actions)
for frame in range(len(meshes)):
    place = first + (frame + 0.5) / fps * rate
    scene.frame_set(int(place), subframe=place - int(place))
    seen.append([o.name for o in meshes if o.matrix_world.to_scale()[0] > 0.5])
print("RESULT" + json.dumps(seen) + "END")
"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four spheres, each larger than the one before; one of them translucent."""
    meshes = []
    for number, radius in enumerate(RADII):
        vertices, faces = icosphere(2, radius)
        ovoxel = painted_sphere(alpha=128 if number == 2 else 255, radius=radius)
        meshes.append(bake_mesh(vertices.astype(np.float32), faces, ovoxel, 64))
    folder = tmp_path_factory.mktemp("clip")
    (folder / "clip.glb").write_bytes(clip_glb(meshes, FPS))
    (folder / "frame.glb").write_bytes(frame_glb(meshes[0]))
    return folder


def result(text: str) -> object:
    found = re.search("RESULT(.*?)END", text, re.DOTALL)
    assert found is not None, text[-2000:]
    return json.loads(found[1].replace("&quot;", '"'))


@pytest.mark.parametrize("name", ["clip.glb", "frame.glb"])
def test_khronos_validator_finds_nothing(name: str, clip: Path, tmp_path: Path) -> None:
    npm_install(tmp_path, "gltf-validator")
    (tmp_path / "validate.js").write_text(_VALIDATE)
    command = ["node", str(tmp_path / "validate.js"), str(clip / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    issues = json.loads(done.stdout)
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"]


def test_three_js_plays_one_frame_after_the_other(clip: Path, tmp_path: Path) -> None:
    npm_install(clip, "three")
    page = _PLAY.replace("FRAMES", str(len(RADII))).replace("FPS", str(FPS))
    (clip / "index.html").write_text(page)
    with served(clip) as address:
        page, _ = browse(f"{address}/index.html", "document.body.textContent.startsWith('RESULT')", tmp_path)
    played = result(page)
    assert isinstance(played, dict)
    assert played["duration"] == pytest.approx(len(RADII) / FPS)
    for (radius, covered), wanted in zip(played["seen"], RADII, strict=True):
        assert radius == pytest.approx(wanted, rel=1e-3)
        assert covered == pytest.approx(np.pi * (wanted * 128) ** 2, rel=0.05)


def test_blender_imports_every_frame(clip: Path) -> None:
    command = [sys.executable, "-c", _BLENDER, str(clip / "clip.glb"), str(FPS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert result(done.stdout) == [[f"frame_{f:02d}"] for f in range(len(RADII))]
