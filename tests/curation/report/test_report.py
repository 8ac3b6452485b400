"""The report in headless Chromium, for outputs with known counts and hostile texts."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helix4d.cli.main import main
from helix4d.core import ConfigError, FormatError
from helix4d.curation.filters.thresholds import FILTERS
from helix4d.curation.report.datacard import plain
from helix4d.curation.report.page import write_report
from tests.browser import drive, served
from tests.curation.outputs import FRAMES, VIEWS, failure, motionless, output_of

HOSTILE = '<script>window.hacked=1;alert(1)</script><img src=x onerror="window.hacked=1">'
HOSTILE_EXTRAS = {"license": f"{HOSTILE} | `a` <!-- ", "author": HOSTILE, "nested": {"a": ["</script>"]}}
NEWER = ("distinct_poses", "start_jump", "backdrop_share", "emissive_share", "outline_share")
OLDER = {one.measure: 1.0 for one in FILTERS if one.measure not in NEWER}
OPENED = 'await page.waitForSelector("body[data-ready]");'


def page_data(page: Path) -> dict[str, Any]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


def files(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five samples, two failures, one filtered; names, extras and logs are hostile."""
    names = ["ball.glb", "disc.glb", "round.glb", f"{HOSTILE}.glb", "egg.glb"]
    ended = [
        failure(f"bad {HOSTILE}.glb", HOSTILE, f"log ends here {HOSTILE}"),
        failure("torn.glb"),
        motionless("rock.glb"),
    ]
    folder = output_of(tmp_path_factory.mktemp("output"), names, ended, extras=HOSTILE_EXTRAS)
    write_report(folder, workers=1)
    return folder


def test_counts_cover_everything_and_pictures_a_part(output: Path, tmp_path: Path) -> None:
    data = page_data(output / "report" / "index.html")
    assert data["states"] == {"done": 5, "filtered": 1, "failed": 2, "pending": 0}
    assert sum(data["states"].values()) == data["assets"] == 8
    assert {one["reason"]: one["count"] for one in data["reasons"]} == {"corrupt_file": 2, "no_motion": 1}
    assert data["licenses"] == {"": 5}
    motion = next(one for one in data["histograms"] if one["name"] == "motion")
    assert (sum(motion["kept"]), sum(motion["dropped"])) == (5, 1)
    assert motion["quantiles"]["50 %"] == pytest.approx(0.3)
    assert next(one for one in data["histograms"] if one["name"] == "voxels")["quantiles"]["min"] == 0
    render = next(one for one in data["stages"] if one["stage"] == "render")
    assert (render["total_s"], render["assets"], render["median_s"]) == (25.0, 5, 5.0)
    assert data["summary"]["ended"] == 8
    few = output_of(tmp_path / "few", ["a.glb", "b.glb", "c.glb"])
    page = write_report(few, pictured=2, workers=1)
    data = page_data(page)
    pictured = [entry["id"] for entry in data["entries"] if "stem" in entry]
    assert (data["samples"], data["pictured"]) == (3, 2)
    assert pictured == sorted(entry["id"] for entry in data["entries"])[:2]
    assert len(list((few / "report").rglob("*.strip.webp"))) == 2


def test_pictures_show_frames_normals_ovoxels_and_views(output: Path) -> None:
    entry = next(
        entry for entry in page_data(output / "report" / "index.html")["entries"] if entry["name"] == "ball.glb"
    )
    strip, sheet = (
        np.asarray(Image.open(output / "report" / f"{entry['stem']}.{what}.webp")) for what in ("strip", "sheet")
    )
    assert strip.shape == (160, FRAMES * 160, 4)
    assert sheet.shape == (2 * 160, 8 * 160, 4), "4 normals, 4 O-Voxels, 2 views"
    frames = np.split(strip, FRAMES, axis=1)
    whole = np.max([frame[..., 3] for frame in frames], axis=0) > 127
    assert max(np.ptp(places) for places in np.nonzero(whole)) > 120, "cropped to what is visible in any frame"
    assert not frames[-1][..., 3].any(), "the last frame is empty"
    ovoxels = np.split(sheet[:160], 8, axis=1)[FRAMES:]
    for image, again in zip(frames[:-1], ovoxels[:-1], strict=True):
        seen, wanted = image[..., 3] > 127, again[..., 3] > 127
        assert (seen & wanted).sum() / (seen | wanted).sum() > 0.9
        assert np.abs(image[seen & wanted].mean(0) - again[seen & wanted].mean(0)).max() < 16
    normals = np.split(sheet[:160], 8, axis=1)[0]
    inside = normals[..., 3] > 250
    length = np.linalg.norm(normals[inside][:, :3] / 127.5 - 1, axis=1)
    assert np.abs(length - 1).mean() < 0.1
    assert entry["pictures"]["normals"] == "ovoxels"
    assert min(value for value in entry["pictures"]["overlap"] if value is not None) > 0.9
    assert entry["pictures"]["overlap"][-1] is None


