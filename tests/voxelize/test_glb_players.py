"""Clips in other programs: the Khronos validator, three.js in Chromium, Blender."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helix4d.assets import AlphaMode
from helix4d.voxelize.mesh.baking import bake_mesh
from helix4d.voxelize.mesh.glb import TextureFormat, clip_glb, encode_textures, frame_glb, morph_glb
from helix4d.voxelize.mesh.morph import Limits, follow_clip
from tests.browser import browse, npm_install, served
from tests.packages import needs
from tests.voxelize.meshes import icosphere, painted_sphere

pytestmark = [pytest.mark.slow, needs("xatlas", "meshoptimizer")]

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
import {MeshoptDecoder} from "./node_modules/three/examples/jsm/libs/meshopt_decoder.module.js";
const gltf = await new GLTFLoader().setMeshoptDecoder(MeshoptDecoder).loadAsync("./NAME");
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
      radius = Math.max(radius, node.getVertexPosition(i, point).applyMatrix4(node.matrixWorld).length());
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

# In the middle of each frame: the radius of what is shown.
_BLENDER = """
import bpy, json, sys
fps, count, seen = float(sys.argv[1]), int(sys.argv[2]), {}
for path in sys.argv[3:]:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=path)
    scene, radii = bpy.context.scene, []
    rate = scene.render.fps / scene.render.fps_base
    first = min(a.frame_range[0] for a in bpy.data.actions)
    for frame in range(count):
        place = first + (frame + 0.5) / fps * rate
        scene.frame_set(int(place), subframe=place - int(place))
        depsgraph = bpy.context.evaluated_depsgraph_get()
        shown = [o.evaluated_get(depsgraph) for o in scene.objects if o.type == "MESH"]
        radii.append(max((o.matrix_world @ v.co).length for o in shown for v in o.data.vertices))
    seen[path] = radii, sorted(image.size[0] for image in bpy.data.images if image.size[0])
print("RESULT" + json.dumps(list(seen.values())) + "END")
"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four spheres, each larger than the one before; one of them translucent. In all forms that can be written."""
    meshes = []
    for number, radius in enumerate(RADII):
        vertices, faces = icosphere(2, radius)
        ovoxel = painted_sphere(alpha=128 if number == 2 else 255, radius=radius)
        meshes.append(bake_mesh(vertices.astype(np.float32), faces, ovoxel, 64))
    folder = tmp_path_factory.mktemp("clip")
    png, webp = ([encode_textures(m, AlphaMode.BLEND, kind) for m in meshes] for kind in TextureFormat)
    morphed = follow_clip(meshes, Limits(mean_distance=0.01, mean_color=255))
    files = {
        "frame.glb": frame_glb(png[0]),
        "clip.glb": clip_glb(png, FPS),
        "webp.glb": clip_glb(webp, FPS),
        "meshopt.glb": clip_glb(webp, FPS, meshopt=True),
        "morph.glb": morph_glb(morphed, png[0], FPS),
        "morph_meshopt.glb": morph_glb(morphed, png[0], FPS, meshopt=True),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def radii_of(name: str) -> list[float]:
    """What is shown in the middle of each frame: morphs are halfway to the next one."""
    if not name.startswith("morph"):
        return list(RADII)
    return [(a + b) / 2 for a, b in zip(RADII, [*RADII[1:], RADII[-1]], strict=True)]


def result(text: str) -> object:
    found = re.search("RESULT(.*?)END", text, re.DOTALL)
    assert found is not None, text[-2000:]
    return json.loads(found[1].replace("&quot;", '"'))


def test_khronos_validator_finds_nothing(clip: Path, tmp_path: Path) -> None:
    npm_install(tmp_path, "gltf-validator")
    (tmp_path / "validate.js").write_text(_VALIDATE)
    paths = sorted(clip.glob("*.glb"))
    assert len(paths) == 6
    for path in paths:
        command = ["node", str(tmp_path / "validate.js"), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        issues = json.loads(done.stdout)
        assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), (path.name, issues["messages"])


@pytest.mark.parametrize("name", ["clip.glb", "meshopt.glb", "morph.glb", "morph_meshopt.glb"])
def test_three_js_plays_one_frame_after_the_other(name: str, clip: Path, tmp_path: Path) -> None:
    if not (clip / "node_modules").exists():
        npm_install(clip, "three")
    page = _PLAY.replace("FRAMES", str(len(RADII))).replace("FPS", str(FPS)).replace("NAME", name)
    (clip / "index.html").write_text(page)
    with served(clip) as address:
        page, _ = browse(f"{address}/index.html", "document.body.textContent.startsWith('RESULT')", tmp_path)
    played = result(page)
    assert isinstance(played, dict)
    assert played["duration"] == pytest.approx(len(RADII) / FPS)
    for (radius, covered), wanted in zip(played["seen"], radii_of(name), strict=True):
        assert radius == pytest.approx(wanted, rel=5e-3)
        assert covered == pytest.approx(np.pi * (wanted * 128) ** 2, rel=0.05)


def test_blender_plays_what_it_can_read(clip: Path) -> None:
    """Its importer has no EXT_meshopt_compression."""
    names = ["clip.glb", "webp.glb", "morph.glb"]
    command = [sys.executable, "-c", _BLENDER, str(FPS), str(len(RADII)), *(str(clip / name) for name in names)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    seen = result(done.stdout)
    assert isinstance(seen, list)
    for name, (radii, images) in zip(names, seen, strict=True):
        assert radii == pytest.approx(radii_of(name), rel=5e-3)
        assert images == [64] * (2 if name == "morph.glb" else 8)
