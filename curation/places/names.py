"""Decides whether a user's input names a URL, a collection or a path."""

from __future__ import annotations

COLLECTIONS = ("texverse", "objaverse")


def is_url(text: str) -> bool:
    """Return whether the text is a URL; `objaverse:https://...` and the like are not."""
    return "://" in text and text.partition(":")[0] not in COLLECTIONS
