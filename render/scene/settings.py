"""How much work an image gets: the numbers that trade time for quality, all in one frozen list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from helix4d.core import ConfigError

DEVICES = ("auto", "cpu", "gpu", "cuda", "optix", "hip", "metal", "oneapi")
DENOISE_QUALITIES = ("fast", "balanced", "high")
DENOISE_PREFILTERS = ("none", "fast", "accurate")


@dataclass(frozen=True)
class RenderSettings:
    """Settings of Cycles; measured costs are in docs/rendering.md.

    Attributes:
        image_size: pixels per side; cameras are sampled with it.
        samples: paths per pixel.
        denoise: pass the colors through OpenImageDenoise, with albedo and normal as guides.
        denoise_quality: one of `DENOISE_QUALITIES`.
        denoise_prefilter: what is done to the guides first, one of `DENOISE_PREFILTERS`.
        diffuse_bounces: indirect diffuse light.
        glossy_bounces: mirrors seen in mirrors.
        transmission_bounces: glass surfaces that a path may cross; a vessel has four on the way through.
        transparent_bounces: layers of MASK and BLEND surfaces; beyond them a pixel is black.
        threads: CPU threads, 0 for all cores. Pixels do not depend on it.
        device: one of `DEVICES`; "gpu" is any GPU, "auto" one where Blender finds one, else the CPU.
        exact_alpha: take alpha from `render.alpha` instead of the paths, which leave it in steps of 1 / samples.
        cull_back_faces: hide the backs of single-sided materials as glTF's rasterizers do; voxels are never culled.
        passes: also give depth and normals (`passes`).
        seed: of the sampling pattern, the same for every image.
    """

    image_size: int = 512
    samples: int = 8
    denoise: bool = True
    denoise_quality: str = "fast"
    denoise_prefilter: str = "none"
    diffuse_bounces: int = 1
    glossy_bounces: int = 1
    transmission_bounces: int = 8
    transparent_bounces: int = 64
    threads: int = 0
    device: str = "auto"
    exact_alpha: bool = True
    cull_back_faces: bool = False
    passes: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise ConfigError(f"device {self.device!r}: expected one of {', '.join(DEVICES)}")
        if self.denoise_quality not in DENOISE_QUALITIES:
            raise ConfigError(
                f"denoise_quality {self.denoise_quality!r}: expected one of {', '.join(DENOISE_QUALITIES)}"
            )
        if self.denoise_prefilter not in DENOISE_PREFILTERS:
            raise ConfigError(
                f"denoise_prefilter {self.denoise_prefilter!r}: expected one of {', '.join(DENOISE_PREFILTERS)}"
            )
        for name, low, high in (
            ("image_size", 1, 16384),
            ("samples", 1, 1 << 20),
            ("diffuse_bounces", 0, 1024),
            ("glossy_bounces", 0, 1024),
            ("transmission_bounces", 0, 1024),
            ("transparent_bounces", 0, 1024),
            ("threads", 0, 1024),
            ("seed", 0, (1 << 31) - 1),
        ):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} {getattr(self, name)}: expected {low} to {high}")


PresetName = Literal["draft", "train", "reference"]

PRESETS: Mapping[PresetName, RenderSettings] = {
    "draft": RenderSettings(samples=4),
    "train": RenderSettings(),
    "reference": RenderSettings(samples=256, denoise=False),
}
"""`draft` for a look, `train` for data (the cheapest that reaches 36 dB beside `reference`, by `benchmarks/render.py`),
`reference` to compare with. All take alpha from the rasterizer."""

TRELLIS2 = RenderSettings(
    samples=32,
    denoise_quality="high",
    denoise_prefilter="accurate",
    transmission_bounces=3,
    transparent_bounces=3,
    exact_alpha=False,
)
"""What TRELLIS.2 renders with, Blender's default denoiser included: the baseline of the benchmark."""


def preset(name: PresetName, **changes: Any) -> RenderSettings:
    """The settings of a preset, some of them changed.

    Raises:
        ConfigError: if there is no such preset.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset {name!r}: expected one of {', '.join(PRESETS)}")
    return replace(PRESETS[name], **changes)
