"""Reads `<profile_COMMON>` of effects: colors, textures with their samplers, and transparency; no image is opened.

Sources: COLLADA 1.4.1 and 1.5, section "Determining Transparency (Opacity)".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from helix4d.assets.clip import Wrap
from helix4d.assets.collada.document import Document
from helix4d.assets.collada.sources import floats, named
from helix4d.core import AssetError

_SHADERS = ("phong", "blinn", "lambert", "constant")
_WRAPS = {"MIRROR": Wrap.MIRROR, "CLAMP": Wrap.CLAMP, "BORDER": Wrap.CLAMP, "NONE": Wrap.CLAMP}
_ZERO = re.compile(r"[-+]?(?:0+[.,]?0*|[.,]0+)")
_OPAQUE = ("A_ONE", "RGB_ZERO", "A_ZERO", "RGB_ONE")
LUMINANCE = (0.212671, 0.715160, 0.072169)
"""Weights of red, green and blue in the opacity, from the specification."""


@dataclass(frozen=True, eq=False)
class TextureUse:
    """An image and its placement.

    Attributes:
        image: the `<image>`.
        symbol: name of its texture coordinates, which instances bind to a set.
        wrap_u, wrap_v, nearest: the sampler.
        scale, offset: Maya's placement, of UVs with v up.
    """

    image: Element
    symbol: str
    wrap_u: Wrap = Wrap.REPEAT
    wrap_v: Wrap = Wrap.REPEAT
    nearest: bool = False
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Slot:
    """A color (RGBA), or a texture in its place."""

    color: tuple[float, float, float, float]
    texture: TextureUse | None = None


@dataclass(frozen=True, eq=False)
class Effect:
    """A shader of the fixed pipeline.

    Attributes:
        shader: phong, blinn, lambert or constant.
        diffuse, emission, specular, transparent: colors or textures, None where the effect has none.
        opaque: how `transparent` and `transparency` determine opacity.
        transparency: factor of `transparent`, None where the effect has none.
        shininess, ior: None where the effect has none.
        double_sided: False only if the effect states it: COLLADA does not define which sides of a face are visible.
        normal_map: texture of a normal map, or None.
    """

    shader: str
    diffuse: Slot | None
    emission: Slot | None
    specular: Slot | None
    transparent: Slot | None
    opaque: str
    transparency: float | None
    shininess: float | None
    ior: float | None
    double_sided: bool
    normal_map: TextureUse | None

    @property
    def opacity(self) -> float:
        """Opacity without textures, from 0 to 1."""
        if self.transparent is None and self.transparency is None:
            return 1.0
        amount = 1.0 if self.transparency is None else self.transparency
        color = (1.0, 1.0, 1.0, 1.0) if self.transparent is None else self.transparent.color
        weight = color[3] if self.opaque.startswith("A_") else float(np.dot(LUMINANCE, color[:3]))
        share = weight * amount
        return min(max(share if self.opaque.endswith("ONE") else 1.0 - share, 0.0), 1.0)


def default_mode(document: Document) -> str:
    """Return the opaque mode of effects that state none: A_ONE by the specification.

    Exporters that do not write modes, such as Autodesk's FBX COLLADA exporter, write a transparency of 0 for opaque
    materials. If an effect would be invisible for this reason, all effects without a mode are read as RGB_ZERO.
    """
    for shader in (found for tag in _SHADERS for found in document.tree.iter(tag)):
        transparent, amount = shader.find("transparent"), shader.findtext("transparency/float") or ""
        if (transparent is None or transparent.get("opaque") is None) and _ZERO.fullmatch(amount.strip()):
            document.warn("effects without an opaque mode have a transparency of 0: they are read as opaque")
            return "RGB_ZERO"
    return "A_ONE"


def read_effect(document: Document, effect: Element, overrides: Mapping[str, Element], mode: str) -> Effect | None:
    """Read an effect; None, with a warning, if it has no shader that is supported.

    Args:
        document: its document.
        effect: the `<effect>`.
        overrides: `<setparam>`s of the instance by name.
        mode: opaque mode if it states none.
    """
    profile = effect.find("profile_COMMON")
    technique = None if profile is None else profile.find("technique")
    shader = None if technique is None else next((child for child in technique if child.tag in _SHADERS), None)
    if profile is None or shader is None:
        document.warn(f"{named(effect)}: has no phong, blinn, lambert or constant shader: white is shown")
        return None
    return _Reader(document, effect, overrides).read(shader, mode)


class _Reader:
    def __init__(self, document: Document, effect: Element, overrides: Mapping[str, Element]) -> None:
        self._document, self._effect, self._where = document, effect, named(effect)
        self._params = {param.get("sid", ""): param for param in effect.iter("newparam")} | dict(overrides)

    def read(self, shader: Element, mode: str) -> Effect:
        """Read a shader, and what profiles of applications add to it."""
        transparent = shader.find("transparent")
        opaque = mode if transparent is None else transparent.get("opaque", mode)
        if opaque not in _OPAQUE:
            self._document.warn(f"{self._where}: the opaque mode {opaque[:20]!r} is not supported: A_ONE is used")
            opaque = "A_ONE"
        return Effect(
            shader=shader.tag,
            diffuse=self._slot(shader.find("diffuse")),
            emission=self._slot(shader.find("emission")),
            specular=self._slot(shader.find("specular")),
            transparent=self._slot(transparent),
            opaque=opaque,
            transparency=self._number(shader.find("transparency")),
            shininess=self._number(shader.find("shininess")),
            ior=self._number(shader.find("index_of_refraction")),
            double_sided=self._is_double_sided(),
            normal_map=self._normal_map(),
        )

    def _slot(self, element: Element | None) -> Slot | None:
        if element is None:
            return None
        texture, color = element.find("texture"), element.find("color")
        if texture is not None:
            use = self._texture(texture)
            if use is not None:
                return Slot((1.0, 1.0, 1.0, 1.0), use)
            return None
        param = element.find("param")
        if color is None and param is not None:
            owner = self._params.get(param.get("ref", ""))
            found = [] if owner is None else [child for child in owner if child.tag.startswith("float")]
            color = found[0] if found else None
        if color is None:
            return None
        numbers = self._floats(color)
        if len(numbers) < 3:
            self._document.warn(f"{self._where}: <{element.tag}> has a color of {len(numbers)} numbers: ignored")
            return None
        red, green, blue, alpha = [*numbers[:4], 1.0][:4]
        return Slot((red, green, blue, alpha))

    def _number(self, element: Element | None) -> float | None:
        found = None if element is None else element.find("float")
        param = None if element is None else element.find("param")
        if found is None and param is not None:
            owner = self._params.get(param.get("ref", ""))
            found = None if owner is None else owner.find("float")
        numbers = [] if found is None else self._floats(found)
        if element is not None and element.find("texture") is not None:
            self._document.warn(f"{self._where}: a texture in <{element.tag}> is not supported: ignored")
        return numbers[0] if numbers else None

    def _floats(self, element: Element) -> list[float]:
        try:
            numbers = floats(self._document, element, self._where)
        except AssetError:
            numbers = np.array([np.nan])
        if not np.isfinite(numbers).all():
            self._document.warn(f"{self._where}: <{element.tag}> contains a value that is not a finite number: ignored")
            return []
        return [float(value) for value in numbers]

    def _texture(self, element: Element) -> TextureUse | None:
        sampler, image = self._sampled(element.get("texture", ""))
        if image is None:
            name = element.get("texture", "")[:80]
            self._document.warn(f"{self._where}: the texture {name!r} refers to no image: white is shown")
            return None
        wraps = dict.fromkeys(("wrap_s", "wrap_t"), Wrap.REPEAT)
        nearest = False
        if sampler is not None:
            for name in wraps:
                wraps[name] = _WRAPS.get((sampler.findtext(name) or "").strip(), Wrap.REPEAT)
            nearest = (sampler.findtext("magfilter") or "").strip() == "NEAREST"
        use = TextureUse(image, element.get("texcoord", ""), wraps["wrap_s"], wraps["wrap_t"], nearest)
        maya = element.find("extra/technique[@profile='MAYA']")
        return use if maya is None else self._placed(use, maya)

    def _placed(self, use: TextureUse, maya: Element) -> TextureUse:
        """Apply Maya's placement of a texture."""

        def value(name: str, default: float) -> float:
            element = maya.find(name)
            numbers = [] if element is None else self._floats(element)
            return numbers[0] if numbers else default

        def wrap(direction: str, given: Wrap) -> Wrap:
            stated, mirrored = (_is_true(maya.findtext(name + direction)) for name in ("wrap", "mirror"))
            if stated is None and mirrored is None:
                return given
            return Wrap.MIRROR if mirrored else Wrap.CLAMP if stated is False else Wrap.REPEAT

        if value("rotateUV", 0.0) or value("rotateFrame", 0.0):
            self._document.warn(f"{self._where}: the rotation of a texture is not supported: ignored")
        return TextureUse(
            use.image,
            use.symbol,
            wrap("U", use.wrap_u),
            wrap("V", use.wrap_v),
            use.nearest,
            (value("repeatU", 1.0), value("repeatV", 1.0)),
            (value("offsetU", 0.0), value("offsetV", 0.0)),
        )

    def _sampled(self, name: str) -> tuple[Element | None, Element | None]:
        """Return the sampler and the image that the name of a texture refers to."""
        param = self._params.get(name)
        sampler = None if param is None else param.find("sampler2D")
        if param is None:
            return None, self._image(name)
        if sampler is None:
            return None, self._image(param.findtext("surface/init_from") or "")
        instance = sampler.find("instance_image")
        if instance is not None:
            return sampler, self._document.find(instance.get("url", ""), "image")
        surface = self._params.get((sampler.findtext("source") or "").strip())
        source = (sampler.findtext("source") or "") if surface is None else surface.findtext("surface/init_from") or ""
        return sampler, self._image(source)

    def _image(self, name: str) -> Element | None:
        found = self._document.by_id(name.strip())
        return found if found is not None and found.tag == "image" else None

    def _is_double_sided(self) -> bool:
        stated = [_is_true(found.text) for found in self._effect.iterfind(".//extra/technique/double_sided")]
        return False not in stated or True in stated

    def _normal_map(self) -> TextureUse | None:
        for bump in self._effect.iterfind(".//extra/technique/bump"):
            texture = bump.find("texture")
            if texture is None:
                continue
            if (bump.get("bumptype") or "").upper().startswith("HEIGHT"):
                self._document.warn(f"{self._where}: a bump map with heights is not supported: ignored")
                continue
            return self._texture(texture)
        return None


def overrides_of(instance: Element) -> dict[str, Element]:
    """Return the `<setparam>`s of an `<instance_effect>` by name."""
    return {param.get("ref", ""): param for param in instance.iterfind("setparam")}


def _is_true(text: str | None) -> bool | None:
    """Return the value of a flag; None if there is none."""
    word = (text or "").strip().lower()
    return None if not word else word in ("1", "1.0", "true")
