"""GLSL of the rasterizer's fragment shaders: shading, passes and depth.

Formulas: GGX with height-correlated Smith shadowing. The reflected environment, from a map prefiltered per roughness,
is multiplied by the directional albedo of the lobe (`lobes`). Lobes are scaled up to account for multiple scattering
among the microfacets, and the remaining energy is diffuse, as in Cycles.
"""

from __future__ import annotations

SURFACE = """
vec3 linear(vec3 srgb) {
    return mix(srgb / 12.92, pow((srgb + 0.055) / 1.055, vec3(2.4)), greaterThan(srgb, vec3(0.04045)));
}
float mirrored(float x) { return 1.0 - abs(mod(x, 2.0) - 1.0); }

#ifdef MASK
// Whether the texture cuts the surface away. Reads texels without mipmaps, as `render.alpha` does.
bool masked() {
    float alpha = base.a;
#ifdef COLORS
    alpha *= vertex_color.a;
#endif
#ifdef BASE
    alpha *= textureLod(base_texture, BASE_WRAP(BASE), 0.0).a;
#endif
    return alpha < surface.w;
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

// Unit vertex normal, facing the viewer.
vec3 smooth_normal() {
    float size = dot(shading_normal, shading_normal);
    vec3 n = size > 0.0 ? shading_normal * inversesqrt(size) : vec3(0.0, 0.0, 1.0);
    return gl_FrontFacing ? n : -n;
}

// The same with the normal map (tangents from derivatives of the UVs).
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
        bitangent *= dot(bitangent, along_v) > 0.0 ? -1.0 : 1.0;  // green is up, v points down
        vec3 texel = 2.0 * NORMAL_FETCH(normal_texture, NORMAL).xyz - 1.0;
        texel.xy *= emissive.w;
        n = normalize(texel.x * tangent + texel.y * bitangent + texel.z * n);
    }
    n = gl_FrontFacing ? n : -n;
#endif
    return n;
}
"""

