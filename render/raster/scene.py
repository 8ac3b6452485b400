"""Uploads a Clip to OpenGL: textures and materials once, triangles once per topology, vertices once per frame.

Corners that agree in UVs and color share a vertex, so that a software GL transforms it once. Faces are grouped by
material. Translucent faces are drawn last, farthest first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import moderngl
import numpy as np

from helix4d.assets import AlphaMode, Clip, Frame, Material, Texture, Topology, Wrap
from helix4d.render.raster.gathering import Gathering
from helix4d.render.raster.light_textures import LIGHT_UNIT, TRIANGLE_UNIT, LightTextures
from helix4d.render.raster.lobes import LOBE_UNIT, SIDE, albedo_table
from helix4d.render.raster.shaders import ATTRIBUTES, MATERIAL_BLOCK, VIEW_BLOCK, shaders
from helix4d.render.raster.shadows import DEPTH_UNIT, LAMP_UNIT
from helix4d.render.raster.sky import MAP_UNIT
from helix4d.render.scene.environment import NO_MAPS, EnvironmentMap
from helix4d.render.scene.lighting import Lights
from helix4d.render.scene.uv_maps import UvMap, uv_layer, uv_maps

_SRGB8_ALPHA8 = 0x8C43
_MAX_RUNS = 256
"""Most draw calls of sorted faces; with more, depth is cut into slices, and faces are grouped by material in each."""
_SLICES = 64
_BACKS_OFFSET = 32.0
"""Steps of the 24-bit depth by which backs are moved away: a surface modeled twice shows its own face on each side."""
_SOURCES = {  # texture slots of the shaders, in order of their units
    "BASE": "base_color_texture",
    "PACKED": "metallic_roughness_texture",
    "NORMAL": "normal_texture",
    "EMISSIVE": "emissive_texture",
    "TRANSMISSION": "transmission_texture",
    "THICKNESS": "thickness_texture",
}
_COLORS = ("BASE", "EMISSIVE")


@dataclass(frozen=True)
class _Look:
    """How the faces of one material are drawn."""

    programs: dict[str, Any]  # kind (color, passes or depth) -> program
    values: Any
    textures: tuple[tuple[int, Any, Any], ...]  # unit, texture, sampler
    sorted: bool
    culled: bool
    casts: bool
    plain: bool  # opaque from both sides, without reading textures: one program draws the depths of all of these


class RasterScene:
    """A clip in a GL context.

    Args:
        context: the current GL context.
        programs: programs compiled in that context for earlier clips; reused and extended.
        clip: inside the unit cube.
        lamps: the largest number of point lights in any view.
        cull_back_faces: hide the backs of single-sided materials.
        maps: sha256 -> environment map, for the lights that name one.
    """

    def __init__(
        self,
        context: Any,
        programs: dict[tuple[str, str], Any],
        clip: Clip,
        lamps: int,
        cull_back_faces: bool,
        maps: Mapping[str, EnvironmentMap] = NO_MAPS,
    ) -> None:
        self.clip = clip
        self._context = context
        self._programs = programs
        self._lamps = lamps
        self._mapped = bool(maps)
        self._lobes = context.texture((SIDE, SIDE), 3, albedo_table(), dtype="f4")
        self._lobes.repeat_x = self._lobes.repeat_y = False
        self._lights = LightTextures(context, Gathering(clip, maps))
        self.has_glass = any(material.transmission > 0.0 and not material.unlit for material in clip.materials)
        self._colored = any(frame.topology.colors is not None for frame in clip.frames)
        self._maps = [uv_maps(material) for material in clip.materials]
        self._images: dict[tuple[int, bool], Any] = {}
        self._samplers: dict[tuple[bool, bool, bool], Any] = {}
        self._looks = [self._look(material, cull_back_faces) for material in clip.materials]
        self._topology: Topology | None = None
        self._arrays: dict[tuple[int, str], Any] = {}  # keyed by program and index buffer
        self._buffers: dict[str, Any] = {}

    def set_frame(self, number: int) -> None:
        """Show frame `number`; as long as the topology is the same object, only the vertices are uploaded."""
        frame = self.clip.frames[number]
        if frame.topology is not self._topology:
            self._set_topology(frame)
            same = [other for other in self.clip.frames if other.topology is frame.topology]
            self._lights.set_topology(same, self._solid_faces)
        self._frame = frame
        self._lights.set_frame(frame)
        self._buffers["position"].write(np.ascontiguousarray(frame.vertices[self._sources], np.float32))
        self._buffers["normal"].write(np.ascontiguousarray(frame.normals[self._sources], np.float32))

    def set_lights(self, lights: Lights) -> None:
        """Gather the light of a view on the surfaces of the frame."""
        self._lights.set_lights(lights)

    def use_lights(self) -> None:
        """Bind the gathered light, and the albedo of lobes, for reading."""
        self._lights.use()
        self._context.clear_samplers(LOBE_UNIT, LOBE_UNIT + 1)
        self._lobes.use(LOBE_UNIT)

    def cast(self) -> None:
        """Draw the depths of everything that blocks light."""
        if self._plain_count:
            look = self._looks[self._solid[0][0]]
            self._array(look.programs["depth"], "solid").render(moderngl.TRIANGLES, vertices=3 * self._plain_count)
        for indices, runs in (("solid", self._solid), ("open", self._open_runs)):
            for material, first, count in runs:
                if self._looks[material].casts and not self._looks[material].plain:
                    self._draw(material, first, count, "depth", indices)

    def draw(self, framebuffer: Any, depth_axis: np.ndarray, passes: bool = False) -> None:
        """Draw everything.

        Args:
            framebuffer: the current framebuffer, cleared.
            depth_axis: (3,) viewing direction of the camera.
            passes: draw normals and depth instead of colors.
        """
        context = self._context
        context.enable_only(moderngl.DEPTH_TEST)
        kind = "passes" if passes else "color"
        if self._plain_count:  # depth first, so that each pixel is shaded once
            framebuffer.color_mask = False, False, False, False
            array = self._array(self._looks[self._solid[0][0]].programs["depth"], "solid")
            self._render_sides(array, 0, self._plain_count)
            framebuffer.color_mask = True, True, True, True
            context.depth_func = "<="
        for material, first, count in self._solid:
            self._draw(material, first, count, kind, "solid")
        if not len(self._open_faces):
            return
        order, runs = self._sorted_runs(depth_axis)
        self._buffers["sorted"].write(np.ascontiguousarray(self._open_faces[order], np.int32))
        self._lights.set_sorted(self._open[order])
        if not passes:
            context.enable(moderngl.BLEND)
            context.blend_func = _ONE, _SRC1_COLOR
            framebuffer.depth_mask = False
        for material, first, count in runs:
            self._draw(material, first, count, kind, "sorted")

    def _draw(self, material: int, first: int, count: int, kind: str, indices: str) -> None:
        look = self._looks[material]
        if look.culled and kind != "depth":
            self._context.enable(moderngl.CULL_FACE)
        else:
            self._context.disable(moderngl.CULL_FACE)
        look.values.bind_to_uniform_block(MATERIAL_BLOCK)
        if "first_face" in look.programs[kind]:
            look.programs[kind]["first_face"].value = first + (self._lights.solid if indices == "sorted" else 0)
        for unit, texture, sampler in look.textures:
            texture.use(unit)
            sampler.use(unit)
        array = self._array(look.programs[kind], indices)
        if indices == "solid" and kind != "depth" and not look.culled:
            self._render_sides(array, first, count)
        else:
            array.render(moderngl.TRIANGLES, vertices=3 * count, first=3 * first)

    def _render_sides(self, array: Any, first: int, count: int) -> None:
        """Draw faces for a camera, with backs slightly farther away than fronts."""
        context = self._context
        context.enable(moderngl.CULL_FACE)
        for culled, offset in (("front", _BACKS_OFFSET), ("back", 0.0)):
            context.cull_face, context.polygon_offset = culled, (0.0, offset)
            array.render(moderngl.TRIANGLES, vertices=3 * count, first=3 * first)
        context.disable(moderngl.CULL_FACE)

    def _array(self, program: Any, indices: str) -> Any:
        key = program.glo, indices
        if key not in self._arrays:
            content = [
                (self._buffers[name], f"{self._widths[name]}f", name)
                for name in ATTRIBUTES
                if name in program and name in self._buffers
            ]
            self._arrays[key] = self._context.vertex_array(
                program, content, self._buffers[indices], index_element_size=4
            )
        return self._arrays[key]

    def _set_topology(self, frame: Frame) -> None:
        topology = frame.topology
        layers: dict[str, np.ndarray] = {"color": np.ones((len(topology.faces), 3, 4))} if self._colored else {}
        if topology.colors is not None:
            layers["color"] = topology.colors
        for slot in range(max(map(len, self._maps), default=0)):
            layers[f"uv{slot}"] = uv_layer(topology, self._maps, slot)
        corners = [np.asarray(layer, np.float32) for layer in layers.values()]
        self._sources, faces, firsts = _shared_vertices(topology.faces, corners)
        self._buffers = {
            name: self._context.buffer(np.ascontiguousarray(layer.reshape(-1, layer.shape[-1])[firsts]))
            for name, layer in zip(layers, corners, strict=True)
        }
        self._widths = {name: layer.shape[-1] for name, layer in layers.items()} | {"position": 3, "normal": 3}
        for name in ("position", "normal"):
            self._buffers[name] = self._context.buffer(reserve=max(12 * len(self._sources), 12), dynamic=True)
        opened = np.array([look.sorted for look in self._looks])[topology.material_ids]
        plain = np.array([look.plain for look in self._looks])[topology.material_ids]
        order = np.lexsort((topology.material_ids, ~plain))
        self._solid_faces = solid = order[~opened[order]]
        self._solid = _runs(topology.material_ids[solid])
        self._plain_count = int(plain.sum())
        self._open = order[opened[order]]
        self._open_runs = _runs(topology.material_ids[self._open])
        self._open_faces = faces[self._open]
        self._buffers["solid"] = self._context.buffer(faces[solid].tobytes() or bytes(12))
        self._buffers["open"] = self._context.buffer(self._open_faces.tobytes() or bytes(12))
        self._buffers["sorted"] = self._context.buffer(reserve=max(12 * len(self._open), 12), dynamic=True)
        self._arrays = {}
        self._topology = topology

    def _sorted_runs(self, axis: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
        """Order of the translucent faces, farthest center first, and its runs of equal material."""
        topology = self._frame.topology
        depth = (self._frame.vertices.astype(np.float64) @ axis)[topology.faces[self._open]].mean(axis=1)
        materials = topology.material_ids[self._open]
        order = np.argsort(-depth, kind="stable")
        runs = _runs(materials[order])
        if len(runs) > _MAX_RUNS:
            span = max(float(np.ptp(depth)), 1e-9)
            slices = np.floor(_SLICES * (depth.max() - depth) / span)
            order = np.lexsort((-depth, materials, slices))
            runs = _runs(materials[order])
        return order, runs

    def _look(self, material: Material, cull_back_faces: bool) -> _Look:
        textures = {
            name: texture
            for name, attribute in _SOURCES.items()
            if (texture := getattr(material, attribute)) is not None and _is_used(name, material)
        }
        glass = material.transmission > 0.0 and not material.unlit
        blend = material.alpha_mode is AlphaMode.BLEND
        features = {
            "COLORS": self._colored,
            "MASK": material.alpha_mode is AlphaMode.MASK,
            "BLEND": blend,
            "GLASS": glass,
            "SORTED": blend or glass,
            "UNLIT": material.unlit,
            "MAPPED": self._mapped,
        }
        maps = uv_maps(material)
        slots = {
            name: (
                maps.index(UvMap.of(texture)),
                texture.wrap_u is Wrap.MIRROR,
                texture.wrap_v is Wrap.MIRROR,
            )
            for name, texture in textures.items()
        }
        units = tuple(
            (unit, self._texture(textures[name].image, name in _COLORS), self._sampler(textures[name]))
            for unit, name in enumerate(_SOURCES)
            if name in textures
        )
        enabled = [name for name, on in features.items() if on]
        # The back of a glass volume is not drawn: its front represents the whole volume.
        culled = material.hides_back(cull_back_faces) or (glass and material.thickness > 0.0)
        plain = material.alpha_mode is AlphaMode.OPAQUE and not glass and not culled
        programs = {
            kind: self._program(
                *shaders(*(([], {}) if plain and kind == "depth" else (enabled, slots)), self._lamps, kind)
            )
            for kind in ("color", "passes", "depth")
        }
        values = self._context.buffer(_values(material))
        casts = not glass and not material.outline
        return _Look(programs, values, units, blend or glass, culled, casts, plain)

    def _program(self, vertex: str, fragment: str) -> Any:
        if (vertex, fragment) not in self._programs:
            program = self._context.program(vertex_shader=vertex, fragment_shader=fragment)
            for name, binding in (("View", VIEW_BLOCK), ("Material", MATERIAL_BLOCK)):
                if name in program:
                    program[name].binding = binding
            for unit, name in enumerate(_SOURCES):
                if f"{name.lower()}_texture" in program:
                    program[f"{name.lower()}_texture"].value = unit
            units = {
                "lamp_shadows": LAMP_UNIT,
                "lamp_depths": DEPTH_UNIT,
                "sky_map": MAP_UNIT,
                "triangles": TRIANGLE_UNIT,
                "gathered_light": LIGHT_UNIT,
                "lobe_albedo": LOBE_UNIT,
            }
            for name, unit in units.items():
                if name in program:
                    program[name].value = unit
            self._programs[vertex, fragment] = program
        return self._programs[vertex, fragment]

    def _texture(self, index: int, srgb: bool) -> Any:
        if (index, srgb) not in self._images:
            image = np.ascontiguousarray(self.clip.images[index])  # first row first: v points down, as in glTF
            size = image.shape[1], image.shape[0]
            texture = self._context.texture(size, 4, image)
            texture.build_mipmaps()
            if srgb:
                self._average_light(texture, image)
            self._images[index, srgb] = texture
        return self._images[index, srgb]

    def _average_light(self, texture: Any, image: np.ndarray) -> None:
        """Compute mipmaps that average linear light, using a texture in GL's sRGB format.

        The texture itself holds plain bytes, because Cycles interpolates bytes and decodes the result.
        """
        average = self._context.texture(texture.size, 4, image, internal_format=_SRGB8_ALPHA8)
        average.build_mipmaps()
        for level in range(1, max(texture.size).bit_length()):
            texture.write(average.read(level=level), level=level)

    def _sampler(self, texture: Texture) -> Any:
        # The shader folds mirrored axes.
        key = texture.wrap_u is Wrap.REPEAT, texture.wrap_v is Wrap.REPEAT, texture.nearest
        if key not in self._samplers:
            filters = moderngl.LINEAR_MIPMAP_LINEAR, moderngl.NEAREST if texture.nearest else moderngl.LINEAR
            self._samplers[key] = self._context.sampler(
                repeat_x=key[0], repeat_y=key[1], filter=filters, anisotropy=1.0
            )
        return self._samplers[key]


_ONE, _SRC1_COLOR = 1, 0x88F9


def _is_used(name: str, material: Material) -> bool:
    if name == "BASE":
        return True
    if material.unlit:
        return False
    return {
        "EMISSIVE": max(material.emissive) > 0.0,
        "TRANSMISSION": material.transmission > 0.0,
        "THICKNESS": material.transmission > 0.0 and material.thickness > 0.0,
    }.get(name, True)


def _values(material: Material) -> bytes:
    """Return the uniform block of a material, std140."""
    f0 = ((material.ior - 1.0) / (material.ior + 1.0)) ** 2
    cutoff = max(material.alpha_cutoff, 0.0)
    absorption = np.zeros(3)
    if material.attenuation_distance is not None and material.attenuation_distance > 0.0:
        absorption = -np.log(np.maximum(material.attenuation_color, 1e-4)) / material.attenuation_distance
    rows = [
        (*material.base_color, material.alpha),
        (material.metallic, material.roughness, f0, cutoff),
        (*material.emissive, material.normal_scale),
        (material.transmission, material.thickness, 0.0, 0.0),
        (*absorption, 0.0),
    ]
    return np.array(rows, np.float32).tobytes()


def _shared_vertices(faces: np.ndarray, corners: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split vertices so that each has one value per attribute.

    A corner shares its vertex if its attributes equal those of the first corner there; otherwise it gets its own.

    Args:
        faces: (F, 3) int32.
        corners: attributes of the corners, each (F, 3, C).

    Returns:
        (N,) index of each drawn vertex in the clip, (F, 3) int32 faces of drawn vertices, (N,) one corner (3·face + k)
        of each drawn vertex.
    """
    flat = faces.reshape(-1)
    vertices, firsts = np.unique(flat, return_index=True)
    first = np.zeros(int(flat.max(initial=0)) + 1, np.int64)
    number = np.zeros_like(first)
    first[vertices], number[vertices] = firsts, np.arange(len(vertices))
    alone = np.zeros(len(flat), bool)
    for layer in corners:
        rows = layer.reshape(len(flat), -1)
        alone |= (rows != rows[first[flat]]).any(axis=1)
    drawn = number[flat]
    drawn[alone] = len(vertices) + np.arange(int(alone.sum()))
    sources = np.concatenate([vertices, flat[alone]])
    return sources, drawn.reshape(-1, 3).astype(np.int32), np.concatenate([firsts, np.nonzero(alone)[0]])


def _runs(materials: np.ndarray) -> list[tuple[int, int, int]]:
    """(material, first face, number of faces) of every run of equal materials."""
    starts = np.flatnonzero(np.diff(materials, prepend=-1))
    counts = np.diff(starts, append=len(materials))
    return list(zip(materials[starts].tolist(), starts.tolist(), counts.tolist(), strict=True))
