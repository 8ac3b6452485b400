"""File modes of the cache: other users of the machine must not read gated assets that were downloaded with a token."""

from __future__ import annotations

from pathlib import Path

from helix4d.core import SetupError

PRIVATE = 0o600
_FOLDER = 0o700


def private_folder(folder: Path) -> None:
    """Create a folder and its missing parents with access for the owner only; existing folders are left unchanged."""
    if not folder.exists():
        private_folder(folder.parent)
        folder.mkdir(_FOLDER, exist_ok=True)


def close_to_others(folder: Path) -> None:
    """Create a folder if it is missing, and restrict access to its owner; older versions left it open.

    Raises:
        SetupError: if it belongs to another user.
    """
    folder.mkdir(_FOLDER, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        try:
            folder.chmod(_FOLDER)
        except PermissionError as error:
            raise SetupError(f"{folder}: belongs to another user: pass a folder of your own as --cache") from error
