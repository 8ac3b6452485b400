"""Finds the image files of a stage."""

from __future__ import annotations

from pathlib import Path

from pxr import Ar, Sdf

from helix4d.assets.limits import Limits
from helix4d.assets.pictures import Picture, Pictures
from helix4d.assets.usd.layers import asset_path_problem, is_inside
from helix4d.core import AssetError, ReasonCode
from helix4d.core.messages import path_end
from helix4d.core.storage import is_fault


class TextureFiles(Pictures):
    """Image files of a stage, each decoded once.

    Args:
        path: path of the asset.
        root: folder that must contain the files.
        limits: upper bounds on their size.
    """

    def __init__(self, path: Path, root: Path, limits: Limits) -> None:
        super().__init__(path, limits)
        self._root = root
        self._decoded: dict[str, Picture | None] = {}

    def read(self, asset: Sdf.AssetPath, layer: Sdf.Layer | None) -> Picture | None:
        """Return the picture in a file; None, with a warning, if it is missing or broken.

        Args:
            asset: value of the attribute that names the file.
            layer: layer that authors the value, to which a relative path is anchored; None if there is none.

        Raises:
            AssetError: uri_outside_asset, texture_too_large.
        """
        name = asset.path.replace("\\", "/")
        problem = asset_path_problem(name, layer, self._root) if layer is not None and name else None
        if problem:
            message = f"a texture refers to {path_end(name)!r}, which {problem}"
            raise AssetError(ReasonCode.URI_OUTSIDE_ASSET, message, self._path)
        found = asset.resolvedPath
        if not found and layer is not None and name:
            found = str(Ar.GetResolver().Resolve(Sdf.ComputeAssetPathRelativeToLayer(layer, name)))
        key = found or name
        if key not in self._decoded:
            data = self._bytes(found, name)
            self._decoded[key] = None if data is None else self.decode(name, data)
        return self._decoded[key]

    def _bytes(self, found: str, name: str) -> bytes | None:
        outer = Ar.SplitPackageRelativePathOuter(found)[0]
        if not found or not is_inside(outer, self._root):
            problem = "UDIM tiles are not supported" if "<UDIM>" in name else "not found in the asset's folder"
            self.warnings.append(f"image {path_end(name)!r}: {problem}: replaced by the fallback")
            return None
        try:
            if Ar.IsPackageRelativePath(found):
                opened = Ar.GetResolver().OpenAsset(Ar.ResolvedPath(found))
                with opened:
                    return bytes(opened.GetBuffer())
            if Path(found).is_file() and Path(found).stat().st_size <= self._limits.file_bytes:
                return Path(found).read_bytes()
        except (OSError, ValueError, RuntimeError) as error:
            if is_fault(error):
                raise
        self.warnings.append(
            f"image {path_end(name)!r}: cannot be read, or is larger than the limit: replaced by the fallback"
        )
        return None
