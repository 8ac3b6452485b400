"""How much work an image gets: the numbers that trade time for quality, all in one frozen list."""

from __future__ import annotations

from dataclasses import dataclass

from core import ConfigError

DEVICES = ("auto", "cpu", "cuda", "optix", "hip", "metal", "oneapi")
DENOISE_QUALITIES = ("fast", "balanced", "high")


@dataclass(frozen=True)
class RenderSettings:
    """Settings of Cycles; measured costs are in docs/rendering.md.

    Attributes:
        image_size: pixels per side; cameras are sampled with it.
        samples: paths per pixel.
        denoise: pass the colors through OpenImageDenoise, with unfiltered albedo and normal as guides.
        denoise_quality: one of `DENOISE_QUALITIES`.
        diffuse_bounces: indirect diffuse light.
        glossy_bounces: mirrors seen in mirrors.
        transmission_bounces: glass surfaces that a path may cross; a vessel has four on the way through.
        transparent_bounces: layers of MASK and BLEND surfaces; beyond them a pixel is black.
        threads: CPU threads, 0 for all cores. Pixels do not depend on it.
        device: one of `DEVICES`; "auto" is a GPU where Blender finds one, else the CPU.
        exact_alpha: take alpha from `render.coverage` instead of the paths, which leave it in steps of 1 / samples.
        cull_back_faces: hide the backs of single-sided materials as glTF's rasterizers do; voxels are never culled.
        seed: of the sampling pattern, the same for every image.
    """

    image_size: int = 512
    samples: int = 8
    denoise: bool = True
    denoise_quality: str = "balanced"
    diffuse_bounces: int = 1
    glossy_bounces: int = 1
    transmission_bounces: int = 8
    transparent_bounces: int = 64
    threads: int = 0
    device: str = "auto"
    exact_alpha: bool = True
    cull_back_faces: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise ConfigError(f"device {self.device!r}: expected one of {', '.join(DEVICES)}")
        if self.denoise_quality not in DENOISE_QUALITIES:
            raise ConfigError(
                f"denoise_quality {self.denoise_quality!r}: expected one of {', '.join(DENOISE_QUALITIES)}"
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
