"""Opens and evaluates FBX files with ufbx, and adds the references that its binding fails to count.

In ufbx 0.0.5, lists and tuples return elements (nodes, meshes, curves …) without incrementing their reference count,
and structures release references that they never acquired, so Python frees elements that a scene still uses. Every
element obtained from ufbx therefore goes through `kept`, `items` or `item`, which keep it forever at the cost of some
bytes per element and scene. The scene itself, which takes most of the memory, is freed explicitly. The list of its
elements is freed with it, but the garbage collector would still read that list, so it is removed from its tracking.
"""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import ufbx

from helix4d.assets.fbx.records import check_arrays
from helix4d.assets.limits import Limits
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import Float64Array, Int64Array
from helix4d.core.messages import reason

NO_INDEX = 0xFFFFFFFF
"""Index of a corner whose index in the file is out of range."""
_BINARY = b"Kaydara FBX Binary"
_TEXT = re.compile(rb"(?:\xef\xbb\xbf)?(?:\s+|;[^\n]*\n)*+(?:FBXHeaderExtension|Objects|Definitions)\s*:")
_TEXT_COMMENT = b"; FBX"
_QUOTED = re.compile(rb'"[^"]*"|^[ \t]*;[^\n]*$', re.MULTILINE)
"""Strings and comments, in which braces do not delimit blocks."""
_HEAD_BYTES = 1 << 16
_MAX_DEPTH = 1000
_CUT_SHORT = (ufbx.TruncatedFileError, ufbx.EmptyFileError)

_keep, _untrack = ctypes.pythonapi.Py_IncRef, ctypes.pythonapi.PyObject_GC_UnTrack
_keep.argtypes, _keep.restype = [ctypes.py_object], None
_untrack.argtypes, _untrack.restype = [ctypes.py_object], None


def kept(element: Any) -> Any:
    """Return the element, or None, in an attribute of ufbx."""
    if element is not None:
        _keep(element)  # the reference of the caller
        _keep(element)  # and one that nothing drops
    return element


def items(elements: Iterable[Any]) -> list[Any]:
    """Return the elements of a list or tuple of ufbx; None where there is none."""
    return [kept(element) for element in elements]


def item(elements: Any, index: int) -> Any:
    """Return one element of a list of ufbx."""
    return kept(elements[index])


def indices(values: Any) -> Int64Array:
    """Return the (N,) int64 values of a list of integers."""
    return np.fromiter(values, np.int64, len(values))


def rows(values: Any, width: int) -> Float64Array:
    """Return the (N, width) float64 values of a list of vectors, or of numbers or flags for a width of 1."""
    _keep(values)  # NumPy's view of the list drops a reference to it that it did not take
    return np.array(values, np.float64).reshape(-1, width)


def matrix(value: Any) -> Float64Array:
    """Return the (4, 4) matrix, for row vectors, of an affine transform of ufbx."""
    found = np.eye(4)
    found[:, :3] = value
    return found


def load(path: Path, limits: Limits) -> Any:
    """Open a file without reading any other file. The caller must call `free` on the returned scene.

    Raises:
        AssetError: not_gltf for a file of another format or an unsupported version, corrupt_file, out_of_memory,
            invalid_scene_graph if nodes are nested too deeply.
    """
    with open(path, "rb") as stream:
        data = stream.read()
    head = data[:_HEAD_BYTES]
    if not head.startswith(_BINARY) and not head.lstrip().startswith(_TEXT_COMMENT) and not _TEXT.match(head):
        raise AssetError(ReasonCode.NOT_GLTF, "is not an FBX file: its suffix may be wrong", path)
    check_arrays(data, path, limits)
    if not head.startswith(_BINARY):
        _check_blocks(data, path)
    try:
        scene = ufbx.load_memory(
            data,
            file_format=ufbx.FileFormat.FBX,
            index_error_handling=ufbx.IndexErrorHandling.NO_INDEX,
            generate_missing_normals=True,
            use_blender_pbr_material=True,
            skip_mesh_parts=True,
            skip_skin_vertices=True,
            node_depth_limit=_MAX_DEPTH,
        )
        return _untracked(scene)
    except ufbx.UnsupportedVersionError as error:
        message = f"has a version of FBX that ufbx does not support ({reason(error)}): convert it to FBX 7.4"
        raise AssetError(ReasonCode.NOT_GLTF, message, path) from error
    except ufbx.NodeDepthLimitError as error:
        message = f"its nodes are nested more than {_MAX_DEPTH:,} levels deep"
        raise AssetError(ReasonCode.INVALID_SCENE_GRAPH, message, path) from error
    except ufbx.OutOfMemoryError as error:
        raise AssetError(ReasonCode.OUT_OF_MEMORY, "does not fit into memory", path) from error
    except _CUT_SHORT as error:
        raise AssetError(ReasonCode.CORRUPT_FILE, "ends early: the file is truncated", path) from error
    except (ufbx.UfbxError, RuntimeError) as error:
        raise AssetError(ReasonCode.CORRUPT_FILE, f"ufbx cannot read the file ({reason(error)})", path) from error


def _check_blocks(data: bytes, path: Path) -> None:
    """Check that all blocks of an ASCII file are closed: ufbx accepts truncated files and loses connections."""
    code = _QUOTED.sub(b"", data)
    if code.count(b"{") != code.count(b"}"):
        raise AssetError(ReasonCode.CORRUPT_FILE, "a block is not closed: the file is truncated", path)


@contextmanager
def evaluated(scene: Any, anim: Any, time: float) -> Iterator[Any]:
    """Provide the scene at a time in seconds: transforms, visibility, and the weights of blend shapes."""
    posed = _untracked(scene.evaluate(anim, time))
    try:
        yield posed
    finally:
        posed.free()


def _untracked(scene: Any) -> Any:
    """Remove the context of a scene, which contains the list of its elements, from the garbage collector."""
    for found in gc.get_referents(kept(scene.root_node)):
        if isinstance(found, ufbx.Context):
            _untrack(found)
    return scene
