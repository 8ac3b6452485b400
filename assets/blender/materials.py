"""Converts Blender materials with a Principled BSDF to `Material`s; images are decoded by us rather than by Blender."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helix4d.assets.clip import AlphaMode, Material, Texture, Wrap
from helix4d.assets.gltf.images import GLTF_FORMATS, decode_image, header_size, reduced_by, too_large
from helix4d.assets.limits import Limits
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import UInt8Array
from helix4d.core.messages import reason
from helix4d.core.storage import is_fault

_FORMATS = (*GLTF_FORMATS, "BMP", "TGA", "TIFF")
_WRAPS = {"EXTEND": Wrap.CLAMP, "CLIP": Wrap.CLAMP, "MIRROR": Wrap.MIRROR}


class BlenderMaterials:
    """Collects the materials in use and their images.

    Args:
        path: path of the asset.
        limits: upper bounds on the size of images.
        root: folder that image files must not leave; the asset's own folder if None.

    Attributes:
        materials: materials in the order of their slots.
        images: images that the materials refer to, each (H, W, 4) uint8.
        warnings: what was replaced or reduced.
    """

    def __init__(self, path: Path, limits: Limits, root: Path | None = None) -> None:
        self._path = path
        self._root = root or path.parent
        self._limits = limits
        self.materials: list[Material] = []
        self.images: list[UInt8Array] = []
        self.warnings: list[str] = []
        self._slots: dict[str | None, int] = {}
        self._image_slots: dict[tuple[str, str], int | None] = {}

    def slot(self, material: Any) -> int:
        """Return the index in `materials` of a Blender material; None stands for the default material."""
        name = None if material is None else material.name
        if name not in self._slots:
            self._slots[name] = len(self.materials)
            self.materials.append(Material() if material is None else self._read(material))
        return self._slots[name]

    def _read(self, material: Any) -> Material:
        nodes = material.node_tree.nodes if material.use_nodes and material.node_tree else ()
        shader = next((node for node in nodes if node.type == "BSDF_PRINCIPLED"), None)
        if shader is None:
            red, green, blue, alpha = (float(value) for value in material.diffuse_color)
            return Material(material.name, (red, green, blue), alpha, metallic=0.0, roughness=float(material.roughness))
        inputs = shader.inputs
        color, alpha = inputs["Base Color"], inputs["Alpha"]
        base_texture = self._texture(color)
        alpha_linked = bool(alpha.is_linked)
        alpha_value = 1.0 if alpha_linked else float(alpha.default_value)
        strength = float(inputs["Emission Strength"].default_value)
        emission = inputs["Emission Color"]
        emissive_texture = self._texture(emission) if strength > 0 else None
        return Material(
            name=material.name,
            base_color=(1.0, 1.0, 1.0) if base_texture else _rgb(color),
            alpha=alpha_value,
            base_color_texture=base_texture,
            metallic=_number(inputs["Metallic"], 0.0),
            roughness=_number(inputs["Roughness"], 0.5),
            alpha_mode=AlphaMode.BLEND if alpha_value < 1.0 or (alpha_linked and base_texture) else AlphaMode.OPAQUE,
            normal_texture=self._normal_texture(inputs["Normal"]),
            emissive=_scaled((1.0, 1.0, 1.0) if emissive_texture else _rgb(emission), strength),
            emissive_texture=emissive_texture,
            transmission=_number(inputs["Transmission Weight"], 0.0),
            ior=_number(inputs["IOR"], 1.5),
            double_sided=True,
        )

    def _normal_texture(self, socket: Any) -> Texture | None:
        if socket.is_linked and socket.links[0].from_node.type == "NORMAL_MAP":
            return self._texture(socket.links[0].from_node.inputs["Color"])
        return None

    def _texture(self, socket: Any) -> Texture | None:
        if not socket.is_linked or socket.links[0].from_node.type != "TEX_IMAGE":
            return None
        node = socket.links[0].from_node
        slot = None if node.image is None else self._image(node.image)
        if slot is None:
            return None
        wrap = _WRAPS.get(node.extension, Wrap.REPEAT)
        return Texture(slot, wrap_u=wrap, wrap_v=wrap, nearest=node.interpolation == "Closest")

    def _image(self, image: Any) -> int | None:
        key = image.name, image.filepath
        if key not in self._image_slots:
            self._image_slots[key] = None
            data = self._image_bytes(image)
            if data is not None:
                self._image_slots[key] = self._decode(image.name, data)
        return self._image_slots[key]

    def _image_bytes(self, image: Any) -> bytes | None:
        if image.packed_file is not None:
            return bytes(image.packed_file.data)
        folder = self._root.resolve()
        try:
            # The path is untrusted: open it only if it lies inside the asset's folder.
            target = Path(image.filepath_from_user()).resolve()
            available = target.is_relative_to(folder) and target.is_file()
            if available and target.stat().st_size <= self._limits.file_bytes:
                return target.read_bytes()
        except (OSError, ValueError, RuntimeError) as error:
            if is_fault(error):
                raise
            self.warnings.append(f"image {image.name!r}: cannot be read ({reason(error)}): replaced by white")
            return None
        problem = "larger than the limit" if available else "not found in the asset's folder"
        self.warnings.append(f"image {image.name!r}: {problem}: replaced by white")
        return None

    def _decode(self, name: str, data: bytes) -> int | None:
        size = header_size(data)
        if size is not None and size[0] * size[1] > self._limits.image_pixels:
            raise AssetError(
                ReasonCode.TEXTURE_TOO_LARGE,
                f"image {name!r}: {too_large(size, self._limits)}",
                self._path,
            )
        try:
            pixels, factor = decode_image(data, self._limits, _FORMATS)
        except ValueError as error:
            self.warnings.append(f"image {name!r}: cannot be decoded ({reason(error, 120)}): replaced by white")
            return None
        if factor > 1:
            self.warnings.append(f"image {name!r}: {reduced_by(factor, self._limits)}")
        self.images.append(pixels)
        return len(self.images) - 1


def _number(socket: Any, default: float) -> float:
    return default if socket.is_linked else float(socket.default_value)


def _rgb(socket: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in tuple(socket.default_value)[:3])
    return red, green, blue


def _scaled(color: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
    return color[0] * factor, color[1] * factor, color[2] * factor
