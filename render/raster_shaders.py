"""GLSL of the rasterizer: a program per combination of features, since a software GL runs both sides of a branch.

Formulas: GGX with height-correlated Smith shadowing; the environment is uniform, so its mirror image is its radiance
times the directional albedo of the lobe, for which Karis' polynomial stands (Physically Based Shading on Mobile, 2014);
the lobe is scaled up for what bounces among the microfacets, and the diffuse light gets what it leaves, as in Cycles.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

SAMPLES = 4
"""Of the multisampled image; every GL 4 has as many."""

ATTRIBUTES = "position", "normal", "color", *(f"uv{slot}" for slot in range(6))

VIEW_BLOCK, MATERIAL_BLOCK, SKY_BLOCK = 0, 1, 2
"""Bindings of the uniform blocks."""

SKY_DIRECTIONS = 16
"""From which the environment's light is asked whether it arrives."""

_LEVEL_BIAS = -0.7
"""Of mipmaps: a pixel is the mean over its own square, which is sharper than GL's choice."""

_UNIFORMS = """
layout(std140) uniform View {
    mat4 world_to_clip;
    vec4 eye;           // xyz
    vec4 axis;          // dot(axis.xyz, point) + axis.w is the depth
    vec4 environment;   // rgb radiance
    vec4 lamp_places[LAMPS];  // xyz, squared distance from the origin
    vec4 lamp_colors[LAMPS];  // rgb irradiance at the origin
    mat4 lamp_maps[LAMPS];    // world to shadow map
    vec4 lamp_offsets[LAMPS]; // along the normal
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

_SURFACE = """
vec3 linear(vec3 srgb) {
    return mix(srgb / 12.92, pow((srgb + 0.055) / 1.055, vec3(2.4)), greaterThan(srgb, vec3(0.04045)));
}
float mirrored(float x) { return 1.0 - abs(mod(x, 2.0) - 1.0); }

#ifdef MASK
// Which of a pixel's samples the surface covers; 0 for none. Texels as render.coverage reads them: without mipmaps.
int masked_samples() {
    int covered = 0;
    for (int s = 0; s < SAMPLES; ++s) {
        float alpha = base.a;
#ifdef COLORS
        alpha *= interpolateAtSample(vertex_color, s).a;
#endif
#ifdef BASE
        alpha *= textureLod(base_texture, BASE_WRAP(interpolateAtSample(BASE, s)), 0.0).a;
#endif
        if (alpha >= surface.w) covered |= 1 << s;
    }
    return covered;
}
#endif

vec4 base_color() {
    vec4 color = base;
#ifdef COLORS
    color *= vertex_color;
#endif
#ifdef BASE
    vec4 texel = BASE_FETCH(base_texture, BASE);
    color *= vec4(linear(texel.rgb), texel.a);
#endif
    return color;
}

// Unit vertex normal on the viewer's side of the triangle.
vec3 smooth_normal() {
    float size = dot(shading_normal, shading_normal);
    vec3 n = size > 0.0 ? shading_normal * inversesqrt(size) : vec3(0.0, 0.0, 1.0);
    return gl_FrontFacing ? n : -n;
}

// The same with the normal map (tangents from the UVs' derivatives).
vec3 surface_normal() {
    vec3 n = smooth_normal();
#ifdef NORMAL
    n = gl_FrontFacing ? n : -n;
    vec3 along_x = dFdx(world), along_y = dFdy(world);
    vec2 uv_x = dFdx(NORMAL), uv_y = dFdy(NORMAL);
    float turn = uv_x.x * uv_y.y - uv_y.x * uv_x.y;
    vec3 along_u = sign(turn) * (along_x * uv_y.y - along_y * uv_x.y);
    vec3 along_v = sign(turn) * (along_y * uv_x.x - along_x * uv_y.x);
    vec3 tangent = along_u - n * dot(n, along_u);
    float length_squared = dot(tangent, tangent);
    if (length_squared > 0.0) {
        tangent *= inversesqrt(length_squared);
        vec3 bitangent = cross(n, tangent);
        bitangent *= dot(bitangent, along_v) > 0.0 ? -1.0 : 1.0;  // green is up, v runs down
        vec3 texel = 2.0 * NORMAL_FETCH(normal_texture, NORMAL).xyz - 1.0;
        texel.xy *= emissive.w;
        n = normalize(texel.x * tangent + texel.y * bitangent + texel.z * n);
    }
    n = gl_FrontFacing ? n : -n;
#endif
    return n;
}
"""

_COLOR = """
layout(std140) uniform Sky {
    vec4 sky_rows[3 * SKY_DIRECTIONS];   // world to shadow map
    vec4 sky_directions[SKY_DIRECTIONS];
    vec4 sky_offset;                     // along the normal
};
uniform sampler2DShadow sky_shadows;
uniform sampler2DShadow lamp_shadows;

layout(location = 0, index = 0) out vec4 added;
#ifdef SORTED
layout(location = 0, index = 1) out vec4 passed;  // what of the light behind it comes through
#endif

