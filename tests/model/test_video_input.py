from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

from helix4d.core import ConfigError, FormatError
from helix4d.model.conditioning.video_input import read_video, rembg_matting, smooth_masks, spaced_frames
from tests.model.tiny_onnx import write_matting_model

SIZE = 32


def picture(number: int, alpha: bool = True, size: int = SIZE) -> Image.Image:
    """A square that moves to the right, with a gray level that encodes the frame."""
    rgba = np.zeros((size, size, 4), np.uint8)
    rgba[8:16, 4 + number : 12 + number] = (10 * number, 100, 200, 255)
    if not alpha:
        rgba[..., 3] = 255
    return Image.fromarray(rgba, "RGBA")


def write_folder(folder: Path, count: int, alpha: bool = True) -> Path:
    folder.mkdir()
    for number in range(count):
        picture(number, alpha).save(folder / f"frame_{number}.png")
    (folder / "notes.txt").write_text("not a frame")
    return folder


def reds(frames: tuple[Image.Image, ...]) -> list[int]:
    return [int(np.asarray(frame)[..., 0].max()) for frame in frames]


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    video = read_video(write_folder(tmp_path / "clip", 12), frames=None)
    assert reds(video.frames) == [10 * n for n in range(12)]
    assert (video.source_frames, video.matted) == (12, False)
    assert np.array_equal(np.asarray(video.frames[3]), np.asarray(picture(3)))


@pytest.mark.parametrize("name", ["clip.webp", "clip.gif", "clip.png"])
def test_animations_keep_their_alpha(name: str, tmp_path: Path) -> None:
    first, *rest = [picture(n) for n in range(8)]
    options = {"lossless": True, "exact": True} if name.endswith("webp") else {"disposal": 2}
    first.save(tmp_path / name, save_all=True, append_images=rest, duration=50, loop=0, **options)
    video = read_video(tmp_path / name, frames=4)
    assert video.indices == (0, 2, 5, 7)
    assert [int((np.asarray(f)[..., 3] > 0).sum()) for f in video.frames] == [64] * 4


def test_a_video_file_is_decoded_and_matted(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="av is not installed (extra 'model')")
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for number in range(10):
            frame = av.VideoFrame.from_image(picture(number, alpha=False, size=64).convert("RGB"))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())

    def matting(image: Image.Image) -> np.ndarray:
        return ((np.asarray(image)[..., 2] > 100) * 255).astype(np.uint8)

    video = read_video(path, frames=5, matting=matting)
    assert (len(video.frames), video.source_frames, video.matted) == (5, 10, True)
    lefts = [int(np.nonzero(np.asarray(f)[..., 3].any(axis=0))[0][0]) for f in video.frames]
    assert lefts == sorted(lefts)
    assert lefts[0] < lefts[-1]
    with pytest.raises(ConfigError, match="no frame has alpha"):
        read_video(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FormatError, match="cannot decode video"):
        read_video(path, matting=matting)


def test_invalid_sources_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_video(tmp_path / "missing.mp4")
    with pytest.raises(ConfigError, match="only one frame"):
        read_video(write_folder(tmp_path / "one", 1))
    with pytest.raises(ConfigError, match="no frame"):
        read_video(write_folder(tmp_path / "none", 0))
    with pytest.raises(ConfigError, match="frames is 1"):
        read_video(write_folder(tmp_path / "two", 2), frames=1)
    (tmp_path / "bad.webp").write_bytes(b"RIFF")
    with pytest.raises(FormatError, match="cannot read image"):
        read_video(tmp_path / "bad.webp")
    uneven = write_folder(tmp_path / "uneven", 2)
    picture(2, size=48).save(uneven / "frame_2.png")
    with pytest.raises(FormatError, match="different sizes"):
        read_video(uneven)


