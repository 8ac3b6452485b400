"""Turns effects into `Material`s, and binds the names of their texture coordinates to UV sets of meshes.

The specification does not define color spaces. As in FBX, material colors are linear; textures and vertex colors sRGB.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from xml.etree.ElementTree import Element

import numpy as np

from helix4d.assets.clip import AlphaMode, Material, Texture
from helix4d.assets.collada.document import Document
from helix4d.assets.collada.effects import LUMINANCE, Effect, Slot, TextureUse, default_mode, overrides_of, read_effect
from helix4d.assets.collada.images import ImageFiles
from helix4d.assets.collada.nodes import Instance
from helix4d.assets.collada.scene import Part
from helix4d.assets.pictures import Pictures, combined, mapped
from helix4d.core.arrays import Float32Array, UInt8Array

_BYTES = np.arange(256) / 255.0
_LEAST_OPACITY = 0.5 / 255
"""An opacity below this rounds to 0 in 8 bits."""
_DULL = 1.0
_PLAIN = Material(metallic=0.0, roughness=_DULL, double_sided=True)


@dataclass(frozen=True)
class Look:
    """A material, and the names of the texture coordinates of its UV sets, in their order."""

    material: Material
    symbols: tuple[str, ...] = ()


class Looks:
    """Collects the materials of visible parts.

    Args:
        document: the document.

    Attributes:
        materials: materials in the order of their slots.
        uv_sets: number of UV sets that they use.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._pictures = Pictures(document.path, document.limits)
        self._files = ImageFiles(document, self._pictures)
        self._default_mode = default_mode(document)
        self._effects: dict[int, Effect | None] = {}
        self._looks: dict[tuple[int, bool], Look] = {}
        self._slots: dict[Material, int] = {}
        self._built: dict[tuple[tuple[int, ...], bytes], UInt8Array] = {}
        self.materials: list[Material] = []
        self.uv_sets = 0

    @property
    def images(self) -> tuple[UInt8Array, ...]:
        """The images that materials refer to, each (H, W, 4) uint8."""
        return tuple(self._pictures.images)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Messages about images that could not be read."""
        return tuple(self._pictures.warnings)

    def can_show(self, part: Part) -> bool:
        """Return whether a part is not fully transparent, judged without its textures and vertex colors."""
        _, material = self._bound(part)
        effect = None if material is None else self._effect(material)
        return effect is None or _textured(effect.transparent) or effect.opacity >= _LEAST_OPACITY

    def shown(self, part: Part) -> tuple[int, dict[int, Float32Array]]:
        """Return the slot of the material of a part, and its UVs by the number of the UV set."""
        instance, material = self._bound(part)
        colors = part.primitive.colors
        is_sheer = colors is not None and bool((colors[:, 3] < 1).any())
        key = id(material), is_sheer
        if key not in self._looks:
            effect = None if material is None else self._effect(material)
            name = "" if material is None else material.get("name") or material.get("id") or ""
            look = Look(replace(_PLAIN, name=name)) if effect is None else self._look(effect, name)
            if is_sheer:
                look = replace(look, material=replace(look.material, alpha_mode=AlphaMode.BLEND))
            self._looks[key] = look
        look = self._looks[key]
        # Materials that differ in their name only are one, with the first name.
        slot = self._slots.setdefault(replace(look.material, name=""), len(self.materials))
        if slot == len(self.materials):
            self.materials.append(look.material)
        self.uv_sets = max(self.uv_sets, len(look.symbols))
        return slot, self._uvs(part, instance, look.symbols)

    def _bound(self, part: Part) -> tuple[Element | None, Element | None]:
        """Return the `<instance_material>` of a part and its `<material>`."""
        symbol = part.primitive.symbol
        for bound in _bindings(part.instance):
            if bound.get("symbol") == symbol:
                target = bound.get("target", "")
                found = self._document.find(target, "material")
                if found is None:
                    self._document.warn(f"the material {target[:80]!r} does not exist: white is shown")
                return bound, found
        named = self._document.by_id(symbol) if symbol else None
        return None, named if named is not None and named.tag == "material" else None

    def _effect(self, material: Element) -> Effect | None:
        if id(material) not in self._effects:
            instance = material.find("instance_effect")
            effect = None if instance is None else self._document.find(instance.get("url", ""), "effect")
            found = None
            if instance is not None and effect is not None:
                found = read_effect(self._document, effect, overrides_of(instance), self._default_mode)
            self._effects[id(material)] = found
        return self._effects[id(material)]

    def _uvs(self, part: Part, bound: Element | None, symbols: tuple[str, ...]) -> dict[int, Float32Array]:
        given = part.primitive.uvs
        inputs = [] if bound is None else bound.findall("bind_vertex_input")
        found: dict[int, Float32Array] = {}
        for number, symbol in enumerate(symbols):
            chosen = next((entry for entry in inputs if entry.get("semantic") == symbol), None)
            text = "" if chosen is None else chosen.get("input_set") or ""
            group = int(text) if text.isascii() and text.isdigit() else None
            if group not in given:
                if len(given) > 1:
                    message = f"its UV set {group}" if group is not None else f"which UV set {symbol[:40]!r} is"
                    self._document.warn(f"<instance_material> {part.primitive.symbol[:80]!r}: {message} is unknown: "
                                        "the first one is used")  # fmt: skip
                group = min(given, default=None)
            if group is None:
                self._document.warn(f"material {part.primitive.symbol[:80]!r}: its mesh has no UVs: 0 is used")
            else:
                found[number] = given[group]
        return found

    def _look(self, effect: Effect, name: str) -> Look:
        symbols: list[str] = []
        is_constant = effect.shader == "constant"
        slot = effect.emission if is_constant else effect.diffuse
        color = (1.0, 1.0, 1.0) if slot is None else _color(slot)
        texture, opacity, mode = self._base(effect, slot, symbols)
        emission = None if is_constant else effect.emission
        glow = None if emission is None else self._texture(emission.texture, symbols)
        lost = emission is not None and emission.texture is not None and glow is None
        material = Material(
            name=name,
            base_color=color,
            alpha=opacity,
            base_color_texture=texture,
            metallic=0.0,
            roughness=_roughness(effect),
            alpha_mode=mode,
            normal_texture=self._texture(effect.normal_map, symbols),
            emissive=(0.0, 0.0, 0.0) if emission is None or lost else _color(emission),
            emissive_texture=glow,
            ior=effect.ior if effect.ior is not None and effect.ior >= 1 else 1.5,
            double_sided=effect.double_sided,
            unlit=is_constant,
        )
        return Look(material, tuple(symbols))

    def _base(self, effect: Effect, slot: Slot | None, symbols: list[str]) -> tuple[Texture | None, float, AlphaMode]:
        """Return the texture of color and opacity, the factor of opacity, and the alpha mode."""
        use = None if slot is None else slot.texture
        pixels = None if use is None else self._files.read(use.image)
        channels = None if pixels is None else [pixels[..., number] for number in range(3)]
        opacity, coverage = effect.opacity, None
        sheer = None if effect.transparent is None else effect.transparent.texture
        if sheer is not None:
            coverage = self._coverage(effect, sheer)
            opacity = 1.0
            if coverage is not None and use is not None and channels is not None and not _same_place(use, sheer):
                self._document.warn("opacity and color have different texture coordinates: those of color are used")
        is_opaque = opacity >= 1.0 and (coverage is None or bool((coverage == 255).all()))
        mode = AlphaMode.OPAQUE if is_opaque else AlphaMode.BLEND
        if channels is None and (coverage is None or is_opaque):
            return None, opacity, mode
        place = use if channels is not None else sheer
        image = combined([*(channels or (None, None, None)), None if is_opaque else coverage])
        return (None if place is None else self._placed(place, image, symbols)), opacity, mode

    def _coverage(self, effect: Effect, use: TextureUse) -> UInt8Array | None:
        """Return the (H, W) opacity of a texture of `<transparent>`."""
        pixels = self._files.read(use.image)
        if pixels is None:
            return None
        amount = 1.0 if effect.transparency is None else effect.transparency
        channel = pixels[..., 3]
        if effect.opaque.startswith("RGB"):
            channel = np.rint(pixels[..., :3] @ np.array(LUMINANCE)).astype(np.uint8)
        share = _BYTES * amount
        return mapped(channel, share if effect.opaque.endswith("ONE") else 1.0 - share)

    def _texture(self, use: TextureUse | None, symbols: list[str]) -> Texture | None:
        pixels = None if use is None else self._files.read(use.image)
        if use is None or pixels is None:
            return None
        return self._placed(use, combined([*(pixels[..., number] for number in range(3)), None]), symbols)

    def _placed(self, use: TextureUse, image: UInt8Array, symbols: list[str]) -> Texture:
        if use.symbol not in symbols:
            symbols.append(use.symbol)
        return Texture(
            image=self._slot(image),
            uv_set=symbols.index(use.symbol),
            wrap_u=use.wrap_u,
            wrap_v=use.wrap_v,
            offset=(use.offset[0], 1.0 - use.scale[1] - use.offset[1]),  # v points up in COLLADA
            scale=use.scale,
            nearest=use.nearest,
        )

    def _slot(self, image: UInt8Array) -> int:
        """Return the slot of an image; equal ones have one slot."""
        key = image.shape, blake2b(image.tobytes()).digest()
        return self._pictures.add(self._built.setdefault(key, image))


def _color(slot: Slot) -> tuple[float, float, float]:
    """Return the factor of a color; white for a texture."""
    red, green, blue = (min(max(value, 0.0), 1.0) for value in slot.color[:3])
    return red, green, blue


def _bindings(instance: Instance) -> list[Element]:
    return instance.element.findall("bind_material/technique_common/instance_material")


def _textured(slot: Slot | None) -> bool:
    return slot is not None and slot.texture is not None


def _same_place(one: TextureUse, two: TextureUse) -> bool:
    return (one.symbol, one.scale, one.offset) == (two.symbol, two.scale, two.offset)


def _roughness(effect: Effect) -> float:
    """Return the roughness whose microfacets are as wide as the highlight of a Blinn-Phong exponent."""
    specular = effect.specular
    shines = specular is not None and (specular.texture is not None or any(specular.color[:3]))
    if effect.shader not in ("phong", "blinn") or not shines or effect.shininess is None:
        return _DULL
    return float(min((2 / (max(effect.shininess, 0.0) + 2)) ** 0.25, 1.0))
