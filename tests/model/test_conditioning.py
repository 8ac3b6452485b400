"""Frames to image tokens: one box per video, premultiplied pixels, DINOv3 without its norm, the cache."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from helix4d.core import ConfigError
from helix4d.model.conditioning import images
from helix4d.model.conditioning.images import MATTED_ALPHA, FeatureCache, ImageEncoder, prepare_frames, union_box

transformers = pytest.importorskip("transformers", reason="the image encoder needs transformers")


def _frame(box, alpha=255, size=(40, 30), color=(255, 128, 0)):
    pixels = np.zeros((size[1], size[0], 4), dtype=np.uint8)
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = (*color, alpha)
    return Image.fromarray(pixels, "RGBA")


def tiny_encoder(seed: int = 0, registers: int = 4) -> ImageEncoder:
    """A random DINOv3 with 16 channels."""
    config = transformers.DINOv3ViTConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        patch_size=16,
        num_register_tokens=registers,
        image_size=64,
    )
    backbone = transformers.DINOv3ViTModel(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return ImageEncoder(backbone, "tiny")


def test_one_box_for_all_frames():
    frames = [_frame((2, 10, 7, 16)), _frame((20, 12, 27, 14))]
    box = union_box(frames, 0)
    assert box == (2, 0, 26, 24)  # columns 2 … 26, centered on rows 10 … 15
    moved = prepare_frames(frames, 32)
    assert moved.shape == (2, 3, 32, 32)
    assert not torch.equal(moved[0], moved[1])  # motion across the image is preserved
    assert not torch.equal(moved[0], prepare_frames(frames[:1], 32)[0])


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_boxes_are_rounded_as_in_trellis2s_training(width, height, data):
    """Of one image: center ± half of the longer side, each bound truncated by int(), also outside of the image."""
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left, width - 1)), data.draw(st.integers(top, height - 1))
    if (left, top) == (right, bottom):
        return  # its box is empty there
    center, half = ((left + right) / 2, (top + bottom) / 2), max(right - left, bottom - top) / 2
    expected = tuple(int(c + sign * half) for sign in (-1, 1) for c in center)
    assert union_box([_frame((left, top, right + 1, bottom + 1), size=(width, height))], 0) == expected


def test_matting_leaves_a_faint_veil():
    veil = Image.alpha_composite(_frame((0, 0, 40, 30), alpha=100), _frame((10, 10, 21, 21)))
    assert union_box([veil], MATTED_ALPHA) == (10, 10, 20, 20)
    assert union_box([veil], 0) == (0, -5, 39, 34)


def test_box_of_empty_frames_is_the_largest_square():
    assert union_box([_frame((0, 0, 0, 0))], 0) == (5, 0, 35, 30)
    assert (
        union_box([_frame((3, 4, 4, 5))], 0)[2] > union_box([_frame((3, 4, 4, 5))], 0)[0]
    )  # a box of one pixel is not empty


def test_pixels_are_composited_on_black_and_normalized():
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    solid = prepare_frames([_frame((0, 0, 40, 40), alpha=128, size=(40, 40))], 16)[0, :, 8, 8].numpy()
    np.testing.assert_allclose(solid, (np.array([1, 128 / 255, 0]) * 128 / 255 - mean) / deviation, atol=0.02)
    corner = prepare_frames([_frame((10, 5, 11, 35), size=(40, 40))], 16)[0, :, 8, 0].numpy()
    np.testing.assert_allclose(corner, -mean / deviation, atol=1e-6)


def test_preparation_is_deterministic_and_images_without_alpha_are_not_cropped():
    frames = [_frame((3, 3, 30, 20))]
    assert torch.equal(prepare_frames(frames, 48), prepare_frames(frames, 48))
    assert union_box([Image.new("RGB", (20, 20))], 0) == (0, 0, 19, 19)


def test_invalid_videos_are_rejected():
    with pytest.raises(ConfigError, match="no frames"):
        union_box([], 0)
    with pytest.raises(ConfigError, match="different sizes"):
        union_box([_frame((0, 0, 1, 1)), _frame((0, 0, 1, 1), size=(9, 9))], 0)


def test_tokens_for_any_image_and_batch_size():
    encoder = tiny_encoder()
    images = prepare_frames([_frame((2, 2, 20, 20)), _frame((5, 5, 30, 20)), _frame((1, 1, 9, 9))], 64)
    tokens = encoder(images)
    assert tokens.shape == (3, 1 + 4 + 16, 16)
    torch.testing.assert_close(encoder(images, batch=1), tokens, atol=1e-5, rtol=1e-5)
    assert encoder(prepare_frames([_frame((2, 2, 20, 20))], 96)).shape == (1, 5 + 36, 16)
    # LayerNorm without weights instead of the model's own norm.
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(3, 21), atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens.var(-1, unbiased=False), torch.ones(3, 21), atol=1e-2, rtol=0)
    with pytest.raises(ConfigError, match="multiple of 16"):
        encoder(torch.zeros(1, 3, 60, 60))


def test_full_size_has_1029_tokens():
    images = torch.zeros(1, 3, 512, 512)
    assert tiny_encoder()(images).shape[1] == 1029


def test_encoder_loads_from_a_folder(tmp_path):
    encoder = tiny_encoder()
    config = encoder.backbone.config
    whole = transformers.DINOv3ViTModel(config)
    whole.load_state_dict({**whole.state_dict(), **encoder.backbone.state_dict()})
    whole.save_pretrained(tmp_path)
    again = ImageEncoder.from_pretrained(str(tmp_path))
    images = prepare_frames([_frame((2, 2, 20, 20))], 64)
    assert torch.equal(again(images), encoder(images))


def test_cache_computes_once_and_depends_on_the_encoder(tmp_path):
    encoder, images = tiny_encoder(), prepare_frames([_frame((2, 2, 20, 20)), _frame((5, 5, 30, 20))], 64)
    expected = encoder(images)
    cache = FeatureCache(tmp_path, encoder.fingerprint())
    assert torch.equal(cache.encode(encoder, images[[0, 1, 0]]), expected[[0, 1, 0]])
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2

    class Refuses(torch.nn.Module):
        def forward(self, images):
            raise AssertionError("the encoder ran although everything was cached")

    assert torch.equal(cache.encode(Refuses(), images), expected)
    assert tiny_encoder(seed=1).fingerprint() != encoder.fingerprint()
    half = FeatureCache(tmp_path, encoder.fingerprint(), torch.bfloat16).encode(encoder, images)
    torch.testing.assert_close(half, expected, atol=2e-2, rtol=2e-2)


def test_tf32_is_limited_to_the_encoder_on_a_gpu():
    encoder, seen = tiny_encoder(), []
    encoder.backbone.register_forward_pre_hook(lambda *_: seen.append(torch.get_float32_matmul_precision()))
    encoder(torch.zeros(1, 3, 32, 32))
    assert seen == ["highest"]
    with pytest.raises(KeyError), images._tf32():
        assert torch.get_float32_matmul_precision() == "high"
        raise KeyError
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.gpu
def test_gpu_tokens_are_close_to_those_of_the_cpu():
    encoder, pixels = tiny_encoder(), torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = encoder(pixels)
    found = encoder.cuda()(pixels.cuda()).cpu()
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-2
    assert torch.get_float32_matmul_precision() == "highest"
