"""Video files: orientation, shape of pixels, alpha, depth, transfer, times and windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helix4d.core import ConfigError, FormatError
from helix4d.model.conditioning import source_frame
from helix4d.model.conditioning.video_input import Video, read_video
from tests.model.films import write_film

pytest.importorskip("av", reason="av is not installed (extra 'model')")


def opaque(image: Image.Image) -> np.ndarray:
    return np.full(image.size[::-1], 255, np.uint8)


def corners(width: int = 32, height: int = 16) -> np.ndarray:
    """A picture whose quarters are red, green (above), blue and white (below)."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = (220, 30, 30)
    picture[: height // 2, width // 2 :] = (30, 220, 30)
    picture[height // 2 :, : width // 2] = (30, 30, 220)
    picture[height // 2 :, width // 2 :] = (220, 220, 220)
    return picture


def pixels(video: Video, frame: int = 0) -> np.ndarray:
    return np.asarray(video.frames[frame])[..., :3].astype(int)


@pytest.mark.parametrize(
    ("turn", "shown"),
    [
        ((90, False, False), lambda p: np.rot90(p)),  # degrees counterclockwise
        ((-90, False, False), lambda p: np.rot90(p, -1)),
        ((180, False, False), lambda p: np.rot90(p, 2)),
        ((0, True, False), lambda p: p[:, ::-1]),
        ((0, False, True), lambda p: p[::-1]),
    ],
)
def test_the_containers_rotation_and_flips_are_honored(turn, shown, tmp_path: Path) -> None:
    video = read_video(write_film(tmp_path / "turned.mp4", [corners()] * 2, turn=turn), matting=opaque)
    expected = shown(corners())
    assert pixels(video).shape == expected.shape
    assert np.abs(pixels(video) - expected).max() < 6


def test_flips_and_quarter_turns_combine(tmp_path: Path) -> None:
    """FFmpeg's matrix of 90° and a horizontal flip maps (x, y) to (-y, -x)."""
    video = read_video(write_film(tmp_path / "a.mp4", [corners()] * 2, turn=(90, True, False)), matting=opaque)
    expected = corners().swapaxes(0, 1)[::-1, ::-1]
    assert np.abs(pixels(video) - expected).max() < 6


def test_a_rotation_that_is_no_quarter_turn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"turned by .* no multiple of 90°"):
        read_video(write_film(tmp_path / "a.mp4", [corners()] * 2, turn=(30, False, False)), matting=opaque)


@pytest.mark.parametrize(("shape", "size"), [(2.0, (64, 16)), (0.5, (32, 32))])
def test_pixels_become_square(shape: float, size: tuple[int, int], tmp_path: Path) -> None:
    video = read_video(write_film(tmp_path / "a.mp4", [corners()] * 2, shape=shape), matting=opaque)
    assert video.frames[0].size == size
    assert np.abs(pixels(video)[[0, 0, -1, -1], [0, -1, 0, -1]] - corners()[[0, 0, -1, -1], [0, -1, 0, -1]]).max() < 6


def glass() -> np.ndarray:
    picture = np.zeros((32, 32, 4), np.uint8)
    picture[8:24, 8:24] = (200, 100, 50, 150)
    return picture


@pytest.mark.parametrize(
    ("name", "codec", "layout", "options"),
    [
        ("vp9.webm", "libvpx-vp9", "yuva420p", {"lossless": "1"}),
        ("vp8.webm", "libvpx", "yuva420p", {"auto-alt-ref": "0", "crf": "4", "b:v": "2M"}),
        ("prores.mov", "prores_ks", "yuva444p10le", {"profile": "4444"}),
        ("qtrle.mov", "qtrle", "argb", {}),
        ("ffv1.mkv", "ffv1", "bgra", {}),
    ],
)
def test_alpha_of_every_codec_is_used(name: str, codec: str, layout: str, options, tmp_path: Path) -> None:
    """Its object of alpha 150 is not empty."""
    video = read_video(write_film(tmp_path / name, [glass()] * 3, codec, layout, options=options))
    assert (video.matted, len(video.frames)) == (False, 3)
    shown = np.asarray(video.frames[0]).astype(int)
    assert np.abs(shown[12:20, 12:20] - [200, 100, 50, 150]).max() <= 8
    assert shown[:4, :, 3].max() == 0


def test_alpha_that_ffmpeg_cannot_decode_is_not_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    film = write_film(tmp_path / "a.webm", [glass()] * 3, "libvpx-vp9", "yuva420p")
    monkeypatch.setattr(av, "codecs_available", {"vp9"})
    with pytest.raises(FormatError, match="cannot decode the alpha of vp9"):
        read_video(film, matting=opaque)


@pytest.mark.parametrize("name", ["a.hevc", "a.mkv"])
def test_hevc_with_a_second_layer_is_refused(name: str, tmp_path: Path) -> None:
    """Alpha in HEVC: the video parameter set states two layers."""
    film = write_film(tmp_path / name, [corners(64, 64)] * 3, "libx265", "yuv420p")
    assert len(read_video(film, matting=opaque).frames) == 3
    header = b"\x40\x01\x0c"  # its NAL header, ID and flags; then the layers less one in 4 bits
    assert header + b"\x01\xff\xff" in film.read_bytes()
    film.write_bytes(film.read_bytes().replace(header + b"\x01\xff\xff", header + b"\x11\xff\xff"))
    with pytest.raises(FormatError, match=r"HEVC with a second layer.*convert it to images"):
        read_video(film, matting=opaque)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("matrix", [1, 5])  # BT.709, BT.601
def test_ten_bit_video_is_converted(codec: str, matrix: int, tmp_path: Path) -> None:
    film = write_film(
        tmp_path / "a.mkv", [corners(64, 64)] * 2, codec, "yuv444p10le", colors={"colorspace": matrix, "color_range": 1}
    )
    assert np.abs(pixels(read_video(film, matting=opaque)) - corners(64, 64))[4:28, 4:28].max() <= 4


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_video_is_refused(transfer: int, name: str, tmp_path: Path) -> None:
    film = write_film(
        tmp_path / "a.mkv",
        [corners(64, 64)] * 2,
        "libx265",
        "yuv420p10le",
        colors={"colorspace": 9, "color_trc": transfer, "color_primaries": 9, "color_range": 1},
    )
    with pytest.raises(FormatError, match=rf"HDR video \({name} transfer\).*convert it first.*tonemap"):
        read_video(film, matting=opaque)


def gray(number: int) -> np.ndarray:
    return np.full((16, 16, 3), 40 + 5 * number, np.uint8)


def numbers(video: Video) -> list[int]:
    """The frames that were decoded, by their brightness."""
    return [round((int(np.asarray(frame)[8, 8, 0]) - 40) / 5) for frame in video.frames]


def test_frames_with_gaps_are_chosen_by_time_and_repeat_if_need_be(tmp_path: Path, caplog) -> None:
    film = write_film(tmp_path / "a.mp4", [gray(n) for n in range(6)], times=[0, 1, 2, 3, 4, 20])
    video = read_video(film, 3, opaque)
    assert video.indices == (0, 4, 5)
    assert numbers(video) == [0, 4, 5]
    np.testing.assert_allclose(video.times_s, [0, 0.4, 2.0])
    assert not caplog.records
    video = read_video(film, 6, opaque)  # at 0, 0.4, 0.8, 1.2, 1.6 and 2.0 s
    assert video.indices == (0, 4, 4, 4, 5, 5)
    assert numbers(video) == list(video.indices)
    assert "3 of 6 frames repeat" in caplog.text


def test_start_and_fps_choose_a_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = write_film(tmp_path / "a.mp4", [gray(n) for n in range(30)])
    assert read_video(film, 4, opaque).indices == (0, 10, 19, 29)  # the whole video
    assert read_video(film, 4, opaque, start_s=2.0).indices == (20, 23, 26, 29)
    video = read_video(film, 4, opaque, start_s=1.0, fps=5)
    assert video.indices == (10, 12, 14, 16)
    assert numbers(video) == [10, 12, 14, 16]
    assert read_video(film, 16, opaque, start_s=2.0, fps=5).indices == (20, 22, 24, 26, 28)  # the video ends
    assert read_video(film, None, opaque, start_s=2.0).indices == tuple(range(20, 30))
    assert read_video(film, None, opaque, start_s=2.0, fps=5).indices == (20, 22, 24, 26, 28)
    with pytest.raises(ConfigError, match=r"0 frames from 9 s on, where the last is at 2\.900 s"):
        read_video(film, 4, opaque, start_s=9.0, fps=5)
    with pytest.raises(ConfigError, match="1 frames from"):
        read_video(film, 4, opaque, start_s=2.9)
    for values in ({"start_s": -1.0}, {"fps": 0.0}, {"start_s": float("nan")}):
        with pytest.raises(ConfigError, match=r"start is .* and fps"):
            read_video(film, 4, opaque, **values)
    monkeypatch.setattr(source_frame, "MAX_FRAMES", 20)  # frames after the window are not decoded
    assert read_video(film, 4, opaque, start_s=1.0, fps=5).source_frames == 17
    with pytest.raises(FormatError, match="more than 20 frames"):
        read_video(film, 4, opaque)


@pytest.mark.parametrize("name", ["raw.h264", "b_frames.avi"])
def test_files_without_presentation_times_have_a_constant_rate(name: str, tmp_path: Path) -> None:
    film = write_film(tmp_path / name, [gray(n) for n in range(8)], options={"qp": "1", "bf": "2"}, pixels="yuv420p")
    video = read_video(film, 4, opaque)
    assert numbers(video) == [0, 2, 5, 7]
    np.testing.assert_allclose(np.diff(video.times_s), [0.2, 0.3, 0.2])
