from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

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
    with pytest.raises(ConfigError, match="its alpha is empty"):
        read_video(folder)
    with pytest.raises(ConfigError, match="matting found no foreground"):
        read_video(
            write_folder(tmp_path / "opaque", 3, alpha=False), matting=lambda i: np.zeros((SIZE, SIZE), np.uint8)
        )


@given(st.integers(2, 500), st.integers(2, 64))
def test_frames_are_spaced_evenly_with_both_ends(count: int, frames: int) -> None:
    indices = spaced_frames(count, frames)
    assert (indices[0], indices[-1], len(indices)) == (0, count - 1, min(count, frames))
    steps = np.diff(indices)
    assert steps.min() >= 1
    assert steps.max() - steps.min() <= 1


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
