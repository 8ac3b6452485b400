"""A file on disk becomes a `Document`: parsed, every reference checked, every resource found, nothing decoded yet."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helix4d.assets.gltf.parse.animations import parse_animations
from helix4d.assets.gltf.parse.buffers import parse_accessors, parse_buffers, parse_views
from helix4d.assets.gltf.parse.container import read_container
from helix4d.assets.gltf.parse.model import Accessor, Animation, Buffer, BufferView, Mesh, Node, Skin
from helix4d.assets.gltf.parse.resources import decode_data_uri, is_data_uri, resource_path
from helix4d.assets.gltf.parse.scene import parse_meshes, parse_nodes, parse_roots, parse_skins
from helix4d.assets.gltf.parse.values import JsonObject, clean_text
from helix4d.assets.limits import Limits
from helix4d.core import AssetError, ReasonCode

SUPPORTED_EXTENSIONS = frozenset(
    {
        "EXT_mesh_gpu_instancing",
        "EXT_meshopt_compression",
        "EXT_texture_webp",
        "KHR_animation_pointer",
        "KHR_draco_mesh_compression",
        "KHR_lights_punctual",
        "KHR_materials_anisotropy",
        "KHR_materials_clearcoat",
        "KHR_materials_diffuse_transmission",
        "KHR_materials_dispersion",
        "KHR_materials_emissive_strength",
        "KHR_materials_ior",
        "KHR_materials_iridescence",
        "KHR_materials_pbrSpecularGlossiness",
        "KHR_materials_sheen",
        "KHR_materials_specular",
        "KHR_materials_transmission",
        "KHR_materials_unlit",
        "KHR_materials_variants",
        "KHR_materials_volume",
        "KHR_mesh_quantization",
        "KHR_meshopt_compression",
        "KHR_node_visibility",
        "KHR_texture_transform",
        "KHR_xmp_json_ld",
    }
)
"""Extensions that a file may require. Those of materials that `Material` has no field for change its look a little."""


@dataclass(frozen=True, eq=False)
class Document:
    """A parsed file.

    Attributes:
        root: the whole JSON, for what is read later (materials, textures).
        binary: the GLB's binary chunk.
        roots: nodes of the default scene.
        parents: per node its parent, or −1.
        order: all nodes, parents before children.
        warnings: grows while the file is read.
    """

    path: Path
    limits: Limits
    root: JsonObject
    binary: bytes | None
    buffers: tuple[Buffer, ...]
    views: tuple[BufferView, ...]
    accessors: tuple[Accessor, ...]
    meshes: tuple[Mesh, ...]
    skins: tuple[Skin, ...]
    nodes: tuple[Node, ...]
    parents: tuple[int, ...]
    order: tuple[int, ...]
    roots: tuple[int, ...]
    animations: tuple[Animation, ...]
    extras: dict[str, Any]
    warnings: list[str] = field(default_factory=list)

    def fail(self, code: ReasonCode, message: str) -> AssetError:
        """The error to raise, with the file's name."""
        return AssetError(code, message, self.path)

    def warn(self, message: str) -> None:
        """Note once what is ignored or repaired."""
        if message not in self.warnings:
            self.warnings.append(message)

    def resource(self, uri: str) -> bytes | None:
        """The bytes behind a URI; None where the file does not exist.

        Raises:
            AssetError: uri_outside_asset, corrupt_file (a broken data URI), out_of_memory.
        """
        if is_data_uri(uri):
            return decode_data_uri(uri, self.path)
        target = resource_path(uri, self.path)
        try:
            if not target.is_file():
                return None
            if target.stat().st_size > self.limits.file_bytes:
                raise self.fail(ReasonCode.OUT_OF_MEMORY, f"{uri[:80]!r} is larger than {self.limits.file_bytes} bytes")
            return target.read_bytes()
        except OSError:
            return None


