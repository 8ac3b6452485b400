"""Turns a file on disk into a `Document`: parsed, every reference and URI checked, nothing decoded yet."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from helix4d.assets.gltf.parse.animations import parse_animations
from helix4d.assets.gltf.parse.buffers import parse_accessors, parse_buffers, parse_views
from helix4d.assets.gltf.parse.checked import Checked
from helix4d.assets.gltf.parse.container import read_container
from helix4d.assets.gltf.parse.model import Accessor, Animation, Buffer, BufferView, Mesh, Node, Skin
from helix4d.assets.gltf.parse.resources import decode_data_uri, is_data_uri, resource_path
from helix4d.assets.gltf.parse.scene import parse_meshes, parse_nodes, parse_roots, parse_skins
from helix4d.assets.gltf.parse.values import Json, JsonObject, clean_text
from helix4d.assets.limits import Limits
from helix4d.core import AssetError, ReasonCode
from helix4d.core.storage import is_fault

SUPPORTED_EXTENSIONS = frozenset(
    {
        "EXT_mesh_gpu_instancing",
        "EXT_meshopt_compression",
        "EXT_texture_avif",
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
        "KHR_texture_basisu",
        "KHR_texture_transform",
        "KHR_xmp_json_ld",
    }
)
"""Extensions that a file may require. Material extensions without a field in `Material` affect the look only slightly
and are ignored."""


@dataclass(frozen=True, eq=False)
class Document:
    """A parsed file.

    Attributes:
        root: entire JSON, for what is parsed later (materials, textures).
        binary: binary chunk of the GLB, or None.
        roots: root nodes of the default scene.
        parents: parent of each node, or −1.
        order: all nodes, parents before children.
        extras: facts about the asset from `asset`, such as its author, license and generator.
        warnings: what was ignored or repaired; more are added while the file is decoded.
    """

    path: Path
    limits: Limits
    root: JsonObject
    binary: bytes | None
    buffers: Checked[Buffer]
    views: Checked[BufferView]
    accessors: Checked[Accessor]
    meshes: Checked[Mesh]
    skins: Checked[Skin]
    nodes: tuple[Node, ...]
    parents: tuple[int, ...]
    order: tuple[int, ...]
    roots: tuple[int, ...]
    animations: Checked[Animation]
    extras: dict[str, Json]
    warnings: list[str] = field(default_factory=list)

    def fail(self, code: ReasonCode, message: str) -> AssetError:
        """Return an error to raise that names the file."""
        return AssetError(code, message, self.path)

    def warn(self, message: str) -> None:
        """Record what is ignored or repaired; equal messages are recorded once."""
        if message not in self.warnings:
            self.warnings.append(message)

    def resource(self, uri: str) -> bytes | None:
        """Return the bytes that a URI refers to; None if the file does not exist or cannot be read.

        Raises:
            AssetError: uri_outside_asset, corrupt_file (a broken data URI), out_of_memory.
            OSError: if storage fails.
        """
        if is_data_uri(uri):
            return decode_data_uri(uri, self.path)
        target = resource_path(uri, self.path)
        try:
            if not target.is_file():
                return None
            if target.stat().st_size > self.limits.file_bytes:
                message = f"{uri[:80]!r} is larger than the limit of {self.limits.file_bytes:,} bytes"
                raise self.fail(ReasonCode.OUT_OF_MEMORY, message)
            return target.read_bytes()
        except OSError as error:
            if is_fault(error):
                raise
            return None


def open_document(path: Path, limits: Limits) -> Document:
    """Read and parse a .glb or .gltf file.

    Raises:
        AssetError: if the container, the structure of the JSON, its references or its URIs are invalid.
    """
    path = Path(path)
    container = read_container(path, limits)
    root = JsonObject(container.values, "", path)
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
        if isinstance(root.values.get("meshes"), dict):  # glTF 1.0 named its objects, and asset was optional
            root.fail("is glTF 1.0, which is not supported: convert it to 2.0", ReasonCode.UNSUPPORTED_GLTF_VERSION)
        root.fail("asset is missing: the file is JSON, but not glTF")
    asset = root.child("asset")
    for key in ("version", "minVersion"):
        version = _version(asset, key, "2.0" if key == "minVersion" else None)
        if version.split(".")[0] != "2" or (key == "minVersion" and version not in ("2", "2.0")):
            message = f"{key} {version[:20]} is not supported: convert the file to glTF 2.0"
            asset.fail(message, ReasonCode.UNSUPPORTED_GLTF_VERSION)


def _version(asset: JsonObject, key: str, default: str | None) -> str:
    """Return a version, which must be a string according to the specification but is a number in some files."""
    value = asset.values.get(key)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else asset.text(key, default)


def _check_extensions(root: JsonObject) -> None:
    unsupported = [name[:80] for name in root.texts("extensionsRequired") if name not in SUPPORTED_EXTENSIONS]
    if unsupported:
        message = f"requires extensions that are not supported ({', '.join(unsupported)}): export it without them"
        root.fail(message, ReasonCode.UNSUPPORTED_EXTENSION)


def _check_uris(root: JsonObject, buffers: Checked[Buffer], limits: Limits) -> None:
    # Check every URI before opening the first file, and the size of all files before reading the first.
    total = 0
    uris = [buffer.uri for _, buffer in buffers.valid()]
    uris += [image.text("uri") for image in root.children("images") if image.has("uri")]
    for uri in dict.fromkeys(uris):
        if uri is None or is_data_uri(uri):
            continue
        target = resource_path(uri, root.path)
        try:
            total += target.stat().st_size
        except OSError as error:
            if is_fault(error):
                raise
            continue  # missing: reported on first use, as an error for a buffer and a warning for an image
    if total > limits.file_bytes:
        message = f"its external files total {total:,} bytes, more than the limit of {limits.file_bytes:,}"
        root.fail(message, ReasonCode.OUT_OF_MEMORY)


def _asset_facts(root: JsonObject, limits: Limits, warnings: list[str]) -> dict[str, Json]:
    asset = root.child("asset")
    facts: dict[str, Json] = {
        key: asset.text(key) for key in ("copyright", "generator") if isinstance(asset.values.get(key), str)
    }
    extras = asset.values.get("extras")
    if extras is None:
        return facts
    encoded = json.dumps(extras)
    if len(encoded) > limits.extras_bytes:
        limit = f"more than the limit of {limits.extras_bytes:,}"
        warnings.append(f"asset.extras: has {len(encoded):,} bytes, {limit}: ignored")
        return facts
    cleaned = _clean(extras)
    return {**(cleaned if isinstance(cleaned, dict) else {"extras": cleaned}), **facts}


def _clean(value: Json) -> Json:
    """Replace lone surrogates, and infinities by None (1e999 parses to one). The nesting depth is already bounded."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(key): _clean(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_clean(entry) for entry in value]
    if isinstance(value, float) and abs(value) == float("inf"):
        return None
    return value
