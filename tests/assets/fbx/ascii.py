"""Writes small ASCII FBX files by hand, for what Blender's exporter cannot write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TICKS = 46186158000
"""Time steps of FBX in a second."""
TRIANGLES = ([(0, 0, 0), (1, 0, 0), (0, 2, 0), (0, 0, 3)], [(0, 2, 1), (0, 1, 3), (1, 2, 3), (0, 3, 2)])
"""A tetrahedron with edges of different lengths: vertices, and faces counter-clockwise from outside."""


def axes(up: tuple[int, int], front: tuple[int, int], coord: tuple[int, int]) -> dict[str, tuple[str, float]]:
    """Return the global settings for axes: each an index and a sign."""
    found: dict[str, tuple[str, float]] = {}
    for name, (axis, sign) in (("Up", up), ("Front", front), ("Coord", coord)):
        found |= {f"{name}Axis": ("int", axis), f"{name}AxisSign": ("int", sign)}
    return found


def _list(values: Iterable[float]) -> str:
    numbers = list(values)
    return f"*{len(numbers)} {{ a: {','.join(f'{number!r}' for number in numbers)} }}"


@dataclass
class AsciiFbx:
    """A file in the making; elements are named by the numbers that their methods return.

    Attributes:
        settings: global settings, such as `UpAxis`: type and value.
    """

    settings: dict[str, tuple[str, float]] = field(default_factory=lambda: axes((1, 1), (2, 1), (0, 1)))
    _objects: list[str] = field(default_factory=list)
    _connections: list[str] = field(default_factory=list)
    _count: int = 100

    def element(self, kind: str, name: str, sub: str, body: str = "") -> int:
        """Add an element of any kind, such as `Model`."""
        self._count += 1
        prefix = {"AnimationStack": "AnimStack", "AnimationLayer": "AnimLayer", "AnimationCurveNode": "AnimCurveNode"}
        prefix |= {"AnimationCurve": "AnimCurve", "Deformer": "SubDeformer" if "Channel" in sub else "Deformer"}
        self._objects.append(f'\t{kind}: {self._count}, "{prefix.get(kind, kind)}::{name}", "{sub}" {{\n{body}\n\t}}')
        return self._count

    def connect(self, child: int, parent: int, prop: str | None = None) -> None:
        """Connect an element to another one (0: the root), or to a property of it."""
        self._connections.append(f'\tC: "OP",{child},{parent}, "{prop}"' if prop else f'\tC: "OO",{child},{parent}')

    def node(self, name: str, parent: int = 0, sub: str = "Mesh", **properties: Sequence[float] | float) -> int:
        """Add a node; spaces in the names of properties are written as underscores."""
        number = self.element("Model", name, sub, "\t\tVersion: 232\n" + properties_of(properties))
        self.connect(number, parent)
        return number

    def mesh(
        self,
        node: int,
        points: Sequence[Sequence[float]] = TRIANGLES[0],
        faces: Sequence[Sequence[int]] = TRIANGLES[1],
        layers: str = "",
    ) -> int:
        """Add a mesh to a node; `layers` holds layer elements, and the layer that lists them."""
        corners = [c for face in faces for c in (*face[:-1], -face[-1] - 1)]
        body = (
            f"\t\tVertices: {_list(value for point in points for value in point)}\n"
            f"\t\tPolygonVertexIndex: {_list(corners)}\n\t\tGeometryVersion: 124\n{layers}"
        )
        number = self.element("Geometry", "", "Mesh", body)
        self.connect(number, node)
        return number

    def shape(self, channel: int, vertices: Sequence[int], offsets: Sequence[Sequence[float]]) -> int:
        """Add a target to a channel of a blend shape."""
        body = f"\t\tVersion: 100\n\t\tIndexes: {_list(vertices)}\n\t\tVertices: {_list(v for o in offsets for v in o)}"
        number = self.element("Geometry", "target", "Shape", body)
        self.connect(number, channel)
        return number

    def channel(self, mesh: int, full_weights: Sequence[float]) -> int:
        """Add a blend shape with one channel to a mesh."""
        deformer = self.element("Deformer", "blend", "BlendShape", "\t\tVersion: 100")
        self.connect(deformer, mesh)
        body = f"\t\tVersion: 100\n\t\tDeformPercent: 0\n\t\tFullWeights: {_list(full_weights)}"
        number = self.element("Deformer", "channel", "BlendShapeChannel", body)
        self.connect(number, deformer)
        return number

    def skin(self, mesh: int, method: str = "Linear") -> int:
        """Add a skin to a mesh."""
        number = self.element("Deformer", "skin", "Skin", f'\t\tVersion: 101\n\t\tSkinningType: "{method}"')
        self.connect(number, mesh)
        return number

    def cluster(self, skin: int, bone: int, weights: dict[int, float], link: Sequence[float]) -> None:
        """Add a cluster: 16 numbers, by columns, place its bone in the bind pose; the mesh is at the origin there."""
        identity = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
        body = (
            f"\t\tVersion: 100\n\t\tIndexes: {_list(weights)}\n\t\tWeights: {_list(weights.values())}\n"
            f"\t\tTransform: {_list(_inverse_shift(link) or identity)}\n\t\tTransformLink: {_list(link)}"
        )
        number = self.element("Deformer", "cluster", "Cluster", body)
        self.connect(number, skin)
        self.connect(bone, number)

    def material(self, node: int, name: str = "paint", shading: str = "phong", **properties: object) -> int:
        """Add a material to a node."""
        body = f'\t\tVersion: 102\n\t\tShadingModel: "{shading}"\n' + properties_of(properties)
        number = self.element("Material", name, "", body)
        self.connect(number, node)
        return number

    def texture(self, material: int, prop: str, filename: str, **properties: object) -> int:
        """Connect a texture to a property of a material."""
        body = f'\t\tFileName: "{filename}"\n\t\tRelativeFilename: "{filename}"\n' + properties_of(properties)
        number = self.element("Texture", "picture", "", body)
        self.connect(number, material, prop)
        return number

    def take(self, name: str, start: float, end: float) -> int:
        """Add a take, and return its layer."""
        body = (
            "\t\tProperties70: {\n"
            f'\t\t\tP: "LocalStart", "KTime", "Time", "",{round(start * TICKS)}\n'
            f'\t\t\tP: "LocalStop", "KTime", "Time", "",{round(end * TICKS)}\n\t\t}}'
        )
        stack = self.element("AnimationStack", name, "", body)
        return self.layer(stack, name)

    def layer(self, stack: int, name: str, **properties: float) -> int:
        """Add a layer to a take whose number is one less than that of its first layer."""
        number = self.element("AnimationLayer", name, "", properties_of(properties))
        self.connect(number, stack)
        return number

    def animate(
        self,
        layer: int,
        target: int,
        prop: str,
        curves: dict[str, Sequence[tuple[float, float]]],
        flags: int = 4,
        extrapolation: str = "",
    ) -> None:
        """Animate a property: keys (seconds, value) by component, such as X.

        Args:
            layer: number of the layer.
            target: number of the element.
            prop: its property.
            curves: keys of each component.
            flags: how keys are interpolated: 4 linearly, 2 constant.
            extrapolation: block that says what follows the last key.
        """
        node = self.element(
            "AnimationCurveNode", prop, "", properties_of({f"d|{c}": k[0][1] for c, k in curves.items()})
        )
        self.connect(node, layer)
        self.connect(node, target, prop)
        for component, keys in curves.items():
            body = (
                f"\t\tDefault: {keys[0][1]!r}\n\t\tKeyVer: 4008\n"
                f"\t\tKeyTime: {_list(round(time * TICKS) for time, _ in keys)}\n"
                f"\t\tKeyValueFloat: {_list(value for _, value in keys)}\n"
                f"\t\tKeyAttrFlags: {_list([flags])}\n\t\tKeyAttrDataFloat: {_list([0, 0, 0, 0])}\n"
                f"\t\tKeyAttrRefCount: {_list([len(keys)])}\n\t\t{extrapolation}"
            )
            curve = self.element("AnimationCurve", "", "", body)
            self.connect(curve, node, f"d|{component}")

    def write(self, path: Path) -> Path:
        """Write the file."""
        settings = "".join(
            f'\t\tP: "{name}", "{kind}", "", "",{value}\n' for name, (kind, value) in self.settings.items()
        )
        path.write_text(
            "; FBX 7.4.0 project file\nFBXHeaderExtension: {\n\tFBXHeaderVersion: 1003\n\tFBXVersion: 7400\n"
            '\tCreator: "tests"\n}\n'
            f"GlobalSettings: {{\n\tVersion: 1000\n\tProperties70: {{\n{settings}\t}}\n}}\n"
            "Objects: {\n" + "\n".join(self._objects) + "\n}\nConnections: {\n" + "\n".join(self._connections) + "\n}\n"
        )
        return path


def properties_of(properties: dict[str, object]) -> str:
    """Return the block of an element's properties."""
    rows = []
    for key, value in properties.items():
        name = key if "|" in key else key.replace("_", " ")
        numbers = value if isinstance(value, (tuple, list)) else (value,)
        kind = {3: "Vector3D"}.get(len(numbers), "Number")
        kind = "Color" if "Color" in name else kind
        text = ",".join(f'"{number}"' if isinstance(number, str) else repr(number) for number in numbers)
        kind = "KString" if isinstance(value, str) else "int" if isinstance(value, int) else kind
        rows.append(f'\t\t\tP: "{name}", "{kind}", "", "A",{text}')
    return "\t\tProperties70: {\n" + "\n".join(rows) + "\n\t\t}"


def _inverse_shift(link: Sequence[float]) -> list[float]:
    """Return the inverse of a placement without a rotation: where the mesh is, seen from the bone."""
    sx, sy, sz = link[0], link[5], link[10]
    return [1 / sx, 0, 0, 0, 0, 1 / sy, 0, 0, 0, 0, 1 / sz, 0, -link[12] / sx, -link[13] / sy, -link[14] / sz, 1]
