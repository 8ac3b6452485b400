"""The environment's light at points of the surface, with shadows, and one bounce between surfaces.

Parallel lines in many directions cross the object once a frame. Of two surfaces that follow each other on a line, each
lights the other; the ends of a line see the sky (Szirmay-Kalos and Purgathofer, Global Ray-bundle Tracing, 1998). What
sees what does not depend on the view, so a view only sums over these links: its environment, the light of its lamps
that surfaces reflect once, and emission.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from helix4d.assets import AlphaMode, Clip, Frame, Texture, Topology, Wrap
from helix4d.render.depth_kernels import draw_faces
from helix4d.render.raster.bundle_kernels import gather, sort_links, spread, trace
from helix4d.render.raster.lattices import Lattices
from helix4d.render.scene.environment import EnvironmentMap, sphere_points, texel_directions, turned
from helix4d.render.scene.lighting import Lights, PointLight

_DIRECTIONS = 96
"""Directions of lines; each serves both of its senses."""
_LINES = 192
"""Lines per side of a direction's grid."""
_LAMP_LINES = 256
_ENOUGH = 20.0
"""Mean number of lines per side of a point; where points are denser, neighbors share theirs."""
_MOST_SPREADS = 4
_TIE = 1e-4
"""Distance in units of the cube within which surfaces coincide."""
_TABLE_ROWS = 64
_TEXELS = 128
"""Side to which textures are averaged: a point stands for the surface around it."""