// Directional albedo of a GGX lobe is F0 * x + y.
vec2 lobe(float roughness, float facing) {
    vec4 r = roughness * vec4(-1.0, -0.0275, -0.572, 0.022) + vec4(1.0, 0.0425, 1.04, -0.04);
    float a = min(r.x * r.x, exp2(-9.28 * facing)) * r.x + r.y;
    return clamp(vec2(-1.04, 1.04) * a + r.zw, 0.0, 1.0);
}

// What a bumped surface hides of a light, as Cycles has it: bumps shade, though they have no shape.
float bumped(vec3 smooth_n, vec3 n, vec3 l) {
    float g = dot(smooth_n, l) / max(dot(n, l) * dot(smooth_n, n), 1e-6);
    return g >= 1.0 ? 1.0 : g <= 0.0 ? 0.0 : ((1.0 - g) * g + 1.0) * g;
}

// The same for the light of all directions; fitted to its mean over the hemisphere around n, weighted by the cosine.
float bumped_everywhere(vec3 smooth_n, vec3 n) {
    float tilt = 1.0 - clamp(dot(smooth_n, n), 0.0, 1.0);
    return 1.0 - 0.385 * sqrt(tilt) - 0.142 * tilt;
}

// Share of the environment's light that reaches a surface.
float open_sky(vec3 smooth_n, vec3 n) {
    vec4 place = vec4(world + sky_offset.x * smooth_n, 1.0);
    float seen = 0.0, all = 1e-4;
    for (int k = 0; k < SKY_DIRECTIONS; ++k) {
        float cosine = max(dot(n, sky_directions[k].xyz), 0.0);
        vec3 spot = vec3(dot(sky_rows[3 * k], place), dot(sky_rows[3 * k + 1], place), dot(sky_rows[3 * k + 2], place));
        seen += cosine * texture(sky_shadows, spot);
        all += cosine;
    }
    return seen / all;
}

float lamp_seen(int i, vec3 smooth_n) {
    vec4 spot = lamp_maps[i] * vec4(world + lamp_offsets[i].x * smooth_n, 1.0);
    return texture(lamp_shadows, spot.xyz / spot.w);
}

float power5(float x) { float x2 = x * x; return x2 * x2 * x; }

void main() {
#ifdef MASK
    int covered = masked_samples();
    if (covered == 0) discard;
    gl_SampleMask[0] = covered;
#endif
    vec4 color = base_color();
    vec3 shown;
#ifdef UNLIT
    shown = color.rgb;
#else
    vec3 n = surface_normal();
    vec3 v = normalize(eye.xyz - world);
    float metallic = surface.x, roughness = surface.y;
#ifdef PACKED
    vec4 packed_texel = PACKED_FETCH(packed_texture, PACKED);
    metallic *= packed_texel.b;
    roughness *= packed_texel.g;
#endif
    metallic = clamp(metallic, 0.0, 1.0);
    roughness = clamp(roughness, 0.0, 1.0);
    float facing = clamp(dot(n, v), 1e-4, 1.0);
    vec2 split = lobe(roughness, facing);
    float whole = max(split.x + split.y, 1e-3);
    vec3 f0 = mix(vec3(surface.z), color.rgb, metallic);
    vec3 again = 1.0 + f0 * (1.0 / whole - 1.0);  // light that bounces among the microfacets
    vec3 mirror = (f0 * split.x + split.y) * again;
    float dielectric = (surface.z * split.x + split.y) * (1.0 + surface.z * (1.0 / whole - 1.0));
    vec3 diffuse = color.rgb * ((1.0 - metallic) * (1.0 - dielectric));
    vec3 smooth_n = smooth_normal();
    float sky = open_sky(smooth_n, n);
    // What the sky does not light, the object's own light does: once, as if all of it looked like this point.
    vec3 around = sky + (1.0 - sky) * sky * color.rgb;
    shown = environment.rgb * around * (diffuse + mirror);
#ifdef NORMAL
    shown *= bumped_everywhere(smooth_n, n);
#endif

    float alpha2 = max(roughness * roughness, 1e-3);
    alpha2 *= alpha2;
    vec3 highlight = vec3(0.0), lit = vec3(0.0), white = vec3(0.0);
    for (int i = 0; i < LAMPS; ++i) {
        vec3 to_lamp = lamp_places[i].xyz - world;
        float distance2 = dot(to_lamp, to_lamp);
        vec3 l = to_lamp * inversesqrt(distance2);
        float cosine = max(dot(n, l), 0.0);
        vec3 received = lamp_colors[i].rgb * (cosine * lamp_places[i].w / distance2);
        received *= lamp_seen(i, smooth_n);
#ifdef NORMAL
        received *= bumped(smooth_n, n, l);
#endif
        lit += received;
        vec3 h = normalize(l + v);
        float nh = clamp(dot(n, h), 0.0, 1.0);
        float d = nh * nh * (alpha2 - 1.0) + 1.0;
        float smith = facing * sqrt(cosine * cosine * (1.0 - alpha2) + alpha2)
            + cosine * sqrt(facing * facing * (1.0 - alpha2) + alpha2);
        float peak = alpha2 / (3.14159265 * d * d) * 0.5 / max(smith, 1e-6);
        float grazing = power5(1.0 - clamp(dot(l, h), 0.0, 1.0));
        highlight += received * peak * (f0 + (1.0 - f0) * grazing);
        white += received * peak;
    }
    if (roughness < 1e-3) highlight = white = vec3(0.0);  // a perfect mirror never meets a lamp without extent
    shown += diffuse * lit / 3.14159265 + again * highlight;
    vec3 glow = emissive.rgb;
#ifdef EMISSIVE
    glow *= linear(EMISSIVE_FETCH(emissive_texture, EMISSIVE).rgb);
#endif
    shown += glow;
#endif
#ifdef SORTED
    vec3 through = vec3(0.0);
#if defined(GLASS) && !defined(UNLIT)
    float clear = glass.x * (1.0 - metallic);
#ifdef TRANSMISSION
    clear *= TRANSMISSION_FETCH(transmission_texture, TRANSMISSION).r;
#endif
    float fresnel = surface.z + (1.0 - surface.z) * power5(1.0 - facing);
    float thickness = glass.y;
#ifdef THICKNESS
    thickness *= THICKNESS_FETCH(thickness_texture, THICKNESS).g;
#endif
    vec3 tint = color.rgb * exp(-absorption.rgb * thickness);
    shown = mix(shown, fresnel * (environment.rgb + white) + glow, clear);
    through = clear * (1.0 - fresnel) * tint;
#endif
    float alpha = 1.0;
#ifdef BLEND
    alpha = clamp(color.a, 0.0, 1.0);
#endif
    added = vec4(alpha * shown, alpha);
    passed = vec4(mix(vec3(1.0), through, alpha), 1.0 - alpha);
#else
    added = vec4(shown, 1.0);
#endif
}
"""

# Depth alone, for shadows. Glass lets light through, and so does what is less than half there.
_DEPTH = """
void main() {
#ifdef MASK
    if (base_color().a < surface.w) discard;
#endif
#ifdef BLEND
    if (base_color().a < 0.5) discard;
#endif
}
"""

_PASSES = """
layout(location = 0) out vec4 normal_and_depth;