COLOR = """
uniform sampler2DShadow lamp_shadows;
uniform sampler2D lamp_depths;

layout(location = 0, index = 0) out vec4 added;
#ifdef SORTED
layout(location = 0, index = 1) out vec4 passed;  // transmittance for the light from behind
#endif

uniform sampler2D lobe_albedo;

// Directional albedo of a GGX lobe is F0 * x + y; z is the mean of x + y over all directions.
vec3 lobe(float roughness, float facing) {
    return texture(lobe_albedo, (vec2(facing, roughness) * float(LOBE_SIDE - 1) + 0.5) / float(LOBE_SIDE)).rgb;
}

// Factor on a lobe for light that is scattered several times among its microfacets, as in Cycles.
vec3 again(vec3 f0, vec3 split) {
    vec3 once = f0 + (1.0 - f0) / 21.0;  // mean of Schlick's reflection over all directions
    float whole = max(split.x + split.y, 1e-3);
    return 1.0 + once * split.z / (1.0 - once * (1.0 - split.z)) * (1.0 - whole) / whole;
}

// Cycles' shadowing of bump-mapped surfaces: the share of a light that the bumps let through.
float bumped(vec3 smooth_n, vec3 n, vec3 l) {
    float g = dot(smooth_n, l) / max(dot(n, l) * dot(smooth_n, n), 1e-6);
    return g >= 1.0 ? 1.0 : g <= 0.0 ? 0.0 : ((1.0 - g) * g + 1.0) * g;
}

// The same for light from all directions: a fit to its cosine-weighted mean over the hemisphere around n.
float bumped_everywhere(vec3 smooth_n, vec3 n) {
    float tilt = 1.0 - clamp(dot(smooth_n, n), 0.0, 1.0);
    return 1.0 - 0.385 * sqrt(tilt) - 0.142 * tilt;
}

#ifdef MAPPED
// Layers: radiance filtered for mirrors of growing roughness, then for matte surfaces; all 1 for a uniform sky.
uniform sampler3D sky_map;

vec3 sky_at(vec3 d, float layer) {
    d.xy = vec2(dot(sky_turn.xy, d.xy), dot(sky_turn.xy, vec2(d.y, -d.x)));
    vec2 uv = vec2(0.5 - atan(d.y, d.x) / 6.28318531, acos(clamp(d.z, -1.0, 1.0)) / 3.14159265);
    return environment.rgb * textureLod(sky_map, vec3(uv, (layer + 0.5) / float(SKY_LAYERS + 1)), 0.0).rgb;
}
vec3 sky_mirrored(vec3 d, float roughness) { return sky_at(d, roughness * float(SKY_LAYERS - 1)); }
vec3 sky_matte(vec3 n) { return sky_at(n, float(SKY_LAYERS)); }
#else
vec3 sky_mirrored(vec3 d, float roughness) { return environment.rgb; }
vec3 sky_matte(vec3 n) { return environment.rgb; }
#endif

// Light at the points of the triangles' lattices, see `light_textures`.
uniform sampler2D triangles;
uniform sampler2D gathered_light;
uniform int first_face;

vec4 light_at(int place) {
    int texel = 2 * place + (gl_FrontFacing ? 0 : 1);
    return texelFetch(gathered_light, ivec2(texel % LIGHT_COLUMNS, texel / LIGHT_COLUMNS), 0);
}

// Radiance of a white matte surface without the lamps' direct light, and the open share of its hemisphere.
vec4 gather() {
    int face = 3 * (first_face + gl_PrimitiveID);
    ivec2 texel = ivec2(face % LIGHT_COLUMNS, face / LIGHT_COLUMNS);
    vec4 corner = texelFetch(triangles, texel, 0), second = texelFetch(triangles, texel + ivec2(1, 0), 0);
    vec3 along = second.xyz - corner.xyz, across = texelFetch(triangles, texel + ivec2(2, 0), 0).xyz - corner.xyz;
    vec3 offset = world - corner.xyz, area = cross(along, across);
    float scale = second.w / max(dot(area, area), 1e-30);
    // Steps of the lattice from the first corner, kept inside the triangle, which the center of a pixel may miss.
    float s = max(dot(cross(offset, across), area) * scale, 0.0), t = max(dot(cross(along, offset), area) * scale, 0.0);
    float beyond = max((s + t) / second.w, 1.0);
    s /= beyond;
    t /= beyond;
    int n = int(second.w), a = min(int(s), n - 1), b = min(int(t), n - 1 - a);
    s -= float(a);
    t -= float(b);
    int row = int(corner.w) + a * (n + 1) - a * (a - 1) / 2 + b, next = row + n + 1 - a;
    if (s + t <= 1.0 || a + b == n - 1)
        return (1.0 - s - t) * light_at(row) + s * light_at(next) + t * light_at(row + 1);
    return (s + t - 1.0) * light_at(next + 1) + (1.0 - s) * light_at(row + 1) + (1.0 - t) * light_at(next);
}

// Share of a mirrored lobe that sees the environment, where a matte surface sees a share `open` of it (Lagarde and de
// Rousiers, Moving Frostbite to PBR, 2014).
float mirror_open(float open, float facing, float roughness) {
    return clamp(pow(facing + open, exp2(-16.0 * roughness - 1.0)) - 1.0 + open, 0.0, 1.0);
}

// Points of a disc, spread evenly. The fragments of a pixel, FINER² of them, share a set of FINER² * count points.
vec2 disc(int k, int count) {
    ivec2 part = ivec2(gl_FragCoord.xy) % FINER;
    float place = float(k * FINER * FINER + (part.y * FINER + part.x)) + 0.5;
    float turn = 2.39996323 * place;
    return sqrt(place / float(FINER * FINER * count)) * vec2(cos(turn), sin(turn));
}

// Share of a lamp that a point sees. The lamp is a disc (Fernando, Percentage-Closer Soft Shadows, 2005).
float lamp_seen(int i, vec3 smooth_n) {
    vec4 spot = lamp_maps[i] * vec4(world + lamp_offsets[i].x * smooth_n, 1.0);
    vec3 place = spot.xyz / spot.w;
    float radius = lamp_colors[i].w;
    if (radius == 0.0) return texture(lamp_shadows, place);
    float depth = spot.w, near = lamp_offsets[i].y, far = lamp_offsets[i].z;
    // Offsets are lengths at the depth of the point.
    vec2 scale = vec2(1.0 / float(LAMPS), 1.0) * 0.5 / (lamp_offsets[i].w * depth);
    float reach = radius * (depth - near) / near, sum = 0.0, blockers = 0.0;
    vec2 low = vec2((float(i) + 0.001) / float(LAMPS), 0.0), high = vec2((float(i) + 0.999) / float(LAMPS), 1.0);
    for (int k = 0; k < BLOCKER_TAPS; ++k) {
        vec2 offset = reach * disc(k, BLOCKER_TAPS);
        float z = texture(lamp_depths, clamp(place.xy + offset * scale, low, high)).r;
        float found = near * far / (far - z * (far - near));
        // Only what lies in the cone between the point and the lamp blocks light; the point's own surface does not.
        if (length(offset) * found <= radius * (depth - found)) {
            sum += found;
            blockers += 1.0;
        }
    }
    if (blockers == 0.0) return texture(lamp_shadows, place);
    float blocker = sum / blockers, width = radius * (depth - blocker) / blocker;
    float between = 0.5 * (blocker + depth), z = far * (between - near) / (between * (far - near)), lit = 0.0;
    for (int k = 0; k < SHADOW_TAPS; ++k) {
        vec2 offset = width * disc(k, SHADOW_TAPS);
        lit += texture(lamp_shadows, vec3(clamp(place.xy + offset * scale, low, high), min(z, place.z)));
    }
    return lit / float(SHADOW_TAPS);
}

float power5(float x) { float x2 = x * x; return x2 * x2 * x; }

void main() {
#ifdef MASK
    if (masked()) discard;
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
    vec3 split = lobe(roughness, facing), many_d = again(vec3(surface.z), split), many_m = again(color.rgb, split);
    // A dielectric and a metal, mixed: what they reflect head-on, and how much more at grazing angles.
    vec3 head_on = mix(surface.z * many_d, color.rgb * many_m, metallic);
    vec3 grazing_on = mix((1.0 - surface.z) * many_d, (1.0 - color.rgb) * many_m, metallic);
    vec3 mirror = mix((surface.z * split.x + split.y) * many_d, (color.rgb * split.x + split.y) * many_m, metallic);
    float dielectric = (surface.z * split.x + split.y) * many_d.r;
    vec3 diffuse = color.rgb * ((1.0 - metallic) * (1.0 - dielectric));
    vec3 smooth_n = smooth_normal();
    vec3 mirrored = reflect(-v, n);
    vec4 gathered = gather();
    float open = clamp(gathered.a, 0.0, 1.0), clear_view = mirror_open(open, facing, roughness);
    vec3 matte_sky = sky_matte(smooth_n), mirrored_sky = sky_mirrored(mirrored, roughness);
    // Mirrors see the mean of what hides the sky.
    vec3 hiding = max(gathered.rgb - open * matte_sky, 0.0) / max(1.0 - open, 0.02);
    vec3 received_light = gathered.rgb;
#if defined(MAPPED) && defined(NORMAL)
    received_light *= sky_matte(n) / max(matte_sky, 1e-6);
#endif
    shown = received_light * diffuse + mix(hiding, mirrored_sky, clear_view) * mirror;
#ifdef NORMAL
    shown *= bumped_everywhere(smooth_n, n);
#endif

    float width = max(roughness * roughness, 1e-3), alpha2 = width * width;
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
        // A lamp's sphere reflects like its point nearest to the mirrored ray, with the energy of a lobe that is wider
        // by half of the lamp's angle (Karis, Real Shading in Unreal Engine 4, 2013).
        float angle = lamp_colors[i].w * inversesqrt(distance2);
        vec3 away = mirrored - dot(mirrored, l) * l;
        vec3 h = normalize(normalize(l + away * min(angle / max(length(away), 1e-6), 1.0)) + v);
        float spread = width / clamp(width + 0.5 * angle, 1e-3, 1.0);
        float nh = clamp(dot(n, h), 0.0, 1.0);
        float d = nh * nh * (alpha2 - 1.0) + 1.0;
        float smith = facing * sqrt(cosine * cosine * (1.0 - alpha2) + alpha2)
            + cosine * sqrt(facing * facing * (1.0 - alpha2) + alpha2);
        float peak = spread * spread * alpha2 / (3.14159265 * d * d) * 0.5 / max(smith, 1e-6);
        float grazing = power5(1.0 - clamp(dot(l, h), 0.0, 1.0));
        highlight += received * peak * (head_on + grazing_on * grazing);
        white += received * peak;
    }
    if (roughness < 1e-3) highlight = white = vec3(0.0);  // a perfect mirror never reflects a point light
    shown += diffuse * lit / 3.14159265 + highlight;
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
    shown = mix(shown, fresnel * (mirrored_sky + white) + glow, clear);
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

# Depth only, for shadows. Glass casts none, and neither do surfaces with alpha below one half.
DEPTH = """
void main() {
#ifdef MASK
    if (base_color().a < surface.w) discard;
#endif
#ifdef BLEND
    if (base_color().a < 0.5) discard;
#endif
}
"""

PASSES = """
layout(location = 0) out vec4 normal_and_depth;

void main() {
#ifdef MASK
    if (masked()) discard;
#endif
#ifdef BLEND
    if (base_color().a < 0.5) discard;
#endif
    normal_and_depth = vec4(surface_normal(), dot(axis.xyz, world) + axis.w);
}
"""
