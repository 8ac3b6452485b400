"""Render settings: the numbers that trade time for quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from helix4d.assets import Clip, Material
from helix4d.core import ConfigError
from helix4d.render.scene.view_transforms import ViewTransform, check_view_transform

DEVICES = ("auto", "cpu", "gpu", "cuda", "optix", "hip", "metal", "oneapi")
DENOISE_QUALITIES = ("fast", "balanced", "high")
DENOISE_PREFILTERS = ("auto", "none", "fast", "accurate")


@dataclass(frozen=True)
class RenderSettings:
    """Settings of the engines; docs/rendering.md has measured costs.

    Attributes:
        image_size: pixels per side; must equal that of the cameras.
        samples: paths per pixel.
        denoise: denoise the colors with OpenImageDenoise, guided by albedo and normal; has no effect on clips whose
            materials are all unlit, because their colors have no noise but the aliasing of textures.
        denoise_quality: one of `DENOISE_QUALITIES`.
        denoise_prefilter: filter applied to the guides first, one of `DENOISE_PREFILTERS`; "auto" chooses "fast" for
            clips with glass, whose guides are noisy, and "none" for others, whose textures a filter would blur.
        diffuse_bounces: bounces of indirect diffuse light.
        glossy_bounces: bounces between mirrors.
        transmission_bounces: glass surfaces that a path may cross; a vessel has four along a straight line.
        transparent_bounces: MASK and BLEND surfaces that a path may cross; behind more of them, pixels are black.
        threads: CPU threads, 0 for all cores; does not affect pixels. Cycles uses one thread for clips with normal maps
            and a frame of more than 10,000 faces, as its tangents would depend on the timing of several.
        device: one of `DEVICES`; "gpu" is any GPU, "auto" a GPU if Blender finds one, else the CPU.
        exact_alpha: compute alpha with `helix4d.render.alpha`; that of the paths has steps of 1 / samples.
        cull_back_faces: hide the backs of single-sided materials, as glTF's rasterizers do; voxels are never culled.
        view_transform: from linear light to stored values; "standard" or Blender's "filmic".
        passes: also render depth and normals (`helix4d.render.scene.passes`).
        seed: seed of the sampling pattern, the same for every image.
    """

    image_size: int = 512
    samples: int = 16
    denoise: bool = True
    denoise_quality: str = "balanced"
    denoise_prefilter: str = "auto"
    diffuse_bounces: int = 1
    glossy_bounces: int = 1
    transmission_bounces: int = 8
    transparent_bounces: int = 64
    threads: int = 0
    device: str = "auto"
    exact_alpha: bool = True
    cull_back_faces: bool = False
    view_transform: ViewTransform = "standard"
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
        check_view_transform(self.view_transform)
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
                raise ConfigError(f"{name} {getattr(self, name)}: must be between {low} and {high}")

    def for_clip(self, clip: Clip) -> RenderSettings:
        """Return the settings with the choices that depend on the clip's materials made."""
        materials = _used_materials(clip)
        glass = any(material.transmission > 0 for material in materials)
        prefilter = ("fast" if glass else "none") if self.denoise_prefilter == "auto" else self.denoise_prefilter
        lit = not all(material.unlit for material in materials)
        return replace(self, denoise=self.denoise and lit, denoise_prefilter=prefilter)


def _used_materials(clip: Clip) -> list[Material]:
    """The materials that faces of some frame have."""
    used = np.zeros(len(clip.materials), bool)
    for topology in {id(frame.topology): frame.topology for frame in clip.frames}.values():
        used |= np.bincount(topology.material_ids, minlength=len(used)) > 0
    return [material for material, shown in zip(clip.materials, used, strict=True) if shown]


PresetName = Literal["draft", "train", "reference"]

PRESETS: Mapping[PresetName, RenderSettings] = {
    "draft": RenderSettings(samples=4, denoise_quality="fast"),
    "train": RenderSettings(),
    "reference": RenderSettings(samples=256, denoise=False),
}
"""`draft` for previews, `train` for data (chosen by `benchmarks/render.py`), `reference` for comparisons. All compute
exact alpha."""

TRELLIS2 = RenderSettings(
    samples=32,
    denoise_quality="high",
    denoise_prefilter="accurate",
    transmission_bounces=3,
    transparent_bounces=3,
    exact_alpha=False,
)
"""TRELLIS.2's settings, with Blender's default denoiser: the baseline of the benchmark."""


def preset(name: PresetName, **changes: Any) -> RenderSettings:
    """Return the settings of a preset with some changes.

    Raises:
        ConfigError: if there is no such preset.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset {name!r}: expected one of {', '.join(PRESETS)}")
    return replace(PRESETS[name], **changes)