void main() {
#ifdef MASK
    int covered = masked_samples();
    if (covered == 0) discard;
    gl_SampleMask[0] = covered;
#endif
#ifdef BLEND
    if (base_color().a < 0.5) discard;
#endif
    normal_and_depth = vec4(surface_normal(), dot(axis.xyz, world) + axis.w);
}
"""

# Normals are a pixel's mean, depth is of one of its points.
RESOLVE_VERTEX = """
#version 400 core
void main() {
    gl_Position = vec4(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0, 0.0, 1.0);
}
"""
RESOLVE_FRAGMENT = f"""
#version 400 core
uniform sampler2DMS samples;
out vec4 normal_and_depth;
void main() {{
    ivec2 pixel = ivec2(gl_FragCoord.xy);
    vec3 sum = vec3(0.0);
    for (int s = 0; s < {SAMPLES}; ++s) sum += texelFetch(samples, pixel, s).xyz;
    float size = length(sum);
    normal_and_depth = vec4(size > 0.0 ? sum / size : vec3(0.0), texelFetch(samples, pixel, 0).w);
}}
"""


def shaders(
    features: Iterable[str], slots: Mapping[str, tuple[int, bool, bool]], lamps: int, kind: str
) -> tuple[str, str]:
    """Vertex and fragment shader of a kind of material.

    Args:
        features: of COLORS, MASK, BLEND, GLASS, SORTED, UNLIT.
        slots: per texture (BASE, PACKED, NORMAL, EMISSIVE, TRANSMISSION, THICKNESS) the number of its UV map, and
            whether u and v are mirrored.
        lamps: how many there are.
        kind: color, passes (normals and depth) or depth.
    """
    lines = ["#version 400 core", f"#define LAMPS {max(lamps, 1)}", f"#define SAMPLES {SAMPLES}"]
    lines.append(f"#define SKY_DIRECTIONS {SKY_DIRECTIONS}")
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
            # Derivatives of the unfolded place: none jumps where the texture turns around.
            slopes = f"{slope} * dFdx(uv), {slope} * dFdy(uv)"
            lines.append(f"#define {name}_FETCH(map, uv) textureGrad(map, {name}_WRAP(uv), {slopes})")
        else:
            lines.append(f"#define {name}_WRAP(uv) (uv)")
            lines.append(f"#define {name}_FETCH(map, uv) texture(map, uv, {_LEVEL_BIAS})")
    head = "\n".join(lines) + _UNIFORMS
    body = {"color": _COLOR, "passes": _PASSES, "depth": _DEPTH}[kind]
    return head + VERTEX, "\n".join([head, *samplers]) + _INPUTS + _SURFACE + body