def test_rendered_normals_are_preferred_and_views_are_optional(tmp_path: Path) -> None:
    with_passes = output_of(tmp_path / "passes", ["a.glb"], passes=True)
    (entry,) = page_data(write_report(with_passes, workers=1))["entries"]
    assert entry["pictures"]["normals"] == "pass"
    sheet = np.asarray(Image.open(with_passes / "report" / f"{entry['stem']}.sheet.webp"))[:160, :160]
    assert np.abs(sheet[sheet[..., 3] > 250][:, :3].mean(0) - (128, 128, 255)).max() < 4, "the normals of the pass: up"
    without = output_of(tmp_path / "without", ["a.glb"], views=0)
    (entry,) = page_data(write_report(without, workers=1))["entries"]
    assert (entry["pictures"]["views"], entry["pictures"]["view"], entry["pictures"]["overlap"]) == (0, None, None)
    strip = np.asarray(Image.open(without / "report" / f"{entry['stem']}.strip.webp"))
    assert (strip[..., 3] > 127).sum() > 300


def test_a_report_is_reproducible_and_reuses_its_pictures(output: Path, tmp_path: Path) -> None:
    before = files(output / "report")
    write_report(output, workers=1)
    after = files(output / "report")
    assert {name: digest for name, (digest, _) in before.items()} == {
        name: digest for name, (digest, _) in after.items()
    }
    touched = {name for name in before if before[name] != after[name]}
    assert touched <= {"index.html", "datacard.md"}, "pictures are reused"
    folder = output_of(tmp_path / "out", ["a.glb", "b.glb"])
    write_report(folder, workers=1)
    one, *_ = sorted((folder / "report").rglob("*.json"))
    kept = files(folder / "report")
    one.unlink()
    left = one.with_name(f".{one.name}.abc.tmp")
    left.write_bytes(b"left by a killed run")
    os.utime(left, (1, 1))
    one.with_name(f"{'f' * 16}_0.123.strip.webp").write_bytes(b"of a sample that is gone")
    write_report(folder, workers=1)
    again = files(folder / "report")
    assert {name: digest for name, (digest, _) in kept.items()} == {name: digest for name, (digest, _) in again.items()}


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helix4d.curation.report.pictures._FEW_VOXELS", 0)
    names = [f"{letter}.glb" for letter in "abcd"]
    folder = output_of(tmp_path, names)
    write_report(folder, workers=1)
    alone = files(folder / "report")
    for path in (folder / "report").rglob("*.*"):
        path.unlink()
    write_report(folder, workers=2)
    together = files(folder / "report")
    assert {name: digest for name, (digest, _) in alone.items()} == {
        name: digest for name, (digest, _) in together.items()
    }


def test_an_unfinished_output_has_a_report(tmp_path: Path) -> None:
    folder = output_of(tmp_path, ["a.glb", "b.glb"], [failure("c.glb")], pending=["d.glb", "e.glb"])
    data = page_data(write_report(folder, workers=1))
    assert data["states"] == {"done": 2, "filtered": 0, "failed": 1, "pending": 2}
    assert "assets still to be processed: 2" in (folder / "report" / "datacard.md").read_text()


