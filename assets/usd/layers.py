"""Opens a stage whose layers all are inside the asset's folder.

usd-core reads any file that a layer refers to, and its resolver cannot be replaced from Python. So every layer is first
opened alone, and the files that it names are checked before a stage composes any of them. All references are checked,
including those in variants that are not selected and in inactive prims.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pxr import Ar, Pcp, Sdf, Tf, Usd, UsdUtils

from helix4d.assets.limits import Limits
from helix4d.core import AssetError, ReasonCode
from helix4d.core.messages import path_end

_MAX_FILES = 10_000
_MAX_CLIP_FILES = 10_000
"""Maximum number of files of one value clip, which usd-core probes one by one."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_ADDRESS = re.compile(r"anon:0x[0-9a-f]+:|,?@anon:[^@]*@|<?0x[0-9a-f]+>?")
_NAMESPACE = re.compile(r"pxrInternal_\w+?__::|pxrInternal_\w+?pegtl::internal::")
_NOTES = 50
"""Maximum number of usd-core's messages that become warnings of a clip."""
_MISSING = (Pcp.ErrorType_InvalidAssetPath, Pcp.ErrorType_InvalidSublayerPath)
_INCOMPLETE = (
    Pcp.ErrorType_ArcCycle,
    Pcp.ErrorType_SublayerCycle,
    Pcp.ErrorType_UnresolvedPrimPath,
    Pcp.ErrorType_InvalidPrimPath,
    Pcp.ErrorType_ArcCapacityExceeded,
    Pcp.ErrorType_ArcNamespaceDepthCapacityExceeded,
    Pcp.ErrorType_IndexCapacityExceeded,
    Pcp.ErrorType_VariableExpressionError,
)


@contextmanager
def recorded_notes(root: Path) -> Iterator[list[str]]:
    """Keep usd-core from printing, and yield a list of its messages that is filled when the block ends."""
    delegate = UsdUtils.CoalescingDiagnosticDelegate()
    notes: list[str] = []
    try:
        yield notes
    finally:
        found = [_commentary(item, root) for item in delegate.TakeUncoalescedDiagnostics()]
        notes += list(dict.fromkeys(found))[:_NOTES]


def clean(text: str, root: Path) -> str:
    """Return the first line of a usd-core message without the asset's folder, memory addresses and C++ namespaces."""
    line = next((part.strip() for part in text.splitlines() if part.strip()), "no reason given")
    for folder in (root, root.resolve()):
        line = line.replace(f"{folder}/", "")
    return _NAMESPACE.sub("", _ADDRESS.sub("", line))[:200]


def open_stage(path: Path, root: Path, limits: Limits) -> Usd.Stage:
    """Compose a file, with all payloads.

    Args:
        path: the root layer.
        root: folder that must contain all files of the stage.
        limits: upper bounds on the total size of the files.

    Raises:
        AssetError: corrupt_file, uri_outside_asset, out_of_memory; missing_buffer if a layer that the scene needs does
            not exist or cannot be read, invalid_scene_graph if references are circular or their targets do not exist.
    """
    identifier = str(path.absolute())
    context = Ar.GetResolver().CreateDefaultContextForAsset(identifier)
    with Ar.ResolverContextBinder(context):
        layers = _Walk(path, root, limits).layers(identifier)
    try:
        stage = Usd.Stage.Open(layers[0], None, context)
    except Tf.ErrorException as error:
        raise AssetError(
            ReasonCode.CORRUPT_FILE, f"usd-core cannot open the file ({reason_of(error, root)})", path
        ) from error
    for problem in stage.GetCompositionErrors():
        if problem.errorType in _MISSING:
            raise AssetError(ReasonCode.MISSING_BUFFER, clean(str(problem), root), path)
        if problem.errorType in _INCOMPLETE:
            raise AssetError(ReasonCode.INVALID_SCENE_GRAPH, _joined(str(problem), root), path)
    return stage


def is_inside(name: str, root: Path) -> bool:
    """Return whether a path is inside a folder after symbolic links are resolved."""
    try:
        return Path(name).resolve().is_relative_to(root.resolve())
    except (OSError, ValueError, RuntimeError):
        return False


def asset_path_problem(name: str, layer: Sdf.Layer, root: Path) -> str | None:
    """Return why an asset path of a layer must not be followed; None if it is in the folder or does not resolve."""
    name = Sdf.Layer.SplitIdentifier(name)[0]
    if Sdf.VariableExpression.IsExpression(name):
        return "is an expression, so its file is unknown: flatten the stage"
    if _SCHEME.match(name):
        return "is a URL: download the file into the asset's folder"
    identifier = Sdf.ComputeAssetPathRelativeToLayer(layer, name)
    outer = Ar.SplitPackageRelativePathOuter
    candidates = [outer(identifier)[0], outer(str(Ar.GetResolver().Resolve(identifier)))[0]]
    if not Ar.IsPackageRelativePath(layer.identifier):
        candidates.append(str(Path(layer.identifier).parent / outer(name)[0]))
    if all(is_inside(found, root) for found in candidates if Path(found).is_absolute()):
        return None
    return "is outside the asset's folder: move it there"


