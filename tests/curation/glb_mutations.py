"""Deterministic damage to GLB files: (seed, number) always yields the same mutant of the same asset.

Half of the operations understand glTF (they parse the JSON chunk, change it and write it back, or find an accessor's
bytes in the binary chunk); the others treat the file as bytes.
"""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from helix4d.core.rng import generator

SMALL_BYTES = 700_000
"""Most mutants are made from assets below this size, which take a tenth of a second each."""
_LARGE_EVERY = 20
_BYTES_SHARE = 0.3
_MOST_OPERATIONS = 3


@dataclass
class Glb:
    """A parsed GLB with mutable JSON and binary chunk."""

    gltf: dict[str, Any]
    binary: bytearray

    @classmethod
    def parse(cls, data: bytes) -> Glb:
        """Parse a complete, valid GLB."""
        (size,) = struct.unpack_from("<I", data, 12)
        return cls(json.loads(data[20 : 20 + size]), bytearray(data[28 + size :]))

    def bytes(self) -> bytes:
        """Serialize the GLB, with correct lengths."""
        # allow_nan: a NaN in the JSON is one of the mutations.
        text = json.dumps(self.gltf).encode()
        text += b" " * (-len(text) % 4)
        binary = bytes(self.binary) + bytes(-len(self.binary) % 4)
        body = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(binary), 0x004E4942) + binary
        return b"glTF" + struct.pack("<II", 2, 12 + len(body)) + body


@dataclass(frozen=True)
class Mutant:
    """A damaged file.

    Attributes:
        number: which of the series.
        source: name of the original asset.
        operations: what was done to it, in order.
        data: the file.
    """

    number: int
    source: str
    operations: tuple[str, ...]
    data: bytes


def mutant(sources: Sequence[Path], seed: int, number: int) -> Mutant:
    """Return mutant `number` of the series `seed` over the GLBs `sources`, which must be sorted."""
    rng = generator(seed, "glb mutant", number)
    small = [path for path in sources if path.stat().st_size <= SMALL_BYTES]
    pool = sources if number % _LARGE_EVERY == 0 or not small else small
    source = pool[int(rng.integers(len(pool)))]
    data = source.read_bytes()
    count = 1 + int(rng.integers(_MOST_OPERATIONS))
    names: list[str] = []
    if rng.random() < _BYTES_SHARE:
        for _ in range(count):
            operation = _pick(rng, BYTE_OPERATIONS)
            data = operation(data, rng)
            names.append(operation.__name__)
    else:
        glb = Glb.parse(data)
        while len(names) < count:
            operation = _pick(rng, STRUCTURE_OPERATIONS)
            # An operation may find nothing that it could change, or an earlier one may have broken what it needs.
            try:
                changed = operation(glb, rng)
            except (KeyError, IndexError, TypeError, ValueError, AttributeError, struct.error, OverflowError):
                changed = False
            names.append(operation.__name__ if changed else f"({operation.__name__})")
        data = glb.bytes()
    return Mutant(number, source.name, tuple(names), data)


def _pick(rng: np.random.Generator, choices: Sequence[Any]) -> Any:
    return choices[int(rng.integers(len(choices)))]


# --- operations that know glTF: each changes the file and says whether it could ---


_NUMBERS = (0, -1, 1, 2, 3, 255, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**53, 2**63, 10**40, 0.5, -0.0)
_REALS = (1e-45, 1e-38, 1e-320, 1e20, 1e38, 3.5e38, 1e300, 1e308, -1e308, float("nan"), float("inf"))
_OTHERS = (None, True, False, "", "x", "../a", "\ud800", [], {}, [[]], [None], {"a": 1}, 5126, "MAT4", [0, 0, 0])
_EXTENSIONS = ("KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_texture_basisu", "EXT_none", "")


def change_number(glb: Glb, rng: np.random.Generator) -> bool:
    """Replace a number by a close or extreme one."""
    parent, key = _place(glb.gltf, rng, lambda value: isinstance(value, int | float) and not isinstance(value, bool))
    value = parent[key]
    near = (value + 1, value - 1, value * 2, -value, value * 1000)
    parent[key] = _pick(rng, (*near, *_NUMBERS, *_REALS))
    return True