def test_the_newer_measures_are_shown_and_missing_ones_reported(tmp_path: Path) -> None:
    new = dict(zip(NEWER, (3.0, 0.5, 0.25, 0.125, 0.0), strict=True))
    folder = output_of(tmp_path / "new", ["a.glb", "b.glb"], measures=OLDER | new)
    page = write_report(folder, workers=1)
    data = page_data(page)
    shown = {one["name"]: one["quantiles"]["50 %"] for one in data["histograms"]}
    assert {name: shown[name] for name in new} == new
    assert {name: data["entries"][0]["measures"][name] for name in new} == new
    assert data["unmeasured"] == []
    card = (page.parent / "datacard.md").read_text()
    assert "| backdrop\\_share | share of the surface that belongs to a sky or a ground | 0.25 |" in card
    older = output_of(tmp_path / "old", ["a.glb", "b.glb"], measures=OLDER)
    page = write_report(older, workers=1)
    text = "2 samples, measured by an older version, without distinct_poses, start_jump, backdrop_share, emissive_share"
    assert page_data(page)["unmeasured"] == [f"{text}, outline_share"]
    assert f"Not included: {plain(text)}" in (page.parent / "datacard.md").read_text()
    visit = drive(page.as_uri(), OPENED + 'return page.locator("#unmeasured").innerText();', tmp_path)
    assert visit.result == f"Not included: {text}, outline_share."