class _Walk:
    """Opens the layers that a file refers to, directly or indirectly, one by one."""

    def __init__(self, path: Path, root: Path, limits: Limits) -> None:
        self._path, self._root, self._limits = path, root, limits
        self._files: set[str] = set()
        self._bytes = 0

    def layers(self, identifier: str) -> list[Sdf.Layer]:
        """Return all layers that can be read, the root layer first; they stay open while the list exists."""
        found: list[Sdf.Layer] = []
        pending, seen = [identifier], {identifier}
        while pending:
            layer = self._open(pending.pop(), is_root=not found)
            if layer is None:
                continue
            found.append(layer)
            for name in self._composed(layer):
                target = Sdf.ComputeAssetPathRelativeToLayer(layer, name)
                if target not in seen:
                    seen.add(target)
                    pending.append(target)
                    self._count(target)
        return found

    def _open(self, identifier: str, is_root: bool) -> Sdf.Layer | None:
        try:
            layer = Sdf.Layer.FindOrOpen(identifier)
            if layer is not None:
                layer.Reload()  # another stage of this process may hold an older version of the file
                return layer
            reason = "no reason given"
        except Tf.ErrorException as error:
            reason = reason_of(error, self._root)
        if is_root:
            raise AssetError(ReasonCode.CORRUPT_FILE, f"usd-core cannot read the file ({reason})", self._path)
        return None  # if the scene needs this layer, composition reports an error

    def _composed(self, layer: Sdf.Layer) -> list[str]:
        """Check every file that a layer names for composition, and return those that are layers."""
        names = sorted(name for name in layer.GetCompositionAssetDependencies() if name)
        clips: list[str] = []

        def visit(path: Sdf.Path) -> None:
            if path.IsPrimPath() or path.IsPrimVariantSelectionPath():
                found = layer.GetObjectAtPath(path)
                sets = found.GetInfo("clips") if isinstance(found, Sdf.PrimSpec) and found.HasInfo("clips") else {}
                for entry in sets.values():
                    clips.extend(self._clip_files(entry, layer))

        layer.Traverse(Sdf.Path.absoluteRootPath, visit)
        for name in (*names, *clips):
            problem = asset_path_problem(name, layer, self._root)
            if problem:
                message = f"{self._name(layer)} refers to {path_end(name)!r}, which {problem}"
                raise AssetError(ReasonCode.URI_OUTSIDE_ASSET, message, self._path)
        for name in clips:
            self._count(Sdf.ComputeAssetPathRelativeToLayer(layer, name))
        return names

    def _clip_files(self, entry: Any, layer: Sdf.Layer) -> Iterator[str]:
        """Yield the files of one set of value clips (https://openusd.org/release/api/_usd__page__value_clips.html)."""
        if not isinstance(entry, dict):
            return
        for value in entry.values():
            for item in value if isinstance(value, Sdf.AssetPathArray) else (value,):
                if isinstance(item, Sdf.AssetPath) and item.path:
                    yield item.path
        template = entry.get("templateAssetPath", "")
        if not template:
            return
        yield template
        start, end = float(entry.get("templateStartTime", 0.0)), float(entry.get("templateEndTime", 0.0))
        stride = float(entry.get("templateStride", 0.0))
        if not (end - start) <= _MAX_CLIP_FILES * stride:
            message = f"a value clip of {self._name(layer)} has more than {_MAX_CLIP_FILES:,} files"
            raise AssetError(ReasonCode.OUT_OF_MEMORY, message, self._path)
        folder, _, pattern = template.rpartition("/")
        numbered = re.compile(re.sub(r"(?:\\?#)+", lambda _: r"\d+", re.escape(pattern)))
        base = Path(layer.identifier).parent / folder
        if is_inside(str(base), self._root) and base.is_dir():
            yield from (f"{folder or '.'}/{p.name}" for p in sorted(base.iterdir()) if numbered.fullmatch(p.name))

    def _count(self, identifier: str) -> None:
        file = Ar.SplitPackageRelativePathOuter(str(Ar.GetResolver().Resolve(identifier)))[0]
        if not file or file in self._files:
            return
        self._files.add(file)
        self._bytes += Path(file).stat().st_size
        if len(self._files) > _MAX_FILES or self._bytes > self._limits.file_bytes:
            message = (
                f"refers to at least {len(self._files):,} files of {self._bytes:,} bytes, more than the limit of "
                f"{_MAX_FILES:,} files or {self._limits.file_bytes:,} bytes"
            )
            raise AssetError(ReasonCode.OUT_OF_MEMORY, message, self._path)

    def _name(self, layer: Sdf.Layer) -> str:
        return clean(layer.identifier, self._root)


def reason_of(error: Tf.ErrorException, root: Path) -> str:
    """Return the message of a usd-core error, with paths relative to the asset's folder."""
    return _commentary(error.args[0], root) if error.args else clean("", root)


def _commentary(item: Any, root: Path) -> str:
    try:
        return clean(item.commentary, root)
    except UnicodeDecodeError:  # the message quotes the file
        return "the file contains text that is not UTF-8"


def _joined(text: str, root: Path) -> str:
    return clean(" ".join(text.split()), root)