class Gathering:
    """The light that a clip's surfaces gather.

    Args:
        clip: inside the unit cube.
        maps: sha256 -> environment map, for the lights that name one.
    """

    def __init__(self, clip: Clip, maps: Mapping[str, EnvironmentMap]) -> None:
        self._clip = clip
        self._maps = maps
        self._topology: Topology | None = None
        self._tables: dict[str, np.ndarray] = {}
        self._small: dict[tuple[int, bool], np.ndarray] = {}
        axes = sphere_points(2 * _DIRECTIONS)[:_DIRECTIONS]
        self._axes = np.stack([_facing(axis) for axis in axes])
        self._senses = np.stack([axes, -axes], axis=1).reshape(-1, 3)
        steps = np.arange(_DIRECTIONS)[:, None] * np.array([0.7548776662466927, 0.5698402909980532])  # the R2 sequence
        self._shifts = (steps + 0.5) % 1.0

    def set_frame(self, frame: Frame, lattices: Lattices) -> None:
        """Trace the lines of a frame."""
        if frame.topology is not self._topology:
            self._set_topology(frame.topology, lattices)
        self._frame, self._lattices = frame, lattices
        self._points = lattices.at_points(frame.vertices)
        normals = lattices.at_points(frame.normals)
        self._normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        vertices = frame.vertices.astype(np.float64)
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        self._center, self._radius = 0.5 * (low + high), 0.5 * float(np.linalg.norm(high - low)) * 1.01 + 1e-6
        count = len(self._points)
        sums, receivers, sources, ways = trace(
            vertices,
            frame.faces,
            self._opacity,
            lattices.cuts,
            lattices.starts,
            lattices.places,
            count,
            self._axes,
            self._shifts,
            self._center,
            self._radius,
            _LINES,
            _TIE,
        )
        self._spreads = 0
        while self._spreads < _MOST_SPREADS and np.median(sums[sums[:, 0] > 0, 0]) < _ENOUGH:
            sums = spread(sums, lattices.faces)
            self._spreads += 1
        self._open = sums[:, 1] / np.maximum(sums[:, 0], 1e-9)
        self._open[sums[:, 0] <= 0] = 1.0
        self._firsts, self._sources = sort_links(receivers, sources, 2 * count)
        if self._maps:
            self._ways = sort_links(receivers, ways, 2 * count)[1]
            self._open_ways = np.where(self._sources < 0, self._ways, -1).astype(np.int32)
        links = np.diff(self._firsts).astype(np.float32)[:, None]
        for _ in range(self._spreads):
            links = spread(links, lattices.faces)
        self._links = np.maximum(links, 1.0)

    def light(self, lights: Lights) -> np.ndarray:
        """(K, 2, 4) float32 for front and back of each point under the lights of a view, without direct light of lamps.

        The first three are the radiance of a white matte surface there, the last is the open share of the hemisphere.
        """
        placed, opened = lights.environment_map, self._open[:, None]
        received = self._from_lamps(lights)
        if placed is None:
            direct = opened * np.float32(lights.environment_radiance * np.array(lights.environment_color))
        else:
            direct = placed.scale * self._from_map(self._maps[placed.sha256], placed.turn)
        emitted = np.repeat(self._emission, 2, axis=0)
        reflected = np.repeat(self._albedo, 2, axis=0) * (direct + received)
        total = direct + self._gather(emitted + reflected, self._sources)
        return np.concatenate([total, opened], axis=1).astype(np.float32).reshape(-1, 2, 4)

    def _gather(self, radiance: np.ndarray, sources: np.ndarray) -> np.ndarray:
        """Mean radiance of the sources of each entry's links."""
        sums = gather(self._firsts, sources, np.ascontiguousarray(radiance, np.float32))
        for _ in range(self._spreads):
            sums = spread(sums, self._lattices.faces)
        return np.asarray(sums / self._links)

    def _from_map(self, environment: EnvironmentMap, turn: float) -> np.ndarray:
        """(2 K, 3) radiance of white matte points under a map of scale 1.

        The lines give the share that is not hidden: in the few directions that they have, a sun would be misplaced.
        """
        coarse, facing = self._sky(environment, turn), np.stack([self._normals, -self._normals], axis=1).reshape(-1, 3)
        seen, whole = self._gather(coarse, self._open_ways), self._gather(coarse, self._ways)
        share = np.where(whole > 0.0, seen / np.maximum(whole, 1e-9), self._open[:, None])
        return np.asarray(share * self._matte(environment, turned(facing, -turn)))

    def _matte(self, environment: EnvironmentMap, normals: np.ndarray) -> np.ndarray:
        """(N, 3) radiance of unoccluded white matte surfaces under a map, from a table."""
        if environment.sha256 not in self._tables:
            directions, _ = texel_directions(_TABLE_ROWS)
            light = environment.irradiance(directions.reshape(-1, 3)).reshape(directions.shape) / np.pi
            self._tables[environment.sha256] = light
        table = self._tables[environment.sha256]
        columns = (0.5 - np.arctan2(normals[:, 1], normals[:, 0]) / (2.0 * np.pi)) * table.shape[1]
        rows = np.arccos(np.clip(normals[:, 2], -1.0, 1.0)) / np.pi * len(table)
        return np.asarray(table[np.minimum(rows.astype(int), len(table) - 1), columns.astype(int) % table.shape[1]])

    def _sky(self, environment: EnvironmentMap, turn: float) -> np.ndarray:
        """(2 D, 3) mean radiance of the map around each direction."""
        light, directions, angles = environment.coarse
        nearest = np.argmax(turned(directions, turn) @ self._senses.T, axis=1)
        total = np.stack([np.bincount(nearest, light[:, c] * angles, len(self._senses)) for c in range(3)], axis=1)
        return np.asarray(total * len(self._senses) / (4.0 * np.pi), np.float32)

    def _from_lamps(self, lights: Lights) -> np.ndarray:
        """(2 K, 3) float32 radiance of white matte points under the lamps."""
        received = np.zeros((len(self._points), 2, 3), np.float32)
        for lamp in lights.points:
            away = np.array(lamp.position) - self._points
            distance2 = np.einsum("ij,ij->i", away, away)
            cosine = np.einsum("ij,ij->i", away, self._normals) / np.sqrt(distance2)
            strength = lamp.irradiance * float(np.dot(lamp.position, lamp.position)) / distance2 / np.pi
            for side, facing in enumerate((cosine, -cosine)):
                seen = np.where(facing > 0, strength * facing * self._sees(lamp, side), 0.0)
                received[:, side] += seen[:, None] * np.array(lamp.color)
        return received.reshape(-1, 3)

    def _sees(self, lamp: PointLight, side: int) -> np.ndarray:
        """(K,) bool: whether the lamp's center, seen as infinitely far away, lights a side of each point."""
        axes = _facing(np.array(lamp.position) / np.linalg.norm(lamp.position))
        scale = 0.5 * _LAMP_LINES / self._radius
        depth, winner = np.full((_LAMP_LINES,) * 2, np.inf), np.full((_LAMP_LINES,) * 2, -1, np.int32)
        seen = self._seen(self._frame.vertices, axes, scale)
        draw_faces(seen, self._frame.faces, self._opacity >= 0.5, None, depth, winner, None)
        normals = (1.0 - 2.0 * side) * self._normals
        place = self._seen(self._points + 1.5 / scale * normals, axes, scale)
        column, row = (np.clip(place[:, axis].astype(np.int64), 0, _LAMP_LINES - 1) for axis in (0, 1))
        return np.asarray(place[:, 2] < depth[row, column] + 1.0 / scale)

    def _seen(self, points: np.ndarray, axes: np.ndarray, scale: float) -> np.ndarray:
        """Pixels of a lamp's grid, and the depth away from the lamp."""
        seen = (points - self._center) @ axes.T
        seen[:, :2] = (seen[:, :2] + self._radius) * scale
        seen[:, 2] *= -1.0
        return np.ascontiguousarray(seen, np.float64)

    def _set_topology(self, topology: Topology, lattices: Lattices) -> None:
        """Average the materials at the points: what they reflect and emit, and how opaque faces are."""
        self._topology = topology
        count = len(lattices.weights)
        ids = topology.material_ids[lattices.parents]
        albedo, emission = np.zeros((len(ids), 3, 3), np.float32), np.zeros((len(ids), 3, 3), np.float32)
        self._opacity = np.ones(len(topology.faces), np.float32)
        colors = np.ones((len(ids), 3, 4), np.float32)
        if topology.colors is not None:
            colors = lattices.at_corners(topology.colors)
        for number, material in enumerate(self._clip.materials):
            own = np.flatnonzero(ids == number)
            if not len(own):
                continue
            base = colors[own] * np.array([*material.base_color, material.alpha], np.float32)
            base *= self._texels(material.base_color_texture, topology, lattices, own, True)
            faces = topology.material_ids == number
            self._opacity[faces] = self._opacities(number, base[..., 3], lattices.parents[own])[faces]
            if material.unlit:
                continue
            mirrored = (1.0 - material.metallic) * _reflected_by(material.ior)
            albedo[own] = (1.0 - mirrored) * base[..., :3] + mirrored
            glow = np.array(material.emissive, np.float32)
            emission[own] = glow * self._texels(material.emissive_texture, topology, lattices, own, True)[..., :3]
        corners = lattices.faces.reshape(-1)
        weight = np.maximum(np.bincount(corners, minlength=count), 1)[:, None]
        self._albedo, self._emission = (
            np.stack([np.bincount(corners, values[..., c].reshape(-1), count) for c in range(3)], 1).astype(np.float32)
            / weight.astype(np.float32)
            for values in (albedo, emission)
        )

    def _opacities(self, number: int, alpha: np.ndarray, parents: np.ndarray) -> np.ndarray:
        """(F,) share of light that the faces of a material block; -1 for faces that light never meets."""
        material, count = self._clip.materials[number], len(self._opacity)
        if material.outline:
            return np.full(count, -1.0, np.float32)
        if material.transmission > 0.0 and not material.unlit:
            return np.full(count, 1.0 - material.transmission, np.float32)
        if material.alpha_mode is AlphaMode.OPAQUE:
            return np.ones(count, np.float32)
        shown = alpha if material.alpha_mode is AlphaMode.BLEND else alpha >= material.alpha_cutoff
        total = np.bincount(parents, shown.mean(axis=1), count)
        return np.asarray(total / np.maximum(np.bincount(parents, minlength=count), 1), np.float32)

    def _texels(
        self, texture: Texture | None, topology: Topology, lattices: Lattices, own: np.ndarray, srgb: bool
    ) -> np.ndarray:
        """(M, 3, 4) linear texels of a reduced texture at the corners of small triangles; ones without a texture."""
        if texture is None or texture.uv_set >= len(topology.uvs):
            return np.ones((len(own), 3, 4), np.float32)
        image = self._reduced(texture.image, srgb)
        matrix = texture.matrix()
        corners = np.einsum(
            "gij,gjc->gic", lattices.barycentrics[own], topology.uvs[texture.uv_set][lattices.parents[own]]
        )
        uv = corners @ matrix[:, :2].T + matrix[:, 2]
        places = []
        for axis, wrap in ((1, texture.wrap_v), (0, texture.wrap_u)):
            value = uv[..., axis]
            if wrap is Wrap.MIRROR:
                value = 1.0 - np.abs(value % 2.0 - 1.0)
            elif wrap is Wrap.REPEAT:
                value = value % 1.0
            size = image.shape[1 - axis]
            places.append(np.clip((value * size).astype(np.int64), 0, size - 1))
        return np.asarray(image[places[0], places[1]])

    def _reduced(self, index: int, srgb: bool) -> np.ndarray:
        if (index, srgb) not in self._small:
            image = self._clip.images[index]
            light = image.astype(np.float32) / 255.0
            if srgb:
                light[..., :3] = np.where(
                    light[..., :3] <= 0.04045, light[..., :3] / 12.92, ((light[..., :3] + 0.055) / 1.055) ** 2.4
                )
            steps = [max(size // _TEXELS, 1) for size in image.shape[:2]]
            height, width = (size // step for size, step in zip(image.shape[:2], steps, strict=True))
            light = light[: height * steps[0], : width * steps[1]]
            self._small[index, srgb] = light.reshape(height, steps[0], width, steps[1], 4).mean(axis=(1, 3))
        return self._small[index, srgb]


def _reflected_by(ior: float) -> float:
    """Share of light from all directions that the interface of a dielectric reflects, approximately."""
    f0 = ((ior - 1.0) / (ior + 1.0)) ** 2
    return min(2.3 * f0, f0 + (1.0 - f0) / 21.0)


def _facing(direction: np.ndarray) -> np.ndarray:
    """(3, 3) right-handed rows right, up and `direction`."""
    helper = np.eye(3)[int(np.argmin(np.abs(direction)))]
    right = np.cross(helper, direction)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(direction, right), direction])