def test_other_folders_and_damaged_shards_are_rejected(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "contains no plan.json" in capfd.readouterr().err
    with pytest.raises(ConfigError, match="no such folder"):
        write_report(tmp_path / "none")
    folder = output_of(tmp_path / "out", ["a.glb"])
    with pytest.raises(ConfigError, match="--assets -1: must be at least 0"):
        write_report(folder, -1)
    (tar,) = folder.glob("*/*.tar")
    tar.write_bytes(tar.read_bytes()[:3000])
    with pytest.raises(FormatError, match=r"cannot draw .*helix4d verify"):
        write_report(folder, workers=1)


def test_the_data_card_describes_the_data_and_no_text_becomes_markup(output: Path) -> None:
    card = (output / "report" / "datacard.md").read_text()
    expected = ["5 samples", "| done: became samples | 5 |", "| corrupt_file | failed | 2 |", "| resolution | 32 |"]
    expected += ["Skinned meshes: 4 samples; without: 0; unknown: 1.", "Up axis of the files: Y 4, not stated 1."]
    for text in [*expected, "--resolution 32", f"from each of {VIEWS} random cameras"]:
        assert text in card, text
    assert "| unknown | 5 |" in card
    assert not re.search(r"(?<!\\)<", card), "no tag, no comment"
    assert plain("a|b\n# <b>`c`") == "a\\|b \\# \\<b\\>\\`c\\`"
    assert len(plain("x" * 999)) == 200


@pytest.mark.slow
def test_the_contact_sheet_plays_filters_and_opens(output: Path, tmp_path: Path) -> None:
    steps = (
        OPENED
        + """
        const seen = {title: await page.title()};
        seen.cards = await page.locator(".card").count();
        seen.rows = await page.locator("#rows tr").count();
        const cell = page.locator(".card .cell").first();
        await cell.scrollIntoViewIfNeeded();
        await page.waitForFunction(() => document.querySelector(".card img").naturalWidth > 0);
        const rest = await cell.getAttribute("data-frame"), still = await cell.screenshot();
        await cell.hover();
        await page.waitForFunction(() => document.querySelector(".card .cell").dataset.frame === "3");
        // It plays on, so one screenshot might meet the frame at rest again.
        seen.changed = false;
        for (let i = 0; i < 8 && !seen.changed; i++) seen.changed = !still.equals(await cell.screenshot());
        await page.mouse.move(1, 1);
        seen.rest = await cell.getAttribute("data-frame") === rest;
        const count = async text => { await page.fill("#search", text); return page.locator("[data-id]").count(); };
        seen.found = [];
        const asked = ["egg.glb", "corrupt_file", "torn corrupt", "nosuchthing"];
        for (const text of asked) seen.found.push(await count(text));
        await page.fill("#search", ""); await page.selectOption("#state", "failed");
        seen.failed = await page.locator("[data-id]").count();
        await page.locator("#rows tr", {hasText: "bad"}).click();
        seen.log = await page.locator("#panel pre").innerText();
        seen.hash = await page.evaluate(() => location.hash);
        await page.keyboard.press("Escape");
        await page.locator("#panel").waitFor({state: "hidden"});
        await page.selectOption("#state", "done"); await page.fill("#search", "ball");
        await page.locator(".card .cell").click();
        // The panel opens when the address changes, a moment after the click.
        await page.locator("#panel .cell").first().waitFor();
        const loaded = () => [...document.querySelectorAll("#panel img")].every(one => one.naturalWidth > 0);
        await page.waitForFunction(loaded);
        seen.pictures = await page.locator("#panel .cell").count();
        const first = await page.locator(".player span").innerText();
        await page.waitForFunction(text => document.querySelector(".player span").innerText !== text, first);
        seen.panel = await page.locator("#panel").innerText();
        seen.hacked = await page.evaluate(() => window.hacked === undefined && !document.querySelector("img[src=x]"));
        return seen;
        """
    )
    page = output / "report" / "index.html"
    visit = drive(page.as_uri(), steps, tmp_path)
    seen = visit.result
    assert not visit.errors
    assert all(request.startswith(output.as_uri() + "/report/") for request in visit.requests), "nothing from elsewhere"
    assert (seen["cards"], seen["rows"]) == (5, 3)
    assert seen["changed"]
    assert seen["rest"], "the fullest frame again"
    assert seen["found"] == [1, 2, 1, 0]
    assert seen["failed"] == 2
    assert seen["log"] == f"log ends here {HOSTILE}"
    assert seen["hash"].startswith("#asset%3Abad")
    assert seen["pictures"] == 3 + VIEWS
    assert HOSTILE in seen["panel"], "the author, as text"
    assert "helix4d view" in seen["panel"]
    assert seen["hacked"]


@pytest.mark.slow
def test_taps_play_and_a_link_opens_an_asset(output: Path, tmp_path: Path) -> None:
    tap = (
        OPENED
        + """
        const cell = page.locator(".card .cell").first();
        const rest = await cell.getAttribute("data-frame");
        await cell.tap();
        await page.waitForFunction(frame => document.querySelector(".card .cell").dataset.frame !== frame, rest);
        const played = await page.locator("#panel").isHidden();
        await cell.tap();
        return [played, await cell.getAttribute("data-frame") === rest];
        """
    )
    with served(output / "report") as address:
        visit = drive(f"{address}/index.html", tap, tmp_path, (500, 800), touch=True)
        assert visit.result == [True, True]
        key = page_data(output / "report" / "index.html")["entries"][0]["id"]
        opened = drive(
            f"{address}/index.html#{key}", OPENED + 'return page.locator("#panel h1").innerText();', tmp_path
        )
        assert opened.result.endswith(".glb")
        cut = drive(
            f"{address}/index.html#%E0%A4%A", OPENED + 'return page.locator("#panel h1").innerText();', tmp_path
        )
        assert cut.result == "No such asset"
        assert not visit.errors + opened.errors + cut.errors
        assert all(request.startswith((address, "data:")) for request in visit.requests)


@pytest.mark.slow
def test_the_content_policy_blocks_injected_elements(output: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    text = (output / "report" / "index.html").read_text()
    page.write_text(
        text.replace("<main>", "<main><script>window.hacked=1</script><img src='https://example.invalid/x.png'>")
    )
    visit = drive(page.as_uri(), OPENED + "return page.evaluate(() => window.hacked ?? null);", tmp_path)
    assert visit.result is None
    assert any("Content Security Policy" in error for error in visit.errors)


@pytest.mark.slow
def test_long_lists_are_built_while_scrolling(tmp_path: Path) -> None:
    folder = output_of(tmp_path, ["a.glb"], [failure(f"asset {number:04d}.glb") for number in range(200)])
    steps = (
        OPENED
        + """
        const at_first = await page.locator("[data-id]").count();
        await page.evaluate(() => document.getElementById("more").scrollIntoView());
        await page.waitForFunction(count => document.querySelectorAll("[data-id]").length > count, at_first);
        await page.fill("#search", "0199");
        return [at_first, await page.locator("[data-id]").count()];
        """
    )
    visit = drive(write_report(folder, workers=1).as_uri(), steps, tmp_path)
    at_first, found = visit.result
    assert at_first < 200
    assert found == 1
    assert not visit.errors


@pytest.mark.slow
def test_curate_ends_with_a_report(reference_output: Path) -> None:
    data = page_data(reference_output / "report" / "index.html")
    assert data["states"]["done"] + data["states"]["filtered"] + data["states"]["failed"] == data["assets"] == 7
    assert data["pictured"] == data["samples"] >= 5
    overlaps = [v for entry in data["entries"] for v in entry.get("pictures", {}).get("overlap", []) if v is not None]
    assert np.median(overlaps) > 0.9, "the O-Voxels are where Blender saw the asset"
