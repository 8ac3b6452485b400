"""GLSL of the rasterizer: one program per combination of features, since a software GL runs both sides of a branch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from helix4d.render.raster.glsl import COLOR, DEPTH, PASSES, SURFACE
from helix4d.render.raster.lobes import SIDE

FINER = 5
"""Colors are drawn with this many pixels per pixel and axis, and averaged. On a CPU, this is faster than GL's
multisampling with fewer samples, and textures and shadows are averaged, too."""

ATTRIBUTES = "position", "normal", "color", *(f"uv{slot}" for slot in range(6))

VIEW_BLOCK, MATERIAL_BLOCK = 0, 1
"""Bindings of the uniform blocks."""

SKY_LAYERS = 9
"""Number of roughnesses from 0 to 1 that an environment map is filtered for; one more layer is for matte surfaces."""

LIGHT_COLUMNS = 1536
"""Texels per row of the textures of gathered light, a multiple of the three and two that belong together."""

_BLOCKER_TAPS, _SHADOW_TAPS = 6, 6
"""Numbers of texels of a lamp's map that a fragment samples to find occluders, and the occluded share of the lamp. The
fragments of a pixel sample different ones."""

_LEVEL_BIAS = -2.0
"""Bias of mipmap levels: the mean over a pixel filters its texture, so GL should not."""

_UNIFORMS = """
layout(std140) uniform View {
    mat4 world_to_clip;
    vec4 eye;           // xyz
    vec4 axis;          // dot(axis.xyz, point) + axis.w is the depth
    vec4 environment;   // rgb radiance
    vec4 sky_turn;      // cosine and sine of the map's turn
    vec4 lamp_places[LAMPS];  // xyz, squared distance from the origin
    vec4 lamp_colors[LAMPS];  // rgb irradiance at the origin, radius
    mat4 lamp_maps[LAMPS];    // world to shadow map
    vec4 lamp_offsets[LAMPS]; // along the normal; the map's nearest and farthest depth, tangent of half its view
};
layout(std140) uniform Material {
    vec4 base;          // linear rgb, alpha
    vec4 surface;       // metallic, roughness, F0, alpha cutoff
    vec4 emissive;      // rgb, normal scale
    vec4 glass;         // transmission, thickness
    vec4 absorption;    // rgb per unit of length
};
"""

VERTEX = (
    """
in vec3 position;
in vec3 normal;
out vec3 world;
invariant gl_Position;
out vec3 shading_normal;
#ifdef COLORS
in vec4 color;
out vec4 vertex_color;
#endif
"""
    + "".join(
        f"""
#ifdef UV{slot}
in vec2 uv{slot};
out vec2 place{slot};
#endif
"""
        for slot in range(6)
    )
    + """
void main() {
    gl_Position = world_to_clip * vec4(position, 1.0);
    world = position;
    shading_normal = normal;
#ifdef COLORS
    vertex_color = color;
#endif
"""
    + "".join(
        f"""
#ifdef UV{slot}
    place{slot} = uv{slot};
#endif
"""
        for slot in range(6)
    )
    + "}\n"
)

_INPUTS = """
in vec3 world;
in vec3 shading_normal;
#ifdef COLORS
in vec4 vertex_color;
#endif
""" + "".join(
    f"""
#ifdef UV{slot}
in vec2 place{slot};
#endif
"""
    for slot in range(6)
)


def view_rows(lamps: int) -> int:
    """Rows of four floats in the view block."""
    return 8 + 7 * max(lamps, 1)


def shaders(
    features: Iterable[str], slots: Mapping[str, tuple[int, bool, bool]], lamps: int, kind: str
) -> tuple[str, str]:
    """Return the vertex and the fragment shader for a set of features.

    Args:
        features: any of COLORS, MASK, BLEND, GLASS, SORTED, UNLIT, MAPPED.
        slots: texture (BASE, PACKED, NORMAL, EMISSIVE, TRANSMISSION, THICKNESS) -> the number of its UV map, and
            whether u and v are mirrored.
        lamps: number of lamps.
        kind: color, passes (normals and depth) or depth.
    """
    lines = ["#version 400 core", f"#define LAMPS {max(lamps, 1)}"]
    lines += [
        f"#define SKY_LAYERS {SKY_LAYERS}",
        f"#define LIGHT_COLUMNS {LIGHT_COLUMNS}",
        f"#define LOBE_SIDE {SIDE}",
        f"#define FINER {FINER}",
    ]
    lines += [f"#define BLOCKER_TAPS {_BLOCKER_TAPS}", f"#define SHADOW_TAPS {_SHADOW_TAPS}"]
    lines += [f"#define {feature}" for feature in features]
    lines += [f"#define UV{number}" for number in sorted({slot[0] for slot in slots.values()})]
    samplers, slope = [], 2.0**_LEVEL_BIAS
    for name, (number, mirror_u, mirror_v) in slots.items():
        lines.append(f"#define {name} place{number}")
        samplers.append(f"uniform sampler2D {name.lower()}_texture;")
        if mirror_u or mirror_v:
            u = "mirrored((uv).x)" if mirror_u else "(uv).x"
            v = "mirrored((uv).y)" if mirror_v else "(uv).y"
            lines.append(f"#define {name}_WRAP(uv) vec2({u}, {v})")
            # Derivatives of the unfolded coordinates, which do not jump where the texture turns around.
            slopes = f"{slope} * dFdx(uv), {slope} * dFdy(uv)"
            lines.append(f"#define {name}_FETCH(map, uv) textureGrad(map, {name}_WRAP(uv), {slopes})")
        else:
            lines.append(f"#define {name}_WRAP(uv) (uv)")
            lines.append(f"#define {name}_FETCH(map, uv) texture(map, uv, {_LEVEL_BIAS})")
    head = "\n".join(lines) + _UNIFORMS
    body = {"color": COLOR, "passes": PASSES, "depth": DEPTH}[kind]
    return head + VERTEX, "\n".join([head, *samplers]) + _INPUTS + SURFACE + body