def test_an_empty_first_frame_is_rejected_but_a_later_one_is_not(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "clip", 3)
    Image.new("RGBA", (SIZE, SIZE)).save(folder / "frame_2.png")
    assert len(read_video(folder).frames) == 3
    Image.new("RGBA", (SIZE, SIZE)).save(folder / "frame_0.png")
    with pytest.raises(ConfigError, match="its alpha is zero everywhere"):
        read_video(folder)
    with pytest.raises(ConfigError, match="matting found no foreground"):
        read_video(
            write_folder(tmp_path / "opaque", 3, alpha=False), matting=lambda i: np.zeros((SIZE, SIZE), np.uint8)
        )


@pytest.mark.parametrize("alpha", [1, 150, 204])
def test_given_alpha_is_an_object_however_faint(alpha: int, tmp_path: Path) -> None:
    """Only the veil that matting leaves is no object."""
    for number in range(2):
        Image.new("RGBA", (SIZE, SIZE), (200, 200, 200, alpha)).save(tmp_path / f"{number}.png")
    video = read_video(tmp_path)
    assert (video.matted, video.alpha_threshold) == (False, 0)
    opaque = write_folder(tmp_path / "opaque", 2, alpha=False)
    with pytest.raises(ConfigError, match="matting found no foreground"):
        read_video(opaque, matting=lambda image: np.full((SIZE, SIZE), alpha, np.uint8))
    matted = read_video(opaque, matting=lambda image: np.full((SIZE, SIZE), 205, np.uint8))
    assert (matted.matted, matted.alpha_threshold) == (True, 204)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_stills_and_animations_are_upright(kind: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    rgb = np.random.default_rng(3).integers(0, 256, (4, 6, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    image = Image.fromarray(rgb)
    for number in range(2):
        image.save(tmp_path / f"{number}.{kind}", exif=exif)
    sources = [tmp_path]
    if kind != "jpg":
        sources.append(tmp_path / f"clip.{kind}")
        image.save(sources[1], save_all=True, append_images=[image.rotate(90)], exif=exif, duration=100)
    with Image.open(tmp_path / f"0.{kind}") as still:
        expected = np.asarray(ImageOps.exif_transpose(still).convert("RGB")).astype(int)
    for source in sources:
        found = read_video(source, 2, lambda picture: np.full(picture.size[::-1], 255, np.uint8)).frames[0]
        np.testing.assert_allclose(np.asarray(found.convert("RGB")), expected, atol=40 if kind == "webp" else 0)


@pytest.mark.parametrize("name", ["clip.webp", "clip.gif", "clip.png"])
def test_the_durations_of_animations_count(name: str, tmp_path: Path) -> None:
    """The second frame is shown ten times as long as the others."""
    first, *rest = [picture(n) for n in range(6)]
    options = {"lossless": True, "exact": True} if name.endswith("webp") else {"disposal": 2}
    first.save(tmp_path / name, save_all=True, append_images=rest, duration=[100, 1000, 100, 100, 100, 100], **options)
    video = read_video(tmp_path / name, frames=None)
    np.testing.assert_allclose(video.times_s, [0, 0.1, 1.1, 1.2, 1.3, 1.4])
    assert read_video(tmp_path / name, frames=3).indices == (0, 2, 5)
    assert read_video(tmp_path / name, frames=3, start_s=1.1, fps=10).indices == (2, 3, 4)


def test_images_of_a_folder_have_no_times_but_fps_may_set_their_rate(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "clip", 12)
    assert read_video(folder, frames=4).times_s == ()
    video = read_video(folder, frames=4, start_s=0.5, fps=10)
    assert video.indices == (5, 6, 7, 8)
    np.testing.assert_allclose(video.times_s, [0.5, 0.6, 0.7, 0.8])
    with pytest.raises(ConfigError, match="images of a folder have no times: also set fps"):
        read_video(folder, start_s=0.5)


def test_deep_stills_are_reduced_or_rejected(tmp_path: Path) -> None:
    gray = np.full((SIZE, SIZE), 40000, np.uint16)
    for number in range(2):
        Image.fromarray(gray).save(tmp_path / f"{number}.png")
    video = read_video(tmp_path, matting=lambda image: np.full((SIZE, SIZE), 255, np.uint8))
    assert set(np.unique(np.asarray(video.frames[0])[..., :3])) == {40000 >> 8}
    for number in range(2):
        (tmp_path / f"{number}.png").unlink()
        Image.fromarray(gray.astype(np.float32)).save(tmp_path / f"{number}.tif")
    with pytest.raises(FormatError, match=r"0\.tif: pixels of 32 bits"):
        read_video(tmp_path)


@given(st.integers(2, 500), st.integers(2, 64))
def test_frames_are_spaced_evenly_with_both_ends(count: int, frames: int) -> None:
    indices = spaced_frames(np.arange(count) / 30, frames)
    assert (indices[0], indices[-1], len(indices)) == (0, count - 1, min(count, frames))
    steps = np.diff(indices)
    assert steps.min() >= 1
    assert steps.max() - steps.min() <= 1


@given(st.lists(st.floats(0.001, 2), min_size=2, max_size=60), st.integers(2, 20))
def test_the_nearest_frame_in_time_is_chosen(gaps: list[float], frames: int) -> None:
    times = np.cumsum([0, *gaps])
    wanted = np.linspace(0, times[-1], min(frames, len(times)))
    nearest = np.abs(times - wanted[:, None]).min(axis=1)
    np.testing.assert_allclose(np.abs(times[spaced_frames(times, frames)] - wanted), nearest, atol=1e-5)


def test_smoothing_repairs_single_frames_and_preserves_motion() -> None:
    masks = np.zeros((5, 4, 4), np.uint8)
    masks[:, 1, 1] = 255
    masks[2, 1, 1] = 0
    masks[3:, 2, 2] = 255
    smoothed = smooth_masks(masks)
    assert (smoothed[:, 1, 1] == 255).all()
    assert smoothed[:, 2, 2].tolist() == [0, 0, 0, 255, 255]


def test_smoothing_is_the_median_over_three_frames() -> None:
    masks = np.random.default_rng(7).integers(0, 256, (9, 6, 5), dtype=np.uint8)
    smoothed = smooth_masks(masks)
    windows = np.stack([masks[:-2], masks[1:-1], masks[2:]])
    np.testing.assert_array_equal(smoothed[1:-1], np.median(windows, axis=0))
    np.testing.assert_array_equal(smoothed[[0, -1]], masks[[0, -1]])


@pytest.mark.parametrize("frames", [1, 2])
def test_too_few_frames_are_not_smoothed(frames: int) -> None:
    masks = np.arange(frames * 4, dtype=np.uint8).reshape(frames, 2, 2)
    smoothed = smooth_masks(masks)
    np.testing.assert_array_equal(smoothed, masks)
    assert smoothed is not masks


def test_an_onnx_file_removes_a_gray_background(tmp_path: Path) -> None:
    pytest.importorskip("rembg", reason="rembg is not installed (extra 'matting')")
    matting = rembg_matting(f"u2net_custom:{write_matting_model(tmp_path / 'gray.onnx')}", threads=1)
    image = Image.new("RGB", (64, 48), (128, 128, 128))
    image.paste((255, 0, 0), (16, 16, 48, 40))
    alpha = matting(image)
    assert (alpha.dtype, alpha.shape) == (np.uint8, (48, 64))
    assert (alpha[20:36, 20:44] == 255).all()
    assert (alpha[:12] == 0).all()
    assert np.array_equal(matting(image), alpha)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("u2nt", "'u2nt' is unknown to rembg; local models: .*isnet-general-use"),
        ("withoutbg", "'withoutbg' is not run locally"),
        ("dis_custom", "NAME_custom:FILE"),
        ("u2net:mine.onnx", "NAME_custom:FILE"),
        ("dis_custom:missing.onnx", "'dis_custom:missing.onnx' cannot be loaded"),
    ],
)
def test_invalid_matting_models_are_rejected(model: str, message: str) -> None:
    pytest.importorskip("rembg", reason="rembg is not installed (extra 'matting')")
    with pytest.raises(ConfigError, match=message):
        rembg_matting(model)