def change_index(glb: Glb, rng: np.random.Generator) -> bool:
    """Change a reference, possibly to an existing element."""
    names = ("mesh", "skin", "node", "sampler", "input", "output", "bufferView", "indices", "material", "source")
    names += ("index", "inverseBindMatrices", "scene", "camera", "buffer")
    parent, key = _place(glb.gltf, rng, lambda value: isinstance(value, int), lambda key: key in names or key == 0)
    parent[key] = int(rng.integers(-1, 40))
    return True


def change_type(glb: Glb, rng: np.random.Generator) -> bool:
    """Replace a value by one of another JSON type."""
    parent, key = _place(glb.gltf, rng)
    parent[key] = copy.deepcopy(_pick(rng, _OTHERS))
    return True


def delete_entry(glb: Glb, rng: np.random.Generator) -> bool:
    """Remove a key or an element of a list."""
    parent, key = _place(glb.gltf, rng)
    del parent[key]
    return True


def repeat_entry(glb: Glb, rng: np.random.Generator) -> bool:
    """Repeat an element of a list many times."""
    parent, key = _place(glb.gltf, rng, at=lambda key: isinstance(key, int))
    times = _pick(rng, (1, 2, 100, 5000))
    if len(json.dumps(parent[key])) * times > 5_000_000:
        return False
    parent[key:key] = [copy.deepcopy(parent[key]) for _ in range(times)]
    return True


def swap_accessors(glb: Glb, rng: np.random.Generator) -> bool:
    """Swap two accessors, so that each is read as the other."""
    accessors = glb.gltf["accessors"]
    one, two = (int(n) for n in rng.integers(len(accessors), size=2))
    accessors[one], accessors[two] = accessors[two], accessors[one]
    return one != two


def swap_attributes(glb: Glb, rng: np.random.Generator) -> bool:
    """Let an attribute or the indices read another attribute's accessor."""
    primitive = _primitive(glb, rng)
    attributes = primitive["attributes"]
    attributes[_pick(rng, sorted(attributes))] = _pick(rng, [*attributes.values(), primitive.get("indices", 0)])
    return True


def rename_attribute(glb: Glb, rng: np.random.Generator) -> bool:
    """Rename an attribute."""
    attributes = _primitive(glb, rng)["attributes"]
    names = ("POSITION", "NORMAL", "TANGENT", "TEXCOORD_0", "TEXCOORD_7", "COLOR_0", "JOINTS_0", "WEIGHTS_0", "_X")
    attributes[_pick(rng, names)] = attributes.pop(_pick(rng, sorted(attributes)))
    return True


def huge_count(glb: Glb, rng: np.random.Generator) -> bool:
    """Let an accessor declare far more elements than exist; without a view, they would be zeros at no file size."""
    accessor = _pick(rng, glb.gltf["accessors"])
    accessor["count"] = int(_pick(rng, (accessor["count"] * 50, 10**6, 15_000_000, 10**8, 2**31, 2**53)))
    if rng.random() < 0.6:
        accessor.pop("bufferView", None)
    return True


def change_component(glb: Glb, rng: np.random.Generator) -> bool:
    """Change the component type, shape or normalization of an accessor."""
    accessor = _pick(rng, glb.gltf["accessors"])
    accessor["componentType"] = _pick(rng, (5120, 5121, 5122, 5123, 5124, 5125, 5126, 5130, accessor["componentType"]))
    if rng.random() < 0.5:
        accessor["type"] = _pick(rng, ("SCALAR", "VEC2", "VEC3", "VEC4", "MAT2", "MAT3", "MAT4", "VEC5"))
    accessor["normalized"] = bool(rng.random() < 0.5)
    return True


def shift_view(glb: Glb, rng: np.random.Generator) -> bool:
    """Change an offset, length or stride."""
    entry = _pick(rng, [*glb.gltf["bufferViews"], *glb.gltf["accessors"]])
    name = _pick(rng, ("byteOffset", "byteLength", "byteStride"))
    entry[name] = int(_pick(rng, (0, 1, 2, 3, 4, 7, 12, 16, 252, 256, 2**31, entry.get(name, 0) + 4)))
    return True