def open_document(path: Path, limits: Limits) -> Document:
    """Read and parse a .glb or .gltf file.

    Raises:
        AssetError: whatever is wrong with the container, the JSON's shape, its references or its URIs.
    """
    path = Path(path)
    container = read_container(path, limits)
    root = JsonObject(container.values, "file", path)
    _check_version(root)
    _check_extensions(root)
    warnings = list(container.warnings)
    buffers = parse_buffers(root, has_binary=container.binary is not None)
    _check_uris(root, buffers, limits)
    views = parse_views(root, buffers)
    accessors = parse_accessors(root, views, limits)
    meshes = parse_meshes(root, len(accessors), len(views), warnings)
    nodes, parents, order = parse_nodes(root, len(meshes), len(accessors), limits)
    skins = parse_skins(root, len(nodes), len(accessors))
    return Document(
        path=path,
        limits=limits,
        root=root,
        binary=container.binary,
        buffers=buffers,
        views=views,
        accessors=accessors,
        meshes=meshes,
        skins=skins,
        nodes=nodes,
        parents=parents,
        order=order,
        roots=parse_roots(root, parents),
        animations=parse_animations(root, len(nodes), len(meshes), len(accessors), limits, warnings),
        extras=_asset_facts(root, limits, warnings),
        warnings=warnings,
    )


def _check_version(root: JsonObject) -> None:
    if not root.has("asset"):
        if isinstance(root.values.get("meshes"), dict):  # glTF 1.0 kept objects by name, and asset was optional
            root.fail("has the shape of glTF 1.0, only 2.0 is supported", ReasonCode.UNSUPPORTED_GLTF_VERSION)
        root.fail("asset is missing: this JSON is not glTF")
    asset = root.child("asset")
    for key in ("version", "minVersion"):
        version = asset.text(key, "2.0" if key == "minVersion" else None)
        if version.split(".")[0] != "2" or (key == "minVersion" and version != "2.0"):
            asset.fail(f"{key} is {version[:20]}, only 2.0 is supported", ReasonCode.UNSUPPORTED_GLTF_VERSION)


def _check_extensions(root: JsonObject) -> None:
    unknown = [name[:80] for name in root.texts("extensionsRequired") if name not in SUPPORTED_EXTENSIONS]
    if unknown:
        root.fail(f"requires {', '.join(unknown)}, which is not supported", ReasonCode.UNSUPPORTED_EXTENSION)


def _check_uris(root: JsonObject, buffers: tuple[Buffer, ...], limits: Limits) -> None:
    # Every URI is checked before the first file is opened, and the sizes of all files before the first is read.
    total = 0
    uris = [buffer.uri for buffer in buffers]
    uris += [image.text("uri") for image in root.children("images") if image.has("uri")]
    for uri in dict.fromkeys(uris):
        if uri is None or is_data_uri(uri):
            continue
        target = resource_path(uri, root.path)
        try:
            total += target.stat().st_size
        except OSError:
            continue  # missing: an error for a buffer, a warning for an image, both when it is needed
    if total > limits.file_bytes:
        root.fail(f"its resources have {total} bytes, limit {limits.file_bytes}", ReasonCode.OUT_OF_MEMORY)


def _asset_facts(root: JsonObject, limits: Limits, warnings: list[str]) -> dict[str, Any]:
    asset = root.child("asset")
    facts = {key: asset.text(key) for key in ("copyright", "generator") if isinstance(asset.values.get(key), str)}
    extras = asset.values.get("extras")
    if extras is None:
        return facts
    encoded = json.dumps(extras)
    if len(encoded) > limits.extras_bytes:
        warnings.append(f"asset.extras has {len(encoded)} bytes, more than {limits.extras_bytes}: ignored")
        return facts
    return {**(_clean(extras) if isinstance(extras, dict) else {"extras": _clean(extras)}), **facts}


def _clean(value: Any) -> Any:
    """JSON without lone surrogates and without infinities (1e999 parses to one). The depth is bounded already."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(key): _clean(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_clean(entry) for entry in value]
    if isinstance(value, float) and abs(value) == float("inf"):
        return None
    return value
