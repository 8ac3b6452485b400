"""The page in headless Chromium, compared with Blender's render of the same mesh from the same camera."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helix4d.core import ConfigError, FormatError
from helix4d.model.sampling.viewer import write_viewer
from helix4d.render import Lights, RenderSettings, orbit_camera
from helix4d.voxelize.mesh.baked_clip import baked_clip
from helix4d.voxelize.mesh.baking import BakedMesh, bake_mesh
from helix4d.voxelize.mesh.glb import TextureFormat, encode_textures, frame_glb
from tests.browser import browse
from tests.packages import needs
from tests.voxelize.meshes import painted_sphere, surface

pytestmark = needs("xatlas")

SIZE = 256
READY = "document.title === 'Helix4D: ready'"


def write_sample(folder: Path) -> list[BakedMesh]:
    """Two frames with surfaces, the second one larger and with WebP textures, and one without."""
    meshes, faces = [], []
    for number, radius in enumerate((0.25, 0.45)):
        ovoxel = painted_sphere(radius=radius)
        meshes.append(bake_mesh(*surface(ovoxel), ovoxel, 128))
        faces.append(len(meshes[-1].faces))
        textured = encode_textures(meshes[-1], None, list(TextureFormat)[number])
        (folder / f"frame_{number:02d}.glb").write_bytes(frame_glb(textured))
    settings = {"fps": None, "video": "</script>clip.mp4", "seed": 0}
    facts = {"frames": [{"faces": n} for n in (*faces, 0)], "settings": settings, "playback_fps": 8.0}
    (folder / "run.json").write_text(json.dumps(facts))
    pictures = [Image.new("RGBA", (8, 8), color) for color in ("red", "green", "blue")]
    pictures[0].save(folder / "input.webp", save_all=True, append_images=pictures[1:], duration=100, lossless=True)
    return meshes


def shot(page: Path, settings: str, folder: Path) -> np.ndarray:
    """Screenshot of the page, (S, S, 3) float in [0, 1]."""
    folder.mkdir()
    _, picture = browse(f"{page.resolve().as_uri()}#bare=1&play=0&{settings}", READY, folder, SIZE)
    return np.asarray(Image.open(picture).convert("RGB"), np.float64) / 255


@pytest.mark.slow
def test_the_page_shows_what_blender_renders(tmp_path: Path) -> None:
    from dataclasses import replace

    from helix4d.render.cycles.engine import render_views

    meshes = write_sample(tmp_path)
    page = write_viewer(tmp_path)
    clip = baked_clip(meshes, 8.0)
    unlit = replace(clip, materials=tuple(replace(m, unlit=True) for m in clip.materials))
    settings = RenderSettings(image_size=SIZE, samples=16, denoise=False, device="cpu")
    camera = orbit_camera(-50.0, 25.0, SIZE)
    for frame in range(2):
        ours = shot(page, f"frame={frame}&mode=base&azimuth=-50&elevation=25", tmp_path / f"profile{frame}")
        (image,) = render_views(unlit, [camera], [Lights((), 1.5)], settings, [frame])
        rgba = image.rgba.astype(np.float64) / 255
        theirs = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
        seen, wanted = (picture.min(axis=2) < 0.98 for picture in (ours, theirs))
        assert (seen & wanted).sum() / (seen | wanted).sum() > 0.97
        error = np.square(ours - theirs)[seen & wanted].mean()
        assert -10 * np.log10(error) > 28


@pytest.mark.slow
def test_modes_differ_and_empty_frames_are_blank(tmp_path: Path) -> None:
    write_sample(tmp_path)
    page = write_viewer(tmp_path)
    shots = {}
    for name in ("mode=shaded", "mode=base", "mode=metallic", "mode=roughness", "mode=normals", "wire=1"):
        shots[name] = shot(page, f"frame=1&{name}", tmp_path / name)
    names = list(shots)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            assert np.abs(shots[a] - shots[b]).max() > 0.1, (a, b)
    middle = SIZE // 2
    assert shots["mode=metallic"][middle, middle] == pytest.approx([51 / 255] * 3, abs=0.01)
    assert shots["mode=roughness"][middle, middle] == pytest.approx([127 / 255] * 3, abs=0.01)
    assert (shot(page, "frame=2", tmp_path / "empty") == 1).all()


@pytest.mark.slow
def test_the_page_is_self_contained_and_describes_its_content(tmp_path: Path) -> None:
    write_sample(tmp_path)
    alone = tmp_path / "alone"
    alone.mkdir()
    page = write_viewer(tmp_path).rename(alone / "page.html")
    dumped, _ = browse(f"{page.as_uri()}#play=0&frame=1", READY, tmp_path)
    assert "2 / 3" in dumped
    assert "&lt;/script&gt;clip.mp4" in dumped, "text from files is text"
    assert "http" not in page.read_text().replace("http-equiv", "")


def test_invalid_sample_folders_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no run\.json"):
        write_viewer(tmp_path)
    write_sample(tmp_path)
    (tmp_path / "frame_01.glb").unlink()
    with pytest.raises(ConfigError, match=r"frame_01\.glb: file is missing"):
        write_viewer(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(FormatError, match="damaged"):
        write_viewer(tmp_path)


def test_the_input_is_embedded_frame_by_frame(tmp_path: Path) -> None:
    import base64
    import re

    write_sample(tmp_path)
    text = write_viewer(tmp_path).read_text()
    found = re.findall(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", text)
    colors = [Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB").getpixel((4, 4)) for data in found]
    assert [int(np.argmax(color)) for color in colors] == [0, 1, 2]