def cyclic_nodes(glb: Glb, rng: np.random.Generator) -> bool:
    """Make a node its own descendant, or give it two parents."""
    nodes = glb.gltf["nodes"]
    child, parent = (int(n) for n in rng.integers(len(nodes), size=2))
    nodes[parent].setdefault("children", []).append(child)
    return True


def add_sparse(glb: Glb, rng: np.random.Generator) -> bool:
    """Add a sparse part to an accessor, mostly with wrong or unsorted indices."""
    accessor = _pick(rng, glb.gltf["accessors"])
    views = len(glb.gltf["bufferViews"])
    accessor["sparse"] = {
        "count": int(_pick(rng, (0, 1, 3, accessor["count"], 10**7))),
        "indices": {"bufferView": int(rng.integers(views)), "componentType": int(_pick(rng, (5121, 5123, 5125, 5126)))},
        "values": {"bufferView": int(rng.integers(views)), "byteOffset": int(_pick(rng, (0, 2, 4)))},
    }
    if rng.random() < 0.5:
        accessor.pop("bufferView", None)
    return True


def poison_floats(glb: Glb, rng: np.random.Generator) -> bool:
    """Write NaN, infinities and extremes into a float accessor."""
    floats = [number for number, entry in enumerate(glb.gltf["accessors"]) if entry["componentType"] == 5126]
    start, size = _span(glb, _pick(rng, floats))
    values = (float("nan"), float("inf"), float("-inf"), 3.4e38, -3.4e38, 1e-45, 1e20, 0.0, -1.0)
    for _ in range(int(_pick(rng, (1, 3, 50)))):
        place = start + 4 * int(rng.integers(size // 4))
        struct.pack_into("<f", glb.binary, place, _pick(rng, values))
    return True


def poison_integers(glb: Glb, rng: np.random.Generator) -> bool:
    """Write random bytes into an integer accessor: indices, joints, colors."""
    integers = [number for number, entry in enumerate(glb.gltf["accessors"]) if entry["componentType"] != 5126]
    start, size = _span(glb, _pick(rng, integers))
    for _ in range(int(_pick(rng, (1, 3, 50)))):
        glb.binary[start + int(rng.integers(size))] = int(rng.integers(256))
    return True


def disorder_times(glb: Glb, rng: np.random.Generator) -> bool:
    """Make key times reversed, shuffled, equal, negative or far apart."""
    sampler = _pick(rng, _pick(rng, glb.gltf["animations"])["samplers"])
    start, size = _span(glb, sampler["input"])
    times = np.frombuffer(bytes(glb.binary[start : start + size]), "<f4").copy()
    how = int(rng.integers(5))
    if how == 0:
        times = times[::-1]
    elif how == 1:
        rng.shuffle(times)
    elif how == 2:
        times[:] = times[0]
    elif how == 3:
        times -= 1000
    else:
        times = times * np.float32(1e30)
    glb.binary[start : start + size] = times.astype("<f4").tobytes()
    return True


def change_sampler(glb: Glb, rng: np.random.Generator) -> bool:
    """Change the interpolation, keys, values or path of a channel."""
    animation = _pick(rng, glb.gltf["animations"])
    sampler, other = _pick(rng, animation["samplers"]), _pick(rng, animation["samplers"])
    how = int(rng.integers(3))
    if how == 0:
        sampler["interpolation"] = _pick(rng, ("STEP", "LINEAR", "CUBICSPLINE", "BEZIER"))
    elif how == 1:
        name = _pick(rng, ("input", "output"))
        sampler[name] = other[name]
    else:
        _pick(rng, animation["channels"])["target"]["path"] = _pick(rng, ("rotation", "weights", "scale", "pointer"))
    return True


def change_mode(glb: Glb, rng: np.random.Generator) -> bool:
    """Replace triangles by points, lines, strips or fans, or remove the indices."""
    primitive = _primitive(glb, rng)
    primitive["mode"] = int(rng.integers(-1, 9))
    if rng.random() < 0.3:
        primitive.pop("indices", None)
    return True


def change_skin(glb: Glb, rng: np.random.Generator) -> bool:
    """Remove, repeat or replace joints."""
    skin = _pick(rng, glb.gltf["skins"])
    joints = skin["joints"]
    how = int(rng.integers(3))
    if how == 0:
        skin["joints"] = joints[: len(joints) // 2]
    elif how == 1:
        rng.shuffle(joints)
    else:
        skin["joints"] = [int(rng.integers(len(glb.gltf["nodes"]) + 2)) for _ in joints]
    return True


def change_transform(glb: Glb, rng: np.random.Generator) -> bool:
    """Make a node's transform degenerate, extreme, or both matrix and TRS."""
    node = _pick(rng, glb.gltf["nodes"])
    name, length = _pick(rng, (("translation", 3), ("rotation", 4), ("scale", 3), ("matrix", 16)))
    node[name] = [float(_pick(rng, (0, 1, -1, 1e-30, 1e18, 1e37, -1e9))) for _ in range(length)]
    return True


def require_extension(glb: Glb, rng: np.random.Generator) -> bool:
    """Require an extension, possibly without its data."""
    name = _pick(rng, _EXTENSIONS)
    glb.gltf.setdefault("extensionsRequired", []).append(name)
    glb.gltf.setdefault("extensionsUsed", []).append(name)
    if rng.random() < 0.5:
        view = int(rng.integers(len(glb.gltf["bufferViews"])))
        _primitive(glb, rng).setdefault("extensions", {})[name] = {"bufferView": view, "attributes": {"POSITION": 0}}
    return True


def claim_meshopt(glb: Glb, rng: np.random.Generator) -> bool:
    """Mark a view with plain bytes as compressed."""
    view = _pick(rng, glb.gltf["bufferViews"])
    view.setdefault("extensions", {})["EXT_meshopt_compression"] = {
        "buffer": 0,
        "byteOffset": view.get("byteOffset", 0),
        "byteLength": view["byteLength"],
        "byteStride": int(_pick(rng, (2, 4, 8, 12, 16, 256))),
        "count": int(_pick(rng, (1, 3, 300, 10**6, 10**8))),
        "mode": _pick(rng, ("ATTRIBUTES", "TRIANGLES", "INDICES")),
        "filter": _pick(rng, ("NONE", "OCTAHEDRAL", "QUATERNION", "EXPONENTIAL")),
    }
    return True


def damage_image(glb: Glb, rng: np.random.Generator) -> bool:
    """Change bytes of an image, mostly in its header."""
    view = glb.gltf["bufferViews"][_pick(rng, glb.gltf["images"])["bufferView"]]
    start, size = view.get("byteOffset", 0), view["byteLength"]
    for _ in range(int(_pick(rng, (1, 4, 30)))):
        reach = min(size, 64 if rng.random() < 0.6 else size)
        glb.binary[start + int(rng.integers(reach))] = int(rng.integers(256))
    return True


def nest_deeply(glb: Glb, rng: np.random.Generator) -> bool:
    """Nest extras extremely deep."""
    value: Any = []
    for _ in range(int(_pick(rng, (50, 120, 130, 700)))):
        value = [value]
    glb.gltf.setdefault("asset", {})["extras"] = value
    return True


STRUCTURE_OPERATIONS: tuple[Callable[[Glb, np.random.Generator], bool], ...] = (
    change_number,
    change_index,
    change_type,
    delete_entry,
    repeat_entry,
    swap_accessors,
    swap_attributes,
    rename_attribute,
    huge_count,
    change_component,
    shift_view,
    cyclic_nodes,
    add_sparse,
    poison_floats,
    poison_integers,
    disorder_times,
    change_sampler,
    change_mode,
    change_skin,
    change_transform,
    require_extension,
    claim_meshopt,
    damage_image,
    nest_deeply,
)


def _place(
    root: dict[str, Any],
    rng: np.random.Generator,
    wanted: Callable[[Any], bool] = lambda value: True,
    at: Callable[[Any], bool] = lambda key: True,
) -> tuple[Any, Any]:
    """Return a random container and a key in it, by random descent: every level gets its share, however long lists are.

    Raises:
        ValueError: if no such place was met.
    """
    for _ in range(200):
        parent: Any = root
        while True:
            keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
            if not keys:
                break
            key = _pick(rng, keys)
            value = parent[key]
            is_leaf = not isinstance(value, dict | list) or not value
            if wanted(value) and at(key) and (is_leaf or rng.random() < 0.2):
                return parent, key
            if is_leaf:
                break
            parent = value
    raise ValueError("no such place")


def _primitive(glb: Glb, rng: np.random.Generator) -> dict[str, Any]:
    primitive: dict[str, Any] = _pick(rng, _pick(rng, glb.gltf["meshes"])["primitives"])
    return primitive


def _span(glb: Glb, accessor: int) -> tuple[int, int]:
    """Return (first byte, size) of an uncompressed accessor in the binary chunk."""
    entry = glb.gltf["accessors"][accessor]
    view = glb.gltf["bufferViews"][entry["bufferView"]]
    start = view.get("byteOffset", 0) + entry.get("byteOffset", 0)
    items = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}[entry["type"]]
    width = {5120: 1, 5121: 1, 5122: 2, 5123: 2}.get(entry["componentType"], 4)
    return start, min(entry["count"] * items * width, len(glb.binary) - start)


# --- operations that know bytes alone ---


def flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip a few bits anywhere."""
    changed = bytearray(data)
    for _ in range(int(_pick(rng, (1, 5, 100)))):
        changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def flip_in_json(data: bytes, rng: np.random.Generator) -> bytes:
    """Replace a few bytes of the JSON by printable ones."""
    changed = bytearray(data)
    (size,) = struct.unpack_from("<I", data, 12) if len(data) > 20 else (0,)
    reach = max(1, min(size, len(data) - 20))
    for _ in range(int(_pick(rng, (1, 2, 5)))):
        place = 20 + int(rng.integers(reach))
        if place < len(changed):
            changed[place] = int(_pick(rng, b'0123456789-.eE"{}[],:xtfn \\'))
    return bytes(changed)


def truncate(data: bytes, rng: np.random.Generator) -> bytes:
    """Truncate the file."""
    return data[: int(rng.integers(len(data)))] or b"g"


def insert(data: bytes, rng: np.random.Generator) -> bytes:
    """Insert random bytes."""
    place, size = int(rng.integers(len(data))), int(_pick(rng, (1, 4, 100, 5000)))
    return data[:place] + rng.bytes(size) + data[place:]


def remove(data: bytes, rng: np.random.Generator) -> bytes:
    """Delete a range of bytes."""
    place, size = int(rng.integers(len(data))), int(_pick(rng, (1, 4, 100, 5000)))
    return (data[:place] + data[place + size :]) or b"g"


def repeat_range(data: bytes, rng: np.random.Generator) -> bytes:
    """Duplicate a range of bytes."""
    place, size = int(rng.integers(len(data))), int(_pick(rng, (1, 4, 100, 5000)))
    return data[: place + size] + data[place:]


def blank_range(data: bytes, rng: np.random.Generator) -> bytes:
    """Zero a block, as in an incomplete download."""
    place, size = int(rng.integers(len(data))), int(_pick(rng, (4, 512, 4096, 65536)))
    return (data[:place] + bytes(size) + data[place + size :])[: len(data)]


def change_header(data: bytes, rng: np.random.Generator) -> bytes:
    """Change a word in the header of the file or its first chunk: magic, version, length, type."""
    changed = bytearray(data.ljust(20, b"\0"))
    values = (0, 1, 2, 3, 12, 20, len(data) - 1, len(data) + 1, len(data) * 2, 2**31, 2**32 - 1, int(rng.integers(999)))
    struct.pack_into("<I", changed, 4 * int(rng.integers(5)), _pick(rng, values))
    return bytes(changed)


BYTE_OPERATIONS: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
    flip_bits,
    flip_in_json,
    truncate,
    insert,
    remove,
    repeat_range,
    blank_range,
    change_header,
)
