"""Modes of cached files: a gated asset that was downloaded with a token is not for the other users of the machine."""

from __future__ import annotations

from pathlib import Path

from helix4d.core import SetupError

PRIVATE = 0o600
_FOLDER = 0o700


def private_folder(folder: Path) -> None:
    """Make a folder, and missing ones above it, that only the owner may enter; existing ones are left as they are."""
    if not folder.exists():
        private_folder(folder.parent)
        folder.mkdir(_FOLDER, exist_ok=True)


def close_to_others(folder: Path) -> None:
    """Make a folder, and let only its owner enter it, as older versions did not.

    Raises:
        SetupError: if it belongs to another user.
    """
    folder.mkdir(_FOLDER, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        try:
            folder.chmod(_FOLDER)
        except PermissionError as error:
            raise SetupError(f"{folder}: belongs to another user: pass a folder of your own as --cache") from error
