"""The page of a shard's sample in headless Chromium, compared to the stored images of the same cameras."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from helix4d.cli.main import main
from helix4d.core import ConfigError, FormatError
from helix4d.curation.report.sample_viewer import write_sample_viewer
from helix4d.curation.shards.reader import ShardReader
from helix4d.render import Camera, project, resized
from helix4d.voxelize import decode_vxz
from tests.browser import Visit, drive
from tests.curation.outputs import FRAMES, RESOLUTION, VIEWS, output_of

SIZE = 256
HOSTILE = "</script><script>window.hacked=1</script>.glb"
STEPS = """
await page.waitForFunction(() => document.title.startsWith("Helix4D: "));
await page.waitForTimeout(100);
await page.screenshot({path: folder + "/picture.png"});
return {
  title: await page.title(),
  hacked: await page.evaluate(() => window.hacked ?? null), text: await page.evaluate(() => document.body.textContent),
};
"""


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    output = output_of(tmp_path_factory.mktemp("output"), [HOSTILE])
    (tar,) = output.glob("*/*.tar")
    return tar, ShardReader(tar).keys()[0]


def page_data(page: Path) -> dict[str, Any]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


def look(page: Path, settings: str, folder: Path) -> tuple[np.ndarray, Visit]:
    """Return the silhouette as (SIZE, SIZE) bool."""
    visit = drive(f"{page.resolve().as_uri()}#bare=1&play=0&mode=base&{settings}", STEPS, folder, (SIZE, SIZE))
    assert visit.result["title"] == "Helix4D: ready", visit
    assert not visit.errors
    assert all(request.startswith(("file:", "data:", "blob:")) for request in visit.requests)
    return np.asarray(Image.open(folder / "picture.png").convert("RGB")).min(axis=2) < 250, visit


def stored(reader: ShardReader, key: str, view: int, frame: int) -> np.ndarray:
    """Return (SIZE, SIZE) bool: pixels where the stored image is more than half opaque."""
    image = Image.open(io.BytesIO(reader.read(key, f"view_{view:02d}_frame_{frame:02d}.webp"))).getchannel("A")
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)) > 127


def cubes(reader: ShardReader, key: str, view: int, frame: int) -> np.ndarray:
    """Return (SIZE, SIZE) bool: pixels covered by the cubes of the voxels, each drawn as six quads."""
    camera = resized(Camera.from_json(json.loads(reader.read(key, f"view_{view:02d}.json"))["camera"]), SIZE)
    ovoxel = decode_vxz(reader.read(key, f"frame_{frame:02d}.vxz"))
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    pixels, _ = project(camera, (ovoxel.coords[:, None] + corners) / ovoxel.resolution - 0.5)
    picture = Image.new("1", (SIZE, SIZE))
    draw = ImageDraw.Draw(picture)
    for cube in pixels - 0.5:
        for side in ([0, 1, 3, 2], [4, 5, 7, 6], [0, 1, 5, 4], [2, 3, 7, 6], [0, 2, 6, 4], [1, 3, 7, 5]):
            draw.polygon([(float(x), float(y)) for x, y in cube[side]], fill=1)
    return np.asarray(picture)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_the_page_contains_every_frame_and_view(shard: tuple[Path, str], tmp_path: Path) -> None:
    tar, key = shard
    data = page_data(write_sample_viewer(tar, key, tmp_path / "page.html"))
    voxels = ShardReader(tar).sample(key)["voxels"]
    assert [frame["voxels"] if frame else 0 for frame in data["frames"]] == voxels
    assert data["frames"][-1] is None, "the last frame is empty"
    assert data["resolution"] == RESOLUTION
    assert [len(view["images"]) for view in data["views"]] == [FRAMES] * VIEWS


def test_many_voxels_are_merged_into_blocks(shard: tuple[Path, str], tmp_path: Path) -> None:
    tar, key = shard
    voxels = sum(ShardReader(tar).sample(key)["voxels"])
    data = page_data(write_sample_viewer(tar, key, tmp_path / "page.html", voxels // 3))
    shown = sum(frame["voxels"] for frame in data["frames"] if frame)
    assert voxels / 6 < shown < voxels / 3
    assert data["resolution"] == RESOLUTION // 2
    assert "blocks of 2³" in data["about"]


def test_the_command_writes_the_page_or_reports_what_is_missing(
    shard: tuple[Path, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tar, key = shard
    page = tmp_path / "page.html"
    assert main(["view", str(tar), key, "--page", str(page), "--no-open"]) == 0
    assert capfd.readouterr().out.strip() == str(page)
    assert page.stat().st_size > 10_000
    assert main(["view", str(tar), "--no-open"]) == 2
    assert f"the key of a sample is required; its samples are {key}" in capfd.readouterr().err
    assert main(["view", str(tmp_path), key, "--no-open"]) == 2
    assert "apply only to a shard's .tar file" in capfd.readouterr().err
    with pytest.raises(ConfigError, match="at least 1"):
        write_sample_viewer(tar, key, page, 0)
    with pytest.raises(FormatError, match="no such file"):
        write_sample_viewer(tmp_path / "none.tar", key)


@pytest.mark.slow
def test_mesh_and_voxels_match_the_stored_images(shard: tuple[Path, str], tmp_path: Path) -> None:
    tar, key = shard
    page = write_sample_viewer(tar, key, tmp_path / "page.html")
    reader = ShardReader(tar)
    for view, frame in [(0, 0), (1, 2)]:
        wanted = stored(reader, key, view, frame)
        mesh, visit = look(page, f"view={view}&frame={frame}", tmp_path)
        voxels, _ = look(page, f"view={view}&frame={frame}&shape=voxels", tmp_path)
        assert mesh.sum() > 1000
        assert overlap(mesh, wanted) > 0.9
        assert overlap(voxels, cubes(reader, key, view, frame)) > 0.95
        assert (mesh & voxels).sum() / mesh.sum() > 0.98
        assert visit.result["hacked"] is None
        assert HOSTILE in visit.result["text"]
    assert not look(page, "view=0&frame=3", tmp_path)[0].any(), "an empty frame is blank"


@pytest.mark.slow
def test_blocks_look_like_their_voxels(shard: tuple[Path, str], tmp_path: Path) -> None:
    tar, key = shard
    page = write_sample_viewer(tar, key, tmp_path / "page.html", 1500)
    mesh, _ = look(page, "view=0&frame=1", tmp_path)
    assert overlap(mesh, stored(ShardReader(tar), key, 0, 1)) > 0.85


@pytest.mark.slow
def test_the_controls_turn_play_and_switch(shard: tuple[Path, str], tmp_path: Path) -> None:
    tar, key = shard
    page = write_sample_viewer(tar, key, tmp_path / "page.html")
    steps = """
    await page.waitForFunction(() => document.title === "Helix4D: ready");
    const canvas = page.locator("canvas"), changes = [];
    let before = await canvas.screenshot();
    const changed = async () => {
      await page.waitForTimeout(150);
      const now = await canvas.screenshot(), is = !now.equals(before);
      before = now;
      return is;
    };
    for (const [id, value] of [["#shape", "voxels"], ["#mode", "normals"], ["#camera", "1"]]) {
      await page.selectOption(id, value);
      changes.push(await changed());
    }
    const picture = await page.getAttribute("#input", "src");
    await page.mouse.move(300, 300); await page.mouse.down(); await page.mouse.move(400, 340); await page.mouse.up();
    changes.push(await changed(), await page.inputValue("#camera") === "-1");
    await page.keyboard.press("ArrowRight");
    changes.push(await changed(), await page.getAttribute("#input", "src") !== picture);
    await page.check("#wire");
    changes.push(await changed());
    await page.click("#play");
    const first = await page.innerText("#number");
    await page.waitForFunction(text => document.querySelector("#number").innerText !== text, first);
    return changes;
    """
    visit = drive(f"{page.as_uri()}#play=0&frame=0", steps, tmp_path, (600, 600))
    assert visit.result == [True] * 8
    assert not visit.errors


@pytest.mark.slow
def test_the_voxels_match_the_images_of_blender(reference_output: Path, tmp_path: Path) -> None:
    found = [
        (tar, key)
        for tar in sorted(reference_output.glob("*/*.tar"))
        for key in ShardReader(tar).keys()  # noqa: SIM118
        if ShardReader(tar).sample(key)["asset"] == "clock.glb"
    ]
    (tar, key) = found[0]
    page = write_sample_viewer(tar, key, tmp_path / "page.html")
    for view in range(2):
        wanted = stored(ShardReader(tar), key, view, 1)
        assert overlap(look(page, f"view={view}&frame=1", tmp_path)[0], wanted) > 0.9
